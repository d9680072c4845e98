"""SMPL's 24-joint skeleton, forward kinematics, and the rotation algebra that goes with them.

Right-handed, Y up, metres, radians; at rest (all rotations zero) the dancer stands in a T pose, faces +Z and
their left hand is at +X. Rotations are relative to the parent, the root's is in the world.

Everything is vectorised over leading axes and keeps the dtype of its input (float32 or float64). Quaternions
are (x, y, z, w). The 6-D representation is the first two columns of the rotation matrix, one after the other
(Zhou et al. 2019, "On the Continuity of Rotation Representations in Neural Networks").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating[Any]]

JOINT_NAMES: tuple[str, ...] = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hand",
    "right_hand",
)
JOINT_COUNT = 24

PARENTS: NDArray[np.int64] = np.array(
    [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21], dtype=np.int64
)
PARENTS.flags.writeable = False

# SMPL neutral, mean shape (Loper et al. 2015), as published in Stanford-TML/EDGE vis.py (MIT). Left and right
# differ by up to 1 cm a bone; they are kept as they are, so that our rotations drive any other SMPL rig unchanged.
REST_OFFSETS_M: NDArray[np.float64] = np.array(
    [
        [0.0, 0.0, 0.0],
        [0.05858135, -0.08228004, -0.01766408],
        [-0.06030973, -0.09051332, -0.01354254],
        [0.00443945, 0.12440352, -0.03838522],
        [0.04345142, -0.38646945, 0.008037],
        [-0.04325663, -0.38368791, -0.00484304],
        [0.00448844, 0.1379564, 0.02682033],
        [-0.01479032, -0.42687458, -0.037428],
        [0.01905555, -0.4200455, -0.03456167],
        [-0.00226458, 0.05603239, 0.00285505],
        [0.04105436, -0.06028581, 0.12204243],
        [-0.03483987, -0.06210566, 0.13032329],
        [-0.0133902, 0.21163553, -0.03346758],
        [0.07170245, 0.11399969, -0.01889817],
        [-0.08295366, 0.11247234, -0.02370739],
        [0.01011321, 0.08893734, 0.05040987],
        [0.12292141, 0.04520509, -0.019046],
        [-0.11322832, 0.04685326, -0.00847207],
        [0.2553319, -0.01564902, -0.02294649],
        [-0.26012748, -0.01436928, -0.03126873],
        [0.26570925, 0.01269811, -0.00737473],
        [-0.26910836, 0.00679372, -0.00602676],
        [0.08669055, -0.01063603, -0.01559429],
        [-0.0887537, -0.00865157, -0.01010708],
    ]
)
REST_OFFSETS_M.flags.writeable = False

MIRROR_JOINTS: NDArray[np.int64] = np.array(
    [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22], dtype=np.int64
)
"""For each joint its counterpart on the other side (itself on the spine)."""
MIRROR_JOINTS.flags.writeable = False
MIRROR_CONTACTS: tuple[int, int, int, int] = (2, 3, 0, 1)
"""The same for contacts."""


def _ancestors() -> NDArray[np.float64]:
    table = np.eye(JOINT_COUNT)
    for joint in range(1, JOINT_COUNT):
        table[joint] += table[PARENTS[joint]]
    return table


ANCESTORS: NDArray[np.float64] = _ancestors()
"""(24, 24): row j is 1 for j and each joint between it and the root."""
ANCESTORS.flags.writeable = False
_DEPTH = ANCESTORS.sum(axis=1).astype(int) - 1
_LEVELS = tuple(
    (joints, PARENTS[joints]) for joints in (np.flatnonzero(d == _DEPTH) for d in range(1, _DEPTH.max() + 1))
)
_REST_POSITIONS_M = ANCESTORS @ REST_OFFSETS_M

SOLE_BELOW_TOE_JOINT_M = 0.02
"""SMPL's foot joint lies in the ball of the foot, about 2 cm over the sole; the ankle, then, about 8 cm."""
HEEL_BEHIND_ANKLE_M = 0.05
"""The heel of a standing SMPL body reaches about 5 cm behind the ankle joint."""
REST_FLOOR_M = float(_REST_POSITIONS_M[[10, 11], 1].min()) - SOLE_BELOW_TOE_JOINT_M
"""Height of the soles in the rest pose, relative to the root joint: standing, the root is 0.976 m over the floor."""
CONTACT_JOINTS: tuple[int, int, int, int] = (7, 10, 8, 11)
"""The joints that carry the contact points: left heel, left toe, right heel, right toe."""
CONTACT_OFFSETS_M: NDArray[np.float64] = np.array(
    [
        [0.0, REST_FLOOR_M - _REST_POSITIONS_M[joint, 1], -HEEL_BEHIND_ANKLE_M if joint in (7, 8) else 0.0]
        for joint in CONTACT_JOINTS
    ]
)
"""(4, 3) contact points in the frames of `CONTACT_JOINTS`; all four are level in the rest pose."""
CONTACT_OFFSETS_M.flags.writeable = False

