"""Carry the motion of any rig over to the standard skeleton, and say by how much it is off.

Each joint of the standard skeleton turns as its twin in the rig does, after a constant turn in the joint's own frame
that lays the standard bone onto the rig's: every mapped bone then points exactly where the rig's does, and twist is the
rig's. That constant turn is the smallest that does so, with both bodies at rest and facing the same way; so the rig's
rest pose should be a T or an A pose. Pelvis and chest carry several bones; their frames (hips or shoulders across,
spine up) are laid onto each other. What is left is the difference of proportions, which is what the error says.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body.bvh_reader import BvhMotion
from engine.body.skeleton import (
    JOINT_COUNT,
    JOINT_NAMES,
    PARENTS,
    forward_kinematics_matrices,
    matrix_to_axis_angle,
    rest_positions_m,
)
from models.sources.rigs import map_joints

Array = NDArray[np.float64]

_J = {name: index for index, name in enumerate(JOINT_NAMES)}
# The bone by which a joint's frame is judged ends at this joint; leaves have none and follow their parent.
_AIM = {
    "spine1": ("spine2", "spine3", "neck", "head"),
    "spine2": ("spine3", "neck", "head"),
    "neck": ("head",),
    **{f"{s}_hip": (f"{s}_knee",) for s in ("left", "right")},
    **{f"{s}_knee": (f"{s}_ankle",) for s in ("left", "right")},
    **{f"{s}_ankle": (f"{s}_foot",) for s in ("left", "right")},
    **{f"{s}_collar": (f"{s}_shoulder",) for s in ("left", "right")},
    **{f"{s}_shoulder": (f"{s}_elbow",) for s in ("left", "right")},
    **{f"{s}_elbow": (f"{s}_wrist",) for s in ("left", "right")},
    **{f"{s}_wrist": (f"{s}_hand",) for s in ("left", "right")},
}
_LEG = ("hip", "knee", "ankle")


@dataclass(frozen=True, slots=True)
class Retargeted:
    """A motion on the standard skeleton.

    Attributes:
        rotations: (T, 24, 3) axis-angle [rad].
        translation_m: (T, 3), Y up, over the rig's own floor.
        residual_m: (T, N) how far each of N mapped joints is from the rig's, scaled by the legs' length.
        joints: (N,) which.
    """

    rotations: Array
    translation_m: Array
    residual_m: Array
    joints: tuple[int, ...]


def retarget(motion: BvhMotion) -> Retargeted:
    """Carry a motion over. Raises ValueError if the rig is no body that is understood."""
    twin = map_joints(motion.names)
    rest = motion.rest_positions()
    turn = _upright(rest, twin)
    rest = rest @ turn.T
    positions, world = motion.world()
    positions, world = positions @ turn.T, turn @ world @ turn.T
    scale = _leg(rest_positions_m(), {j: j for j in range(JOINT_COUNT)}) / max(_leg(rest, twin), 1e-9)
    place = np.array([twin.get(j, -1) for j in range(JOINT_COUNT)])

    aligned = np.empty((len(positions), JOINT_COUNT, 3, 3))
    constants = np.repeat(np.eye(3)[None], JOINT_COUNT, axis=0)
    for joint in range(JOINT_COUNT):
        parent = int(PARENTS[joint])
        if place[joint] < 0:
            aligned[:, joint] = aligned[:, parent]
            continue
        constant = _onto(joint, rest, twin)
        # A leaf has no bone of its own: it goes on in its parent's direction.
        constants[joint] = constants[parent] if constant is None else constant
        aligned[:, joint] = world[:, place[joint]] @ constants[joint]
    local = aligned.copy()
    local[:, 1:] = np.swapaxes(aligned[:, PARENTS[1:]], -1, -2) @ aligned[:, 1:]
    translation = positions[:, place[0]] * scale

    joints = tuple(j for j in range(JOINT_COUNT) if place[j] >= 0)
    ours, _ = forward_kinematics_matrices(local, translation)
    theirs = positions[:, place[list(joints)]] * scale
    # The hips of rigs sit higher or lower in the pelvis; where the body is matters more than where its root is.
    hips = [joints.index(_J["left_hip"]), joints.index(_J["right_hip"])]
    ours_hips = ours[:, [_J["left_hip"], _J["right_hip"]]].mean(axis=1)
    shift = theirs[:, hips].mean(axis=1) - ours_hips
    residual = np.linalg.norm(ours[:, list(joints)] + shift[:, None] - theirs, axis=-1)
    return Retargeted(np.asarray(matrix_to_axis_angle(local), np.float64), translation + shift, residual, joints)


def _upright(rest: Array, twin: dict[int, int]) -> Array:
    """Return the rotation (3, 3) after which a rest pose (J, 3) stands along +Y with its left at +X.

    Raises ValueError if its feet then point backwards: left and right are exchanged.
    """
    left = rest[twin[_J["left_hip"]]] - rest[twin[_J["right_hip"]]]
    middle = 0.5 * (rest[twin[_J["left_hip"]]] + rest[twin[_J["right_hip"]]])
    up = rest[twin[_J["head"]]] - middle
    if min(np.linalg.norm(left), np.linalg.norm(up)) < 1e-9:
        raise ValueError("its rest pose is no body")
    turn = _axes(left, up).T
    toes = [
        rest[twin[_J[f"{side}_foot"]]] - rest[twin[_J[f"{side}_ankle"]]]
        for side in ("left", "right")
        if _J[f"{side}_foot"] in twin
    ]
    if toes and float((turn @ np.sum(toes, axis=0))[2]) < 0.0:
        raise ValueError("its left and right are exchanged, or its feet point backwards")
    # Nearly upright already: keep the file's own axes, whose vertical is exact.
    nearest = np.round(turn)
    is_turn = np.allclose(nearest @ nearest.T, np.eye(3)) and np.linalg.det(nearest) > 0.0
    return nearest if is_turn else turn


def _leg(positions: Array, twin: dict[int, int]) -> float:
    """Return the mean length of the legs."""
    total = 0.0
    for side in ("left", "right"):
        chain = [positions[twin[_J[f"{side}_{part}"]]] for part in _LEG]
        total += sum(float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(chain))
    return total / 2.0


def _onto(joint: int, rest: Array, twin: dict[int, int]) -> Array | None:
    """Return the constant turn (3, 3) of a joint: from standard bones at rest to the rig's; None for a leaf."""
    standard, name = rest_positions_m(), JOINT_NAMES[joint]
    same = {j: j for j in range(JOINT_COUNT)}
    if name in ("pelvis", "spine3"):
        return _trunk(name, rest, twin) @ _trunk(name, standard, same).T
    for end in _AIM.get(name, ()):
        if _J[end] in twin:
            ours = standard[_J[end]] - standard[joint]
            theirs = rest[twin[_J[end]]] - rest[twin[joint]]
            return _smallest_turn(ours, theirs)
    return None


