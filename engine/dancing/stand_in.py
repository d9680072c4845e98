"""What is shown when the core is late: the last motion carried on, and handed over softly when the core is back."""

from __future__ import annotations

import numpy as np

from engine.body.pose_algebra import from_axis_angle, to_axis_angle
from engine.dancing.coast import Coast
from engine.dancing.motion_track import Pose
from engine.types import NS_PER_S, PoseFrame


class StandIn:
    """Fills in PoseFrames over a stall. Threads: the scheduler's only."""

    def __init__(self) -> None:
        self._last: PoseFrame | None = None
        self._before: PoseFrame | None = None
        self._coast: Coast | None = None

    def see(self, frame: PoseFrame) -> PoseFrame:
        """Return the frame to show for one from the core: the same, unless a stall has just ended."""
        shown = frame
        if self._coast is not None and self._last is not None:
            pose = self._coast.hand_over(_pose(frame), (frame.time_ns - self._last.time_ns) / NS_PER_S)
            if pose is None:
                self._coast = None
            else:
                shown = _frame(frame, frame.time_ns, pose)
        self._before, self._last = self._last, shown
        return shown

    def carry(self, time_ns: int) -> PoseFrame | None:
        """Return a frame for a time that the core has missed; None before there are two to carry on from."""
        last, before = self._last, self._before
        if last is None or before is None:
            return None
        if self._coast is None or self._coast.handing_over:
            self._coast = Coast(_pose(before), _pose(last), (last.time_ns - before.time_ns) / NS_PER_S, 0.0)
        pose = self._coast.carry((time_ns - last.time_ns) / NS_PER_S)
        self._before, self._last = last, _frame(last, time_ns, pose)
        return self._last


def _pose(frame: PoseFrame) -> Pose:
    return Pose(
        from_axis_angle(frame.rotations.astype(np.float64)),
        frame.translation_m.astype(np.float64),
        frame.contacts.astype(np.float64),
    )


def _frame(like: PoseFrame, time_ns: int, pose: Pose) -> PoseFrame:
    rotations = to_axis_angle(pose.quaternions).astype(np.float32)
    root_m = pose.translation_m.astype(np.float32)
    return PoseFrame(time_ns, like.source_ns, rotations, root_m, like.contacts, like.performer)
