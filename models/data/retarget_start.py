"""An analytic first pose for the marker fit: close enough that the refinement cannot end in a flipped limb."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.body import skeleton
from engine.body.skeleton import FloatArray
from models.data import markers as mk

Array = NDArray[np.float64]
_J = {name: index for index, name in enumerate(skeleton.JOINT_NAMES)}


def first_guess(points: Array) -> tuple[FloatArray, FloatArray]:
    """Return rotations (T, 24, 3) and translation (T, 3) for markers (T, 23, 3) in SMPL metres.

    Hips and shoulders give the frames of pelvis and chest; each limb is two bones whose plane the elbow or knee
    shows. A straight limb has no plane: there the frame nearest to the trunk's takes over, by degrees.
    """
    hips = points[:, [mk.LEFT_HIP, mk.RIGHT_HIP]].mean(axis=1)
    shoulders = points[:, [mk.LEFT_SHOULDER, mk.RIGHT_SHOULDER]].mean(axis=1)
    up = _unit(shoulders - hips)
    pelvis = _frame_from_xy(points[:, mk.LEFT_HIP] - points[:, mk.RIGHT_HIP], up)
    chest = _frame_from_xy(points[:, mk.LEFT_SHOULDER] - points[:, mk.RIGHT_SHOULDER], up)
    world = np.repeat(pelvis[:, None], skeleton.JOINT_COUNT, axis=1)
    bend = skeleton.matrix_to_axis_angle(np.swapaxes(pelvis, -1, -2) @ chest)
    for count, joint in enumerate(("spine1", "spine2", "spine3"), start=1):
        world[:, _J[joint]] = pelvis @ skeleton.axis_angle_to_matrix(bend * (count / 3.0))
    for joint in ("neck", "head", "left_collar", "right_collar"):
        world[:, _J[joint]] = chest

    for side, sign, shoulder, elbow, hand in (
        ("left", 1.0, mk.LEFT_SHOULDER, mk.LEFT_ELBOW, mk.LEFT_HAND),
        ("right", -1.0, mk.RIGHT_SHOULDER, mk.RIGHT_ELBOW, mk.RIGHT_HAND),
    ):
        upper, fore = _unit(points[:, elbow] - points[:, shoulder]), _unit(points[:, hand] - points[:, elbow])
        # The forearm swings from +-X towards +Z: the axis of that turn is -+Y.
        axis = np.cross(fore, upper) * sign
        rest_axis = _carry(chest, np.array([sign, 0.0, 0.0]), upper)[..., 1]
        y = _unit(axis + 0.2 * rest_axis)
        world[:, _J[f"{side}_shoulder"]] = _frame_from_xy(sign * upper, y)
        arm = _frame_from_xy(sign * fore, y)
        for joint in ("elbow", "wrist", "hand"):
            world[:, _J[f"{side}_{joint}"]] = arm

    for side, knee, ankle, heel, toe, hip in (
        ("left", mk.LEFT_KNEE, mk.LEFT_ANKLE, mk.LEFT_HEEL, mk.LEFT_TOE, mk.LEFT_HIP),
        ("right", mk.RIGHT_KNEE, mk.RIGHT_ANKLE, mk.RIGHT_HEEL, mk.RIGHT_TOE, mk.RIGHT_HIP),
    ):
        thigh, shank = _unit(points[:, knee] - points[:, hip]), _unit(points[:, ankle] - points[:, knee])
        foot = points[:, toe] - points[:, heel]
        # The foot points where the knee does, more reliably than a nearly straight leg can tell.
        x = _unit(np.cross(thigh, shank) + 0.5 * _unit(np.cross(foot, thigh)) + 0.2 * pelvis[..., 0])
        world[:, _J[f"{side}_hip"]] = _frame_from_yx(-thigh, x)
        world[:, _J[f"{side}_knee"]] = _frame_from_yx(-shank, x)
        across, ahead = _unit(np.cross(-shank, foot)), _unit(foot)
        sole = np.stack([across, np.cross(ahead, across), ahead], axis=-1)
        for joint in ("ankle", "foot"):
            world[:, _J[f"{side}_{joint}"]] = sole

    local = world.copy()
    local[:, 1:] = np.swapaxes(world[:, skeleton.PARENTS[1:]], -1, -2) @ world[:, 1:]
    rotations = skeleton.matrix_to_axis_angle(local)
    # Put the middle of the hip markers where the calibrated body carries it on average.
    nominal = mk.NOMINAL_OFFSETS_M[[mk.LEFT_HIP, mk.RIGHT_HIP]].mean(axis=0)
    return rotations, hips - pelvis @ nominal


def _unit(vectors: FloatArray) -> FloatArray:
    unit: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return unit


def _frame_from_xy(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return (T, 3, 3) whose first column is x and whose second is y as far as it can."""
    x = _unit(x)
    z = _unit(np.cross(x, y))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _frame_from_yx(y: FloatArray, x: FloatArray) -> FloatArray:
    """Return (T, 3, 3) whose second column is y and whose first is x as far as it can."""
    y = _unit(y)
    z = _unit(np.cross(x, y))
    return np.stack([np.cross(y, z), y, z], axis=-1)


def _carry(frame: FloatArray, direction: FloatArray, onto: FloatArray) -> FloatArray:
    """Turn frames (T, 3, 3) by the smallest rotation that brings their local `direction` onto (T, 3)."""
    now = frame @ direction
    axis = np.cross(now, onto)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, (now * onto).sum(axis=-1, keepdims=True))
    return skeleton.axis_angle_to_matrix(axis / np.maximum(sine, 1e-9) * angle) @ frame
