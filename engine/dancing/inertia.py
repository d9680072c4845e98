"""Changing from one motion to another without a seam: the difference at the change dies away like a damped spring.

The method is known as inertialization (Bollo, "Inertialization: High-Performance Animation Transitions in Gears of
War", GDC 2018); here with a critically damped spring in place of his quintic.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import axis_angle_to_quaternion, quaternion_multiply, quaternion_to_axis_angle
from engine.dancing.motion_track import Pose

# The difference at a change and its speed; 1/omega. 0.12 s: 90 % gone after 0.47 s, about one beat.
_TIME_CONSTANT_S = 0.12
_CONJUGATE = np.array([-1.0, -1.0, -1.0, 1.0])


class Inertializer:
    """Keeps shown poses continuous in position and velocity when their source changes. One thread."""

    def __init__(self) -> None:
        self._shown: Pose | None = None
        self._previous: Pose | None = None
        self._interval_s = 0.0
        self._offset_rad = np.zeros((24, 3))
        self._speed_rad = np.zeros((24, 3))
        self._offset_m = np.zeros(3)
        self._speed_m = np.zeros(3)
        self._age_s = math.inf

    def reset(self) -> None:
        """Forget what was shown: the next pose is taken as it is."""
        self._shown = self._previous = None
        self._age_s = math.inf

    def apply(self, pose: Pose, interval_s: float) -> Pose:
        """Return the pose to show, given the source's pose and the time since the pose before."""
        self._age_s += interval_s
        if self._age_s < 12.0 * _TIME_CONSTANT_S:
            omega = 1.0 / _TIME_CONSTANT_S
            decay, t = math.exp(-omega * self._age_s), self._age_s
            offset = (self._offset_rad * (1.0 + omega * t) + self._speed_rad * t) * decay
            rotated = quaternion_multiply(axis_angle_to_quaternion(offset), pose.quaternions)
            moved = pose.translation_m + (self._offset_m * (1.0 + omega * t) + self._speed_m * t) * decay
            pose = Pose(np.asarray(rotated), moved, pose.contacts)
        self._previous, self._shown, self._interval_s = self._shown, pose, interval_s
        return pose

    def change(self, target: Pose, ahead: Pose | None = None, ahead_s: float = 0.0) -> None:
        """Hide a jump: call ahead of `apply` with the first pose of another source.

        Args:
            target: that pose.
            ahead: the same source's pose a little later; None if it stands still.
            ahead_s: how much later [s].
        """
        if self._shown is None:
            return
        shown, previous, interval_s = self._shown, self._previous, self._interval_s
        shown_rad, shown_m = np.zeros((24, 3)), np.zeros(3)
        if previous is not None and interval_s > 0.0:
            shown_rad = _difference(shown.quaternions, previous.quaternions) / interval_s
            shown_m = (shown.translation_m - previous.translation_m) / interval_s
        target_rad, target_m = np.zeros((24, 3)), np.zeros(3)
        if ahead is not None and ahead_s > 0.0:
            target_rad = _difference(ahead.quaternions, target.quaternions) / ahead_s
            target_m = (ahead.translation_m - target.translation_m) / ahead_s
        # Both motions at the time of the pose that was shown last, one interval before `target`.
        self._offset_rad = _difference(shown.quaternions, target.quaternions) + target_rad * interval_s
        self._offset_m = shown.translation_m - target.translation_m + target_m * interval_s
        self._speed_rad, self._speed_m = shown_rad - target_rad, shown_m - target_m
        self._age_s = 0.0


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation vectors (24, 3) that take `second` to `first`."""
    return np.asarray(quaternion_to_axis_angle(quaternion_multiply(first, second * _CONJUGATE)))
