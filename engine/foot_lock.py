"""Feet that stay where they stand: contact points are held in the world while they carry the dancer.

What a network (or an interpolation) calls a contact still creeps, floats and sinks by centimetres, and the eye sees
little else. A contact point, heel or toe, that is close to the floor and nearly at rest is *held*: hip, knee and
ankle are turned so that it keeps its place. Held by the toe alone, the heel may rise and the foot may turn about the
toe, as dancers do; held by the heel alone, likewise; held by both, the foot also keeps its direction. When the
contact ends, or when holding on would bend the dancer too far, the correction dies away like a critically damped
spring, which starts from the position and the velocity it finds (Bollo, "Inertialization", GDC 2018): nothing jumps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine import pose_algebra as algebra
from engine.legs import LEG_M, Legs, lengths, place_legs, reach
from engine.pose_algebra import Array

Vector = tuple[float, float, float]
_ZERO: Vector = (0.0, 0.0, 0.0)
_NO_TURN = np.tile([0.0, 0.0, 0.0, 1.0], (2, 1))


@dataclass(frozen=True, slots=True)
class FootLockSettings:
    """When a contact point is held, and how it is let go. The defaults suit SMPL dance at 60 fps.

    Attributes:
        hold_above, release_below: contact probability; the gap between them keeps a doubtful contact from flickering.
        max_height_m: over the floor, to be held; a point in the air is not a contact, whatever the network says.
        max_speed_m_s: at which a point may be caught. A landing foot is still slowing down; a gliding step goes on.
        max_lift_m: a held point that the motion wants this much higher is let go.
        max_offset_m: a held point that the motion wants this far away is let go, rather than stretching the dancer.
        max_turn_rad: a flat foot that the motion wants turned this far pivots on its toe.
        catch_s: time constant in which a caught point comes to rest and down to the floor.
        release_s: in which 95 % of a correction dies away.
        max_drop_m: how far the pelvis may come down so that held feet can be reached.
    """

    hold_above: float = 0.6
    release_below: float = 0.35
    max_height_m: float = 0.08
    max_speed_m_s: float = 0.6
    max_lift_m: float = 0.05
    max_offset_m: float = 0.13
    max_turn_rad: float = 0.35
    catch_s: float = 0.03
    release_s: float = 0.13
    max_drop_m: float = 0.06


FLOOR_TOLERANCE_M = 0.01
"""No contact point ends lower than this under the floor; real feet dent, and real data err, by less."""
_MAX_FOOT_RAISE_M = 0.12
"""A foot under the floor is raised by its leg up to this; what is missing then raises the whole dancer."""
_SPRING_95 = 4.744
"""A critically damped spring at rest has 5 % left after this many of its time constants: (1 + x) exp(-x) = 0.05."""
_PELVIS_S = 0.25
"""The pelvis follows the feet's need in this time: slow enough not to bob, fast enough for a step."""
_NOTHING_M, _NOTHING_RAD = 1e-5, 1e-4
"""Below these the legs are left alone: a hundredth of a millimetre shows nowhere."""


class _Spring:
    """Three numbers that return to zero, critically damped, from wherever and however fast they were."""

    __slots__ = ("rate", "value", "velocity")

    def __init__(self, settle_s: float) -> None:
        self.rate = _SPRING_95 / settle_s
        self.value = _ZERO
        self.velocity = _ZERO

    def released(self, dt: float) -> Vector:
        """Return where the spring would be after `dt` if let go now."""
        decay, rate = math.exp(-self.rate * dt), self.rate
        x, v = self.value, self.velocity
        return (
            decay * (x[0] + (v[0] + rate * x[0]) * dt),
            decay * (x[1] + (v[1] + rate * x[1]) * dt),
            decay * (x[2] + (v[2] + rate * x[2]) * dt),
        )

    def move(self, value: Vector, dt: float, max_speed: float) -> None:
        """Take a new value, let go or held, and remember how fast it moved (at most `max_speed` per component)."""
        if dt > 0.0:
            x = self.value
            self.velocity = (
                min(max((value[0] - x[0]) / dt, -max_speed), max_speed),
                min(max((value[1] - x[1]) / dt, -max_speed), max_speed),
                min(max((value[2] - x[2]) / dt, -max_speed), max_speed),
            )
        self.value = value


