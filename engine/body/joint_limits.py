"""How far a human joint turns, and a soft limiter that lets no pose beyond it.

Each joint's rotation is split into a twist about its main axis and a swing (q = swing * twist; Dobrowolski 2015,
"Swing-twist decomposition in Clifford algebra"). The main axis is the hinge for knees, elbows, ankles and toes, and
the bone itself elsewhere. The twist has a range; the swing, as a rotation vector, an ellipse with its own radius to
each of the four sides. What lies inside is returned bit for bit.

The ranges are the normal ranges of motion of Norkin & White, "Measurement of Joint Motion" (5th ed., tables of
ch. 4 to 13), widened in two ways. Dancers' hips, shoulders, ankles and spines go further (Hamilton et al. 1992; 180
degrees of leg elevation is common), and SMPL fits are not anatomy: the shoulder girdle's share sits partly in the
collar, partly in the shoulder, the tibia's rotation in the knee, and the spine has three joints where we have
seventeen. They are therefore generous: the aim is that no dancer's pose is touched and no inhuman one is shown. Of 47
minutes of captured waltz, rumba, cha-cha and tango 0.3 % of the frames are touched (the head left aside, of which two
markers do not tell the twist), most of them glitches of the fit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.body import pose_algebra as algebra
from engine.body.pose_algebra import Array
from engine.body.skeleton import JOINT_COUNT, JOINT_NAMES, MIRROR_JOINTS

Range = tuple[float, float]

# Main axis, then the range about x, y and z [degrees], of the left side and the spine; the right side is mirrored.
# With the rest pose (T pose, facing +Z): x+ nods and bends forward, flexes the knee, points the foot; y+ turns to
# the left; z+ leans to the right, lifts the left arm, opens the left leg.
_RANGES_DEG: dict[str, tuple[str, Range, Range, Range]] = {
    "left_hip": ("y", (-160, 75), (-90, 90), (-70, 120)),
    "left_knee": ("x", (-16, 165), (-45, 45), (-35, 35)),
    "left_ankle": ("x", (-60, 90), (-70, 70), (-70, 70)),
    "left_foot": ("x", (-90, 70), (-45, 45), (-45, 45)),
    "spine1": ("y", (-50, 80), (-50, 50), (-50, 50)),
    "spine2": ("y", (-45, 60), (-50, 50), (-45, 45)),
    "spine3": ("y", (-45, 60), (-50, 50), (-45, 45)),
    "neck": ("y", (-65, 65), (-75, 75), (-55, 55)),
    "head": ("y", (-65, 65), (-75, 75), (-55, 55)),
    "left_collar": ("x", (-45, 45), (-50, 50), (-45, 60)),
    "left_shoulder": ("x", (-130, 130), (-150, 90), (-125, 125)),
    "left_elbow": ("y", (-120, 120), (-160, 10), (-75, 75)),
    "left_wrist": ("x", (-90, 90), (-60, 60), (-95, 95)),
    "left_hand": ("x", (-60, 60), (-60, 60), (-100, 100)),
}
_TWIST_MARGIN_RAD = np.radians(3.0)
"""Beyond a range the twist is squeezed into this much more, so that a limit is never a wall."""
_SWING_MARGIN = 0.06
"""The same for the swing, as a share of the ellipse's radius: 5 degrees at a radius of 90."""


def _tables() -> tuple[NDArray[np.intp], Array, Array]:
    """Return component order (24, 3) (main axis first, right-handed) and lowest and highest values (24, 3) [rad]."""
    order = np.tile(np.arange(3), (JOINT_COUNT, 1))
    low, high = np.full((JOINT_COUNT, 3), -1e9), np.full((JOINT_COUNT, 3), 1e9)
    for name, (axis, *ranges) in _RANGES_DEG.items():
        joint = JOINT_NAMES.index(name)
        order[joint] = np.roll(np.arange(3), -"xyz".index(axis))
        low[joint], high[joint] = np.radians(ranges).T[:, order[joint]]
        other = int(MIRROR_JOINTS[joint])
        if other != joint:
            # A reflection over x = 0 keeps the part about x and reverses the parts about y and z.
            order[other] = order[joint]
            along_x = order[joint] == 0
            low[other] = np.where(along_x, low[joint], -high[joint])
            high[other] = np.where(along_x, high[joint], -low[joint])
    return order, low, high


