"""What is shown when the core is late: the last motion carried on, and a soft landing when it is back."""

from __future__ import annotations

import math

import numpy as np

from engine.inertia import Inertializer
from engine.motion_track import Pose
from engine.pose_algebra import from_axis_angle, to_axis_angle
from engine.skeleton import slerp
from engine.types import NS_PER_S, PoseFrame

# The carried motion comes to rest with this time constant: a hand at 3 m/s drifts 30 cm, then waits.
_REST_S = 0.1
# After this long the landing is over: the inertializer's offset is gone.
_LANDING_NS = NS_PER_S


class StandIn:
    """Extrapolates PoseFrames over a stall and blends out of it. Threads: the scheduler's only."""

    def __init__(self) -> None:
        self._last: PoseFrame | None = None
        self._previous: PoseFrame | None = None
        self._stall: tuple[PoseFrame, PoseFrame] | None = None
        self._landing: Inertializer | None = None
        self._landed_ns = 0

    def see(self, frame: PoseFrame) -> PoseFrame:
        """Return the frame to show for one from the core: the same, unless a stall has just ended."""
        if self._stall is not None and self._last is not None:
            self._landing = Inertializer()
            assert self._previous is not None
            self._landing.apply(_pose(self._previous), 0.0)
            self._landing.apply(_pose(self._last), _seconds(self._last, self._previous))
            self._landing.change(_pose(frame))
            self._landed_ns = frame.time_ns + _LANDING_NS
            self._stall = None
        shown = frame
        if self._landing is not None and self._last is not None:
            shown = _frame(frame, frame.time_ns, self._landing.apply(_pose(frame), _seconds(frame, self._last)))
            if frame.time_ns >= self._landed_ns:
                self._landing = None
        self._previous, self._last = self._last, shown
        return shown

    def carry(self, time_ns: int) -> PoseFrame | None:
        """Return a frame for a time that the core has missed; None before there are two to carry on from."""
        if self._last is None or self._previous is None:
            return None
        if self._stall is None:
            self._stall = (self._previous, self._last)
        before, last = self._stall
        reach_s = _REST_S * (1.0 - math.exp(-(time_ns - last.time_ns) / NS_PER_S / _REST_S))
        reach = reach_s / _seconds(last, before)
        a, b = _pose(before), _pose(last)
        pose = Pose(
            np.asarray(slerp(a.quaternions, b.quaternions, np.full(24, 1.0 + reach))),
            b.translation_m + reach * (b.translation_m - a.translation_m),
            b.contacts,
        )
        self._previous, self._last = self._last, _frame(last, time_ns, pose)
        return self._last


def _seconds(frame: PoseFrame, before: PoseFrame | None) -> float:
    """Return the time between two frames [s], never zero."""
    return max((frame.time_ns - before.time_ns) / NS_PER_S, 1e-3) if before is not None else 1e-3


def _pose(frame: PoseFrame) -> Pose:
    return Pose(
        from_axis_angle(frame.rotations.astype(np.float64)),
        frame.translation_m.astype(np.float64),
        frame.contacts.astype(np.float64),
    )


def _frame(like: PoseFrame, time_ns: int, pose: Pose) -> PoseFrame:
    rotations = to_axis_angle(pose.quaternions).astype(np.float32)
    return PoseFrame(time_ns, like.source_ns, rotations, pose.translation_m.astype(np.float32), like.contacts)