def _trunk(name: str, positions: Array, twin: dict[int, int]) -> Array:
    """Return the frame (3, 3) of pelvis or chest in a rest pose: across the hips or shoulders, up to the head."""
    part = "hip" if name == "pelvis" else "shoulder"
    left, right = positions[twin[_J[f"left_{part}"]]], positions[twin[_J[f"right_{part}"]]]
    return _axes(left - right, positions[twin[_J["head"]]] - 0.5 * (left + right))


def _axes(x: Array, y: Array) -> Array:
    """Return the frame (3, 3) whose second column is y and whose first is x as far as it can."""
    y = y / np.linalg.norm(y)
    x = x - (x @ y) * y
    x = x / np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _smallest_turn(start: Array, end: Array) -> Array:
    """Return the smallest rotation (3, 3) that takes one direction to another."""
    a, b = start / max(float(np.linalg.norm(start)), 1e-9), end / max(float(np.linalg.norm(end)), 1e-9)
    cross, cosine = np.cross(a, b), float(a @ b)
    if cosine < -0.999999:
        raise ValueError("a bone of its rest pose points the wrong way")
    skew = np.array([[0.0, -cross[2], cross[1]], [cross[2], 0.0, -cross[0]], [-cross[1], cross[0], 0.0]])
    turn: Array = np.eye(3) + skew + skew @ skew / (1.0 + cosine)
    return turn
