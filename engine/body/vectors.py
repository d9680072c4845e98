"""Vectors and quaternions as tuples of floats.

For the four feet and knees of one dancer plain floats are several times as fast as numpy, whose price is per call.
Rotation vectors are axis times angle [rad]; quaternions are (x, y, z, w).
"""

from __future__ import annotations

import math

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

ZERO: Vector = (0.0, 0.0, 0.0)
IDENTITY: Quaternion = (0.0, 0.0, 0.0, 1.0)


def add(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def subtract(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def length(a: Vector) -> float:
    return math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])


def rotate(turn: Vector, a: Vector) -> Vector:
    """Turn a vector by a rotation vector (Rodrigues)."""
    angle = length(turn)
    if angle < 1e-9:
        return a
    across = cross(turn, a)
    around = cross(turn, across)
    first, second = math.sin(angle) / angle, (1.0 - math.cos(angle)) / (angle * angle)
    return (
        a[0] + first * across[0] + second * around[0],
        a[1] + first * across[1] + second * around[1],
        a[2] + first * across[2] + second * around[2],
    )


def turn_between(a: Vector, b: Vector) -> Vector:
    """Return the shortest rotation vector that turns `a` into the direction of `b`; zero for opposite vectors."""
    axis = cross(a, b)
    sine = length(axis)
    if sine < 1e-12:
        return ZERO
    scale = math.atan2(sine, dot(a, b)) / sine
    return axis[0] * scale, axis[1] * scale, axis[2] * scale


def quaternion(turn: Vector) -> Quaternion:
    """Convert a rotation vector."""
    angle = length(turn)
    if angle < 1e-9:
        return IDENTITY
    scale = math.sin(0.5 * angle) / angle
    return turn[0] * scale, turn[1] * scale, turn[2] * scale, math.cos(0.5 * angle)


def quaternion_between(a: Vector, b: Vector) -> Quaternion:
    """Return the shortest rotation that turns `a` into the direction of `b`; finite, if any, for opposite vectors."""
    x, y, z = cross(a, b)
    # cos(t / 2) : sin(t / 2) = (|a||b| + a.b) : |a x b|.
    w = math.sqrt(dot(a, a) * dot(b, b)) + dot(a, b)
    size = math.sqrt(x * x + y * y + z * z + w * w)
    if size < 1e-12:
        return IDENTITY
    return x / size, y / size, z / size, w / size


def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """Return the Hamilton product: the rotation `b`, then `a`."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def conjugate(a: Quaternion) -> Quaternion:
    """Return the inverse of a unit quaternion."""
    return -a[0], -a[1], -a[2], a[3]
