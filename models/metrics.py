"""Metrics of dance, each with its source and its exact definition.

Motions are joint positions (T, 24, 3) [m], y over the floor, at a stated frame rate; beats are times in seconds.
Rates are given in seconds and hertz, never in frames, so that motions of different rates compare.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter1d

from engine.skeleton import contact_points, forward_kinematics

Floats = NDArray[np.float64]

CLIP_S = 4.0
"""Length of the windows that are compared (Huang et al. 2021: a minute cut into fifteen 4-second clips)."""
_FRECHET_EPSILON = 1e-5
_SPEED_SMOOTHING_S = 0.083
_BEAT_SIGMA_S = 0.05
# A sole standing still by capture: the noise of fitted feet is about 0.1 m/s, a gliding ballroom step is above 0.3.
_STANDING_HEIGHT_M = 0.06
_STANDING_SPEED_M_S = 0.2
_SLIDING_SPEED_M_S = 0.3


def kinetic_features(positions: ArrayLike, rate_hz: float) -> Floats:
    """Return the kinetic features (72,) of a motion (T, 24, 3).

    Per joint: mean squared horizontal speed, mean squared vertical speed, and mean absolute acceleration (energy
    expenditure) (Onuma et al. 2008, as in fairmotion), after the first root position is subtracted. Speeds and
    accelerations are central differences over 1/30 s each side, so that the frame rate does not matter.
    """
    p = np.asarray(positions, np.float64)
    p = p - p[0, 0]
    lag = max(1, round(rate_hz / 30.0))
    step_s = lag / rate_hz
    velocity = (p[2 * lag :] - p[: -2 * lag]) / (2.0 * step_s)
    acceleration = (p[2 * lag :] - 2.0 * p[lag:-lag] + p[: -2 * lag]) / step_s**2
    horizontal = (velocity[:, :, 0] ** 2 + velocity[:, :, 2] ** 2).mean(axis=0)
    vertical = (velocity[:, :, 1] ** 2).mean(axis=0)
    expenditure = np.linalg.norm(acceleration, axis=-1).mean(axis=0)
    return np.concatenate([horizontal, vertical, expenditure])


def clip_features(positions: ArrayLike, rate_hz: float, hop_s: float = 2.0) -> Floats:
    """Return the kinetic features (n, 72) of 4-second windows, `hop_s` apart."""
    p = np.asarray(positions, np.float64)
    size, hop = round(CLIP_S * rate_hz), round(hop_s * rate_hz)
    return np.array([kinetic_features(p[s : s + size], rate_hz) for s in range(0, len(p) - size + 1, hop)])


def frechet_distance(features: ArrayLike, real: ArrayLike) -> float:
    """Return the Fréchet distance of two sets (n, d), both z-scored by the real one (Heusel et al. 2017, eq. 6)."""
    real = np.asarray(real, np.float64)
    mean, deviation = real.mean(axis=0), np.maximum(real.std(axis=0), 1e-9)
    a, b = (np.asarray(features, np.float64) - mean) / deviation, (real - mean) / deviation
    cov_a, cov_b = (np.cov(x, rowvar=False) + _FRECHET_EPSILON * np.eye(x.shape[1]) for x in (a, b))
    root = np.real(sqrtm(cov_a @ cov_b))
    return float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(cov_a + cov_b - 2.0 * root))


def diversity(features: ArrayLike, real: ArrayLike) -> float:
    """Return the mean pairwise distance of a set (n, d), z-scored by the real one; the target is the real set's."""
    real = np.asarray(real, np.float64)
    a = (np.asarray(features, np.float64) - real.mean(axis=0)) / np.maximum(real.std(axis=0), 1e-9)
    squares = (a**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * a @ a.T, 0.0))
    n = len(a)
    return float(distances.sum() / (n * (n - 1))) if n > 1 else 0.0


def foot_speed(positions: ArrayLike, rate_hz: float) -> Floats:
    """Return the mean speed (T,) [m/s] of both feet (ankle and ball), smoothed over 83 ms."""
    feet = np.asarray(positions, np.float64)[:, [7, 8, 10, 11]]
    speed = np.linalg.norm(np.gradient(feet, 1.0 / rate_hz, axis=0), axis=-1).mean(axis=1)
    return np.asarray(gaussian_filter1d(speed, _SPEED_SMOOTHING_S * rate_hz))


def foot_beats(positions: ArrayLike, rate_hz: float) -> Floats:
    """Return the times [s] of the minima of foot speed: where steps land."""
    speed = foot_speed(positions, rate_hz)
    middle = speed[1:-1]
    return np.asarray((np.flatnonzero((middle < speed[:-2]) & (middle <= speed[2:])) + 1) / rate_hz)


def beat_alignment(kinematic_s: ArrayLike, beats_s: ArrayLike, sigma_s: float = _BEAT_SIGMA_S) -> float:
    """Return the mean over kinematic beats of exp(-d^2 / 2 sigma^2), d to the nearest beat (Li et al. 2021, eq. 8).

    Never to be read without `alignment_by_chance`.
    """
    kinematic, beats = np.asarray(kinematic_s, np.float64), np.sort(np.asarray(beats_s, np.float64))
    if len(kinematic) == 0 or len(beats) == 0:
        return 0.0
    after = np.searchsorted(beats, kinematic)
    to_next = np.abs(beats[np.minimum(after, len(beats) - 1)] - kinematic)
    near = np.minimum(to_next, np.abs(kinematic - beats[np.maximum(after - 1, 0)]))
    return float(np.exp(-0.5 * (near / sigma_s) ** 2).mean())


def alignment_by_chance(kinematic_s: ArrayLike, beats_s: ArrayLike, shifts: int = 64) -> float:
    """Return the mean alignment over shifts of the beats by even fractions of a beat: what no relation would give."""
    beats = np.asarray(beats_s, np.float64)
    period = float(np.median(np.diff(beats)))
    return float(np.mean([beat_alignment(kinematic_s, beats + period * k / shifts) for k in range(shifts)]))


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
    p = np.asarray(positions, np.float64)
    speed = np.linalg.norm(np.diff(p, axis=0), axis=-1).mean(axis=1) * rate_hz
    minute = round(60.0 * rate_hz)
    minutes = [float(speed[s : s + minute].mean()) for s in range(0, len(speed) - minute // 2, minute)]
    return min(minutes) / max(minutes[0], 1e-9)


def within_diversity(dances: Sequence[ArrayLike], real: ArrayLike) -> float:
    """Return the mean over dances of the diversity of each dance's own windows (n, 72)."""
    return float(np.mean([diversity(features, real) for features in dances]))


def _low_and_speed(soles_m: ArrayLike, rate_hz: float) -> tuple[NDArray[np.bool_], Floats]:
    points = np.asarray(soles_m, np.float64)
    speed = np.linalg.norm(np.gradient(points[..., [0, 2]], 1.0 / rate_hz, axis=0), axis=-1)
    return points[..., 1] < _STANDING_HEIGHT_M, speed
