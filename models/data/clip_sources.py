"""Raw clips as they come: what is known of one, its audio, and saying what is wrong with a bad one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engine.features import SAMPLE_RATE_HZ
from models.data.dataset import SPLITS

SHORTEST_S = 4.0
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
_SILENT_RMS = 1e-4  # -80 dBFS
_LONGEST_S = 86_400.0
"""No recording of a dance is a day long; NaN is no shorter."""
_MOST_BEATS = 16
"""A bar of more is no bar that anybody counts."""


class BadClip(Exception):
    """A clip that cannot be used, and why; it is named and left out."""


@dataclass(frozen=True, slots=True)
class ClipSource:
    """Where a clip's files are and what is known of it; see the attributes of `PreparedClip`.

    `audio` and what depends on it are None for motion without music. `kind` says what reads the motion. Where
    `beat_known` is false, `bpm` is as far as is known and the beat is sought in the audio.
    """

    name: str
    motion: Path
    fps: float
    style: str
    split: str
    audio: Path | None = None
    bpm: float | None = None
    beat_s: float = 0.0
    first_pose_s: float = 0.0
    beats_per_bar: int = 4
    tempo_locked: bool = False
    # Not in the representation, by which what was prepared from an index before these existed is recognised.
    kind: Literal["markers", "aist", "bvh"] = field(default="markers", repr=False)
    beat_known: bool = field(default=True, repr=False)


def checked(source: ClipSource) -> ClipSource:
    """Return a clip whose facts make sense. Raises BadClip if they do not: a wrong one spoils what is made of all."""
    if not source.name or Path(source.name).name != source.name:
        raise BadClip("a name may not be empty or contain a path")
    if source.split not in SPLITS:
        raise BadClip(f"split {source.split!r}")
    if not 5.0 <= source.fps <= 480.0:
        raise BadClip(f"{source.fps:g} frames a second")
    if source.bpm is not None and not 20.0 <= source.bpm <= 400.0:
        raise BadClip(f"bpm {source.bpm:g}")
    if not (abs(source.beat_s) <= _LONGEST_S and abs(source.first_pose_s) <= _LONGEST_S):
        raise BadClip(f"a beat at {source.beat_s:g} s, the first pose at {source.first_pose_s:g} s")
    if not 1 <= source.beats_per_bar <= _MOST_BEATS:
        raise BadClip(f"{source.beats_per_bar} beats a bar")
    return source


def files_under(data: Path) -> list[Path]:
    """Return all files in a folder and below it, in order; folders that are links are entered, each folder once.

    `Path.rglob` passes linked folders by, and data often lies on another disk.
    """
    found: list[Path] = []
    entered = set()
    for folder, below, names in os.walk(data, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            below.clear()  # a link to a folder above: it would go round for ever
            continue
        entered.add(real)
        below.sort()
        found += [Path(folder, name) for name in names]
    return sorted(found)


def load_audio(source: ClipSource) -> NDArray[np.float32]:
    """Return the music (n,) float32, mono at 48 kHz. Raises BadClip."""
    assert source.audio is not None
    if not source.audio.is_file():
        raise BadClip(f"no audio file {source.audio.name}")
    try:
        samples, rate = soundfile.read(source.audio, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise BadClip(f"its audio cannot be read ({error})") from error
    mono = samples.mean(axis=1)
    if not len(mono) or not np.isfinite(mono).all():
        raise BadClip("its audio is empty or not finite")
    if float(np.sqrt(np.mean(mono**2))) < _SILENT_RMS:
        raise BadClip("its audio is silent")
    return np.asarray(soxr.resample(mono, rate, SAMPLE_RATE_HZ, quality="HQ"), dtype=np.float32)
