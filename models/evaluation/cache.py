"""Dances on disk, so that an evaluation goes on where it was stopped and measures again without dancing again."""

from __future__ import annotations

import hashlib
import math
import re
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from engine.machine import machine_kind
from engine.whole_files import whole_file
from models.evaluation.stability import MeasuredMinutes
from models.rivals.song import Dance, DanceSystem, Song

_DANCE_ARRAYS = tuple(f.name for f in fields(Dance))


@dataclass(frozen=True)
class KeptDance:
    """A dance on disk, and what it took to make.

    Attributes:
        system, song, course, seed: whose dance to what.
        file: relative to the cache's folder.
        dance_s: its length.
        processor_s: processor time that making it took, all threads together; NaN where it was not measured.
        machine: kind of the machine that made it.
    """

    system: str
    song: str
    course: str
    seed: int
    file: str
    dance_s: float
    processor_s: float
    machine: str


class DanceCache:
    """Dances by system, song, course, length and seed, and by what they depend on (`DanceSystem.key`, `Song.key`).

    A dance that was kept before songs had keys counts as danced to the same music.

    Args:
        folder: is made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def dance(self, system: DanceSystem, song: Song, seed: int) -> tuple[Dance, KeptDance]:
        """Return a dance, danced now if it has not been before, and what is kept of it."""
        path = self._path(system, song, seed, "dance")
        file = path.relative_to(self._folder).as_posix()

        def kept(dance: Dance, took_s: float, machine: str) -> KeptDance:
            length_s = round(float(dance.time_s[-1] - dance.time_s[0]), 3)
            return KeptDance(system.name, song.name, song.course, seed, file, length_s, round(took_s, 6), machine)

        try:
            with np.load(path, allow_pickle=False) as archive:
                _require_same(archive, song)
                dance = Dance(**{name: archive[name].astype(np.float64) for name in _DANCE_ARRAYS})
                took_s = float(archive["processor_s"]) if "processor_s" in archive.files else math.nan
                machine = str(archive["machine"]) if "machine" in archive.files else ""
                return dance, kept(dance, took_s, machine)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            # Processor time, not the clock's: what else the machine does must not slow a system down.
            begin_s = time.process_time()
            dance = system.dance(song, seed)
            took_s, machine = time.process_time() - begin_s, machine_kind()
        path.parent.mkdir(parents=True, exist_ok=True)
        times = {"time_s": dance.time_s, "beats_s": dance.beats_s}
        poses = {name: getattr(dance, name).astype(np.float32) for name in _DANCE_ARRAYS if name not in times}
        arrays: dict[str, Any] = {
            **times,
            **poses,
            "processor_s": np.array(took_s),
            "machine": np.array(machine),
            "song": np.array(song.key),
        }
        with whole_file(path) as partial:
            np.savez_compressed(partial, **arrays)
        # What is read back later is rounded to float32: measure the same now.
        dance = Dance(**times, **{name: array.astype(np.float64) for name, array in poses.items()})
        return dance, kept(dance, took_s, machine)

    def minutes(self, system: DanceSystem, song: Song, seed: int, seconds: float) -> MeasuredMinutes:
        """Return what is measured of a long dance (only that is kept: a long dance is large)."""
        path = self._path(system, song, seed, "minutes")
        try:
            with np.load(path, allow_pickle=False) as archive:
                _require_same(archive, song)
                numbers = archive["numbers"]
                return MeasuredMinutes(
                    tuple(archive["speeds"].tolist()), archive["first"], archive["last"], *numbers.tolist()
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            measured = MeasuredMinutes.of(system.dance(song, seed).shown(seconds))
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            np.savez(
                partial,
                speeds=np.array(measured.speeds_m_s),
                first=measured.first,
                last=measured.last,
                numbers=np.array([measured.speed_ratio, measured.frozen]),
                song=np.array(song.key),
            )
        return measured

    def _path(self, system: DanceSystem, song: Song, seed: int, kind: str) -> Path:
        length = len(song.music)
        name = f"{_told_apart(song.name)}-{song.course}-{length}-{seed}-{system.key}"
        return self._folder / _slug(system.name) / f"{_slug(name)}.{kind}.npz"


def _require_same(archive: Mapping[str, Any], song: Song) -> None:
    """Raise ValueError if a dance was danced to other music, which has been prepared anew since."""
    if "song" in archive and str(archive["song"]) != song.key:
        raise ValueError("danced to other music")


def _told_apart(name: str) -> str:
    """Return a song's name fit for a file; names of which only signs are left (any in Japanese) stay different."""
    plain = _slug(name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)
