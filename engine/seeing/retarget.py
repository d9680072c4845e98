"""From landmarks to the pose of the standard skeleton, frame by frame, whatever is hidden."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.body import pose_algebra as algebra
from engine.body import vectors
from engine.body.joint_limits import limit_joints
from engine.body.legs import MOVED_JOINTS
from engine.body.skeleton import (
    MIRROR_CONTACTS,
    contact_points,
    forward_kinematics_matrices,
    matrix_to_quaternion,
    mirror,
    slerp,
)
from engine.dancing.foot_lock import FootLock, FootLockSettings
from engine.dancing.idle import idle_pose
from engine.seeing import landmark_pose as lp
from engine.seeing.calibration import Placement, StageCalibration
from engine.seeing.one_euro import OneEuroFilter
from engine.types import NS_PER_S, PoseFrame, PoseLandmarks

Array = NDArray[np.float64]

_CALMEST_HZ, _QUICKEST_HZ = 0.7, 12.0
"""Cutoff at rest of the landmark filter for smoothing 1 and just above 0; in between it falls geometrically."""
_BETA_HZ_PER_M_S = 7.0
"""A hand at 2 m/s is followed with 14 Hz more: 10 ms late."""
_NOBODY_NS = NS_PER_S // 2
"""Whoever comes back later than this starts afresh, without a glide from where they left."""
_UNSEEN, _SEEN = 0.1, 0.4
"""Visibility at which a landmark is not believed, and at which it fully is. The landmarker gives hidden but guessable
joints 0.2 to 0.9, and its guesses of those are good."""
_BORDER = 0.03
"""A landmark this far outside the picture (a share of it) is a guess, whatever it is called."""
_TRUST_S = 0.4
"""A joint that is seen again is believed within this time, so that nothing jumps."""
_RELAX_S = 1.0
"""What is not seen sinks from its last pose into standing with this time constant."""
_FASTEST_RAD_S = np.full(24, 25.0)
"""Joints turn no faster than this: what does is a flip of the landmarks. Hands and forearms can ..."""
_FASTEST_RAD_S[[0, 1, 2, 3, 6, 9, 12, 15]] = 14.0
_FASTEST_RAD_S[[4, 5, 16, 17]] = 18.0
"""... the trunk (two turns a second), hips and head are slower."""
_ANCHOR_S = 1.0
"""While a foot stands, it tells where the body goes; the camera's idea of the place is approached in this time."""
_AIRBORNE_M = 0.07
"""Feet are seen to a few centimetres; less than this over the floor they are on it."""
_REACH_S = 1.0
_CONTACT_HEIGHT_M, _CONTACT_SPEED_M_S = 0.07, 0.35
"""Half-way from carrying the dancer to not: twice what feet that stand still are seen to do."""
_CONTACT_S = 0.04
_LOCK = FootLockSettings(max_height_m=0.12, max_speed_m_s=2.0, max_lift_m=0.1, max_offset_m=0.2, release_s=0.13)
"""Wider than for a generated dance: that the foot stands is seen in the picture; where it is in depth, is guessed."""

_JOINT_LANDMARKS: dict[int, tuple[int, ...]] = {
    1: (lp.LEFT_HIP, lp.LEFT_KNEE),
    2: (lp.RIGHT_HIP, lp.RIGHT_KNEE),
    4: (lp.LEFT_HIP, lp.LEFT_KNEE, lp.LEFT_ANKLE),
    5: (lp.RIGHT_HIP, lp.RIGHT_KNEE, lp.RIGHT_ANKLE),
    7: (lp.LEFT_KNEE, lp.LEFT_ANKLE, lp.LEFT_TOE),
    8: (lp.RIGHT_KNEE, lp.RIGHT_ANKLE, lp.RIGHT_TOE),
    12: (lp.LEFT_SHOULDER, lp.RIGHT_SHOULDER, lp.NOSE),
    15: (lp.LEFT_SHOULDER, lp.RIGHT_SHOULDER, lp.NOSE),
    16: (lp.LEFT_SHOULDER, lp.LEFT_ELBOW),
    17: (lp.RIGHT_SHOULDER, lp.RIGHT_ELBOW),
    18: (lp.LEFT_SHOULDER, lp.LEFT_ELBOW, lp.LEFT_WRIST),
    19: (lp.RIGHT_SHOULDER, lp.RIGHT_ELBOW, lp.RIGHT_WRIST),
    20: (lp.LEFT_WRIST, lp.LEFT_INDEX),
    21: (lp.RIGHT_WRIST, lp.RIGHT_INDEX),
}
"""Which landmarks must be seen for a joint's rotation to be believed; the trunk always is while anybody is seen."""


