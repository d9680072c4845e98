"""What is shown when the core is late: the last motion carried on, and handed over softly when the core is back."""

from __future__ import annotations

import numpy as np

from engine.carry_on import CarryOn
from engine.pose_algebra import Array, from_axis_angle, to_axis_angle
from engine.types import NS_PER_S, PoseFrame


class StandIn:
    """Fills in PoseFrames over a stall. Threads: the scheduler's only."""

    def __init__(self) -> None:
        self._carry_on = CarryOn()
        self._last: PoseFrame | None = None
        self._before: PoseFrame | None = None
        self._shown_ns = 0

    def see(self, frame: PoseFrame) -> PoseFrame:
        """Return the frame to show for one from the core: the same, unless a stall has just ended."""
        shown = frame
        if self._carry_on.active:
            elapsed_s = (frame.time_ns - self._shown_ns) / NS_PER_S
            shown = _frame(frame, frame.time_ns, *self._carry_on.hand_over(*_pose(frame), elapsed_s))
        self._before, self._last, self._shown_ns = self._last, shown, shown.time_ns
        return shown

    def carry(self, time_ns: int) -> PoseFrame | None:
        """Return a frame for a time that the core has missed; None before there are two to carry on from."""
        last, before = self._last, self._before
        if last is None or before is None:
            return None
        if not self._carry_on.active or self._shown_ns == last.time_ns:
            self._carry_on.note(*_pose(before), 1.0)
            self._carry_on.note(*_pose(last), (last.time_ns - before.time_ns) / NS_PER_S)
        quaternions, translation = self._carry_on.carry((time_ns - self._shown_ns) / NS_PER_S, 0.0)
        self._shown_ns = time_ns
        return _frame(last, time_ns, quaternions, translation)


def _pose(frame: PoseFrame) -> tuple[Array, Array]:
    return from_axis_angle(frame.rotations.astype(np.float64)), frame.translation_m.astype(np.float64)


def _frame(like: PoseFrame, time_ns: int, quaternions: Array, translation: Array) -> PoseFrame:
    return PoseFrame(time_ns, like.source_ns, to_axis_angle(quaternions), translation, like.contacts)
