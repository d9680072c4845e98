"""Dances on disk, so that an evaluation goes on where it was stopped and measures again without dancing again."""

from __future__ import annotations

import re
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation.stability import MeasuredMinutes
from models.rivals.song import Dance, DanceSystem, Song

_DANCE_ARRAYS = tuple(f.name for f in fields(Dance))


class DanceCache:
    """Dances by system, song, course, length and seed, and by what they depend on (`DanceSystem.key`).

    Args:
        folder: is made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def dance(self, system: DanceSystem, song: Song, seed: int) -> Dance:
        """Return a dance, danced now if it has not been before."""
        path = self._path(system, song, seed, "dance")
        try:
            with np.load(path, allow_pickle=False) as archive:
                return Dance(**{name: archive[name].astype(np.float64) for name in _DANCE_ARRAYS})
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            dance = system.dance(song, seed)
        partial = path.with_suffix(".partial.npz")
        partial.parent.mkdir(parents=True, exist_ok=True)
        times = {"time_s": dance.time_s, "beats_s": dance.beats_s}
        poses = {name: getattr(dance, name).astype(np.float32) for name in _DANCE_ARRAYS if name not in times}
        arrays: dict[str, Any] = {**times, **poses}
        np.savez_compressed(partial, **arrays)
        partial.replace(path)
        # What is read back later is rounded to float32: measure the same now.
        return Dance(**times, **{name: array.astype(np.float64) for name, array in poses.items()})

    def minutes(self, system: DanceSystem, song: Song, seed: int, seconds: float) -> MeasuredMinutes:
        """Return what is measured of a long dance (only that is kept: a long dance is large)."""
        path = self._path(system, song, seed, "minutes")
        try:
            with np.load(path, allow_pickle=False) as archive:
                numbers = archive["numbers"]
                return MeasuredMinutes(
                    tuple(archive["speeds"].tolist()), archive["first"], archive["last"], *numbers.tolist()
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            measured = MeasuredMinutes.of(system.dance(song, seed).shown(seconds))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(
            partial,
            speeds=np.array(measured.speeds_m_s),
            first=measured.first,
            last=measured.last,
            numbers=np.array([measured.speed_ratio, measured.frozen]),
        )
        partial.replace(path)
        return measured

    def _path(self, system: DanceSystem, song: Song, seed: int, kind: str) -> Path:
        length = len(song.music)
        name = f"{song.name}-{song.course}-{length}-{seed}-{system.key}"
        return self._folder / _slug(system.name) / f"{_slug(name)}.{kind}.npz"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)
