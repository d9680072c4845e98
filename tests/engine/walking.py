"""A synthetic walk with feet that truly stand, to inject faults into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body import pose_algebra as algebra
from engine.body.legs import MOVED_JOINTS, place_legs, reach
from engine.body.skeleton import contact_points, forward_kinematics
from engine.body.vectors import IDENTITY
from engine.dancing.idle import idle_pose

Array = NDArray[np.float64]


@dataclass
class Walk:
    """Poses at a frame rate: rotations (T, 24, 3), translation (T, 3), contacts (T, 4)."""

    fps: float
    rotations: Array
    translation: Array
    contacts: Array

    def time_ns(self, index: int) -> int:
        return round(index * 1e9 / self.fps)

    def points(self) -> Array:
        return points(self.rotations, self.translation)


def points(rotations: Array, translation: Array) -> Array:
    """Return the contact points (T, 4, 3)."""
    return np.asarray(contact_points(*forward_kinematics(rotations, translation)))


def walk(seconds: float = 4.0, fps: float = 60.0, step_s: float = 0.5, speed_m_s: float = 0.6) -> Walk:
    """Walk along +Z: one foot stands for `step_s` while the other swings, contact probabilities with soft edges."""
    base = idle_pose(0.0, 0.0)
    quaternions = algebra.from_axis_angle(base.rotations)
    home = place_legs(quaternions, base.translation_m).ankle
    count = int(seconds * fps)
    rotations, translation = np.tile(base.rotations, (count, 1, 1)), np.empty((count, 3))
    contacts = np.empty((count, 4))
    for i in range(count):
        t = i / fps
        # A little lower than standing, so that the legs have something to give.
        root = base.translation_m + np.array([0.0, -0.05, speed_m_s * t])
        ankles = home.copy()
        for side in (0, 1):
            cycle = t / (2.0 * step_s) + 0.5 * side
            phase = cycle % 1.0
            stride = 2.0 * step_s * speed_m_s
            swing = min(max((phase - 0.5) / 0.5, 0.0), 1.0)
            smooth = swing**3 * (swing * (6.0 * swing - 15.0) + 10.0)
            ankles[side, 2] += stride * (np.floor(cycle) - 0.5 * side + 0.25 + smooth)
            ankles[side, 1] += 0.12 * np.sin(np.pi * smooth) ** 2
            edge = min(phase, 0.5 - phase) * 2.0 * step_s
            contacts[i, 2 * side : 2 * side + 2] = min(max(0.5 + edge / 0.06, 0.0), 1.0)
        legs = place_legs(quaternions, root)
        turned, _ = reach(quaternions, legs, legs.hip.tolist(), ankles.tolist(), [IDENTITY, IDENTITY], exact=True)
        rotations[i, MOVED_JOINTS] = algebra.to_axis_angle(turned)
        translation[i] = root
    return Walk(fps, rotations, translation, contacts)


def slides_m(where: Array, contact: NDArray[np.bool_], min_frames: int = 6) -> list[float]:
    """Return, per contact of each point, how far it gets in the plane from where it is half-way through [m]."""
    slides = []
    for k in range(4):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], contact[:, k], [False]]).astype(int)))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end - start >= min_frames:
                path = where[start:end, k][:, [0, 2]]
                slides.append(float(np.linalg.norm(path - path[len(path) // 2], axis=1).max()))
    return slides


def acceleration(positions: Array, fps: float) -> Array:
    """Return the size of the second difference of (T, N, 3) positions [m/s²]."""
    return np.asarray(np.linalg.norm(np.diff(positions, 2, axis=0), axis=-1)) * fps * fps
