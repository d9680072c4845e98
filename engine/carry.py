"""What is shown when the core is late: the last motion carried on, and a soft landing when it is back."""

from __future__ import annotations

import math

import numpy as np

from engine.inertia import Inertializer
from engine.motion_track import Pose
from engine.skeleton import axis_angle_to_quaternion, quaternion_to_axis_angle, slerp
from engine.types import NS_PER_S, PoseFrame

# The carried motion comes to rest with this time constant: a hand at 3 m/s drifts 30 cm, then waits.
_REST_S = 0.1


class MotionCarrier:
    """Extrapolates PoseFrames over a stall and blends out of it. Threads: the scheduler's only."""

    def __init__(self) -> None:
        self._last: PoseFrame | None = None
        self._previous: PoseFrame | None = None
        self._inertializer: Inertializer | None = None
        self._recovered_ns = 0
        self._shown_ns = 0

    def see(self, frame: PoseFrame) -> PoseFrame:
        """Return the frame to show for one from the core: the same, unless a stall has just ended."""
        if self._inertializer is not None:
            if self._recovered_ns == 0:
                self._recovered_ns = frame.time_ns
                self._inertializer.change(_pose(frame))
            shown = _frame(
                frame, self._inertializer.apply(_pose(frame), (frame.time_ns - self._shown_ns) / NS_PER_S)
            )
            if frame.time_ns - self._recovered_ns > NS_PER_S:
                self._inertializer = None
        else:
            shown = frame
        self._previous, self._last, self._shown_ns = self._last, frame, frame.time_ns
        return shown

    def carry(self, time_ns: int) -> PoseFrame | None:
        """Return a frame for a time that the core has missed; None before there are two to carry on from."""
        last, previous = self._last, self._previous
        if last is None or previous is None or last.time_ns <= previous.time_ns:
            return None
        interval_s = (last.time_ns - previous.time_ns) / NS_PER_S
        reach = _REST_S * (1.0 - math.exp(-(time_ns - last.time_ns) / NS_PER_S / _REST_S)) / interval_s
        a, b = _pose(previous), _pose(last)
        pose = Pose(
            np.asarray(slerp(a.quaternions, b.quaternions, np.full(24, 1.0 + reach))),
            b.translation_m + reach * (b.translation_m - a.translation_m),
            b.contacts,
        )
        if self._inertializer is None or self._recovered_ns:
            self._inertializer, self._recovered_ns = Inertializer(), 0
            self._inertializer.apply(b, interval_s)
        pose = self._inertializer.apply(pose, (time_ns - self._shown_ns) / NS_PER_S)
        self._shown_ns = time_ns
        rotations = np.asarray(quaternion_to_axis_angle(pose.quaternions))
        return PoseFrame(time_ns, last.source_ns, rotations, pose.translation_m, last.contacts)


def _pose(frame: PoseFrame) -> Pose:
    return Pose(
        np.asarray(axis_angle_to_quaternion(frame.rotations.astype(float))),
        frame.translation_m.astype(float),
        frame.contacts.astype(float),
    )


def _frame(frame: PoseFrame, pose: Pose) -> PoseFrame:
    rotations = np.asarray(quaternion_to_axis_angle(pose.quaternions))
    return PoseFrame(frame.time_ns, frame.source_ns, rotations, pose.translation_m, pose.contacts)
