"""Poses at a fixed frame rate, shown at ticks of any tempo: the frames' path through the world, sampled in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import (
    JOINT_COUNT,
    axis_angle_to_quaternion,
    matrix_to_axis_angle,
    quaternion_to_axis_angle,
    six_d_to_matrix,
    slerp,
)
from engine.types import MotionChunk
from models.field.frames import Floats
from models.motion.representation import CONTACTS, DISPLACEMENT, HEADING, HEIGHT, ROTATIONS


@dataclass(frozen=True)
class _Placed:
    """A pose in the world: joint quaternions (24, 4) without the heading, heading [rad], ground position (2,) [m],
    height [m] and contacts (4,)."""

    quaternions: NDArray[np.float64]
    heading: float
    position: NDArray[np.float64]
    height: float
    contacts: NDArray[np.float64]


@dataclass(frozen=True)
class PathTick:
    """What is shown at a tick: joint quaternions (24, 4) without the heading, the changes of heading [rad] and of the
    ground position (left, forward) [m] since the tick before, height [m] and contacts (4,)."""

    quaternions: NDArray[np.float64]
    turned: float
    moved: tuple[float, float]
    height: float
    contacts: NDArray[np.float64]


def chunk_of(ticks: Sequence[PathTick]) -> MotionChunk:
    """Return ticks as motion in the dancer's own heading frame."""
    return MotionChunk(
        rotations=np.asarray(quaternion_to_axis_angle(np.stack([t.quaternions for t in ticks])), np.float32),
        heading_delta_rad=np.array([t.turned for t in ticks], np.float32),
        root_delta_m=np.array([t.moved for t in ticks], np.float32),
        root_height_m=np.array([t.height for t in ticks], np.float32),
        contacts=np.clip(np.stack([t.contacts for t in ticks]), 0.0, 1.0).astype(np.float32),
    )


class FramePath:
    """The path that frames make, one after the other, and what is shown of it at any later times.

    Only the newest two frames are kept: a tick lies between them, or before them by less than a frame.

    Args:
        rate_hz: of the frames.
        first: tick vector (152,) of the frame before frame 0, where the path begins.
    """

    def __init__(self, rate_hz: float, first: Floats) -> None:
        self._rate = rate_hz
        start = _Placed(_quaternions(first), 0.0, np.zeros(2), float(first[HEIGHT]), first[CONTACTS].astype(float))
        self._frames = (start, start)
        self._newest = -1
        self._shown = start

    @property
    def end_s(self) -> float:
        """The time of the newest frame [s]; frame 0 is at 0."""
        return self._newest / self._rate

    @property
    def next_frame(self) -> int:
        """The number of the frame that is appended next."""
        return self._newest + 1

    def append(self, frame: Floats) -> None:
        """Add the tick vector (152,) of the next frame; its changes are since the frame before."""
        before = self._frames[1]
        sine, cosine = math.sin(before.heading), math.cos(before.heading)
        left, forward = (float(step) for step in frame[DISPLACEMENT])
        moved = np.array([cosine * left + sine * forward, cosine * forward - sine * left])
        placed = _Placed(
            _quaternions(frame),
            before.heading + float(frame[HEADING]),
            before.position + moved,
            float(frame[HEIGHT]),
            frame[CONTACTS].astype(float),
        )
        self._frames = (before, placed)
        self._newest += 1

    def tick(self, time_s: float) -> PathTick:
        """Return what is shown at a time up to `end_s`; its changes are since the tick asked for before."""
        share = min(max(1.0 - (self.end_s - time_s) * self._rate, 0.0), 1.0)
        now, before = self._between(share), self._shown
        self._shown = now
        sine, cosine = math.sin(before.heading), math.cos(before.heading)
        x, z = now.position - before.position
        return PathTick(
            now.quaternions,
            now.heading - before.heading,
            (cosine * x - sine * z, sine * x + cosine * z),
            now.height,
            now.contacts,
        )

    def _between(self, share: float) -> _Placed:
        one, other = self._frames
        return _Placed(
            np.asarray(slerp(one.quaternions, other.quaternions, np.full(JOINT_COUNT, share))),
            one.heading + share * (other.heading - one.heading),
            one.position + share * (other.position - one.position),
            one.height + share * (other.height - one.height),
            one.contacts + share * (other.contacts - one.contacts),
        )


def _quaternions(frame: Floats) -> NDArray[np.float64]:
    matrices = six_d_to_matrix(frame[ROTATIONS].reshape(JOINT_COUNT, 6).astype(np.float64))
    return np.asarray(axis_angle_to_quaternion(matrix_to_axis_angle(matrices)), np.float64)
