"""Write a dance as BVH (Biovision Hierarchy), which Blender, MotionBuilder, Unity importers and Unreal read.

Offsets and positions are in centimetres, as most importers expect; Y up, the dancer faces +Z. Euler angles are
Z X Y, in degrees: the rotation matrix is Rz Rx Ry, the order most mocap files use. The middle angle, X, is the one
that may lock at 90 degrees; there Y is taken as zero and Z carries the turn, so the file still gives the right pose.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.body.skeleton import JOINT_COUNT, JOINT_NAMES, PARENTS, REST_OFFSETS_M, axis_angle_to_matrix
from engine.whole_files import whole_file

_CM_PER_M = 100.0
_CHANNELS = "Zrotation Xrotation Yrotation"
# A leaf needs an end site; where it lies has no influence on the motion. Head up, toes ahead, fingers outwards.
_END_SITES_M: dict[str, tuple[float, float, float]] = {
    "left_foot": (0.0, 0.0, 0.07),
    "right_foot": (0.0, 0.0, 0.07),
    "head": (0.0, 0.18, 0.0),
    "left_hand": (0.08, 0.0, 0.0),
    "right_hand": (-0.08, 0.0, 0.0),
}


def write_bvh(path: Path, rotations: ArrayLike, translation: ArrayLike, frame_time_s: float) -> None:
    """Write a motion of the standard skeleton.

    Args:
        path: file to write; appears only when it is whole.
        rotations: (T, 24, 3) axis-angle [rad], relative to the parent, the root's in the world.
        translation: (T, 3) root joint in the world [m].
        frame_time_s: time between frames [s], > 0.

    Raises:
        ValueError: wrong shapes, a frame time that is not positive, or values that are not finite.
    """
    turns, way = np.asarray(rotations, dtype=np.float64), np.asarray(translation, dtype=np.float64)
    if turns.ndim != 3 or turns.shape[1:] != (JOINT_COUNT, 3) or way.shape != (len(turns), 3):
        raise ValueError(
            f"expected rotations (T, {JOINT_COUNT}, 3) and translation (T, 3), got {turns.shape}, {way.shape}"
        )
    if not frame_time_s > 0.0:
        raise ValueError(f"expected a positive frame time, got {frame_time_s}")
    if not (np.isfinite(turns).all() and np.isfinite(way).all()):
        raise ValueError("the motion is not finite")
    order = _depth_first()
    angles = zxy_degrees(axis_angle_to_matrix(turns))[:, order].reshape(len(turns), 3 * JOINT_COUNT)
    text = io.StringIO()
    text.write("HIERARCHY\n")
    _write_joint(text, 0, 0)
    text.write(f"MOTION\nFrames: {len(turns)}\nFrame Time: {frame_time_s:.9f}\n")
    np.savetxt(text, np.concatenate([way * _CM_PER_M, angles], axis=1), fmt="%.5f")
    with whole_file(path) as partial:
        partial.write_text(text.getvalue(), encoding="ascii")


def zxy_degrees(matrix: ArrayLike) -> NDArray[np.float64]:
    """Split rotation matrices (..., 3, 3) into angles (..., 3) about Z, X, Y [degrees]: R = Rz Rx Ry."""
    m = np.asarray(matrix, dtype=np.float64)
    # Row 2 of Rz Rx Ry is (-cos x sin y, sin x, cos x cos y); column 1 is (-sin z cos x, cos z cos x, sin x).
    x = np.arcsin(np.clip(m[..., 2, 1], -1.0, 1.0))
    locked = np.hypot(m[..., 2, 0], m[..., 2, 2]) < 1e-7
    y = np.where(locked, 0.0, np.arctan2(-m[..., 2, 0], m[..., 2, 2]))
    z = np.where(locked, np.arctan2(m[..., 1, 0], m[..., 0, 0]), np.arctan2(-m[..., 0, 1], m[..., 1, 1]))
    angles: NDArray[np.float64] = np.degrees(np.stack([z, x, y], axis=-1))
    return angles


def _children(joint: int) -> list[int]:
    return np.flatnonzero(joint == PARENTS).tolist()


def _depth_first() -> list[int]:
    """Return the joints in the order in which the hierarchy names them, which is that of the channels."""
    order, waiting = [], [0]
    while waiting:
        joint = waiting.pop()
        order.append(joint)
        waiting.extend(reversed(_children(joint)))
    return order


def _write_joint(text: io.StringIO, joint: int, depth: int) -> None:
    indent = "\t" * depth
    x, y, z = REST_OFFSETS_M[joint] * _CM_PER_M
    text.write(f"{indent}{'JOINT' if joint else 'ROOT'} {JOINT_NAMES[joint]}\n{indent}{{\n")
    text.write(f"{indent}\tOFFSET {x:.6f} {y:.6f} {z:.6f}\n")
    position = "" if joint else "Xposition Yposition Zposition "
    text.write(f"{indent}\tCHANNELS {3 if joint else 6} {position}{_CHANNELS}\n")
    children = _children(joint)
    for child in children:
        _write_joint(text, child, depth + 1)
    if not children:
        x, y, z = np.array(_END_SITES_M[JOINT_NAMES[joint]]) * _CM_PER_M
        text.write(f"{indent}\tEnd Site\n{indent}\t{{\n{indent}\t\tOFFSET {x:.6f} {y:.6f} {z:.6f}\n{indent}\t}}\n")
    text.write(f"{indent}}}\n")
