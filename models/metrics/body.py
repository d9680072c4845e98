"""What a body does on a floor: standing, sliding, floating, freezing, and whether its pushes are physical."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.body.skeleton import contact_points, forward_kinematics

Floats = NDArray[np.float64]

# A sole standing still by capture: the noise of fitted feet is about 0.1 m/s, a gliding ballroom step is above 0.3.
_STANDING_HEIGHT_M = 0.06
_STANDING_SPEED_M_S = 0.2
_SLIDING_SPEED_M_S = 0.3
_FROZEN_SPEED_M_S = 0.05
"""Mean joint speed: a dancer who holds a pose still breathes and sways at about 0.1 m/s."""
_PFC_RATE_HZ = 30.0
"""EDGE takes displacements per frame of 30 a second, not speeds."""
_ANKLES_AND_BALLS = ((7, 10), (8, 11))


def soles(rotations: ArrayLike, translation: ArrayLike) -> Floats:
    """Return the contact points (T, 4, 3) [m] of a motion: left heel, left toe, right heel, right toe."""
    positions, world = forward_kinematics(rotations, translation)
    return np.asarray(contact_points(positions, world), np.float64)


def planted_share(soles_m: ArrayLike, rate_hz: float) -> float:
    """Return the share of frames and feet with a sole point below 6 cm and slower than 0.2 m/s along the floor."""
    low, speed = _low_and_speed(soles_m, rate_hz)
    standing = (low & (speed < _STANDING_SPEED_M_S)).reshape(len(low), 2, 2).any(axis=2)
    return float(standing.mean())


def foot_sliding(soles_m: ArrayLike, contacts: ArrayLike, rate_hz: float) -> float:
    """Return the share of contacts (T, 4) (over one half) whose sole point moves faster than 0.3 m/s."""
    _, speed = _low_and_speed(soles_m, rate_hz)
    held = np.asarray(contacts) > 0.5
    return float((speed[held] > _SLIDING_SPEED_M_S).mean()) if held.any() else 0.0


def both_feet_off_share(soles_m: ArrayLike, height_m: float = 0.10) -> float:
    """Return the share of frames whose lowest sole point is higher than `height_m`: floating."""
    return float((np.asarray(soles_m)[..., 1].min(axis=1) > height_m).mean())


def speed_ratio(positions: ArrayLike, rate_hz: float) -> float:
    """Return the mean joint speed of the slowest minute over that of the first: 1 holds, 0 froze."""
    speed = _joint_speed(positions, rate_hz)
    minute = round(60.0 * rate_hz)
    minutes = [float(speed[s : s + minute].mean()) for s in range(0, len(speed) - minute // 2, minute)]
    return min(minutes) / max(minutes[0], 1e-9)


def frozen_share(positions: ArrayLike, rate_hz: float) -> float:
    """Return the share of seconds whose mean joint speed is below 5 cm/s."""
    speed = _joint_speed(positions, rate_hz)
    second = round(rate_hz)
    seconds = speed[: len(speed) // second * second].reshape(-1, second).mean(axis=1)
    return float((seconds < _FROZEN_SPEED_M_S).mean()) if len(seconds) else 0.0


def physical_foot_contact(positions: ArrayLike, rate_hz: float) -> float:
    """Return the physical foot contact score of a motion (T, 24, 3) (PFC; Tseng et al. 2023, "EDGE", section 4.2).

    A body accelerates only by a foot that stands: the mean over frames (30 a second) of left foot's displacement times
    right foot's (horizontal; the smaller of ankle and ball) times the root's acceleration (its downward part left
    out) over the largest of the motion, times 10^4. Lower is better; a body that flies by on no foot is high.
    """
    step = max(1, round(rate_hz / _PFC_RATE_HZ))
    p = np.asarray(positions, np.float64)[::step]
    acceleration = np.diff(p[:, 0], n=2, axis=0)
    acceleration[:, 1] = np.maximum(acceleration[:, 1], 0.0)
    push = np.linalg.norm(acceleration, axis=-1)
    push /= max(float(push.max()), 1e-12)
    moved = np.linalg.norm(np.diff(p[1:][..., [0, 2]], axis=0), axis=-1)
    # Frames of 24 or 25 a second, or every other of 50, are no thirtieth of a second apart.
    moved *= rate_hz / step / _PFC_RATE_HZ
    left, right = (moved[:, list(foot)].min(axis=1) for foot in _ANKLES_AND_BALLS)
    return float(1e4 * (left * right * push).mean())


def _joint_speed(positions: ArrayLike, rate_hz: float) -> Floats:
    p = np.asarray(positions, np.float64)
    return np.asarray(np.linalg.norm(np.diff(p, axis=0), axis=-1).mean(axis=1) * rate_hz)


def _low_and_speed(soles_m: ArrayLike, rate_hz: float) -> tuple[NDArray[np.bool_], Floats]:
    points = np.asarray(soles_m, np.float64)
    speed = np.linalg.norm(np.gradient(points[..., [0, 2]], 1.0 / rate_hz, axis=0), axis=-1)
    return points[..., 1] < _STANDING_HEIGHT_M, speed
