"""Kinetic features: how much each joint moves, and how abruptly (FID_k and Div_k are taken in this space)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CLIP_S = 4.0
"""Length of the windows that are compared (Huang et al. 2021: a minute cut into fifteen 4-second clips)."""


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


def clip_starts(frames: int, rate_hz: float, hop_s: float = 2.0) -> range:
    """Return the first frames of the 4-second windows, `hop_s` apart, of a motion of so many frames."""
    return range(0, frames - round(CLIP_S * rate_hz) + 1, round(hop_s * rate_hz))


def clip_features(positions: ArrayLike, rate_hz: float, hop_s: float = 2.0) -> Floats:
    """Return the kinetic features (n, 72) of 4-second windows, `hop_s` apart."""
    p = np.asarray(positions, np.float64)
    size = round(CLIP_S * rate_hz)
    return np.array([kinetic_features(p[s : s + size], rate_hz) for s in clip_starts(len(p), rate_hz, hop_s)])
