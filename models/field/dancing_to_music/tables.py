"""What the stage knows beside the networks: scales of poses and music, and poses to begin from. Pure NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from models.artifacts import write_tables
from models.music_to_dance.conditioning import MUSIC_LIMIT, normalise_music

Floats = NDArray[np.float32]

TEMPO_SIZE = 1
"""Values that a row of music has after its features: the tempo, which a row a tick would not show otherwise."""
_REFERENCE_TEMPO_BPM = 100.0
_TEMPO_SCALE = 4.0
"""A third of an octave, which is what ballroom dances differ by, is then about one deviation."""


def tempo_steps(ratio: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Return a ratio of tempos on the scale that the networks hear it on."""
    return np.asarray(_TEMPO_SCALE * np.log2(ratio))


@dataclass(frozen=True)
class UnitTables:
    """Fitted to the training dances.

    Attributes:
        pose_mean, pose_deviation: (152,) of poses in pose time: what is taken away, and what counts as one.
        music_mean, music_scale: (F,) of features, the scale being 1 / deviation.
        starts: (n, 152) normalised poses to begin a dance from.
        start_styles: (n,) their styles.
    """

    pose_mean: Floats
    pose_deviation: Floats
    music_mean: Floats
    music_scale: Floats
    starts: Floats
    start_styles: NDArray[np.int32]

    @property
    def fitted(self) -> dict[str, Floats]:
        """Return what weights depend on."""
        return {
            "pose mean": self.pose_mean,
            "pose deviation": self.pose_deviation,
            "music mean": self.music_mean,
            "music scale": self.music_scale,
        }

    @property
    def music_size(self) -> int:
        """Return M, values of a row of music with its tempo."""
        return len(self.music_mean) + TEMPO_SIZE

    def normalised(self, ticks: Floats) -> Floats:
        """Return tick vectors (n, 152) as the networks see them."""
        return ((ticks - self.pose_mean) / self.pose_deviation).astype(np.float32)

    def ticks(self, poses: Floats) -> Floats:
        """Return what the networks wrote (n, 152) as tick vectors."""
        return (poses * self.pose_deviation + self.pose_mean).astype(np.float32)

    def music(self, features: Floats, tempo_bpm: NDArray[np.floating] | float) -> Floats:
        """Return rows of music (n, M) of features (n, F) at a tempo; what is not finite counts as average."""
        rows = normalise_music(features, self.music_mean, self.music_scale)
        ratio = np.broadcast_to(tempo_bpm, len(rows)) / _REFERENCE_TEMPO_BPM
        tempo = np.clip(tempo_steps(ratio), -MUSIC_LIMIT, MUSIC_LIMIT)
        return np.concatenate([rows, tempo[:, None]], axis=1).astype(np.float32)

    def start(self, random: np.random.Generator, style: int | None) -> Floats:
        """Draw a pose (152,) to begin from: one of a style's, or any."""
        rows = np.flatnonzero(self.start_styles == style) if style in self.start_styles else np.arange(len(self.starts))
        return self.starts[rows[int(random.integers(len(rows)))]]

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        write_tables({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, path)

    @staticmethod
    def load(path: Path) -> UnitTables:
        """Read what `save` wrote."""
        return UnitTables(**load_file(path))