# Copies per dtype, so that one pose in float32 is not upcast and costs no conversion.
_CONSTANTS: dict[np.dtype[Any], tuple[FloatArray, FloatArray, FloatArray]] = {
    np.dtype(kind): (
        REST_OFFSETS_M[1:, :, None].astype(kind),
        np.ascontiguousarray(ANCESTORS[:, 1:]).astype(kind),
        CONTACT_OFFSETS_M[:, :, None].astype(kind),
    )
    for kind in (np.float32, np.float64)
}


def _floats(values: ArrayLike) -> FloatArray:
    array = np.asarray(values)
    return array if array.dtype in _CONSTANTS else array.astype(np.float64)


def rest_positions_m() -> NDArray[np.float64]:
    """Return the joints (24, 3) [m] of the rest pose, root at the origin."""
    return _REST_POSITIONS_M.copy()


def forward_kinematics(rotations: ArrayLike, translation: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Place the joints of the standard skeleton.

    Args:
        rotations: (..., 24, 3) axis-angle [rad], relative to the parent.
        translation: (..., 3) root joint in the world [m].

    Returns:
        Positions (..., 24, 3) [m] and rotation matrices (..., 24, 3, 3), both in the world.
    """
    return forward_kinematics_matrices(axis_angle_to_matrix(rotations), translation)


def forward_kinematics_matrices(local: ArrayLike, translation: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Do what `forward_kinematics` does, from rotation matrices (..., 24, 3, 3)."""
    local = _floats(local)
    offsets, ancestors, _ = _CONSTANTS[local.dtype]
    world = np.empty_like(local)
    world[..., 0, :, :] = local[..., 0, :, :]
    for joints, parents in _LEVELS:
        world[..., joints, :, :] = world[..., parents, :, :] @ local[..., joints, :, :]
    bones = (world[..., PARENTS[1:], :, :] @ offsets)[..., 0]
    positions: FloatArray = ancestors @ bones
    positions += np.asarray(translation, dtype=local.dtype)[..., None, :]
    return positions, world


def contact_points(positions: ArrayLike, global_rotations: ArrayLike) -> FloatArray:
    """Return the points (..., 4, 3) of the soles that touch the floor: left heel, left toe, right heel, right toe.

    Args:
        positions: (..., 24, 3) joints [m].
        global_rotations: (..., 24, 3, 3) rotations in the world.
    """
    positions, world = _floats(positions), _floats(global_rotations)
    joints = list(CONTACT_JOINTS)
    points: FloatArray = (world[..., joints, :, :] @ _CONSTANTS[world.dtype][2])[..., 0]
    points += positions[..., joints, :]
    return points


def mirror(rotations: ArrayLike, translation: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Reflect a motion left to right, over the plane x = 0; its own inverse, exactly.

    Rotations (..., 24, 3) change sides and keep the x part of their axis, the translation (..., 3) changes the
    sign of x. The bones of SMPL are not quite symmetric, so the joints of the mirrored motion differ from the
    mirrored joints: by at most `MIRROR_TOLERANCE_M` in any pose, by up to 1.8 cm in the rest pose.
    """
    rotations, translation = _floats(rotations), _floats(translation)
    flip = np.array([1.0, -1.0, -1.0], dtype=rotations.dtype)
    return rotations[..., MIRROR_JOINTS, :] * flip, translation * np.array([-1.0, 1.0, 1.0], dtype=translation.dtype)


MIRROR_TOLERANCE_M = float(
    (ANCESTORS @ np.linalg.norm(REST_OFFSETS_M[MIRROR_JOINTS] * [-1.0, 1.0, 1.0] - REST_OFFSETS_M, axis=1)).max()
)
"""Sum, over the worst chain, of what left and right bones differ by: no joint can be further off (7 cm)."""


def axis_angle_to_quaternion(axis_angle: ArrayLike) -> FloatArray:
    """Convert (..., 3) [rad] to unit quaternions (..., 4)."""
    vectors = _floats(axis_angle)
    angle = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    # sinc is exact at zero, where sin(a/2)/a would divide by it.
    scale = 0.5 * np.sinc(angle / (2.0 * np.pi))
    return np.concatenate([vectors * scale, np.cos(0.5 * angle)], axis=-1)


def quaternion_to_axis_angle(quaternion: ArrayLike) -> FloatArray:
    """Convert quaternions (..., 4), of any length but zero, to axis-angle (..., 3) with an angle in [0, pi]."""
    q = _floats(quaternion)
    q = np.where(q[..., 3:] < 0.0, -q, q)
    sine = np.sqrt((q[..., :3] ** 2).sum(axis=-1, keepdims=True))
    angle = 2.0 * np.arctan2(sine, q[..., 3:])
    small = sine < 1e-12
    scale = np.where(small, 2.0, angle / np.where(small, 1.0, sine))
    axis_angle: FloatArray = (q[..., :3] * scale).astype(q.dtype, copy=False)
    return axis_angle


def quaternion_multiply(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Return the Hamilton product (..., 4): the rotation `second`, then `first`."""
    a, b = _floats(first), _floats(second)
    ax, ay, az, aw = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bx, by, bz, bw = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    return np.stack(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ],
        axis=-1,
    )


def slerp(first: ArrayLike, second: ArrayLike, fraction: ArrayLike) -> FloatArray:
    """Interpolate unit quaternions (..., 4) at constant speed along the shorter way (Shoemake 1985).

    Args:
        first: where `fraction` is 0.
        second: where it is 1.
        fraction: broadcast against the leading axes; outside [0, 1] it extrapolates.
    """
    a, b = _floats(first), _floats(second)
    t = np.asarray(fraction, dtype=a.dtype)[..., None]
    dot = (a * b).sum(axis=-1, keepdims=True)
    b = np.where(dot < 0.0, -b, b)
    # Half the angle from the chord: accurate for nearly equal rotations, where arccos(dot) is not.
    half = np.arctan2(np.linalg.norm(b - a, axis=-1, keepdims=True), np.linalg.norm(b + a, axis=-1, keepdims=True))
    angle = 2.0 * half
    sine = np.sin(angle)
    near = sine < 1e-6
    divisor = np.where(near, 1.0, sine)
    mixed = np.where(near, 1.0 - t, np.sin((1.0 - t) * angle) / divisor) * a
    mixed = mixed + np.where(near, t, np.sin(t * angle) / divisor) * b
    unit: FloatArray = (mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)).astype(a.dtype, copy=False)
    return unit


