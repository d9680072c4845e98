"""What stands between a network and the audience: every pose shown has passed here.

Whatever comes in, what goes out is finite, human, not too fast, on the stage, over the floor and on its feet. Bones
keep their length by construction: a pose is rotations and one translation, on a skeleton that never changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.body import pose_algebra as algebra
from engine.body.joint_limits import limit_joints
from engine.body.legs import MOVED_JOINTS
from engine.body.pose_algebra import Array
from engine.dancing.coast import Coast
from engine.dancing.foot_lock import FootLock, FootLockSettings
from engine.dancing.idle import idle_pose
from engine.dancing.motion_track import Pose
from engine.types import NS_PER_S


class Fault(IntFlag):
    """What was wrong with a pose that came in."""

    UNUSABLE = 1
    """Not a number, infinite or absurd: the pose was replaced."""
    JOINT_LIMIT = 2
    JOINT_SPEED = 4
    ROOT_SPEED = 8
    OFF_STAGE = 16
    BELOW_FLOOR = 32
    FOOT_RELEASED = 64
    """A foot in contact was moved too far to be held."""


@dataclass(frozen=True, slots=True)
class GuardedPose:
    """A pose fit to be shown.

    Attributes:
        rotations: (24, 3) float32 axis-angle [rad].
        translation_m: (3,) float32 root joint in the world.
        contacts: (4,) float32 in [0, 1].
        faults: what had to be mended.
    """

    rotations: NDArray[np.float32]
    translation_m: NDArray[np.float32]
    contacts: NDArray[np.float32]
    faults: Fault


@dataclass(slots=True)
class GuardCounts:
    """How many poses have passed, and how many of them had which fault."""

    poses: int = 0
    unusable: int = 0
    joint_limit: int = 0
    joint_speed: int = 0
    root_speed: int = 0
    off_stage: int = 0
    below_floor: int = 0
    foot_released: int = 0

    def add(self, faults: Fault) -> None:
        """Count one pose."""
        self.poses += 1
        if faults:
            for fault in Fault:
                if fault & faults:
                    name = _COUNTED_AS[fault]
                    setattr(self, name, getattr(self, name) + 1)


_COUNTED_AS = {fault: str(fault.name).lower() for fault in Fault}
_ABSURD_M, _ABSURD_RAD = 50.0, 100.0
"""Beyond these a number is a failure, not a movement. Angles may wind up a few turns; a stage may be large."""
_LOWEST_ROOT_M, _HIGHEST_ROOT_M = 0.08, 2.2
"""Height of the root joint: lying on the floor, and 1.2 m over standing, beyond any jump or lift."""
_MAX_DT_S = 0.1
"""After a longer pause the dancer still gets no further than in this time: it does not teleport."""
_BOUNDS_MARGIN = 0.15
"""Share of the stage radius over which the edge is felt."""


class PoseGuard:
    """Checks and mends a stream of poses.

    Deterministic, and it never raises on values: shapes are the caller's promise. Not thread-safe; one per dancer,
    called on one thread.

    Args:
        stage_radius_m: the root stays in this circle around the origin. A safety net: the dancer steers before it.
        max_joint_speed_rad_s: in 47 minutes of ballroom dance (motion capture, 25 fps) no joint turns faster than 19.7.
            Feet are held after it: legs follow with the bounded speeds of the foot lock besides.
        max_root_speed_m_s: there no root moves faster than 5.6; the 99.9th percentile is 4.
        foot_lock: how feet are held.
    """

    def __init__(
        self,
        stage_radius_m: float,
        *,
        max_joint_speed_rad_s: float = 20.0,
        max_root_speed_m_s: float = 6.0,
        foot_lock: FootLockSettings | None = None,
    ) -> None:
        self._radius_m = stage_radius_m
        self._margin_m = _BOUNDS_MARGIN * stage_radius_m
        self._max_joint_speed = max_joint_speed_rad_s
        self._max_root_speed = max_root_speed_m_s
        self._feet = FootLock(foot_lock)
        self.counts = GuardCounts()
        self.reset()

    def reset(self) -> None:
        """Forget the motion so far: the next pose may be anywhere. Counts are kept."""
        self._feet.reset()
        self._time_ns: int | None = None
        # Should the first poses be unusable, the dancer stands.
        start = idle_pose(0.0, 0.0)
        self._shown = Pose(algebra.from_axis_angle(start.rotations), start.translation_m, start.contacts)
        self._shown_before, self._shown_interval_s = self._shown, 0.0
        self._coast: Coast | None = None

    def apply(self, time_ns: int, rotations: ArrayLike, translation_m: ArrayLike, contacts: ArrayLike) -> GuardedPose:
        """Return the pose to be shown at `time_ns`.

        Args:
            time_ns: presentation time; expected to increase, at any rate.
            rotations: (24, 3) axis-angle [rad].
            translation_m: (3,) root joint in the world.
            contacts: (4,) probabilities: left heel, left toe, right heel, right toe.
        """
        first = self._time_ns is None
        dt = 0.0 if self._time_ns is None else min(max((time_ns - self._time_ns) / NS_PER_S, 0.0), _MAX_DT_S)
        self._time_ns = time_ns
        given = np.asarray(rotations, dtype=np.float64)
        pose, faults = self._usable(given, translation_m, contacts, dt)
        as_given = self._coast is None
        quaternions, changed = limit_joints(pose.quaternions)
        if changed.size:
            faults |= Fault.JOINT_LIMIT
        translation, off_stage = self._keep_on_stage(pose.translation_m)
        if off_stage:
            faults |= Fault.OFF_STAGE
        if not first:
            max_angle = min(self._max_joint_speed * dt, math.pi)
            quaternions, late = algebra.turn_towards(self._shown.quaternions, quaternions, max_angle)
            if late.size:
                faults |= Fault.JOINT_SPEED
                changed = np.concatenate([changed, late])
            translation, late_root = _move_towards(self._shown.translation_m, translation, self._max_root_speed * dt)
            if late_root:
                faults |= Fault.ROOT_SPEED
        if dt > 0.0:
            self._shown_before, self._shown_interval_s = self._shown, dt
        self._shown = Pose(quaternions, translation, pose.contacts)

        feet = self._feet.apply(quaternions, translation, pose.contacts, dt)
        if feet.released:
            faults |= Fault.FOOT_RELEASED
        if feet.below_floor:
            faults |= Fault.BELOW_FLOOR
        self.counts.add(faults)
        return GuardedPose(
            _as_axis_angle(given, quaternions, changed if as_given else None, feet.rotations),
            _raised(translation, feet.rise_m).astype(np.float32),
            pose.contacts.astype(np.float32),
            faults,
        )

    def _usable(self, rotations: Array, translation_m: ArrayLike, contacts: ArrayLike, dt: float) -> tuple[Pose, Fault]:
        """Return the pose given; if it cannot be used, the motion carried on; after a loss, a mixture."""
        translation = np.asarray(translation_m, dtype=np.float64)
        probabilities = np.asarray(contacts, dtype=np.float64)
        # Written so that a NaN, which compares as false, is refused.
        if (
            np.abs(rotations).max() <= _ABSURD_RAD
            and np.abs(translation).max() <= _ABSURD_M
            and np.isfinite(probabilities).all()
        ):
            quaternions = algebra.from_axis_angle(rotations)
            pose = Pose(quaternions, translation, np.minimum(np.maximum(probabilities, 0.0), 1.0))
            mixed = self._coast.hand_over(pose, dt) if self._coast is not None else None
            if mixed is None:
                self._coast = None
            return mixed or pose, _NO_FAULT
        if self._coast is None or self._coast.handing_over:
            self._coast = Coast(self._shown_before, self._shown, self._shown_interval_s, self._feet.lowest_m)
        return self._coast.carry(dt), Fault.UNUSABLE

    def _keep_on_stage(self, translation: Array) -> tuple[Array, bool]:
        """Bring the root back into the stage, smoothly; also tell whether it was beyond the edge."""
        x, y, z = translation.tolist()
        distance, margin = math.hypot(x, z), self._margin_m
        kept_y = min(max(y, _LOWEST_ROOT_M), _HIGHEST_ROOT_M)
        beyond = distance - (self._radius_m - margin)
        if beyond <= 0.0 and kept_y == y:
            return translation, False
        share = (self._radius_m - margin * math.exp(-beyond / margin)) / distance if beyond > 0.0 else 1.0
        return np.array([x * share, kept_y, z * share]), distance > self._radius_m or kept_y != y


_NO_FAULT = Fault(0)


def _raised(translation: Array, rise_m: float) -> Array:
    raised = translation.copy()
    raised[1] += rise_m
    return raised


def _move_towards(current: Array, target: Array, max_step: float) -> tuple[Array, bool]:
    """Move a point by at most `max_step`; also tell whether it fell short."""
    step = target - current
    distance = math.sqrt(step @ step)
    if distance <= max_step:
        return target, False
    return current + step * (max_step / distance), True


def _as_axis_angle(
    given: Array, quaternions: Array, changed: NDArray[np.intp] | None, leg_rotations: Array | None
) -> NDArray[np.float32]:
    """Return the pose (24, 3); joints that were not changed exactly as they were given.

    Args:
        given: (24, 3) the pose that came in.
        quaternions: (24, 4) the pose to be shown, but for the legs.
        changed: joints of which the two differ; None: all may.
        leg_rotations: (6, 4) of `MOVED_JOINTS`, or None: as in `quaternions`.
    """
    if changed is None:
        shown = algebra.to_axis_angle(quaternions).astype(np.float32)
    else:
        shown = given.astype(np.float32)
        if changed.size:
            shown[changed] = algebra.to_axis_angle(quaternions[changed])
    if leg_rotations is not None:
        shown[MOVED_JOINTS] = algebra.to_axis_angle(leg_rotations)
    return shown
