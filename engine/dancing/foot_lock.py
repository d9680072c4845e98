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

from engine.body import vectors
from engine.body.legs import LEG_M, SOFT_REACH, place_legs, reach
from engine.body.pose_algebra import Array
from engine.body.vectors import ZERO, Vector


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
    catch_s: float = 0.015
    release_s: float = 0.2
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
        self.value = ZERO
        self.velocity = ZERO

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
        self.at = ZERO
        self.drift = (0.0, 0.0)
        self.height = 0.0
        self.shown = ZERO

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

    def update(self, points: list[Vector], speeds: tuple[float, float], contacts: list[float], dt: float) -> bool:
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
        sole, loose_toe = vectors.subtract(heel_in, toe_in), vectors.add(toe_in, offset)
        loose_heel = vectors.add(loose_toe, vectors.rotate(turn, sole))
        self._judge(toe, loose_toe, toe_in[1], speeds[1], contacts[1], dt)
        self._judge(heel, loose_heel, heel_in[1], speeds[0], contacts[0], dt)
        asked_too_much = False
        if heel.held and toe.held:
            held_turn = vectors.turn_between(sole, vectors.subtract(heel.at, toe.at))
            if vectors.length(held_turn) > settings.max_turn_rad:
                heel.held, asked_too_much = False, True
            else:
                turn = held_turn
        if toe.held:
            held_offset = vectors.subtract(toe.at, toe_in)
        elif heel.held:
            held_offset = vectors.subtract(vectors.subtract(heel.at, vectors.rotate(turn, sole)), toe_in)
        else:
            held_offset = offset
        if self.held:
            if vectors.length(held_offset) > settings.max_offset_m:
                heel.held = toe.held = False
                asked_too_much = True
            else:
                offset = held_offset
        self.offset.move(offset, dt, 2.0)
        self.turn.move(turn, dt, 5.0)
        toe.shown = vectors.add(toe_in, offset)
        heel.shown = vectors.add(toe.shown, vectors.rotate(turn, sole))
        return asked_too_much

    def place(self, points: list[Vector], ankle: Vector) -> tuple[Vector, float, float]:
        """Return where the ankle goes, how high the lowest point then is, and how far it was raised over the floor."""
        heel, toe = points
        turn, toe_to = self.turn.value, vectors.add(toe, self.offset.value)
        heel_to = vectors.add(toe_to, vectors.rotate(turn, vectors.subtract(heel, toe)))
        x, y, z = vectors.add(toe_to, vectors.rotate(turn, vectors.subtract(ankle, toe)))
        lowest = min(toe_to[1], heel_to[1])
        raised = _raise_over_floor(lowest)
        return (x, y + raised, z), lowest + raised, raised

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
            and vectors.length(self.offset.value) < 0.5 * settings.max_offset_m
        ):
            point.catch(height, loose, dt, settings.max_speed_m_s)


@dataclass(frozen=True, slots=True)
class FootLockResult:
    """What `FootLock.apply` asks for.

    Attributes:
        rotations: (6, 4) new quaternions of `engine.body.legs.MOVED_JOINTS`, or None: leave them.
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
        self._points: list[list[Vector]] | None = None
        self._drop_m = self._drop_velocity = 0.0

    @property
    def held(self) -> tuple[bool, bool, bool, bool]:
        """Which points are held now: left heel, left toe, right heel, right toe."""
        left, right = self._feet
        return left.heel.held, left.toe.held, right.heel.held, right.toe.held

    @property
    def lowest_m(self) -> float:
        """Height of the lowest contact point in the last pose that came in; 0 before the first."""
        return min(point[1] for foot in self._points for point in foot) if self._points else 0.0

    def apply(self, quaternions: Array, translation: Array, contacts: Array, dt: float) -> FootLockResult:
        """Correct one pose.

        Args:
            quaternions: (24, 4) unit, relative to the parent.
            translation: (3,) root joint in the world [m].
            contacts: (4,) probabilities: left heel, left toe, right heel, right toe.
            dt: since the last pose [s], >= 0.
        """
        legs = place_legs(quaternions, translation)
        points, ankles_in, hips = legs.points.tolist(), legs.ankle.tolist(), legs.hip.tolist()
        released = self._update_feet(points, contacts.tolist(), dt)
        placed = [foot.place(points[side], ankles_in[side]) for side, foot in enumerate(self._feet)]
        ankles = [ankle for ankle, _, _ in placed]
        below_floor = max(raised for _, _, raised in placed) > FLOOR_TOLERANCE_M
        drop = self._pelvis_drop(hips, ankles_in, ankles, dt)
        if drop < _NOTHING_M and all(
            math.dist(ankle, ankle_in) < _NOTHING_M and vectors.length(foot.turn.value) < _NOTHING_RAD
            for ankle, ankle_in, foot in zip(ankles, ankles_in, self._feet, strict=True)
        ):
            return FootLockResult(None, 0.0, released, below_floor)
        lowered = [(x, y - drop, z) for x, y, z in hips]
        turns = [vectors.quaternion(foot.turn.value) for foot in self._feet]
        rotations, reached = reach(quaternions, legs, lowered, ankles, turns)
        # What the legs could not raise, the whole body does.
        low = min(height + got[1] - ankle[1] for (ankle, height, _), got in zip(placed, reached, strict=True))
        lift = max(0.0, -FLOOR_TOLERANCE_M - low)
        return FootLockResult(rotations, lift - drop, released, below_floor or lift > 0.0)

    def _update_feet(self, points: list[list[Vector]], contacts: list[float], dt: float) -> int:
        """Advance both feet; return how many were let go because holding on asked too much."""
        before, self._points = self._points, points
        if before is None:
            before, dt = points, 0.0
        per_s = 1.0 / dt if dt > 0.0 else 0.0
        released = 0
        for side, foot in enumerate(self._feet):
            heel_speed, toe_speed = (math.dist(a, b) * per_s for a, b in zip(points[side], before[side], strict=True))
            released += foot.update(points[side], (heel_speed, toe_speed), contacts[2 * side : 2 * side + 2], dt)
        return released

    def _pelvis_drop(self, hips: list[Vector], now: list[Vector], ankles: list[Vector], dt: float) -> float:
        """Return how far the pelvis is lowered [m], so that held feet come within reach; a smooth function of time."""
        need = 0.0
        for side, foot in enumerate(self._feet):
            if foot.held:
                # Where a leg is asked for more than it takes without lagging, the hip comes down to make up for it.
                x, y, z = vectors.subtract(ankles[side], hips[side])
                soft_m = min(math.hypot(x, y, z), SOFT_REACH * LEG_M[side])
                limit = max(math.dist(now[side], hips[side]), soft_m)
                need = max(need, -y - math.sqrt(max(limit * limit - x * x - z * z, 0.0)))
        need = min(need, self._settings.max_drop_m)
        x, v, rate = self._drop_m - need, self._drop_velocity, self._rate
        if x != 0.0 or v != 0.0:
            decay = math.exp(-rate * dt)
            self._drop_m = need + decay * (x + (v + rate * x) * dt)
            self._drop_velocity = decay * (v - rate * dt * (v + rate * x))
        return self._drop_m


def _raise_over_floor(lowest_m: float) -> float:
    """Return how far a foot whose lowest point is at this height is raised; smooth from the floor on."""
    if lowest_m >= 0.0:
        return 0.0
    return min(FLOOR_TOLERANCE_M * math.expm1(lowest_m / FLOOR_TOLERANCE_M) - lowest_m, _MAX_FOOT_RAISE_M)