class _Point:
    """One contact point: held or not, and where."""

    __slots__ = ("at", "drift", "height", "held", "shown")

    def __init__(self) -> None:
        self.held = False
        self.at = _ZERO
        self.drift = (0.0, 0.0)
        self.height = 0.0
        self.shown = _ZERO

    def catch(self, height: float, at: Vector, dt: float, max_speed: float) -> None:
        """Hold the point where it is shown, carrying over the speed [m/s] it is shown with, up to a limit."""
        self.held, self.height, self.at, self.drift = True, height, at, (0.0, 0.0)
        if dt > 0.0:
            x, z = at[0] - self.shown[0], at[2] - self.shown[2]
            share = 1.0 / max(dt, math.hypot(x, z) / max_speed)
            self.drift = (x * share, z * share)

    def settle(self, dt: float, catch_s: float) -> None:
        """Let what is left of the landing run out, and the point down to the floor."""
        keep = math.exp(-dt / catch_s)
        glide = catch_s * (1.0 - keep)
        # The floor is approached more slowly than the glide ends: a float of centimetres is common, a drop shows.
        x, y, z = self.at
        self.at = (x + self.drift[0] * glide, y * math.exp(-dt / (3.0 * catch_s)), z + self.drift[1] * glide)
        self.drift = (self.drift[0] * keep, self.drift[1] * keep)


class _Foot:
    """One foot: how far its toe is moved and its orientation turned, to hold what is held."""

    def __init__(self, settings: FootLockSettings) -> None:
        self._settings = settings
        self.heel, self.toe = _Point(), _Point()
        self.offset, self.turn = _Spring(settings.release_s), _Spring(settings.release_s)

    @property
    def held(self) -> bool:
        return self.heel.held or self.toe.held

    def update(self, points: list[list[float]], speeds: list[float], contacts: list[float], dt: float) -> bool:
        """Advance by one frame; return whether a point was let go because holding on asked too much.

        Args:
            points: heel and toe of the pose that came in.
            speeds: of these [m/s].
            contacts: probabilities of the two.
            dt: since the last frame [s].
        """
        heel, toe, settings = self.heel, self.toe, self._settings
        heel_in, toe_in = points
        offset, turn = self.offset.released(dt), self.turn.released(dt)
        sole = (heel_in[0] - toe_in[0], heel_in[1] - toe_in[1], heel_in[2] - toe_in[2])
        loose_toe = (toe_in[0] + offset[0], toe_in[1] + offset[1], toe_in[2] + offset[2])
        loose_heel = _add(loose_toe, _rotate(turn, sole))
        self._judge(toe, loose_toe, toe_in[1], speeds[1], contacts[1], dt)
        self._judge(heel, loose_heel, heel_in[1], speeds[0], contacts[0], dt)
        asked_too_much = False
        if heel.held and toe.held:
            held_turn = _turn_between(sole, _subtract(heel.at, toe.at))
            if _length(held_turn) > settings.max_turn_rad:
                heel.held, asked_too_much = False, True
            else:
                turn = held_turn
        if toe.held:
            held_offset = (toe.at[0] - toe_in[0], toe.at[1] - toe_in[1], toe.at[2] - toe_in[2])
        elif heel.held:
            held_offset = _subtract(_subtract(heel.at, _rotate(turn, sole)), (toe_in[0], toe_in[1], toe_in[2]))
        else:
            held_offset = offset
        if self.held:
            if _length(held_offset) > settings.max_offset_m:
                heel.held = toe.held = False
                asked_too_much = True
            else:
                offset = held_offset
        self.offset.move(offset, dt, 2.0)
        self.turn.move(turn, dt, 5.0)
        toe.shown = (toe_in[0] + offset[0], toe_in[1] + offset[1], toe_in[2] + offset[2])
        heel.shown = _add(toe.shown, _rotate(turn, sole))
        return asked_too_much

    def _judge(self, point: _Point, loose: Vector, height: float, speed: float, contact: float, dt: float) -> None:
        """Decide whether a point is held, and move the place it is held at."""
        settings = self._settings
        if point.held:
            if contact < settings.release_below or height > point.height + settings.max_lift_m:
                point.held = False
                return
            point.height = min(point.height, height)
            point.settle(dt, settings.catch_s)
        elif (
            contact > settings.hold_above
            and height < settings.max_height_m
            and speed < settings.max_speed_m_s
            # After a release the correction must first have died away, or the point would be let go again at once.
            and _length(self.offset.value) < 0.5 * settings.max_offset_m
        ):
            point.catch(height, loose, dt, settings.max_speed_m_s)


