"""A dance made up of sines, and the markers a capture of it would have seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.body import skeleton as sk
from models.data import markers as mk

J = {name: index for index, name in enumerate(sk.JOINT_NAMES)}


def steps(frames: int, fps: float, bpm: float = 90.0, turn: float = 0.3) -> tuple[NDArray, NDArray]:
    """Return rotations (T, 24, 3) and translation (T, 3): walking on the spot with swinging, bent arms."""
    beat = np.arange(frames) / fps * bpm / 60.0
    swing = np.sin(np.pi * beat)
    r = np.zeros((frames, 24, 3))
    r[:, J["pelvis"], 1] = turn * np.arange(frames) / fps
    r[:, J["spine2"], 2] = 0.1 * swing
    r[:, J["neck"], 1] = 0.2 * np.sin(0.7 * np.pi * beat)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        lift = np.maximum(sign * swing, 0.0)
        r[:, J[f"{side}_hip"], 0] = -0.7 * lift
        r[:, J[f"{side}_knee"], 0] = 1.2 * lift
        r[:, J[f"{side}_ankle"], 0] = -0.2 * lift
        r[:, J[f"{side}_shoulder"], 2] = -sign * 0.9
        r[:, J[f"{side}_shoulder"], 0] = 0.3 * swing
        r[:, J[f"{side}_elbow"], 1] = -sign * (0.7 + 0.4 * swing)
    way = np.zeros((frames, 3))
    way[:, 0] = 0.2 * np.sin(0.25 * np.pi * beat)
    positions, world = sk.forward_kinematics(r, way)
    way[:, 1] = -sk.contact_points(positions, world)[..., 1].min(axis=1)
    return r, way


def wear_markers(rotations: NDArray, translation: NDArray, offsets: NDArray | None = None) -> NDArray:
    """Return the markers (T, 23, 3) that a dancer with marker offsets (23, 3) carries."""
    positions, world = sk.forward_kinematics(rotations, translation)
    offsets = mk.NOMINAL_OFFSETS_M if offsets is None else offsets
    carriers = mk.MARKER_CARRIERS
    return positions[:, carriers] + np.einsum("tmij,mj->tmi", world[:, carriers], offsets)


def mirrored_markers(markers: NDArray) -> NDArray:
    """Return what a mirror would show: x reversed, left and right labels exchanged (the forearms' only roughly)."""
    order = np.arange(mk.MARKER_COUNT)
    for right, left in (
        (0, 1),
        (3, 12),
        (4, 13),
        (5, 21),
        (22, 14),
        (6, 15),
        (7, 16),
        (8, 17),
        (9, 18),
        (10, 19),
        (11, 20),
    ):
        order[right], order[left] = left, right
    return markers[:, order] * [-1.0, 1.0, 1.0]
