"""`engine.dancing.foot_lock` and `engine.body.legs` for a whole crowd at once: the same rules, on arrays with an axis
of dancers.

A dancer alone is quicker on plain floats; from a handful on NumPy's price per call is shared by all. Held to the
scalar version by a test, dancer by dancer. N dancers; foot axis: left, right; point axis: heel, toe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body import legs as single
from engine.body import pose_algebra as algebra
from engine.body.pose_algebra import Array
from engine.body.skeleton import CONTACT_OFFSETS_M, REST_OFFSETS_M
from engine.dancing.foot_lock import FLOOR_TOLERANCE_M, FootLockSettings

_HEEL, _TOE = 0, 1
_CHAIN = np.array([0, *single.HIPS, *single.KNEES, *single.ANKLES, *single.TOES], dtype=np.intp)
_TO_HIP, _TO_KNEE, _TO_ANKLE, _TO_TOE = (
    REST_OFFSETS_M[joints][:, :, None] for joints in (single.HIPS, single.KNEES, single.ANKLES, single.TOES)
)
_HEEL_AT, _SOLE_AT = CONTACT_OFFSETS_M[[0, 2]][:, :, None], CONTACT_OFFSETS_M[[1, 3]][:, :, None]
_SQUARES = np.square(np.linalg.norm(_TO_KNEE[:, :, 0], axis=1)) + np.square(np.linalg.norm(_TO_ANKLE[:, :, 0], axis=1))
_LEG_M = np.array(single.LEG_M)
# As in `engine.body.legs` and `engine.dancing.foot_lock`, where they are explained.
_NUMB_M, _NUMB_FROM, _NUMB_WIDTH = single._NUMB_M, single._NUMB_FROM, single._NUMB_WIDTH
_COS_STRAIGHTEST, _OVERSTRETCH_GONE_M = single._COS_STRAIGHTEST, single._OVERSTRETCH_GONE_M
_SLACK_GONE_M, _MIN_REACH_M = single._SLACK_GONE_M, single._MIN_REACH_M
_SPRING_95, _PELVIS_S, _MAX_FOOT_RAISE_M = 4.744, 0.25, 0.12
_NOTHING_M, _NOTHING_RAD = 1e-5, 1e-4


@dataclass(slots=True)
class _Legs:
    """`engine.body.legs.Legs` of N dancers: (N, 2, 3) points, (N, 2, 2, 3) heels and toes, (N, ..., 3, 3) rotations."""

    hip: Array
    knee: Array
    ankle: Array
    points: Array
    root: Array
    thigh: Array
    shank: Array


class CrowdFeet:
    """Holds the feet of N streams of poses. Deterministic; called on one thread.

    Args:
        size: N.
        settings: when a point is held.
    """

    def __init__(self, size: int, settings: FootLockSettings | None = None) -> None:
        self._settings = settings or FootLockSettings()
        self._before: Array | None = None
        self.held: NDArray[np.bool_] = np.zeros((size, 2, 2), dtype=bool)
        self._at, self._shown = np.zeros((2, size, 2, 2, 3))
        self._drift = np.zeros((size, 2, 2, 2))
        self._height = np.zeros((size, 2, 2))
        self._offset, self._offset_speed, self._turn, self._turn_speed = np.zeros((4, size, 2, 3))
        self._drop_m, self._drop_speed = np.zeros((2, size))

    def lowest_m(self, dancer: int) -> float:
        """Return the height of a dancer's lowest contact point in the last pose that came in; 0 before the first."""
        return 0.0 if self._before is None else float(self._before[dancer, :, :, 1].min())

    def apply(
        self, quaternions: Array, translation: Array, contacts: Array, dt: float
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Correct one pose of everybody.

        Args:
            quaternions: (N, 24, 4) unit, relative to the parent.
            translation: (N, 3) root joints [m].
            contacts: (N, 4) probabilities.
            dt: since the last poses [s].

        Returns:
            New rotations (N, 6, 4) of `engine.body.legs.MOVED_JOINTS`; what is to be added to the roots' heights (N,)
            [m]; and which dancers' feet had to be let go or raised over the floor (N,).
        """
        legs = _place(quaternions, translation)
        amiss = self._hold(legs.points, contacts.reshape(-1, 2, 2), dt)
        ankles, lowest, raised = self._placed(legs)
        drop = self._pelvis_drop(legs, ankles, dt)
        moved = (drop >= _NOTHING_M) | (
            (_length(ankles - legs.ankle) >= _NOTHING_M) | (_length(self._turn) >= _NOTHING_RAD)
        ).any(axis=1)
        amiss |= raised.max(axis=1) > FLOOR_TOLERANCE_M
        feet = quaternions[:, single.MOVED_JOINTS]
        rise = np.zeros(len(quaternions))
        if moved.any():
            hips = legs.hip.copy()
            hips[:, :, 1] -= drop[:, None]
            new, reached = _reach(feet, legs, hips, ankles, _quaternion(self._turn))
            low = (lowest + reached[:, :, 1] - ankles[:, :, 1]).min(axis=1)
            lift = np.maximum(0.0, -FLOOR_TOLERANCE_M - low)
            feet = np.where(moved[:, None, None], new, feet)
            rise = np.where(moved, lift - drop, 0.0)
            amiss |= moved & (lift > 0.0)
        return feet, rise, amiss

    def _hold(self, points: Array, contacts: Array, dt: float) -> NDArray[np.bool_]:
        """Advance all feet; return which dancers had one let go because holding on asked too much."""
        settings = self._settings
        if self._before is None:
            self._before, dt = points, 0.0
        speeds = _length(points - self._before) * (1.0 / dt if dt > 0.0 else 0.0)
        self._before = points
        heel_in, toe_in = points[:, :, _HEEL], points[:, :, _TOE]
        rate = _SPRING_95 / settings.release_s
        decay = math.exp(-rate * dt)
        offset = decay * (self._offset + (self._offset_speed + rate * self._offset) * dt)
        turn = decay * (self._turn + (self._turn_speed + rate * self._turn) * dt)
        sole, loose_toe = heel_in - toe_in, toe_in + offset
        loose = np.stack([loose_toe + _rotate(turn, sole), loose_toe], axis=2)
        self._judge(loose, points[..., 1], speeds, contacts, dt)
        held, at = self.held, self._at
        held_turn = _turn_between(sole, at[:, :, _HEEL] - at[:, :, _TOE])
        flat = held.all(axis=2)
        pivots = flat & (_length(held_turn) > settings.max_turn_rad)
        turn = np.where((flat & ~pivots)[..., None], held_turn, turn)
        held[:, :, _HEEL] &= ~pivots
        by_heel = at[:, :, _HEEL] - _rotate(turn, sole) - toe_in
        wish = np.where(held[:, :, _TOE, None], at[:, :, _TOE] - toe_in, by_heel)
        any_held = held.any(axis=2)
        too_far = any_held & (_length(wish) > settings.max_offset_m)
        offset = np.where((any_held & ~too_far)[..., None], wish, offset)
        held &= ~too_far[..., None]
        if dt > 0.0:
            self._offset_speed = np.clip((offset - self._offset) / dt, -2.0, 2.0)
            self._turn_speed = np.clip((turn - self._turn) / dt, -5.0, 5.0)
        self._offset, self._turn = offset, turn
        self._shown[:, :, _TOE] = toe_in + offset
        self._shown[:, :, _HEEL] = self._shown[:, :, _TOE] + _rotate(turn, sole)
        return np.asarray((pivots | too_far).any(axis=1))

    def _judge(self, loose: Array, heights: Array, speeds: Array, contacts: Array, dt: float) -> None:
        """Decide which points are held, and move the places they are held at."""
        settings = self._settings
        goes = (contacts < settings.release_below) | (heights > self._height + settings.max_lift_m)
        stays = self.held & ~goes
        settled = _length(self._offset) < 0.5 * settings.max_offset_m
        caught = (
            ~self.held
            & (contacts > settings.hold_above)
            & (heights < settings.max_height_m)
            & (speeds < settings.max_speed_m_s)
            & settled[..., None]
        )
        if stays.any():
            keep = math.exp(-dt / settings.catch_s)
            glide = settings.catch_s * (1.0 - keep)
            at, drift = self._at[stays], self._drift[stays]
            at[:, [0, 2]] += drift * glide
            at[:, 1] *= math.exp(-dt / (3.0 * settings.catch_s))
            self._at[stays], self._drift[stays] = at, drift * keep
            self._height[stays] = np.minimum(self._height[stays], heights[stays])
        if caught.any():
            across = (loose[caught] - self._shown[caught])[:, [0, 2]]
            self._at[caught], self._height[caught] = loose[caught], heights[caught]
            self._drift[caught] = 0.0
            if dt > 0.0:
                share = 1.0 / np.maximum(dt, _length(across) / settings.max_speed_m_s)
                self._drift[caught] = across * share[:, None]
        self.held = stays | caught

    def _placed(self, legs: _Legs) -> tuple[Array, Array, Array]:
        """Return where ankles go (N, 2, 3), how high the feet's lowest points then are, and how far feet are raised."""
        heel, toe = legs.points[:, :, _HEEL], legs.points[:, :, _TOE]
        toe_to = toe + self._offset
        heel_to = toe_to + _rotate(self._turn, heel - toe)
        ankle = toe_to + _rotate(self._turn, legs.ankle - toe)
        lowest = np.minimum(toe_to[..., 1], heel_to[..., 1])
        under = np.minimum(lowest, 0.0)
        raised = np.minimum(FLOOR_TOLERANCE_M * np.expm1(under / FLOOR_TOLERANCE_M) - under, _MAX_FOOT_RAISE_M)
        ankle[..., 1] += raised
        return ankle, lowest + raised, raised

    def _pelvis_drop(self, legs: _Legs, ankles: Array, dt: float) -> Array:
        """Return how far each pelvis is lowered (N,) [m], so that held feet come within reach."""
        wanted = ankles - legs.hip
        soft = np.minimum(_length(wanted), single.SOFT_REACH * _LEG_M)
        limit = np.maximum(_length(legs.ankle - legs.hip), soft)
        flat = np.square(wanted[..., 0]) + np.square(wanted[..., 2])
        need = -wanted[..., 1] - np.sqrt(np.maximum(limit * limit - flat, 0.0))
        need = np.where(self.held.any(axis=2), need, 0.0).max(axis=1)
        need = np.clip(need, 0.0, self._settings.max_drop_m)
        rate = _SPRING_95 / _PELVIS_S
        x, v, decay = self._drop_m - need, self._drop_speed, math.exp(-rate * dt)
        self._drop_m = need + decay * (x + (v + rate * x) * dt)
        self._drop_speed = decay * (v - rate * dt * (v + rate * x))
        return self._drop_m


def _place(quaternions: Array, translation: Array) -> _Legs:
    """Run forward kinematics of everybody's legs."""
    local = algebra.to_matrix(quaternions[:, _CHAIN].reshape(-1, 4)).reshape(-1, 9, 3, 3)
    root = local[:, 0]
    thigh = root[:, None] @ local[:, 1:3]
    shank = thigh @ local[:, 3:5]
    foot = shank @ local[:, 5:7]
    toes = foot @ local[:, 7:9]
    hip = (root[:, None] @ _TO_HIP)[..., 0] + translation[:, None]
    knee = hip + (thigh @ _TO_KNEE)[..., 0]
    ankle = knee + (shank @ _TO_ANKLE)[..., 0]
    heel = (foot @ _HEEL_AT)[..., 0] + ankle
    toe = (toes @ _SOLE_AT + foot @ _TO_TOE)[..., 0] + ankle
    return _Legs(hip, knee, ankle, np.stack([heel, toe], axis=2), root, thigh, shank)


def _reach(feet: Array, legs: _Legs, hips: Array, ankles: Array, foot_turns: Array) -> tuple[Array, Array]:
    """Turn hips, knees and ankles so that the ankles come to given places; see `engine.body.legs.reach`."""
    thigh, shank, wanted = legs.knee - legs.hip, legs.ankle - legs.knee, ankles - hips
    leg_turn, knee_turn, leg_m = _solve(thigh, shank, legs.thigh[..., 0], wanted)
    foot_back = _multiply(leg_turn, knee_turn) * np.array([-1.0, -1.0, -1.0, 1.0])
    local = np.concatenate([leg_turn, knee_turn, _multiply(foot_back, foot_turns)], axis=1)
    reached = hips + wanted * (leg_m / np.maximum(_length(wanted), 1e-9))[..., None]
    root = np.broadcast_to(legs.root[:, None], legs.thigh.shape)
    frames = np.concatenate([root, legs.thigh, legs.shank], axis=1)
    local[..., :3] = (local[..., None, :3] @ frames)[..., 0, :]
    turned = algebra.multiply(local.reshape(-1, 4), feet.reshape(-1, 4)).reshape(feet.shape)
    return turned, reached


def _solve(thigh: Array, shank: Array, hinge: Array, wanted: Array) -> tuple[Array, Array, Array]:
    """Return the turns of legs and knees (N, 2, 4), and the distances reached (N, 2); see `engine.body.legs._solve`."""
    along = np.vecdot(hinge, shank)
    fixed = np.vecdot(hinge, thigh) * along
    across = _cross(hinge, shank)
    cosine_part, sine_part = np.vecdot(thigh, shank) - fixed, np.vecdot(thigh, across)
    swing = np.hypot(cosine_part, sine_part) + 1e-12
    straight = np.arctan2(sine_part, cosine_part)
    now = thigh + shank
    wanted_m, moved_m = _length(wanted), _length(wanted - now)
    longest_m = np.sqrt(_SQUARES + 2.0 * (fixed + swing * _COS_STRAIGHTEST))
    leg_m = _soft(_length(now), wanted_m, longest_m, moved_m)
    flexion = np.arccos(np.clip((0.5 * (leg_m * leg_m - _SQUARES) - fixed) / swing, -1.0, 1.0))
    kept = np.maximum(1.0 - moved_m / _OVERSTRETCH_GONE_M, 0.0)
    angle = straight + flexion - 2.0 * kept * np.maximum(straight, 0.0)
    cosine, sine = np.cos(angle)[..., None], np.sin(angle)[..., None]
    new = thigh + shank * cosine + across * sine + hinge * (along[..., None] * (1.0 - cosine))
    half = 0.5 * angle[..., None]
    knee_turn = np.concatenate([hinge * np.sin(half), np.cos(half)], axis=-1)
    return _quaternion_between(new, wanted), knee_turn, _length(new)


def _soft(now_m: Array, wanted_m: Array, longest_m: Array, moved_m: Array) -> Array:
    """Return the hip-to-ankle distances that legs take, near the wanted ones; see `engine.body.legs._soft`."""
    change = wanted_m - now_m
    size = np.abs(change)
    nearly = np.clip((np.maximum(now_m, wanted_m) / _LEG_M - _NUMB_FROM) / _NUMB_WIDTH, 0.0, 1.0)
    wanted_m = now_m + change * size / (size + _NUMB_M * nearly + 1e-12)
    soft_m = single.SOFT_REACH * _LEG_M
    room_m = np.maximum(longest_m - soft_m, 1e-4)
    slack_m = now_m - _stretched(now_m, soft_m, room_m)
    taken_m = _stretched(wanted_m, soft_m, room_m) + slack_m * np.exp(-moved_m / _SLACK_GONE_M)
    return np.maximum(taken_m, np.minimum(now_m, _MIN_REACH_M))


def _stretched(length_m: Array, soft_m: Array, room_m: Array) -> Array:
    over = length_m - soft_m
    return np.where(over <= 0.0, length_m, soft_m - room_m * np.expm1(-np.maximum(over, 0.0) / room_m))


# -- vectors (..., 3) and quaternions (..., 4), as in `engine.body.vectors` ------------------------------------------


def _length(a: Array) -> Array:
    return np.asarray(np.sqrt(np.vecdot(a, a)))


def _cross(a: Array, b: Array) -> Array:
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        out[..., i] = a[..., j] * b[..., k] - a[..., k] * b[..., j]
    return out


def _rotate(turn: Array, a: Array) -> Array:
    """Turn vectors by rotation vectors (Rodrigues)."""
    angle = _length(turn)
    safe = np.maximum(angle, 1e-9)
    first = np.where(angle < 1e-9, 0.0, np.sin(safe) / safe)[..., None]
    second = np.where(angle < 1e-9, 0.0, (1.0 - np.cos(safe)) / (safe * safe))[..., None]
    across = _cross(turn, a)
    return a + first * across + second * _cross(turn, across)


def _turn_between(a: Array, b: Array) -> Array:
    axis = _cross(a, b)
    sine = _length(axis)
    scale = np.where(sine < 1e-12, 0.0, np.arctan2(sine, np.vecdot(a, b)) / np.maximum(sine, 1e-12))
    return axis * scale[..., None]


def _quaternion(turn: Array) -> Array:
    half = 0.5 * _length(turn)[..., None]
    # sinc is finite at zero, where the vector is zero too.
    return np.concatenate([turn * (0.5 * np.sinc(half / np.pi)), np.cos(half)], axis=-1)


def _quaternion_between(a: Array, b: Array) -> Array:
    w = np.sqrt(np.vecdot(a, a) * np.vecdot(b, b)) + np.vecdot(a, b)
    whole = np.concatenate([_cross(a, b), w[..., None]], axis=-1)
    size = _length(whole)[..., None]
    return np.where(size < 1e-12, np.array([0.0, 0.0, 0.0, 1.0]), whole / np.maximum(size, 1e-12))


def _multiply(a: Array, b: Array) -> Array:
    return algebra.multiply(a.reshape(-1, 4), b.reshape(-1, 4)).reshape(a.shape)