class LandmarkRetargeter:
    """Turns a stream of landmarks into poses of the performer "camera". Pure and deterministic; one per dancer.

    Args:
        smoothing: 0: raw landmarks, 1: very calm (and late).
        mirror: the dancer appears as in a mirror: their left is the figure's right.
    """

    def __init__(self, smoothing: float = 0.5, mirror: bool = False) -> None:
        cutoff = 0.0 if smoothing <= 0.0 else _QUICKEST_HZ * (_CALMEST_HZ / _QUICKEST_HZ) ** smoothing
        self._points = OneEuroFilter(cutoff, _BETA_HZ_PER_M_S)
        self._image = OneEuroFilter(cutoff, 2.0 * _BETA_HZ_PER_M_S)
        self._mirror = mirror
        self._standing = algebra.from_axis_angle(idle_pose(0.0, 0.0).rotations)
        self._calibration = StageCalibration()
        self._lock = FootLock(_LOCK)
        self.reset()

    def reset(self) -> None:
        """Forget everybody, and the calibration."""
        self._calibration.reset()
        self._time_ns: int | None = None
        self._forget_pose()

    @property
    def calibration(self) -> StageCalibration:
        """What was learnt of body, camera and floor."""
        return self._calibration

    def process(self, landmarks: PoseLandmarks) -> PoseFrame | None:
        """Return the pose in a picture, or None if nobody was seen, or it is not numbers or older than the last."""
        if not landmarks.visibility.any() or not landmarks.finite:
            return None
        time_ns = landmarks.time_ns
        if self._time_ns is not None and time_ns <= self._time_ns:
            return None
        if self._time_ns is None or time_ns - self._time_ns > _NOBODY_NS:
            self._forget_pose()
        dt = 0.0 if self._time_ns is None or self._shown is None else (time_ns - self._time_ns) / NS_PER_S
        self._time_ns = time_ns
        trust = _trust(landmarks)
        points = self._points.process(landmarks.positions_m.astype(np.float64), time_ns)
        image = self._image.process(landmarks.image_xy.astype(np.float64), time_ns)
        place = self._calibration.place(points, image, trust, landmarks.aspect, time_ns)
        measured = np.asarray(matrix_to_quaternion(lp.solve_pose(place.points_m)), dtype=np.float64)
        contacts = self._feel(place, trust, dt)
        quaternions = _level_feet(self._believe(measured, trust, dt), contacts)
        quaternions, _ = limit_joints(quaternions)
        quaternions = self._limit_speed(quaternions, dt)
        translation = self._stand(quaternions, place, contacts, dt)
        held = self._lock.apply(quaternions, translation, contacts, dt)
        if held.rotations is not None:
            quaternions = quaternions.copy()
            quaternions[MOVED_JOINTS] = held.rotations
        translation = translation + np.array([0.0, held.rise_m, 0.0])
        return self._frame(time_ns, quaternions, translation, contacts)

    def _forget_pose(self) -> None:
        self._points.reset()
        self._image.reset()
        self._lock.reset()
        self._shown: Array | None = None
        self._memory = self._standing.copy()
        self._belief = np.zeros(24)
        self._contact_level = np.zeros(4)
        self._feet: Array | None = None
        self._root: Array | None = None
        self._relative: Array | None = None
        self._target = np.zeros(2)
        self._reach_m: float | None = None
        self._air_m = 0.0

    def _believe(self, measured: Array, trust: Array, dt: float) -> Array:
        """Return the pose with unseen joints kept, then relaxed; (24, 4)."""
        wanted = np.ones(24)
        for joint, needed in _JOINT_LANDMARKS.items():
            wanted[joint] = min(trust[list(needed)])
        wanted[[10, 11, 22, 23]] = wanted[[7, 8, 20, 21]]
        if self._shown is None:
            self._belief = wanted
            self._memory[0] = measured[0]
        # Out of belief at once, for the pose goes on from where it was; into belief slowly.
        self._belief = np.minimum(wanted, self._belief + (1.0 - math.exp(-dt / _TRUST_S)))
        relaxed = slerp(self._memory, self._standing, (1.0 - self._belief) * (1.0 - math.exp(-dt / _RELAX_S)))
        # Half believed, a joint follows by a quarter of its way in a thirtieth of a second.
        share = self._belief**2
        if self._shown is not None:
            share = 1.0 - (1.0 - share) ** max(30.0 * dt, 1e-3)
        self._memory = np.asarray(slerp(relaxed, measured, share), dtype=np.float64)
        return self._memory

    def _limit_speed(self, quaternions: Array, dt: float) -> Array:
        if self._shown is not None:
            quaternions = _turn_towards(self._shown, quaternions, _FASTEST_RAD_S * dt)
        self._shown = quaternions
        return quaternions

    def _feel(self, place: Placement, trust: Array, dt: float) -> Array:
        """Return how likely each contact point carries the dancer (4,): low, and slow in the picture."""
        if not self._legs_seen(trust):
            # Out of the picture they are shown standing, and what stands carries.
            self._feet, self._contact_level = None, np.ones(4)
            return self._contact_level
        at = place.feet_m
        speed = np.zeros(4)
        if self._feet is not None and dt > 0.0:
            step = (at - self._feet) / dt
            # Depth is guessed, and trembles three times as much as what the picture shows.
            speed = np.hypot(step[:, 0], 0.33 * step[:, 1])
        self._feet = at
        # Unless the body was off the floor a picture ago the lowest foot stands, and the others are as high as they are
        # over it.
        lowest = max(float(place.foot_heights_m.min()), 0.0)
        heights = place.foot_heights_m - (lowest if self._air_m <= 0.0 else min(lowest, _AIRBORNE_M))
        low = _below(heights / _CONTACT_HEIGHT_M, 0.2)
        slow = _below(speed / _CONTACT_SPEED_M_S, 0.25)
        share = 1.0 if dt == 0.0 else 1.0 - math.exp(-dt / _CONTACT_S)
        self._contact_level = self._contact_level + (low * slow - self._contact_level) * share
        return self._contact_level

    @staticmethod
    def _legs_seen(trust: Array) -> bool:
        return float(trust[lp.FOOT_POINTS].max()) > 0.5

    def _stand(self, quaternions: Array, place: Placement, contacts: Array, dt: float) -> Array:
        """Return where the root is (3,): over the floor by its legs, on the floor by its feet and the camera."""
        positions, world = forward_kinematics_matrices(algebra.to_matrix(quaternions), np.zeros(3))
        relative = np.asarray(contact_points(positions, world), dtype=np.float64)
        hips = 0.5 * (positions[1] + positions[2])
        target = place.hips_m - hips[[0, 2]]
        legs_seen = self._feet is not None
        lowest = float(relative[:, 1].min())
        air = self._leap(place, float(hips[1]) - lowest, contacts, dt) if legs_seen else 0.0
        height = air - lowest
        if self._root is None or self._relative is None or dt <= 0.0:
            self._root = np.array([target[0], height, target[1]])
        else:
            held = contacts if legs_seen else np.zeros(4)
            anchor = float(held.max())
            step = target - self._target
            if anchor > 0.05:
                by_feet = -(held @ (relative - self._relative)[:, [0, 2]]) / float(held.sum())
                step = anchor * by_feet + (1.0 - anchor) * step
            ground = self._root[[0, 2]] + step
            ground += (target - ground) * (1.0 - math.exp(-dt / _ANCHOR_S))
            self._root = np.array([ground[0], height, ground[1]])
        self._relative, self._target = relative, target
        return self._root

    def _leap(self, place: Placement, legs_m: float, contacts: Array, dt: float) -> float:
        """Return how far the body is off the floor [m]: by its feet, and by its hips being higher than legs reach."""
        over = place.hips_height_m - legs_m
        if self._reach_m is None:
            self._reach_m = over
        elif contacts.max() > 0.5:
            # What hips and legs disagree by while a foot stands is an error of scale, and is taken off.
            self._reach_m += (over - self._reach_m) * (1.0 - math.exp(-dt / _REACH_S))
        self._air_m = max(0.0, min(float(place.foot_heights_m.min()), over - self._reach_m) - _AIRBORNE_M)
        return self._air_m

    def _frame(self, time_ns: int, quaternions: Array, translation: Array, contacts: Array) -> PoseFrame:
        rotations, root = algebra.to_axis_angle(quaternions), translation
        if self._mirror:
            rotations, root = (np.asarray(part, dtype=np.float64) for part in mirror(rotations, root))
            contacts = contacts[list(MIRROR_CONTACTS)]
        return PoseFrame(
            time_ns,
            time_ns,
            rotations.astype(np.float32),
            root.astype(np.float32),
            contacts.astype(np.float32),
            "camera",
        )