_ORDER, _LOW, _HIGH = _tables()
# Where the reordered components (24, 3) lie in a flattened (24, 4) quaternion array.
_TAKE = (np.arange(JOINT_COUNT)[:, None] * 4 + _ORDER).astype(np.intp)
_TWIST_LOW, _TWIST_HIGH = _LOW[:, 0].copy(), _HIGH[:, 0].copy()
_INVERSE_SWING = 1.0 / np.stack([_LOW[:, 1:], _HIGH[:, 1:]])
_TINY = 1e-30


def limit_joints(quaternions: Array) -> tuple[Array, NDArray[np.intp]]:
    """Bring joints back into human range.

    Continuous, and smooth where the limit begins; a twist that passes half a turn flips from one end of its range to
    the other, which the speed limit that follows makes visible as a fast turn instead of a jump.

    Args:
        quaternions: (24, 4) unit, relative to the parent. The root is free.

    Returns:
        (24, 4), and the indices of the joints that were changed; with none the input itself.
    """
    twist, direction, swing_angle, excess = _split(quaternions)
    changed = np.flatnonzero(_beyond(twist, excess))
    if changed.size == 0:
        return quaternions, changed
    limited = quaternions.copy()
    limited[changed] = _rebuild(changed, twist[changed], direction[changed], swing_angle[changed], excess[changed])
    return limited, changed


def beyond_limits(quaternions: Array) -> NDArray[np.bool_]:
    """Return which of N poses (N, 24, 4) have a joint that `limit_joints` would change."""
    twist, _, _, excess = _split(quaternions)
    return np.asarray(_beyond(twist, excess).any(axis=-1))


def _beyond(twist: Array, excess: Array) -> NDArray[np.bool_]:
    return np.asarray((excess > 1.0) | (twist < _TWIST_LOW) | (twist > _TWIST_HIGH))


def _split(quaternions: Array) -> tuple[Array, Array, Array, Array]:
    """Return the twist, the swing's direction and angle, and how much of its range it takes, of poses (..., 24, 4)."""
    # q and -q are the same rotation; with cosine >= 0 the twist comes out in [-pi, pi].
    positive = quaternions * np.copysign(1.0, quaternions[..., 3:])
    parts = positive.reshape(*quaternions.shape[:-2], -1).take(_TAKE, axis=-1)
    cosine, main, side = positive[..., 3], parts[..., 0], parts[..., 1:]
    half_twist = np.arctan2(main, cosine)
    # |swing vector| = 2 atan(|side| / |(cosine, main)|); its direction is `side` turned back by half the twist.
    side_length = np.sqrt(np.vecdot(side, side))
    swing_angle = 2.0 * np.arctan2(side_length, np.sqrt(cosine * cosine + main * main))
    c, s = np.cos(half_twist), np.sin(half_twist)
    direction = np.empty((*quaternions.shape[:-1], 2))
    direction[..., 0] = side[..., 0] * c - side[..., 1] * s
    direction[..., 1] = side[..., 1] * c + side[..., 0] * s
    direction /= np.maximum(side_length, _TINY)[..., None]
    share = direction * np.where(direction < 0.0, _INVERSE_SWING[0], _INVERSE_SWING[1])
    return 2.0 * half_twist, direction, swing_angle, swing_angle * np.sqrt(np.vecdot(share, share))


def _rebuild(joints: NDArray[np.intp], twist: Array, direction: Array, angle: Array, excess: Array) -> Array:
    low, high, margin = _TWIST_LOW[joints], _TWIST_HIGH[joints], _TWIST_MARGIN_RAD
    # A full turn away lies the same twist: a range that is not centred is left by the nearer end.
    centre = 0.5 * (np.maximum(low, -np.pi) + np.minimum(high, np.pi))
    twist = twist - 2.0 * np.pi * np.rint((twist - centre) / (2.0 * np.pi))
    over, under = np.maximum(twist - high, 0.0), np.maximum(low - twist, 0.0)
    twist = np.clip(twist, low, high) + margin * (np.exp(-under / margin) - np.exp(-over / margin))
    beyond = np.maximum(excess - 1.0, 0.0)
    kept = np.minimum(excess, 1.0) + _SWING_MARGIN * (1.0 - np.exp(-beyond / _SWING_MARGIN))
    half_swing = 0.5 * angle * kept / np.maximum(excess, _TINY)
    swing, turn = np.zeros((len(joints), 4)), np.zeros((len(joints), 4))
    rows = np.arange(len(joints))[:, None]
    swing[rows, _ORDER[joints][:, 1:]] = direction * np.sin(half_swing)[:, None]
    swing[:, 3] = np.cos(half_swing)
    turn[rows[:, 0], _ORDER[joints][:, 0]] = np.sin(0.5 * twist)
    turn[:, 3] = np.cos(0.5 * twist)
    return algebra.multiply(swing, turn)
