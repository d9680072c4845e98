"""What several receivers of one pose need alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import axis_angle_to_quaternion, forward_kinematics_matrices, quaternion_to_matrix
from engine.types import PoseFrame


class PoseKinematics:
    """Where a pose's joints are, worked out once however many receivers it is sent to.

    Threads: any; two at once may both work it out.
    """

    def __init__(self) -> None:
        self._last: tuple[PoseFrame, NDArray[np.float32], NDArray[np.float32]] | None = None

    def of(self, frame: PoseFrame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the quaternions (24, 4) and positions (24, 3) of a pose, not to be written to."""
        last = self._last
        if last is None or last[0] is not frame:
            quaternions = axis_angle_to_quaternion(frame.rotations)
            positions, _ = forward_kinematics_matrices(quaternion_to_matrix(quaternions), frame.translation_m)
            self._last = last = frame, np.asarray(quaternions), np.asarray(positions)
        return last[1], last[2]
