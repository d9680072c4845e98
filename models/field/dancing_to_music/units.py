"""Dance units: a dance in pose time, in which every kinematic beat is the same number of poses after the last.

A unit is a few such intervals, always of the same number of poses (Lee et al. 2019, 3.1; their published code: four
intervals of eight poses). Poses are tick vectors (`models.motion.representation`), so what is sampled anew is the
motion in space, and heading changes and displacements are taken again from pose to pose: they grow and shrink with the
time between two poses, as they must.

Pose time begins on a kinematic beat with the pose *before* the first unit; a unit's last pose is on a beat. So a unit
is complete with the pose before it, and can be played as soon as it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.body.skeleton import MIRROR_CONTACTS, mirror
from models.motion.representation import CONTACTS, motion_from_ticks, ticks_from_motion
from models.motion.resampling import resample_motion

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class UnitShape:
    """How a unit is cut.

    Attributes:
        beats: kinematic-beat intervals in a unit.
        poses: in a unit.
    """

    beats: int = 4
    poses: int = 32

    def __post_init__(self) -> None:
        if self.beats < 1 or self.poses < 2 * self.beats or self.poses % self.beats:
            raise ValueError("a unit has the same number of poses, at least two, in each of its beats")

    @property
    def poses_a_beat(self) -> int:
        """Return the poses from a kinematic beat to the next."""
        return self.poses // self.beats


@dataclass(frozen=True)
class PosedDance:
    """A dance in pose time.

    Attributes:
        poses: (n, 152) tick vectors, one a pose; row 0 is on a kinematic beat.
        at: (n,) tick of the dance, with its fraction, at which each pose is.
        shape: of its units.
    """

    poses: Floats
    at: NDArray[np.float64]
    shape: UnitShape

    @staticmethod
    def of(ticks: Floats, beats: ArrayLike, shape: UnitShape) -> PosedDance:
        """Put a dance into pose time.

        Args:
            ticks: (T, 152) tick vectors.
            beats: (k,) kinematic beats, as ticks of the dance with their fraction, increasing.
            shape: of the units.

        Raises:
            ValueError: there are fewer than two beats, or they are not in order or not in the dance.
        """
        beats = np.asarray(beats, np.float64)
        if len(beats) < 2 or (np.diff(beats) <= 0.0).any() or beats[0] < 0.0 or beats[-1] > len(ticks) - 1:
            raise ValueError("pose time needs two beats or more, in order and in the dance")
        index = np.arange((len(beats) - 1) * shape.poses_a_beat + 1) / shape.poses_a_beat
        at = np.interp(index, np.arange(len(beats)), beats)
        return PosedDance(resampled(ticks, at), at, shape)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Return the rows (m,) of the first pose of every unit: one begins after each beat that has enough left."""
        last = len(self.poses) - self.shape.poses
        return np.arange(1, last + 1, self.shape.poses_a_beat)

    def mirrored(self) -> PosedDance:
        """Return the same dance, left to right."""
        rotations, translation = mirror(*motion_from_ticks(self.poses))
        contacts = self.poses[:, CONTACTS][:, MIRROR_CONTACTS]
        return replace(self, poses=ticks_from_motion(rotations, translation, contacts))

    def unit(self, start: int) -> Floats:
        """Return the unit (poses, 152) that begins at a row."""
        return self.poses[start : start + self.shape.poses]


def resampled(ticks: Floats, at: NDArray[np.float64]) -> Floats:
    """Sample tick vectors (T, 152) anew at (n,) increasing places; changes and displacements are from place to place.

    The first row's changes repeat the second's.
    """
    rotations, translation = resample_motion(*motion_from_ticks(ticks), 1.0, at)
    rows = np.arange(len(ticks))
    contacts = np.stack([np.interp(at, rows, column) for column in ticks[:, CONTACTS].T], axis=1)
    return ticks_from_motion(rotations, translation, contacts)


def stretched(unit: Floats, before: Floats, ticks: int) -> Floats:
    """Return a unit (poses, 152) as tick vectors (ticks, 152); its last pose falls on the last tick.

    Args:
        unit: its poses as tick vectors, one a pose.
        before: (152,) the pose that it follows.
        ticks: how long it shall last.

    Raises:
        ValueError: it shall last no time.
    """
    if ticks < 1:
        raise ValueError(f"a unit cannot last {ticks} ticks")
    line = np.concatenate([before[None], unit])
    return resampled(line, np.linspace(0.0, len(unit), ticks + 1))[1:]
