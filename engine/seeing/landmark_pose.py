"""Analytic inverse kinematics: from 33 landmarks of a body to the rotations of SMPL's 24 joints.

Hips and shoulders give the frames of pelvis and chest. Each limb is two bones: they point where the landmarks do, and
the plane in which elbow or knee bends gives the turn about the bone. A straight limb has no plane; there the frame
nearest to the trunk's (and for a leg, the direction of the foot) takes over by degrees. A knee that seems to bend
backwards is an error of depth and is straightened.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import CONTACT_OFFSETS_M, JOINT_COUNT, JOINT_NAMES, PARENTS, REST_OFFSETS_M, rest_positions_m

Array = NDArray[np.float64]
_J = {name: index for index, name in enumerate(JOINT_NAMES)}

NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR, MOUTH_LEFT, MOUTH_RIGHT = 0, 2, 5, 7, 8, 9, 10
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST, RIGHT_WRIST = 11, 12, 13, 14, 15, 16
LEFT_PINKY, RIGHT_PINKY, LEFT_INDEX, RIGHT_INDEX = 17, 18, 19, 20
LEFT_HIP, RIGHT_HIP, LEFT_KNEE, RIGHT_KNEE, LEFT_ANKLE, RIGHT_ANKLE = 23, 24, 25, 26, 27, 28
LEFT_HEEL, RIGHT_HEEL, LEFT_TOE, RIGHT_TOE = 29, 30, 31, 32
FOOT_POINTS = [LEFT_HEEL, LEFT_TOE, RIGHT_HEEL, RIGHT_TOE]
"""The landmarks that stand for the contacts: left heel, left toe, right heel, right toe."""

_ELBOW_HABIT = 0.25
"""Weight of the trunk's idea of the elbow's hinge, against the sine of the elbow's bend: an arm bent by less than 15
degrees is turned by the trunk rather than by noise."""
_KNEE_HABIT = 0.5
"""The same for the knee; where it points when the leg is straight ..."""
_FOOT_HABIT, _PELVIS_HABIT = 0.5, 0.2
"""... is told by the foot more than by the pelvis."""
_BACKWARDS = (0.05, 0.15)
"""A knee bent the wrong way by a sine from here to there is straightened by degrees ..."""
_TOO_BENT = (0.4, 0.6)
"""... but one that is bent by more than 25 to 37 degrees is no error of depth: the hip is turned out."""
_HEAD_SHARE = 0.6
"""How much of the head's turn against the chest is done in the neck's upper joint, the rest in the lower."""
_WRIST_SHARE = 0.7
"""Hand landmarks are guessed from a few pixels: a wrist is turned by so much of what they say."""

_REST = rest_positions_m()
_TRUNK = 0.5 * (_REST[16] + _REST[17]) - 0.5 * (_REST[1] + _REST[2])
_TRUNK_BACK_RAD = float(np.arctan2(-_TRUNK[2], _TRUNK[1]))
"""In the rest pose the shoulders are a little behind the hips."""


def _unit(vector: Array) -> Array:
    return np.asarray(vector / max(float(np.sqrt(vector @ vector)), 1e-9))


def _cross(a: Array, b: Array) -> Array:
    """Return the cross product of two vectors; np.cross costs ten times as much on one."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _frame_xy(x: Array, y: Array) -> Array:
    """Return a rotation whose first column is along x and whose second is along y as far as it can."""
    x = _unit(x)
    z = _unit(_cross(x, y))
    return np.column_stack([x, _cross(z, x), z])


def _frame_yx(y: Array, x: Array) -> Array:
    """Return a rotation whose second column is along y and whose first is along x as far as it can."""
    y = _unit(y)
    z = _unit(_cross(x, y))
    return np.column_stack([_cross(y, z), y, z])


def _frame_zx(z: Array, x: Array) -> Array:
    """Return a rotation whose third column is along z and whose first is along x as far as it can."""
    z = _unit(z)
    y = _unit(_cross(z, x))
    return np.column_stack([_cross(y, z), y, z])


