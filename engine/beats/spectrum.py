"""Level-robust band magnitudes of 10 ms hops: what every beat activation of the house listens to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 48_000
HOP_SAMPLES = 480
HOPS_PER_S = 100

_SHORT = 1024
"""Samples of the short window (21 ms): sharp in time, for drums and attacks."""
_LONG = 4096
"""Samples of the long window (85 ms): sharp in pitch, for changes of chord and bass."""
_SHORT_BANDS = 24
_LONG_BANDS = 64
_LOG_GAIN = 200.0
"""Bands 46 dB below the running loudness still make log(1 + g x) / log(1 + g) about 0.13: visible, not dominant."""
_FLOOR = 10 ** (-70 / 20)
"""The running loudness [full scale] never falls below -70 dBFS, so that a silent room is not blown up into music."""
_RELEASE = float(np.exp(-1 / (6.0 * HOPS_PER_S)))
"""The running loudness forgets in 6 s: slower than a bar, faster than a change of song."""
_ABSURD = 8.0
"""No sound card says more than this, full scale being 1."""


def _triangles(edges_hz: NDArray[np.float64], window: int, bins: int) -> NDArray[np.float32]:
    """Return (bins, len(edges) - 2) triangular filters of unit sum, each at least one bin wide."""
    freqs = np.arange(bins) * SAMPLE_RATE_HZ / window
    low, middle, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    weights = np.clip(np.minimum((freqs - low) / (middle - low), (high - freqs) / (high - middle)), 0, None)
    nearest = np.abs(freqs - middle).argmin(axis=1)
    narrow = weights.sum(axis=1) < 1.0
    weights[narrow] = 0.0
    weights[narrow, nearest[narrow]] = 1.0
    return np.ascontiguousarray((weights / weights.sum(axis=1, keepdims=True)).T, dtype=np.float32)


class BandSpectrum:
    """Turns hops of 480 samples at 48 kHz into 88 compressed band magnitudes, causally.

    24 bands from a 21 ms window (40 Hz to 16 kHz), then 64 from an 85 ms window (55 Hz to 4.2 kHz, ten an octave).
    Each is log(1 + 200 m / L), where L follows the loudness quickly up and slowly down; a change of gain by the desk
    does not change the result once L has settled.

    Attributes:
        count: number of bands.
        level: RMS of the newest 21 ms [full scale].
    """

    count = _SHORT_BANDS + _LONG_BANDS

    def __init__(self) -> None:
        self._short_window = (np.hanning(_SHORT) * 4 / _SHORT).astype(np.float32)
        self._long_window = (np.hanning(_LONG) * 4 / _LONG).astype(np.float32)
        edges = np.geomspace(40.0, 16_000.0, _SHORT_BANDS + 2)
        self._short_filters = _triangles(edges, _SHORT, _SHORT // 2 + 1)
        edges = np.geomspace(55.0, 4_200.0, _LONG_BANDS + 2)
        self._long_bins = int(np.ceil(edges[-1] * _LONG / SAMPLE_RATE_HZ)) + 1
        self._long_filters = _triangles(edges, _LONG, self._long_bins)
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._ring = np.zeros(_LONG, np.float32)
        self._loudness = _FLOOR
        self.level = 0.0

    def process(self, hop: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take one hop (480,) and return (88,) float32; samples that are not finite count as silence."""
        ring = self._ring
        ring[:-HOP_SAMPLES] = ring[HOP_SAMPLES:]
        ring[-HOP_SAMPLES:] = hop
        newest = ring[-HOP_SAMPLES:]
        if not abs(float(newest.max())) + abs(float(newest.min())) < _ABSURD:  # also true of what is not a number
            np.nan_to_num(newest, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            np.clip(newest, -_ABSURD, _ABSURD, out=newest)
        bands, level = self._bands(ring)
        self.level = float(level)
        self._loudness = max(_FLOOR, 0.5 * self.level, self._followed(self._loudness, self.level))
        bands *= _LOG_GAIN / self._loudness
        result: NDArray[np.float32] = np.log1p(bands, out=bands)
        return result

    def extract(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (n // 480, 88): what `process` returns hop by hop after a reset; its state is left reset."""
        self.reset()
        hops = len(samples) // HOP_SAMPLES
        padded = np.concatenate([np.zeros(_LONG - HOP_SAMPLES, np.float32), samples[: hops * HOP_SAMPLES]])
        frames = np.lib.stride_tricks.sliding_window_view(padded, _LONG)[::HOP_SAMPLES]
        out = np.empty((hops, self.count), np.float32)
        loudness = _FLOOR
        for start in range(0, hops, 256):  # in pieces, to keep the frames within the cache
            bands, levels = self._bands(frames[start : start + 256])
            for row, level in enumerate(levels.tolist()):
                loudness = max(_FLOOR, 0.5 * level, self._followed(loudness, level))
                bands[row] *= _LOG_GAIN / loudness
            out[start : start + 256] = np.log1p(bands)
        return out

    @staticmethod
    def _followed(loudness: float, level: float) -> float:
        return loudness + 0.1 * (level - loudness) if level > loudness else loudness * _RELEASE

    def _bands(self, frames: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return band magnitudes (..., 88) and RMS levels (...) of frames (..., 4096)."""
        recent = frames[..., -_SHORT:]
        level = np.sqrt(np.einsum("...i,...i->...", recent, recent) / _SHORT)
        short = np.abs(np.fft.rfft(recent * self._short_window))
        long = np.abs(np.fft.rfft(frames * self._long_window)[..., : self._long_bins])
        return np.concatenate([short @ self._short_filters, long @ self._long_filters], axis=-1), level
