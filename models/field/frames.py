"""What the systems of the field see: poses and music at a fixed frame rate, normalised.

A frame's pose is a tick vector (`models.motion.representation`) sampled once a frame. A frame's music is the features
of the newest tick that has ended, normalised and clipped, then two values that the published inputs have too: `beat`,
1 in the frame in which a beat falls, and `phase` of the beat in [0, 1). What stands still or never sounds has no
deviation to speak of; it is floored, so that noise in it does not count.

Pure NumPy: the stage uses it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.motion.representation import TICK_SIZE
from models.music_to_dance.conditioning import normalise_music

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

BEAT_SIZE = 2
"""Values that a frame of music has after its features: beat and phase."""
POSE_SIZE = TICK_SIZE
POSE_LIMIT = 10.0
"""Deviations: further from the mean no dancer is, and a system that feeds on its own output can run away."""
_LEAST_MUSIC, _LEAST_POSE = 1e-3, 1e-2
"""Floors of the deviations; 0.01 is a hundredth of a metre or of a rotation's column."""


@dataclass(frozen=True)
class FrameScales:
    """Normalisation by the training split: means and deviations of music (F,) and pose (152,)."""

    music_mean: Floats
    music_deviation: Floats
    pose_mean: Floats
    pose_deviation: Floats

    @staticmethod
    def fit(music: Floats, pose: Floats) -> FrameScales:
        """Fit to frames of music (n, F) and poses (m, 152) of the training split."""
        return FrameScales(*_moments(music, _LEAST_MUSIC), *_moments(pose, _LEAST_POSE))

    @property
    def fitted(self) -> dict[str, Floats]:
        """Return what weights depend on."""
        return {
            "pose mean": self.pose_mean,
            "pose deviation": self.pose_deviation,
            "music mean": self.music_mean,
            "music deviation": self.music_deviation,
        }

    @property
    def music_size(self) -> int:
        """M, values of a frame of music with its beat."""
        return len(self.music_mean) + BEAT_SIZE

    def music(self, features: Floats, beat: Doubles, last: float | None = None) -> Floats:
        """Return frames of music (T, M); features that are not finite count as average.

        Args:
            features: (T, F).
            beat: (T,) beats since beat 0 at each frame.
            last: beats at the frame before; None at a beginning, where a beat may fall on the first frame itself.
        """
        normal = normalise_music(features, self.music_mean, 1.0 / self.music_deviation)
        return np.concatenate([normal, beat_values(beat, last)], axis=1)

    def pose(self, ticks: Floats) -> Floats:
        """Return normalised poses (T, 152)."""
        return ((ticks - self.pose_mean) / self.pose_deviation).astype(np.float32)

    def ticks(self, pose: Floats) -> Floats:
        """Return poses (T, 152) as tick vectors; the inverse of `pose`."""
        return (pose * self.pose_deviation + self.pose_mean).astype(np.float32)


def beat_values(beat: Doubles, last: float | None = None) -> Floats:
    """Return (T, 2): whether a beat falls in each frame, and the phase of the beat in [0, 1).

    Args:
        beat: (T,) beats since beat 0 at each frame; a frame is the time since the frame before.
        last: beats at the frame before the first.
    """
    # Frames that lie on a beat but for rounding.
    count = np.floor(np.asarray(beat) + 1e-6)
    before = np.floor((beat[:1] - 1e-3 if last is None else np.array([last])) + 1e-6)
    falls = np.diff(np.concatenate([before, count])) > 0.0
    phase = np.clip(beat - count, 0.0, 1.0)
    return np.stack([falls, phase], axis=1).astype(np.float32)


def _moments(rows: Floats, least: float) -> tuple[Floats, Floats]:
    mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    return mean.astype(np.float32), np.maximum(deviation, least).astype(np.float32)


@dataclass(frozen=True)
class StartPoses:
    """Poses (n, 152) to begin a dance from, as tick vectors, and their styles (n,)."""

    poses: Floats
    styles: NDArray[np.int32]

    def draw(self, random: np.random.Generator, style: int | None) -> Floats:
        """Draw a pose (152,) of a style, or of any without a wish that can be granted."""
        rows = np.flatnonzero(self.styles == style) if style in self.styles else np.arange(len(self.styles))
        return self.poses[rows[int(random.integers(len(rows)))]]


class Dancing(Protocol):
    """A frame model while it dances: it keeps its own state."""

    def __call__(self, music: Floats, pose: Floats, noise: Floats) -> Floats:
        """Return the next normalised poses (B, 152) of frames of music (B, M), poses (B, 152) and noise (B, Z)."""
        ...


def roll_out(dancing: Dancing, music: Floats, start: Floats, noise: Floats, lookahead_frames: int) -> Floats:
    """Dance to whole music; return the normalised poses (B, T - lookahead, 152).

    Args:
        dancing: in the state before the first frame.
        music: (B, T, M).
        start: (B, 152) normalised poses of the frame before the first.
        noise: (B, T, Z).
        lookahead_frames: of the model.
    """
    pose, poses = start, []
    for frame in range(music.shape[1]):
        found = limited(dancing(music[:, frame], pose, noise[:, frame]), pose)
        # What is made while the model hears ahead, nobody sees.
        if frame >= lookahead_frames:
            pose = found
            poses.append(pose)
    return np.stack(poses, axis=1)


def limited(pose: Floats, before: Floats) -> Floats:
    """Return poses (B, 152) within `POSE_LIMIT`; one that is not finite is the one before it."""
    whole = np.isfinite(pose).all(axis=-1, keepdims=True)
    return np.clip(np.where(whole, pose, before), -POSE_LIMIT, POSE_LIMIT).astype(np.float32)