def _carry(frame: Array, direction: Array, onto: Array) -> Array:
    """Turn a frame by the smallest rotation that brings its local `direction` onto a unit vector."""
    now = frame @ direction
    axis, cosine = _cross(now, onto), float(now @ onto)
    if cosine < -0.9999:  # half a turn: any axis is the smallest
        return frame
    skew = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    turn = np.eye(3) + skew + skew @ skew / (1.0 + cosine)
    return np.asarray(turn @ frame)


def _ramp(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _about_x(angle_rad: float) -> Array:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


# Rest frames: bone along the same column, hinge along the same other column as in the observed frames.
_BACK = _about_x(-_TRUNK_BACK_RAD).T
_REST_UPPER = [_frame_xy(sign * REST_OFFSETS_M[j], np.array([0.0, 1.0, 0.0])) for sign, j in ((1.0, 18), (-1.0, 19))]
_REST_FORE = [_frame_xy(sign * REST_OFFSETS_M[j], np.array([0.0, 1.0, 0.0])) for sign, j in ((1.0, 20), (-1.0, 21))]
_REST_THIGH = [_frame_yx(-REST_OFFSETS_M[j], np.array([1.0, 0.0, 0.0])) for j in (4, 5)]
_REST_SHANK = [_frame_yx(-REST_OFFSETS_M[j], np.array([1.0, 0.0, 0.0])) for j in (7, 8)]


def _rest_sole(side: int) -> Array:
    ankle, toe = ((7, 10), (8, 11))[side]
    heel_at = _REST[ankle] + CONTACT_OFFSETS_M[2 * side]
    toe_at = _REST[toe] + CONTACT_OFFSETS_M[2 * side + 1]
    return _frame_zx(toe_at - heel_at, np.array([1.0, 0.0, 0.0]))


_REST_SOLE = [_rest_sole(side) for side in (0, 1)]


def solve_pose(points: Array) -> Array:
    """Return local rotation matrices (24, 3, 3), the root's in the world.

    Args:
        points: (33, 3) landmarks [any unit], axes as in `PoseLandmarks`.
    """
    world = np.repeat(np.eye(3)[None], JOINT_COUNT, axis=0)
    hips = 0.5 * (points[LEFT_HIP] + points[RIGHT_HIP])
    shoulders = 0.5 * (points[LEFT_SHOULDER] + points[RIGHT_SHOULDER])
    up = shoulders - hips
    pelvis = _frame_xy(points[LEFT_HIP] - points[RIGHT_HIP], up) @ _BACK
    chest = _frame_xy(points[LEFT_SHOULDER] - points[RIGHT_SHOULDER], up) @ _BACK
    world[0] = pelvis
    spine = _thirds(pelvis, chest)
    for joint, frame in zip(("spine1", "spine2", "spine3"), spine, strict=True):
        world[_J[joint]] = frame
    for joint in ("left_collar", "right_collar"):
        world[_J[joint]] = chest
    head = _head(points, chest)
    world[_J["neck"]] = _between(chest, head, 1.0 - _HEAD_SHARE)
    world[_J["head"]] = head
    for side, sign in enumerate((1.0, -1.0)):
        _arm(world, points, chest, side, sign)
        _leg(world, points, pelvis, side)
    local = world.copy()
    local[1:] = np.swapaxes(world[PARENTS[1:]], -1, -2) @ world[1:]
    return local


def _thirds(pelvis: Array, chest: Array) -> list[Array]:
    return [_between(pelvis, chest, share) for share in (1.0 / 3.0, 2.0 / 3.0)] + [chest]


def _between(first: Array, second: Array, share: float) -> Array:
    """Return the rotation a share of the way from the first to the second."""
    turn = first.T @ second
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    sine = 0.5 * float(np.sqrt(axis @ axis))
    angle = float(np.arctan2(sine, 0.5 * (np.trace(turn) - 1.0)))
    if sine < 1e-6:  # no turn, or half a turn, whose axis this form does not tell
        return first if angle < 1.0 else second
    axis = axis / (2.0 * sine)
    x, y, z = axis
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    part = share * angle
    return np.asarray(first @ (np.eye(3) + np.sin(part) * skew + (1.0 - np.cos(part)) * (skew @ skew)))


def _head(points: Array, chest: Array) -> Array:
    """Return the head's frame: across from ear to ear, up from mouth to eyes."""
    across = points[LEFT_EAR] - points[RIGHT_EAR] + points[LEFT_EYE] - points[RIGHT_EYE]
    eyes = 0.5 * (points[LEFT_EYE] + points[RIGHT_EYE])
    mouth = 0.5 * (points[MOUTH_LEFT] + points[MOUTH_RIGHT])
    if float(across @ across) < 1e-8 or float((eyes - mouth) @ (eyes - mouth)) < 1e-8:
        return chest
    return _frame_xy(across, eyes - mouth)


def _arm(world: Array, points: Array, chest: Array, side: int, sign: float) -> None:
    shoulder, elbow, wrist = points[LEFT_SHOULDER + side], points[LEFT_ELBOW + side], points[LEFT_WRIST + side]
    upper, fore = _unit(elbow - shoulder), _unit(wrist - elbow)
    # The forearm swings from +-X towards +Z: about -+Y.
    bend = _cross(fore, upper) * sign
    habit = _carry(chest, np.array([sign, 0.0, 0.0]), upper)[:, 1]
    hinge = bend + _ELBOW_HABIT * habit
    name = ("left", "right")[side]
    world[_J[f"{name}_shoulder"]] = _frame_xy(sign * upper, hinge) @ _REST_UPPER[side].T
    arm = _frame_xy(sign * fore, hinge) @ _REST_FORE[side].T
    world[_J[f"{name}_elbow"]] = arm
    fingers = 0.5 * (points[LEFT_INDEX + side] + points[LEFT_PINKY + side]) - wrist
    hand = arm
    if float(fingers @ fingers) > 1e-6:
        hand = _between(arm, _carry(arm, np.array([sign, 0.0, 0.0]), _unit(fingers)), _WRIST_SHARE)
    world[_J[f"{name}_wrist"]] = world[_J[f"{name}_hand"]] = hand


def _leg(world: Array, points: Array, pelvis: Array, side: int) -> None:
    hip, knee, ankle = points[LEFT_HIP + side], points[LEFT_KNEE + side], points[LEFT_ANKLE + side]
    thigh, shank = _unit(knee - hip), _unit(ankle - knee)
    foot = points[LEFT_TOE + side] - points[LEFT_HEEL + side]
    bend = _cross(thigh, shank)
    sine = float(np.sqrt(bend @ bend))
    habit = _unit(_FOOT_HABIT * _unit(_cross(_unit(foot), thigh)) + _PELVIS_HABIT * pelvis[:, 0])
    backwards = _ramp(-float(bend @ habit), *_BACKWARDS) * (1.0 - _ramp(sine, *_TOO_BENT))
    if backwards > 0.0:
        # Both bones towards the line from hip to ankle: the foot stays where it is seen.
        line = _unit(ankle - hip)
        thigh, shank = _unit(thigh + backwards * (line - thigh)), _unit(shank + backwards * (line - shank))
        bend = bend * (1.0 - backwards)
    hinge = bend + (_KNEE_HABIT * max(1.0 - sine, 0.0)) * habit
    name = ("left", "right")[side]
    world[_J[f"{name}_hip"]] = _frame_yx(-thigh, hinge) @ _REST_THIGH[side].T
    shin = _frame_yx(-shank, hinge) @ _REST_SHANK[side].T
    world[_J[f"{name}_knee"]] = shin
    sole = shin
    if float(foot @ foot) > 1e-6:
        # Across the foot is across the shank too, unless the foot is pointed; then the knee's hinge tells.
        across = _cross(-shank, _unit(foot)) + 0.5 * shin[:, 0]
        sole = _frame_zx(foot, across) @ _REST_SOLE[side].T
    world[_J[f"{name}_ankle"]] = world[_J[f"{name}_foot"]] = sole
