"""The rotation algebra of `engine.body.skeleton`, for a handful of rotations sixty times a second.

On arrays this small numpy's overhead per call is the whole cost. Quaternion product and rotation matrix
are bilinear, so each is one outer product and one matrix product with a constant table: three calls
instead of twenty. Quaternions are (x, y, z, w), float64; leading axes are flattened to one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.body import skeleton

Array = NDArray[np.float64]


def _product_table() -> Array:
    unit = np.eye(4)
    return np.asarray(skeleton.quaternion_multiply(unit[:, None], unit[None, :]), dtype=np.float64).reshape(16, 4)


def _matrix_table() -> Array:
    """Return (16, 9): the homogeneous form of the rotation matrix, x² + w² - y² - z² on the diagonal."""
    table = np.zeros((4, 4, 3, 3))
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        for axis, sign in ((3, 1.0), (i, 1.0), (j, -1.0), (k, -1.0)):
            table[axis, axis, i, i] = sign
        table[i, j, i, j] = table[i, j, j, i] = 2.0
        table[k, 3, i, j] = -2.0
        table[k, 3, j, i] = 2.0
    return table.reshape(16, 9)


_PRODUCT, _MATRIX = _product_table(), _matrix_table()
_CONJUGATE: Array = np.array([-1.0, -1.0, -1.0, 1.0])


def multiply(first: Array, second: Array) -> Array:
    """Return the Hamilton products (n, 4) of (n, 4) and (n, 4): the rotation `second`, then `first`."""
    return (first[:, :, None] * second[:, None, :]).reshape(-1, 16) @ _PRODUCT


def conjugate(quaternion: Array) -> Array:
    """Return the inverse of unit quaternions (n, 4)."""
    return quaternion * _CONJUGATE


def to_matrix(quaternion: Array) -> Array:
    """Convert unit quaternions (n, 4) to rotation matrices (n, 3, 3)."""
    squares = (quaternion[:, :, None] * quaternion[:, None, :]).reshape(-1, 16)
    matrix: Array = (squares @ _MATRIX).reshape(-1, 3, 3)
    return matrix


def from_axis_angle(axis_angle: Array) -> Array:
    """Convert (n, 3) [rad] to unit quaternions (n, 4)."""
    angle = np.sqrt(np.vecdot(axis_angle, axis_angle))
    half = 0.5 * angle
    quaternion = np.empty((len(axis_angle), 4))
    # At zero the vector is zero too, so the floor under the angle only has to avoid 0 / 0.
    np.multiply(axis_angle, (np.sin(half) / np.maximum(angle, 1e-30))[:, None], out=quaternion[:, :3])
    np.cos(half, out=quaternion[:, 3])
    return quaternion


def to_axis_angle(quaternion: Array) -> Array:
    """Convert unit quaternions (n, 4) to axis-angle (n, 3) with an angle in [0, pi]."""
    vector = quaternion[:, :3]
    sine = np.sqrt(np.vecdot(vector, vector))
    cosine = quaternion[:, 3]
    # The sign of the cosine tells which of q and -q we hold; both are the same rotation. Below 1e-9 the angle is
    # twice the sine to machine precision; the floor keeps the quotient finite.
    scale = 2.0 * np.arctan2(sine, np.abs(cosine)) / np.maximum(sine, 1e-30)
    scale = np.where(sine < 1e-9, 2.0, scale)
    return vector * np.copysign(scale, cosine)[:, None]


def turn_towards(current: Array, target: Array, max_angle_rad: float) -> tuple[Array, NDArray[np.intp]]:
    """Move unit quaternions towards others, each by at most an angle, the shorter way.

    Args:
        current: (n, 4).
        target: (n, 4).
        max_angle_rad: in [0, pi].

    Returns:
        (n, 4) where they got to, and the indices of those that did not arrive.
    """
    cosine = np.abs(np.vecdot(current, target))
    far = np.flatnonzero(cosine < np.cos(0.5 * max_angle_rad))
    if far.size == 0:
        return target, far
    angle = 2.0 * np.arccos(np.minimum(cosine[far], 1.0))
    reached = target.copy()
    reached[far] = skeleton.slerp(current[far], target[far], max_angle_rad / np.maximum(angle, 1e-12))
    return reached, far