@dataclass(frozen=True, slots=True)
class FootLockResult:
    """What `FootLock.apply` asks for.

    Attributes:
        rotations: (6, 4) new quaternions of `engine.legs.MOVED_JOINTS`, or None: leave them.
        rise_m: to be added to the root's height.
        released: feet let go in this frame because holding on asked too much.
        below_floor: a foot was under the floor by more than the tolerance.
    """

    rotations: Array | None
    rise_m: float
    released: int
    below_floor: bool


class FootLock:
    """Holds the feet of a stream of poses. Deterministic; one per dancer; called on one thread."""

    def __init__(self, settings: FootLockSettings | None = None) -> None:
        self._settings = settings or FootLockSettings()
        self._rate = _SPRING_95 / _PELVIS_S
        self.reset()

    def reset(self) -> None:
        """Forget where the feet were."""
        self._feet = (_Foot(self._settings), _Foot(self._settings))
        self._points: Array | None = None
        self._drop_m = self._drop_velocity = 0.0

    @property
    def held(self) -> tuple[bool, bool, bool, bool]:
        """Which points are held now: left heel, left toe, right heel, right toe."""
        left, right = self._feet
        return left.heel.held, left.toe.held, right.heel.held, right.toe.held

    @property
    def lowest_m(self) -> float:
        """Height of the lowest contact point in the last pose that came in; 0 before the first."""
        return 0.0 if self._points is None else float(self._points[:, :, 1].min())

    def apply(self, quaternions: Array, translation: Array, contacts: Array, dt: float) -> FootLockResult:
        """Correct one pose.

        Args:
            quaternions: (24, 4) unit, relative to the parent.
            translation: (3,) root joint in the world [m].
            contacts: (4,) probabilities: left heel, left toe, right heel, right toe.
            dt: since the last pose [s], >= 0.
        """
        legs = place_legs(quaternions, translation)
        if self._points is None:
            dt = 0.0
        released = self._update_feet(legs, contacts, dt)
        left, right = self._feet
        turn = np.array((left.turn.value, right.turn.value))
        offset = np.array((left.offset.value, right.offset.value))
        toe, heel = legs.points[:, 1], legs.points[:, 0]
        turn_quaternion = algebra.from_axis_angle(turn) if np.abs(turn).max() > _NOTHING_RAD else _NO_TURN
        # Everything is carried along with the toe and turned about it.
        arms = np.stack([heel - toe, legs.ankle - toe], axis=1)
        if turn_quaternion is not _NO_TURN:
            arms = arms @ algebra.to_matrix(turn_quaternion).transpose(0, 2, 1)
        raised = _raise_over_floor(np.minimum(toe[:, 1] + offset[:, 1], toe[:, 1] + offset[:, 1] + arms[:, 0, 1]))
        offset[:, 1] += raised
        ankle = toe + offset + arms[:, 1]
        drop = self._pelvis_drop(legs, ankle, dt)
        below_floor = bool(raised.max() > FLOOR_TOLERANCE_M)
        if drop < _NOTHING_M and np.abs(ankle - legs.ankle).max() < _NOTHING_M and turn_quaternion is _NO_TURN:
            return FootLockResult(None, 0.0, released, below_floor)
        hip = legs.hip.copy()
        hip[:, 1] -= drop
        rotations, reached = reach(quaternions, legs, hip, ankle, turn_quaternion)
        # What the legs could not raise, the whole body does.
        lowest = (reached - ankle)[:, 1] + (toe + offset)[:, 1] + np.minimum(arms[:, 0, 1], 0.0)
        lift = max(0.0, -FLOOR_TOLERANCE_M - float(lowest.min()))
        return FootLockResult(rotations, lift - drop, released, below_floor or lift > 0.0)

    def _update_feet(self, legs: Legs, contacts: Array, dt: float) -> int:
        points = legs.points
        if self._points is None or dt <= 0.0:
            speeds = [0.0, 0.0, 0.0, 0.0]
        else:
            speeds = (lengths((points - self._points).reshape(4, 3)) / dt).tolist()
        self._points = points
        left, right = self._feet
        places, chances = points.tolist(), contacts.tolist()
        return int(left.update(places[0], speeds[:2], chances[:2], dt)) + int(
            right.update(places[1], speeds[2:], chances[2:], dt)
        )

    def _pelvis_drop(self, legs: Legs, ankle: Array, dt: float) -> float:
        """Return how far the pelvis is lowered [m], so that held feet come within reach; a smooth function of time."""
        need = 0.0
        held = [foot.held for foot in self._feet]
        if any(held):
            now_m, to_ankle = lengths(legs.ankle - legs.hip), ankle - legs.hip
            wanted_m = lengths(to_ankle)
            # Where a leg is asked for more than it takes without lagging, the hip comes down to make up for it.
            limit = np.maximum(now_m, np.minimum(wanted_m, 0.985 * LEG_M))
            across = to_ankle[:, 0] ** 2 + to_ankle[:, 2] ** 2
            short = np.where(held, -to_ankle[:, 1] - np.sqrt(np.maximum(limit * limit - across, 0.0)), 0.0)
            need = min(max(0.0, float(short.max())), self._settings.max_drop_m)
        x, v, rate = self._drop_m - need, self._drop_velocity, self._rate
        if x != 0.0 or v != 0.0:
            decay = math.exp(-rate * dt)
            self._drop_m = need + decay * (x + (v + rate * x) * dt)
            self._drop_velocity = decay * (v - rate * dt * (v + rate * x))
        return self._drop_m


