"""The one-euro filter: calm when slow, quick when fast."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.types import NS_PER_S

Array = NDArray[np.float64]


class OneEuroFilter:
    """Smooths points at any frame rate (Casiez, Roussel and Vogel 2012, "1 € Filter", CHI).

    A low-pass whose cutoff rises with the speed of what it smooths. Here one speed is taken for each point, so that a
    moving hand is followed in all its directions at once. Deterministic.

    Args:
        min_cutoff_hz: cutoff at rest; 0: no smoothing at all.
        beta: by how many Hz the cutoff rises per unit of speed per second.
        derivative_cutoff_hz: of the speed estimate.
    """

    def __init__(self, min_cutoff_hz: float, beta: float, derivative_cutoff_hz: float = 2.0) -> None:
        self._min_cutoff_hz, self._beta, self._derivative_hz = min_cutoff_hz, beta, derivative_cutoff_hz
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next value is returned as it is."""
        self._value: Array | None = None
        self._speed: Array | None = None
        self._time_ns = 0

    def process(self, points: Array, time_ns: int) -> Array:
        """Return points (n, d) smoothed; a time that does not advance returns the last result."""
        if self._value is None or self._speed is None or self._min_cutoff_hz <= 0.0:
            self._value, self._speed, self._time_ns = points.copy(), np.zeros_like(points), time_ns
            return self._value.copy()
        dt = (time_ns - self._time_ns) / NS_PER_S
        if dt <= 0.0:
            return self._value.copy()
        self._time_ns = time_ns
        # The speed is of the raw value against the smoothed one before, as in the authors' own code.
        self._speed += _share(self._derivative_hz, dt) * ((points - self._value) / dt - self._speed)
        cutoff = self._min_cutoff_hz + self._beta * np.sqrt(np.vecdot(self._speed, self._speed))[:, None]
        self._value += _share(cutoff, dt) * (points - self._value)
        return self._value.copy()


def _share(cutoff_hz: float | Array, dt: float) -> Array:
    """Return how much of a step a first-order low-pass takes in `dt` [s]."""
    rate = 2.0 * math.pi * np.asarray(cutoff_hz, np.float64) * dt
    share: Array = rate / (1.0 + rate)
    return share
