"""`engine.dancing.guards.PoseGuard` for a whole crowd at once: what it does to one, in the order in which it does it.

Everybody's poses are checked and mended together; the rare ones that cannot be used, or that leave a joint's range, go
the single way, dancer by dancer. Held to `PoseGuard` by a test.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.body import pose_algebra as algebra
from engine.body.joint_limits import beyond_limits, limit_joints
from engine.body.legs import MOVED_JOINTS
from engine.body.pose_algebra import Array
from engine.crowds.feet import CrowdFeet
from engine.dancing.coast import Coast
from engine.dancing.guards import _ABSURD_M, _BOUNDS_MARGIN, _HIGHEST_ROOT_M, _LOWEST_ROOT_M, _MAX_DT_S
from engine.dancing.idle import idle_pose
from engine.dancing.motion_track import Pose
from engine.types import NS_PER_S

_JOINTS = 24
_MAX_JOINT_SPEED, _MAX_ROOT_SPEED = 20.0, 6.0
"""rad/s and m/s, as `PoseGuard` has them."""


class CrowdGuard:
    """Checks and mends the poses of N dancers. Deterministic; called on one thread.

    Args:
        size: N.
        stage_radius_m: each stays in this circle around their own place.
    """

    def __init__(self, size: int, stage_radius_m: float) -> None:
        self._size, self._radius_m = size, stage_radius_m
        self._margin_m = _BOUNDS_MARGIN * stage_radius_m
        self._feet = CrowdFeet(size)
        self.mended = 0
        """Poses that had a fault, as `Fault` counts them."""
        self._time_ns: int | None = None
        start = idle_pose(0.0, 0.0)
        quaternions = algebra.from_axis_angle(start.rotations)
        self._quaternions = np.repeat(quaternions[None], self._size, axis=0)
        self._translation = np.repeat(np.asarray(start.translation_m, float)[None], self._size, axis=0)
        self._contacts = np.repeat(np.asarray(start.contacts, float)[None], self._size, axis=0)
        self._before = self._quaternions, self._translation, self._contacts
        self._interval_s = 0.0
        self._coasts: dict[int, Coast] = {}

    def apply(
        self, time_ns: int, quaternions: Array, translation_m: Array, contacts: Array
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return rotations (N, 24, 3) [rad], roots (N, 3) [m] and contacts (N, 4) to be shown at `time_ns`.

        Args:
            time_ns: presentation time.
            quaternions: (N, 24, 4) unit, relative to the parent.
            translation_m: (N, 3) root joints.
            contacts: (N, 4) probabilities.
        """
        first = self._time_ns is None
        dt = 0.0 if self._time_ns is None else min(max((time_ns - self._time_ns) / NS_PER_S, 0.0), _MAX_DT_S)
        self._time_ns = time_ns
        quaternions, translation, contacts, faulty = self._usable(quaternions, translation_m, contacts, dt)
        for dancer in np.flatnonzero(beyond_limits(quaternions)):
            quaternions[dancer], _ = limit_joints(quaternions[dancer])
            faulty[dancer] = True
        translation, off_stage = self._keep_on_stage(translation)
        faulty |= off_stage
        if not first:
            most = min(_MAX_JOINT_SPEED * dt, math.pi)
            flat, late = algebra.turn_towards(self._quaternions.reshape(-1, 4), quaternions.reshape(-1, 4), most)
            quaternions = flat.reshape(-1, _JOINTS, 4)
            faulty[late // _JOINTS] = True
            step = translation - self._translation
            distance = np.sqrt(np.vecdot(step, step))
            fast = distance > _MAX_ROOT_SPEED * dt
            if fast.any():
                share = _MAX_ROOT_SPEED * dt / distance[fast]
                translation[fast] = self._translation[fast] + step[fast] * share[:, None]
                faulty |= fast
        if dt > 0.0:
            self._before, self._interval_s = (self._quaternions, self._translation, self._contacts), dt
        self._quaternions, self._translation, self._contacts = quaternions, translation, contacts
        feet, rise, amiss = self._feet.apply(quaternions, translation, contacts, dt)
        self.mended += int((faulty | amiss).sum())
        shown = quaternions.copy()
        shown[:, MOVED_JOINTS] = feet
        rotations = algebra.to_axis_angle(shown.reshape(-1, 4)).reshape(-1, _JOINTS, 3).astype(np.float32)
        roots = translation.astype(np.float32)
        roots[:, 1] = translation[:, 1] + rise
        return rotations, roots, contacts.astype(np.float32)

    def _usable(
        self, quaternions: Array, translation: Array, contacts: Array, dt: float
    ) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
        """Return copies of the poses, those that cannot be used replaced by their motion carried on; and which."""
        # Written so that a NaN, which compares as false, is refused.
        fit = np.abs(translation).max(axis=1) <= _ABSURD_M
        fit &= np.isfinite(contacts).all(axis=1) & (
            np.abs(np.square(quaternions).sum(axis=-1) - 1.0).max(axis=1) < 1e-3
        )
        quaternions, translation = quaternions.copy(), translation.copy()
        contacts = np.minimum(np.maximum(contacts, 0.0), 1.0)
        for dancer in {*np.flatnonzero(~fit).tolist(), *self._coasts}:
            coast = self._coasts.get(dancer)
            if fit[dancer]:
                pose = Pose(quaternions[dancer], translation[dancer], contacts[dancer])
                mixed = coast.hand_over(pose, dt) if coast is not None else None
                if mixed is None:
                    self._coasts.pop(dancer, None)
                    continue
            else:
                if coast is None or coast.handing_over:
                    before, last = (
                        Pose(q[dancer], t[dancer], c[dancer])
                        for q, t, c in (self._before, (self._quaternions, self._translation, self._contacts))
                    )
                    coast = self._coasts[dancer] = Coast(before, last, self._interval_s, self._feet.lowest_m(dancer))
                mixed = coast.carry(dt)
            quaternions[dancer], translation[dancer] = mixed.quaternions, mixed.translation_m
            contacts[dancer] = mixed.contacts
        return quaternions, translation, contacts, ~fit

    def _keep_on_stage(self, translation: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Bring roots back into their stages, smoothly; also tell whose were beyond the edge."""
        distance = np.hypot(translation[:, 0], translation[:, 2])
        margin = self._margin_m
        beyond = distance - (self._radius_m - margin)
        kept_y = np.clip(translation[:, 1], _LOWEST_ROOT_M, _HIGHEST_ROOT_M)
        off = (distance > self._radius_m) | (kept_y != translation[:, 1])
        over = beyond > 0.0
        if over.any():
            share = (self._radius_m - margin * np.exp(-beyond[over] / margin)) / distance[over]
            translation[over, 0] *= share
            translation[over, 2] *= share
        translation[:, 1] = kept_y
        return translation, off
