"""Training clips of the beat activation heard anew: other speeds, pitches, rooms, walls, noises; on features, cheaply.

Works on what `engine.beats.spectrum` gives (log(1 + 200 m / L), 24 bands of a short window, 64 of a long one), in
linear magnitudes where sounds add, so that a clip never comes twice the same. A change of speed moves the beats too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from engine.beats.spectrum import HOPS_PER_S

_SHORT_BANDS, _LONG_BANDS = 24, 64
_CENTRES_HZ = np.concatenate(
    [np.geomspace(40.0, 16_000.0, _SHORT_BANDS + 2)[1:-1], np.geomspace(55.0, 4_200.0, _LONG_BANDS + 2)[1:-1]]
)
"""Middles of the spectrum's bands."""
_GAIN = 200.0
"""Of the spectrum's compression."""
_LABEL_SIGMA_HOPS = 1.0
_SPREAD_OCTAVES, _FURTHEST_OCTAVES = 0.13, 0.3
"""Speeds are log-normal: played music stays near its own tempo."""
_SLOWEST_BPM, _FASTEST_BPM = 55.0, 205.0
"""Speeds that would carry a clip out of the tempi that the network is asked for are not used."""


def beat_positions(truth: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return where beats fall in labels (T, 4), in hops from the start (B,), and which of them are downbeats (B,)."""
    peaks = np.flatnonzero(truth[:, 0] >= 220)
    peaks = peaks[np.diff(peaks, prepend=-10) > 2]
    near = np.clip(peaks[:, None] + np.arange(-4, 7), 0, len(truth) - 1)
    weight = truth[near, 0].astype(np.float64)
    positions = (weight * (near + 1)).sum(axis=1) / weight.sum(axis=1)
    return positions, truth[near, 1].max(axis=1, initial=0) >= 220


def draw_speed(rng: np.random.Generator, bpm: NDArray[np.float32]) -> float:
    """Draw a speed for a clip with these tempi (T,), nan where unknown, that leaves them in range."""
    speed = float(2 ** np.clip(rng.normal(0, _SPREAD_OCTAVES), -_FURTHEST_OCTAVES, _FURTHEST_OCTAVES))
    known = bpm[np.isfinite(bpm)]
    if len(known) and (known.min() * speed < _SLOWEST_BPM or known.max() * speed > _FASTEST_BPM):
        return 1.0
    return speed


def play(
    features: NDArray[np.float16], truth: NDArray[np.uint8], start: float, speed: float, length: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return `length` hops of features (T, 88) and labels (T, 4) from hop `start` on, at another speed.

    The Gaussians of the labels keep their width.
    """
    at = np.minimum(start + np.arange(length) * speed, len(features) - 1.0)
    low = at.astype(np.intp)
    high = np.minimum(low + 1, len(features) - 1)
    part = (at - low).astype(np.float32)[:, None]
    heard = features[low].astype(np.float32)
    heard += part * (features[high].astype(np.float32) - heard)
    out = np.zeros((length, 4), np.uint8)
    out[:, 2:] = truth[np.round(at).astype(np.intp), 2:]
    positions, first = beat_positions(truth)
    moved = (positions - 1 - start) / speed + 1
    for column, times in ((0, moved), (1, moved[first])):
        times = times[(times > 0) & (times < length + 1)]
        near = (np.floor(times)[:, None] + np.arange(-6, 7)).astype(np.intp)
        peak = np.round(255 * np.exp(-0.5 * ((near + 1 - times[:, None]) / _LABEL_SIGMA_HOPS) ** 2))
        inside = (near >= 0) & (near < length)
        np.maximum.at(out[:, column], near[inside], peak[inside].astype(np.uint8))
    return heard, out


def disguise(
    rng: np.random.Generator, features: NDArray[np.float32], other: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return features (T, 88) as another room, desk, wall or crowd would give them; beats stay where they are.

    Args:
        rng: decides what happens.
        features: of a clip; not changed.
        other: of another clip (T, 88), which may be heard softly behind it.
    """
    x = np.expm1(features)
    loud = _loudness(x)
    if rng.random() < 0.35:
        x = _transposed(x, rng.uniform(-0.35, 0.35))
    if other is not None and rng.random() < 0.15:
        y = np.expm1(other)
        y *= loud / _loudness(y) * 10 ** (-rng.uniform(8, 30) / 20)
        x = np.sqrt(x * x + y * y)
    if rng.random() < 0.25:
        x = _reverberated(rng, x)
    x *= _tilt(rng)
    if rng.random() < 0.3:
        x = _noisy(rng, x)
    if rng.random() < 0.06:  # somebody stands before the microphone, a cable is loose
        start, length = int(rng.integers(0, len(x))), int(rng.uniform(0.05, 0.8) * HOPS_PER_S)
        x[start : start + length] *= 10 ** (-rng.uniform(6, 50) / 20)
    # The spectrum follows the loudness: what it gives is about as loud as before.
    x *= loud / _loudness(x) * 10 ** (rng.normal(0, 1.5) / 20)
    return np.log1p(x, out=x)


def _loudness(x: NDArray[np.float32]) -> float:
    """Return how loud the loud moments of magnitudes (T, 88) are."""
    level = np.sqrt(np.einsum("tb,tb->t", x[::4, :_SHORT_BANDS], x[::4, :_SHORT_BANDS]))
    return float(np.quantile(level, 0.9)) + 1e-3


def _transposed(x: NDArray[np.float32], octaves: float) -> NDArray[np.float32]:
    """Shift each of the two spectra along its logarithmic axis."""
    parts = []
    for part, low, high in (
        (x[:, :_SHORT_BANDS], 40.0, 16_000.0),
        (x[:, _SHORT_BANDS:], 55.0, 4_200.0),
    ):
        count = part.shape[1]
        source = np.clip(np.arange(count) - octaves * (count + 1) / np.log2(high / low), 0, count - 1)
        left = source.astype(np.intp)
        share = (source - left).astype(np.float32)
        parts.append(part[:, left] * (1 - share) + part[:, np.minimum(left + 1, count - 1)] * share)
    return np.concatenate(parts, axis=1)


def _reverberated(rng: np.random.Generator, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Let energy decay exponentially behind every sound."""
    decay = 10 ** (-6 / (rng.uniform(0.25, 1.8) * HOPS_PER_S))
    power = x * x
    tail = signal.lfilter([0.0, 1 - decay], [1.0, -decay], power, axis=0).astype(np.float32)
    return np.sqrt(power + np.float32(10 ** (rng.uniform(-10, 6) / 10)) * tail)


def _tilt(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw gains (88,): of a desk, a wall or a small loudspeaker."""
    octaves = np.log2(_CENTRES_HZ / 1000.0)
    gain_db = rng.normal(0, 1.5) * octaves
    for _ in range(2):
        middle, width = rng.uniform(-4, 3.5), rng.uniform(0.4, 1.5)
        gain_db = gain_db + rng.normal(0, 4) * np.exp(-0.5 * ((octaves - middle) / width) ** 2)
    chance = rng.random()
    if chance < 0.12:  # through a wall
        gain_db -= rng.uniform(6, 24) * np.maximum(0, octaves - np.log2(rng.uniform(0.1, 2.0)))
    elif chance < 0.2:  # a telephone, a small loudspeaker
        gain_db -= 24 * np.maximum(0, np.log2(rng.uniform(0.1, 0.4)) - octaves)
        if rng.random() < 0.5:
            gain_db -= 24 * np.maximum(0, octaves - np.log2(rng.uniform(2.5, 6.0)))
    return np.asarray(10 ** (np.clip(gain_db, -60, 24) / 20), np.float32)


def _noisy(rng: np.random.Generator, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add a noise of a random colour that swells slowly."""
    colour = 10 ** (rng.uniform(-8, 2) * np.log2(_CENTRES_HZ / 1000.0) / 20)
    level = np.sqrt(np.mean(x * x, axis=0)).mean() / colour.mean() * 10 ** (-rng.uniform(0, 25) / 20)
    knots = max(2, len(x) // HOPS_PER_S)
    swell = np.interp(np.linspace(0, knots - 1, len(x)), np.arange(knots), rng.uniform(0.4, 1, knots))
    # Neighbouring windows overlap: the long one's noise hardly changes within three hops.
    raw = rng.rayleigh(0.8, x.shape).astype(np.float32)
    raw[:, _SHORT_BANDS:] = signal.lfilter([0.45], [1.0, -0.55], raw[:, _SHORT_BANDS:], axis=0)
    noise = raw * (level * colour).astype(np.float32) * swell.astype(np.float32)[:, None]
    return np.sqrt(x * x + noise * noise)
