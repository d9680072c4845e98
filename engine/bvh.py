"""BVH export: the dance for Blender, MotionBuilder, Maya and everything else that reads motion capture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.skeleton import JOINT_NAMES, PARENTS, REST_OFFSETS_M, axis_angle_to_matrix

# BVH knows no unit; its readers expect centimetres.
_CM = 100.0
# Length of the end sites that give the last bones of a chain a direction.
_END_M = 0.08


def euler_zxy_deg(rotations: ArrayLike) -> NDArray[np.float64]:
    """Return angles (..., 3) [degrees] z, x, y with R = Rz Rx Ry for axis-angle rotations (..., 3).

    At the pole (x = ±90°) z and y are one rotation; y is then taken as zero.
    """
    m = np.asarray(axis_angle_to_matrix(np.asarray(rotations, dtype=np.float64)))
    x = np.arcsin(np.clip(m[..., 2, 1], -1.0, 1.0))
    pole = np.abs(m[..., 2, 1]) > 1.0 - 1e-10
    z = np.where(pole, np.arctan2(m[..., 1, 0], m[..., 0, 0]), np.arctan2(-m[..., 0, 1], m[..., 1, 1]))
    y = np.where(pole, 0.0, np.arctan2(-m[..., 2, 0], m[..., 2, 2]))
    angles: NDArray[np.float64] = np.degrees(np.stack([z, x, y], axis=-1))
    return angles


def write_bvh(path: Path, rotations: ArrayLike, translation_m: ArrayLike, frame_time_s: float) -> None:
    """Write a motion of the standard skeleton.

    Args:
        path: of the file; overwritten.
        rotations: (T, 24, 3) axis-angle [rad].
        translation_m: (T, 3) root in the world; written in centimetres.
        frame_time_s: time between poses.

    Raises:
        OSError: the file cannot be written.
    """
    angles = euler_zxy_deg(rotations)
    roots = np.asarray(translation_m, dtype=np.float64) * _CM
    count = len(angles)
    order = _depth_first(0)
    values = np.concatenate([roots, angles[:, order].reshape(count, -1)], axis=1)
    lines = ["HIERARCHY", *_joint_lines(0, 0), "MOTION", f"Frames: {count}", f"Frame Time: {frame_time_s:.8f}"]
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
        np.savetxt(file, values, fmt="%.5f")


def _children(joint: int) -> list[int]:
    return [child for child, parent in enumerate(PARENTS) if parent == joint]


def _depth_first(joint: int) -> list[int]:
    """Return the joints in the order in which the hierarchy, and so each line of motion, names them."""
    return [joint, *(name for child in _children(joint) for name in _depth_first(child))]


def _joint_lines(joint: int, depth: int) -> list[str]:
    pad = "  " * depth
    kind = "ROOT" if joint == 0 else "JOINT"
    x, y, z = np.zeros(3) if joint == 0 else REST_OFFSETS_M[joint] * _CM
    channels = "3 Zrotation Xrotation Yrotation"
    if joint == 0:
        channels = "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
    lines = [f"{pad}{kind} {JOINT_NAMES[joint]}", pad + "{"]
    lines += [f"{pad}  OFFSET {x:.6f} {y:.6f} {z:.6f}", f"{pad}  CHANNELS {channels}"]
    children = _children(joint)
    for child in children:
        lines += _joint_lines(child, depth + 1)
    if not children:
        x, y, z = REST_OFFSETS_M[joint] / np.linalg.norm(REST_OFFSETS_M[joint]) * _END_M * _CM
        lines += [f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET {x:.6f} {y:.6f} {z:.6f}", f"{pad}  }}"]
    return [*lines, pad + "}"]
