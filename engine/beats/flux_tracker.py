"""A beat tracker with nothing learnt: spectral flux in place of a network, the same filter behind it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.beats.activation_tracker import Activation, ActivationTracker
from engine.beats.beat_filter import FilterSettings
from engine.beats.spectrum import HOPS_PER_S, BandSpectrum

_LAG_HOPS = 3
"""An attack is the rise over 30 ms: shorter and slow strings are lost, longer and two attacks merge."""
_FORGET = float(np.exp(-1 / (5.0 * HOPS_PER_S)))
"""The reference for what counts as an accent forgets in 5 s: some bars."""
_SHORT_BANDS = 24
_LOW_WEIGHT = 2.0
"""The lowest third of the bands counts double: bass and bass drum carry the beat more often than hi-hats."""
_CHANCE = 0.35
"""Chance that the strongest accents around are beats; the rest falls off with the square of their strength."""


class FluxActivation:
    """Half-wave rectified rise of compressed bands, relative to the strongest accents of the last seconds."""

    delay_ns = 20_000_000
    tempo_classes_bpm: NDArray[np.float64] | None = None
    hears_bars = False

    def __init__(self) -> None:
        weights = np.ones(BandSpectrum.count, np.float32)
        weights[: _SHORT_BANDS // 3] = _LOW_WEIGHT
        weights[_SHORT_BANDS:] = 0.5
        self._weights = weights / weights.sum()
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._past = np.zeros((_LAG_HOPS, BandSpectrum.count), np.float32)
        self._hop = 0
        self._peak = 0.05
        self._mean = 0.0

    def process(self, bands: NDArray[np.float32]) -> Activation:
        """Take one hop's bands (88,)."""
        slot = self._hop % _LAG_HOPS
        self._hop += 1
        rise = bands - self._past[slot]
        self._past[slot] = bands
        flux = float(self._weights @ np.maximum(rise, 0.0))
        self._mean += 0.01 * (flux - self._mean)
        accent = max(0.0, flux - 1.3 * self._mean)
        self._peak = max(0.05, self._peak * _FORGET, min(accent, 2.0 * self._peak))
        return Activation(0.01 + _CHANCE * min(1.0, accent / self._peak) ** 1.5)


class FluxTracker(ActivationTracker):
    """The engine's own tracker: 'flux'."""

    def __init__(self) -> None:
        super().__init__(FluxActivation(), FilterSettings(tempo_rigidity=80.0))