def _below(value: Array, width: float) -> Array:
    """Return a smooth step from 1 to 0 around 1."""
    step: Array = 1.0 / (1.0 + np.exp(np.clip((value - 1.0) / width, -30.0, 30.0)))
    return step


def _level_feet(quaternions: Array, contacts: Array) -> Array:
    """Turn feet that stand on heel and toe level, by as much as they do: their pitch is lost in the view from ahead."""
    shares = np.minimum(contacts[[0, 2]], contacts[[1, 3]])
    if shares.max() < 0.02:
        return quaternions
    level = quaternions.copy()
    for side, chain in enumerate(((0, 1, 4, 7), (0, 2, 5, 8))):
        shin = algebra.multiply(algebra.multiply(level[[chain[0]]], level[[chain[1]]]), level[[chain[2]]])
        foot = algebra.multiply(shin, level[[chain[3]]])
        up = algebra.to_matrix(foot)[0, :, 1]
        turn = np.array([vectors.turn_between((up[0], up[1], up[2]), (0.0, 1.0, 0.0))]) * shares[side]
        level[chain[3]] = algebra.multiply(
            algebra.conjugate(shin), algebra.multiply(algebra.from_axis_angle(turn), foot)
        )[0]
    return level


def _turn_towards(current: Array, target: Array, limits_rad: Array) -> Array:
    """Move unit quaternions (n, 4) towards others, each by at most its own angle, the shorter way."""
    angle = 2.0 * np.arccos(np.clip(np.abs(np.vecdot(current, target)), 0.0, 1.0))
    share = np.minimum(limits_rad / np.maximum(angle, 1e-9), 1.0)
    far = np.flatnonzero(share < 1.0)
    reached = target.copy()
    if far.size:
        reached[far] = slerp(current[far], target[far], share[far])
    return reached


def _trust(landmarks: PoseLandmarks) -> Array:
    """Return how far each landmark is believed (33,): by its visibility, and whether it is in the picture."""
    seen = np.clip((landmarks.visibility.astype(np.float64) - _UNSEEN) / (_SEEN - _UNSEEN), 0.0, 1.0)
    outside = np.maximum(-landmarks.image_xy, landmarks.image_xy - 1.0).max(axis=1).astype(np.float64)
    inside = np.clip(1.0 - outside / _BORDER, 0.0, 1.0)
    both: Array = seen * seen * (3.0 - 2.0 * seen) * inside
    return both
