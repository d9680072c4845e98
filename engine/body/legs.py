"""Both legs: where they are, and how hip, knee and ankle must turn to put the feet somewhere else.

Two-bone inverse kinematics in closed form. The knee stays in the plane it is in, the foot keeps its orientation or
is turned as asked, bones keep their length by construction. Index 0 of a leg axis is left, 1 is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body import pose_algebra as algebra
from engine.body import vectors
from engine.body.pose_algebra import Array
from engine.body.skeleton import CONTACT_OFFSETS_M, REST_OFFSETS_M
from engine.body.vectors import Quaternion, Vector

HIPS, KNEES, ANKLES, TOES = [1, 2], [4, 5], [7, 8], [10, 11]
MOVED_JOINTS: NDArray[np.intp] = np.array(HIPS + KNEES + ANKLES, dtype=np.intp)
"""The joints that `reach` turns, in the order of its result."""
_CHAIN = np.array([0, *HIPS, *KNEES, *ANKLES, *TOES], dtype=np.intp)

_TO_HIP, _TO_KNEE, _TO_ANKLE, _TO_TOE = (REST_OFFSETS_M[joints][:, :, None] for joints in (HIPS, KNEES, ANKLES, TOES))
_HEEL, _SOLE = CONTACT_OFFSETS_M[[0, 2]][:, :, None], CONTACT_OFFSETS_M[[1, 3]][:, :, None]
_THIGH_M = np.linalg.norm(_TO_KNEE[:, :, 0], axis=1)
_SHANK_M = np.linalg.norm(_TO_ANKLE[:, :, 0], axis=1)
_SUM_OF_SQUARES: list[float] = (_THIGH_M**2 + _SHANK_M**2).tolist()

LEG_M: list[float] = (_THIGH_M + _SHANK_M).tolist()
"""Thigh and shank in one line: 0.81 m. A standing leg is 3 mm shorter: knees are a little knocked."""
_MIN_REACH_M = 0.15
"""Hip to ankle when the knee is bent by 160 degrees: as far as flesh lets it."""
SOFT_REACH = 0.975
"""Share of the leg from which (25 degrees of knee) it lags behind when stretched, so that it never snaps straight."""
_SLACK_GONE_M = 0.02
"""A leg that was straighter than that bends to it while its ankle is moved by about this much."""
_NUMB_M = 0.004
"""A nearly straight leg ignores about this much change of its length; no one sees 4 mm of foot, all see a knee."""
_NUMB_FROM, _NUMB_WIDTH = 0.955, 0.03
"""Nearly straight: from which share of the leg on, and over which it sets in."""
_COS_STRAIGHTEST = math.cos(math.radians(2.0))
"""What `reach` leaves in the knee: at the very end of its reach it would have to turn infinitely fast."""
_OVERSTRETCH_GONE_M = 0.015
"""An overstretched knee is straightened while its ankle is moved by this much. It costs 2 mm of reach at 8 degrees."""


@dataclass(slots=True)
class Legs:
    """Both legs of one pose in the world; (2, 3) points [m], (2, 3, 3) rotations."""

    hip: Array
    knee: Array
    ankle: Array
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
    points = np.empty((2, 2, 3))
    points[:, 0] = (foot @ _HEEL)[:, :, 0] + ankle
    points[:, 1] = (toes @ _SOLE + foot @ _TO_TOE)[:, :, 0] + ankle
    return Legs(hip, knee, ankle, points, root, thigh, shank)


def reach(
    quaternions: Array,
    legs: Legs,
    hips: Sequence[Vector],
    ankles: Sequence[Vector],
    foot_turns: Sequence[Quaternion],
    *,
    exact: bool = False,
) -> tuple[Array, list[Vector]]:
    """Turn hips, knees and ankles so that the ankles come to given places.

    The knee turns about its own hinge only, until hip and ankle are as far apart as asked; then the leg as a whole
    takes the shortest turn towards the place. So the knee keeps pointing where it did. Nothing asked, nothing changed.

    Args:
        quaternions: (24, 4) the pose.
        legs: `place_legs` of it.
        hips: where the two hip joints are to be [m] (moved with the pelvis, not turned).
        ankles: where the ankles are wanted [m]; out of reach, they go as near as a leg can.
        foot_turns: rotations in the world to be added to the feet.
        exact: go all the way; else with millimetres of tolerance near straight legs, so that no knee jerks.

    Returns:
        New rotations (6, 4) of `MOVED_JOINTS`, and the two ankles as reached.
    """
    hip, knee, ankle = legs.hip.tolist(), legs.knee.tolist(), legs.ankle.tolist()
    hinges = legs.thigh_rotation[:, :, 0].tolist()
    turns: list[Quaternion] = [vectors.IDENTITY] * 6
    reached = []
    for side in (0, 1):
        thigh, shank = vectors.subtract(knee[side], hip[side]), vectors.subtract(ankle[side], knee[side])
        wanted = vectors.subtract(ankles[side], hips[side])
        leg_turn, knee_turn, leg_m = _solve(side, thigh, shank, hinges[side], wanted, exact)
        foot_back = vectors.conjugate(vectors.multiply(leg_turn, knee_turn))
        turns[side], turns[2 + side] = leg_turn, knee_turn
        turns[4 + side] = vectors.multiply(foot_back, foot_turns[side])
        x, y, z = wanted
        share = leg_m / max(vectors.length(wanted), 1e-9)
        reached.append(vectors.add(hips[side], (x * share, y * share, z * share)))
    # A turn in the world, seen from the joint's parent: its axis is turned back by the parent's rotation.
    local = np.array(turns)
    frames = np.empty((6, 3, 3))
    frames[:2], frames[2:4], frames[4:] = legs.root_rotation, legs.thigh_rotation, legs.shank_rotation
    local[:, :3] = (local[:, None, :3] @ frames)[:, 0]
    return algebra.multiply(local, quaternions[MOVED_JOINTS]), reached


def _solve(
    side: int, thigh: Vector, shank: Vector, hinge: Vector, wanted: Vector, exact: bool
) -> tuple[Quaternion, Quaternion, float]:
    """Return the turns of leg and knee in the world (the knee's first), and the hip-to-ankle distance reached [m].

    Args:
        side: 0 left, 1 right.
        thigh: from hip to knee [m].
        shank: from knee to ankle [m].
        hinge: unit axis of the knee; positive turns flex it.
        wanted: from hip to ankle, wanted [m].
        exact: see `reach`.
    """
    # Turned about the hinge by x, the shank gives thigh . shank = fixed + swing cos(x - straight).
    along = vectors.dot(hinge, shank)
    fixed = vectors.dot(hinge, thigh) * along
    across = vectors.cross(hinge, shank)
    cosine_part, sine_part = vectors.dot(thigh, shank) - fixed, vectors.dot(thigh, across)
    swing = math.hypot(cosine_part, sine_part) + 1e-12
    straight = math.atan2(sine_part, cosine_part)

    now = vectors.add(thigh, shank)
    wanted_m, moved_m = vectors.length(wanted), vectors.length(vectors.subtract(wanted, now))
    squares = _SUM_OF_SQUARES[side]
    longest_m = math.sqrt(squares + 2.0 * (fixed + swing * _COS_STRAIGHTEST))
    soft_m = _soft(LEG_M[side], vectors.length(now), wanted_m, longest_m, moved_m)
    leg_m = min(wanted_m, longest_m) if exact else soft_m
    flexion = math.acos(min(max((0.5 * (leg_m * leg_m - squares) - fixed) / swing, -1.0), 1.0))
    # The length alone does not tell a bent knee from an overstretched one.
    kept = max(1.0 - moved_m / _OVERSTRETCH_GONE_M, 0.0)
    angle = straight + flexion - 2.0 * kept * max(straight, 0.0)

    cosine, sine = math.cos(angle), math.sin(angle)
    aside = along * (1.0 - cosine)
    new = (
        thigh[0] + shank[0] * cosine + across[0] * sine + hinge[0] * aside,
        thigh[1] + shank[1] * cosine + across[1] * sine + hinge[1] * aside,
        thigh[2] + shank[2] * cosine + across[2] * sine + hinge[2] * aside,
    )
    half = math.sin(0.5 * angle)
    knee_turn = (hinge[0] * half, hinge[1] * half, hinge[2] * half, math.cos(0.5 * angle))
    return vectors.quaternion_between(new, wanted), knee_turn, vectors.length(new)


def _soft(straight_m: float, now_m: float, wanted_m: float, longest_m: float, moved_m: float) -> float:
    """Return the hip-to-ankle distance that a leg takes, near the wanted one, so that its knee does not jerk.

    Near its end a leg's last millimetre is six degrees of knee. So small changes of a nearly straight leg are taken
    at a discount, and a leg is stretched ever more slowly. One that is not moved at all stays as straight as it is.
    """
    change = wanted_m - now_m
    size = abs(change)
    nearly_straight = min(max((max(now_m, wanted_m) / straight_m - _NUMB_FROM) / _NUMB_WIDTH, 0.0), 1.0)
    wanted_m = now_m + change * size / (size + _NUMB_M * nearly_straight + 1e-12)
    soft_m = SOFT_REACH * straight_m
    room_m = max(longest_m - soft_m, 1e-4)
    slack_m = now_m - _stretched(now_m, soft_m, room_m)
    taken_m = _stretched(wanted_m, soft_m, room_m) + slack_m * math.exp(-moved_m / _SLACK_GONE_M)
    return max(taken_m, min(now_m, _MIN_REACH_M))


def _stretched(length_m: float, soft_m: float, room_m: float) -> float:
    """Squeeze what is beyond the soft reach into the room there is."""
    over = length_m - soft_m
    return length_m if over <= 0.0 else soft_m - room_m * math.expm1(-over / room_m)