def axis_angle_to_matrix(axis_angle: ArrayLike) -> FloatArray:
    """Convert (..., 3) [rad] to rotation matrices (..., 3, 3) (Rodrigues)."""
    return quaternion_to_matrix(axis_angle_to_quaternion(axis_angle))


def quaternion_to_matrix(quaternion: ArrayLike) -> FloatArray:
    """Convert unit quaternions (..., 4) to rotation matrices (..., 3, 3)."""
    q = _floats(quaternion)
    # All products q_i q_j at once; doubled, as each appears so.
    p = (2.0 * q[..., :, None] * q[..., None, :]).astype(q.dtype, copy=False)
    matrix = np.empty((*q.shape[:-1], 3, 3), dtype=q.dtype)
    matrix[..., 0, 0] = 1.0 - p[..., 1, 1] - p[..., 2, 2]
    matrix[..., 1, 1] = 1.0 - p[..., 0, 0] - p[..., 2, 2]
    matrix[..., 2, 2] = 1.0 - p[..., 0, 0] - p[..., 1, 1]
    matrix[..., 0, 1] = p[..., 0, 1] - p[..., 2, 3]
    matrix[..., 1, 0] = p[..., 0, 1] + p[..., 2, 3]
    matrix[..., 0, 2] = p[..., 0, 2] + p[..., 1, 3]
    matrix[..., 2, 0] = p[..., 0, 2] - p[..., 1, 3]
    matrix[..., 1, 2] = p[..., 1, 2] - p[..., 0, 3]
    matrix[..., 2, 1] = p[..., 1, 2] + p[..., 0, 3]
    return matrix


