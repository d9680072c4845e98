"""Standing on the stage, alive: a small sway on the beat with both feet planted.

The start of every dance, its rest while the music is silent, and what is left when a model is lost.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from engine.body import pose_algebra as algebra
from engine.body.legs import ANKLES, HIPS, KNEES, LEG_M, MOVED_JOINTS, place_legs, reach
from engine.body.pose_algebra import Array
from engine.body.skeleton import CONTACT_OFFSETS_M, JOINT_COUNT, JOINT_NAMES, REST_OFFSETS_M

SWAY_BEATS = 4.0
"""From left to right and back: the weight arrives on each second beat."""
_BREATH_BEATS = 8.0


class IdlePose(NamedTuple):
    """A pose of the sway, around the origin, facing +Z.

    Attributes:
        rotations: (24, 3) axis-angle [rad].
        translation_m: (3,) root joint.
        contacts: (4,), all 1.
    """

    rotations: Array
    translation_m: Array
    contacts: Array


def _standing() -> Array:
    """Return the still pose (24, 3) [rad]: arms at the sides, elbows and knees easy."""
    pose = np.zeros((JOINT_COUNT, 3))
    for name, degrees in {
        "left_collar": (0.0, 0.0, -4.0),
        "left_shoulder": (12.0, -6.0, -73.0),
        "left_elbow": (0.0, -20.0, 0.0),
        "left_wrist": (0.0, -4.0, -4.0),
        "left_hip": (-6.0, 8.0, 3.0),
        "left_knee": (12.0, 0.0, 0.0),
        "spine1": (2.0, 0.0, 0.0),
        "spine3": (-2.0, 0.0, 0.0),
        "neck": (4.0, 0.0, 0.0),
        "head": (-3.0, 0.0, 0.0),
    }.items():
        pose[JOINT_NAMES.index(name)] = degrees
        if name.startswith("left"):
            x, y, z = degrees
            pose[JOINT_NAMES.index(name.replace("left", "right"))] = (x, -y, -z)
    return np.radians(pose)


_STANDING = _standing()
_ROOT, _SPINE1, _SPINE2, _SPINE3, _NECK, _HEAD = (
    JOINT_NAMES.index(name) for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "head")
)
_SHOULDERS, _ELBOWS = [16, 17], [18, 19]

_FOOT_YAW = np.radians([10.0, -10.0])
"""Feet turned out a little, as people stand."""
_FEET: Array = algebra.from_axis_angle(np.stack([np.zeros(2), _FOOT_YAW, np.zeros(2)], axis=1))
# A foot that is only turned about Y is flat when its ankle is as high as the heel point is below it. The root stands
# over the middle of the feet, between ankle and toe.
_ANKLE_M: Array = np.stack([[0.11, -0.11], -CONTACT_OFFSETS_M[[0, 2], 1], [-0.055, -0.055]], axis=1)
_STANDING_M = float(_ANKLE_M[0, 1] - REST_OFFSETS_M[HIPS[0], 1] + 0.985 * LEG_M[0])
"""Root height with knees bent by 20 degrees."""


def idle_pose(beat: float, energy: float) -> IdlePose:
    """Return the sway at a beat; it repeats every eight beats.

    Args:
        beat: beat number, fractional.
        energy: 0 (standing, breathing) to 1 (a clear groove).
    """
    energy = min(max(energy, 0.0), 1.0)
    side = math.sin(2.0 * math.pi * beat / SWAY_BEATS)
    # A little later than the hips, the shoulders and arms follow.
    late = math.sin(2.0 * math.pi * (beat - 0.35) / SWAY_BEATS)
    # The knees give on the beat and are longest half-way between.
    bounce = 0.5 + 0.5 * math.cos(2.0 * math.pi * beat)
    breath = math.sin(2.0 * math.pi * beat / _BREATH_BEATS)
    lean, groove = 0.4 + 0.6 * energy, energy

    translation = np.array(
        [0.038 * lean * side, _STANDING_M - 0.028 * groove * bounce - 0.006 * lean * side * side, -0.004 * breath]
    )
    pose = _STANDING.copy()
    degree = math.radians(1.0)
    # The hip over the standing leg rises, the spine bends back over it, and the head stays level.
    pose[_ROOT] += np.array([1.0 * groove * bounce, 4.0 * lean * late, 3.0 * lean * side]) * degree
    pose[_SPINE1] += np.array([0.4 * breath, -1.5 * lean * late, -2.5 * lean * side]) * degree
    pose[_SPINE2] += np.array([1.0 * groove * bounce - 0.5 * breath, -1.5 * lean * late, -2.0 * lean * side]) * degree
    pose[_SPINE3] += np.array([-1.2 * breath, -2.5 * lean * late, 0.5 * lean * late]) * degree
    pose[_NECK] += np.array([2.5 * groove * bounce + 0.8 * breath, 0.5 * lean * late, 0.5 * lean * side]) * degree
    pose[_HEAD] += np.array([3.0 * groove * bounce, 1.0 * lean * late, 0.5 * lean * side]) * degree
    pose[_SHOULDERS] += (
        np.array([[4.0 * lean * late, 0.0, 1.5 * breath], [-4.0 * lean * late, 0.0, -1.5 * breath]]) * degree
    )
    pose[_ELBOWS, 1] += np.array([-1.0, 1.0]) * (6.0 * groove * bounce + 4.0 * lean * late * np.array([1, -1])) * degree
    return IdlePose(_plant(pose, translation), translation, np.ones(4))


def _plant(pose: Array, translation: Array) -> Array:
    """Return the pose with the legs turned so that both feet stand where they always stand."""
    quaternions = algebra.from_axis_angle(pose)
    feet = algebra.multiply(
        quaternions[[_ROOT, _ROOT]],
        algebra.multiply(quaternions[HIPS], algebra.multiply(quaternions[KNEES], quaternions[ANKLES])),
    )
    legs = place_legs(quaternions, translation)
    turns = algebra.multiply(_FEET, algebra.conjugate(feet)).tolist()
    rotations, _ = reach(quaternions, legs, legs.hip.tolist(), _ANKLE_M.tolist(), turns, exact=True)
    planted = pose.copy()
    planted[MOVED_JOINTS] = algebra.to_axis_angle(rotations)
    return planted
