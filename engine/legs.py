"""Both legs at once: where they are, and how hip, knee and ankle must turn to put the feet somewhere else.

Two-bone inverse kinematics in closed form. The knee stays in the plane it is in, the foot keeps its orientation or
is turned as asked, bones keep their length by construction. Index 0 of a leg axis is left, 1 is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import pose_algebra as algebra
from engine.pose_algebra import Array
from engine.skeleton import CONTACT_OFFSETS_M, REST_OFFSETS_M

HIPS, KNEES, ANKLES, TOES = [1, 2], [4, 5], [7, 8], [10, 11]
MOVED_JOINTS: NDArray[np.intp] = np.array(HIPS + KNEES + ANKLES, dtype=np.intp)
"""The joints that `reach` turns, in the order of its result."""
_CHAIN = np.array([0, *HIPS, *KNEES, *ANKLES, *TOES], dtype=np.intp)

_TO_HIP, _TO_KNEE, _TO_ANKLE, _TO_TOE = (REST_OFFSETS_M[joints][:, :, None] for joints in (HIPS, KNEES, ANKLES, TOES))
_HEEL, _SOLE = CONTACT_OFFSETS_M[[0, 2]][:, :, None], CONTACT_OFFSETS_M[[1, 3]][:, :, None]
THIGH_M: Array = np.linalg.norm(_TO_KNEE[:, :, 0], axis=1)
SHANK_M: Array = np.linalg.norm(_TO_ANKLE[:, :, 0], axis=1)
LEG_M: Array = THIGH_M + SHANK_M
"""(2,) length of the straight leg, hip to ankle: 0.81 m."""
_SUM_OF_SQUARES = THIGH_M**2 + SHANK_M**2
_TWICE_PRODUCT = 2.0 * THIGH_M * SHANK_M
_THIGH_LESS_SHANK = THIGH_M**2 - SHANK_M**2

MIN_REACH_M: Array = np.sqrt(_SUM_OF_SQUARES - _TWICE_PRODUCT * np.cos(np.radians(20.0)))
"""(2,) hip to ankle when the knee is bent by 160 degrees: as far as flesh lets it."""
STRAIGHTEST_M: Array = np.sqrt(_SUM_OF_SQUARES + _TWICE_PRODUCT * np.cos(np.radians(2.0)))
"""(2,) hip to ankle with 2 degrees left in the knee, as near to straight as `reach` goes: at the very end of its
reach the knee turns infinitely fast."""
_SOFT_END = 0.985
"""Share of the leg from which `reach` begins to lag behind (20 degrees of knee): the knee then never snaps straight."""


@dataclass(slots=True)
class Legs:
    """Both legs of one pose in the world; (2, 3) points [m], (2, 3, 3) rotations."""

    hip: Array
    knee: Array
    ankle: Array
    toe: Array
    points: Array
    """(2, 2, 3) contact points: heel, toe of each foot."""
    root_rotation: Array
    thigh_rotation: Array
    shank_rotation: Array


def place_legs(quaternions: Array, translation: Array) -> Legs:
    """Run forward kinematics of the legs alone.

    Args:
        quaternions: (24, 4), relative to the parent.
        translation: (3,) root joint in the world [m].
    """
    local = algebra.to_matrix(quaternions[_CHAIN])
    root = local[0]
    thigh = root @ local[1:3]
    shank = thigh @ local[3:5]
    foot = shank @ local[5:7]
    toes = foot @ local[7:9]
    hip = (root @ _TO_HIP)[:, :, 0] + translation
    knee = hip + (thigh @ _TO_KNEE)[:, :, 0]
    ankle = knee + (shank @ _TO_ANKLE)[:, :, 0]
    toe = ankle + (foot @ _TO_TOE)[:, :, 0]
    points = np.empty((2, 2, 3))
    points[:, 0] = (foot @ _HEEL)[:, :, 0] + ankle
    points[:, 1] = (toes @ _SOLE)[:, :, 0] + toe
    return Legs(hip, knee, ankle, toe, points, root, thigh, shank)


def lengths(vectors: Array) -> Array:
    """Return the lengths (n,) of vectors (n, 3)."""
    length: Array = np.sqrt(np.vecdot(vectors, vectors))
    return length


def soft_reach(now_m: Array, wanted_m: Array) -> Array:
    """Return hip-to-ankle distances (2,) that the legs can take, near the wanted ones.

    A leg may always stay as long as it is; it is stretched further only up to `STRAIGHTEST_M`, ever more slowly.
    """
    base = np.maximum(now_m, _SOFT_END * LEG_M)
    room = np.maximum(STRAIGHTEST_M - base, 1e-6)
    stretched = base + room * (1.0 - np.exp(-np.maximum(wanted_m - base, 0.0) / room))
    distance: Array = np.where(wanted_m > base, stretched, wanted_m)
    np.maximum(distance, np.minimum(now_m, MIN_REACH_M), out=distance)
    return distance


def reach(quaternions: Array, legs: Legs, hip: Array, ankle: Array, foot_turn: Array) -> tuple[Array, Array]:
    """Turn hips, knees and ankles so that the ankles come to given places.

    The knee's new place follows from the law of cosines, on the side of the hip-ankle line where it is now (a
    straight leg bends to the front). Each bone is turned by the shortest rotation, so the twist of the leg stays.

    Args:
        quaternions: (24, 4) the pose.
        legs: `place_legs` of it.
        hip: (2, 3) where the hip joints are to be (moved with the pelvis, not turned).
        ankle: (2, 3) where the ankles are wanted; out of reach, they go as near as `soft_reach` lets them.
        foot_turn: (2, 4) rotation in the world to be added to the foot.

    Returns:
        New rotations (6, 4) of `MOVED_JOINTS`, and the ankles (2, 3) as reached.
    """
    thigh, shank = legs.knee - legs.hip, legs.ankle - legs.knee
    now, wanted = legs.ankle - legs.hip, ankle - hip
    now_m, wanted_m = lengths(now), np.maximum(lengths(wanted), 1e-9)
    length = soft_reach(now_m, wanted_m)
    wanted = wanted * (length / wanted_m)[:, None]
    # How far along the line from hip to ankle the knee is, and how far off it.
    along = np.minimum((_THIGH_LESS_SHANK + length * length) / (2.0 * length), THIGH_M)
    aside = np.sqrt(THIGH_M**2 - along * along)
    change = lengths(wanted - now)
    pole = _bend_direction(legs, thigh, now, now_m, change)
    swing = algebra.between(now, wanted)
    side = (algebra.to_matrix(swing) @ pole[:, :, None])[:, :, 0]
    new_thigh = wanted * (along / length)[:, None] + side * aside[:, None]
    thigh_turn = algebra.between(thigh, new_thigh)
    thigh_matrix = algebra.to_matrix(thigh_turn)
    # The shank's turn is found in the frame before the thigh's, so that it is the knee's own.
    new_shank = ((wanted - new_thigh)[:, None, :] @ thigh_matrix)[:, 0]
    shank_turn = algebra.between(shank, new_shank)
    foot_back = algebra.multiply(algebra.conjugate(algebra.multiply(thigh_turn, shank_turn)), foot_turn)
    # A turn in the world, seen from the joint's parent: its axis is turned back by the parent's rotation.
    turns = np.concatenate([thigh_turn, shank_turn, foot_back])
    frames = np.empty((6, 3, 3))
    frames[:2], frames[2:4], frames[4:] = legs.root_rotation, legs.thigh_rotation, legs.shank_rotation
    turns[:, :3] = (turns[:, None, :3] @ frames)[:, 0]
    return algebra.multiply(turns, quaternions[MOVED_JOINTS]), hip + wanted


def _bend_direction(legs: Legs, thigh: Array, now: Array, now_m: Array, change: Array) -> Array:
    """Return unit vectors (2, 3) from the line hip-ankle towards the knee, square to it.

    A leg about to be changed gets a share of its own front, so that a straight or slightly overstretched knee bends
    the way knees do; an unchanged one keeps exactly the knee it has.
    """
    front = legs.thigh_rotation[:, :, 2] * np.minimum(2.0 * change, 0.05)[:, None]
    pole = thigh + front
    line = now / np.maximum(now_m, 1e-9)[:, None]
    pole = pole - line * np.vecdot(pole, line)[:, None]
    # An exactly straight leg that does not change has no pole, and needs none.
    return pole / np.maximum(lengths(pole), 1e-12)[:, None]
