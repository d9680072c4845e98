"""A motion at other times than those at which it was captured. Pure NumPy: the stage uses it too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from engine.body import skeleton


def resample_motion(
    rotations: NDArray[np.floating], translation: NDArray[np.floating], fps: float, times_s: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sample a motion at any times [s] since its first frame: rotations (N, 24, 3), translation (N, 3).

    Cubic splines through quaternions of one sign, normalised: smooth in velocity, where slerp has corners at frames.
    """
    frames_s = np.arange(len(rotations)) / fps
    quaternions = skeleton.axis_angle_to_quaternion(np.asarray(rotations, dtype=np.float64))
    flips = np.where((quaternions[1:] * quaternions[:-1]).sum(axis=-1, keepdims=True) < 0.0, -1.0, 1.0)
    quaternions[1:] *= np.cumprod(flips, axis=0)
    sampled = CubicSpline(frames_s, quaternions)(times_s)
    sampled /= np.linalg.norm(sampled, axis=-1, keepdims=True)
    way = CubicSpline(frames_s, np.asarray(translation, dtype=np.float64))(times_s)
    return skeleton.quaternion_to_axis_angle(sampled).astype(np.float32), way.astype(np.float32)