def matrix_to_quaternion(matrix: ArrayLike) -> FloatArray:
    """Convert rotation matrices (..., 3, 3) to unit quaternions (..., 4), w >= 0; well conditioned everywhere.

    Of the four ways to divide (Shepperd 1978), the one with the largest pivot is taken.
    """
    m = _floats(matrix)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xy, yz, zx = m[..., 1, 0] + m[..., 0, 1], m[..., 2, 1] + m[..., 1, 2], m[..., 0, 2] + m[..., 2, 0]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    rows = np.stack(
        [
            np.stack([1.0 + xx - yy - zz, xy, zx, wx], axis=-1),
            np.stack([xy, 1.0 - xx + yy - zz, yz, wy], axis=-1),
            np.stack([zx, yz, 1.0 - xx - yy + zz, wz], axis=-1),
            np.stack([wx, wy, wz, 1.0 + xx + yy + zz], axis=-1),
        ],
        axis=-2,
    )
    pivot = np.stack([xx - yy - zz, yy - xx - zz, zz - xx - yy, xx + yy + zz], axis=-1).argmax(axis=-1)
    q = np.take_along_axis(rows, pivot[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    positive: FloatArray = np.where(q[..., 3:] < 0.0, -q, q).astype(m.dtype, copy=False)
    return positive


def matrix_to_axis_angle(matrix: ArrayLike) -> FloatArray:
    """Convert rotation matrices (..., 3, 3) to axis-angle (..., 3) with an angle in [0, pi]."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def matrix_to_six_d(matrix: ArrayLike) -> FloatArray:
    """Return the first two columns (..., 6) of rotation matrices (..., 3, 3)."""
    m = _floats(matrix)
    return np.concatenate([m[..., 0], m[..., 1]], axis=-1)


def six_d_to_matrix(six_d: ArrayLike) -> FloatArray:
    """Convert any (..., 6) to rotation matrices (..., 3, 3) by Gram-Schmidt (Zhou et al. 2019, eq. 15)."""
    v = _floats(six_d)
    a, b = v[..., :3], v[..., 3:]
    x = a / np.maximum(np.linalg.norm(a, axis=-1, keepdims=True), 1e-8)
    y = b - (x * b).sum(axis=-1, keepdims=True) * x
    y = y / np.maximum(np.linalg.norm(y, axis=-1, keepdims=True), 1e-8)
    return np.stack([x, y, np.cross(x, y)], axis=-1).astype(v.dtype, copy=False)