def _raise_over_floor(lowest: Array) -> Array:
    """Return how far feet (2,) whose lowest points are at these heights [m] are raised; smooth from the floor on."""
    under = np.minimum(lowest, 0.0)
    kept = FLOOR_TOLERANCE_M * (np.exp(under / FLOOR_TOLERANCE_M) - 1.0)
    return np.minimum(kept - under, _MAX_FOOT_RAISE_M)


def _add(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _subtract(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _length(a: Vector) -> float:
    return math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])


def _rotate(turn: Vector, a: Vector) -> Vector:
    """Turn a vector by a rotation vector (Rodrigues)."""
    angle = _length(turn)
    if angle < 1e-9:
        return a
    across = _cross(turn, a)
    around = _cross(turn, across)
    first, second = math.sin(angle) / angle, (1.0 - math.cos(angle)) / (angle * angle)
    return (
        a[0] + first * across[0] + second * around[0],
        a[1] + first * across[1] + second * around[1],
        a[2] + first * across[2] + second * around[2],
    )


def _turn_between(a: Vector, b: Vector) -> Vector:
    """Return the shortest rotation vector that turns `a` into the direction of `b`."""
    axis = _cross(a, b)
    sine = _length(axis)
    if sine < 1e-12:
        return _ZERO
    scale = math.atan2(sine, a[0] * b[0] + a[1] * b[1] + a[2] * b[2]) / sine
    return axis[0] * scale, axis[1] * scale, axis[2] * scale
