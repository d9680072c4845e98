"""A small mixing desk: one stem per channel, a room to send to, loudness and a limiter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

Stereo = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Strip:
    """Settings of one stem.

    Attributes:
        level_db: of the stem's sounding parts (RMS), against the other stems.
        high_pass_hz: below this is taken out, to leave room for bass and kick.
        send_db: to the room, against the stem itself.
    """

    level_db: float
    high_pass_hz: float
    send_db: float


def mix(stems: Mapping[int, Stereo], strips: Mapping[int, Strip], rate_hz: int, seed: int = 1) -> Stereo:
    """Sum stems of equal length with their strips and one shared room."""
    count = len(next(iter(stems.values())))
    dry = np.zeros((count, 2))
    sent = np.zeros((count, 2))
    for name, stem in stems.items():
        strip = strips[name]
        sos = signal.butter(2, strip.high_pass_hz, "highpass", fs=rate_hz, output="sos")
        filtered = signal.sosfilt(sos, stem.astype(np.float64), axis=0)
        filtered *= 10.0 ** (strip.level_db / 20.0) / _sounding_rms(filtered, rate_hz)
        dry += filtered
        sent += filtered * 10.0 ** (strip.send_db / 20.0)
    return np.asarray(dry + _hall(sent, rate_hz, seed), dtype=np.float32)


def loudness_lufs(samples: Stereo, rate_hz: int) -> float:
    """Return the integrated loudness [LUFS] after ITU-R BS.1770-4 (K-weighting, both gates)."""
    weighted = samples.astype(np.float64)
    for sos in _k_weighting(rate_hz):
        weighted = signal.sosfilt(sos, weighted, axis=0)
    window, hop = int(0.4 * rate_hz), int(0.1 * rate_hz)
    power = np.cumsum(np.concatenate([[0.0], np.square(weighted).sum(axis=1)]))
    starts = np.arange(0, len(samples) - window + 1, hop)
    blocks = (power[starts + window] - power[starts]) / window
    loud = -0.691 + 10.0 * np.log10(blocks + 1e-12)
    gated = blocks[loud > -70.0]
    relative = -0.691 + 10.0 * np.log10(gated.mean()) - 10.0
    return float(-0.691 + 10.0 * np.log10(blocks[(loud > -70.0) & (loud > relative)].mean()))


def limit(samples: Stereo, rate_hz: int, ceiling: float = 0.89) -> Stereo:
    """Hold peaks below a ceiling, looking 2 ms ahead and recovering over some 60 ms."""
    peak = np.abs(samples).max(axis=1).astype(np.float64)
    ahead = int(0.002 * rate_hz)
    wanted = np.minimum(1.0, ceiling / np.maximum(ndimage.maximum_filter1d(peak, 2 * ahead + 1), 1e-9))
    # The release: gain may rise by no more than this factor a sample; computed as a running minimum in log domain.
    rise = np.arange(len(wanted)) * (np.log(2.0) / (0.06 * rate_hz))
    gain = np.exp(np.minimum.accumulate(np.log(wanted) - rise) + rise)
    gain = ndimage.uniform_filter1d(gain, ahead)
    return np.asarray(np.clip(samples * gain[:, None], -ceiling, ceiling), dtype=np.float32)


def master(samples: Stereo, rate_hz: int, target_lufs: float = -14.0) -> Stereo:
    """Bring a mix to a loudness; peaks are limited, so the loudness is met within about half a decibel."""
    out = samples
    for _ in range(3):
        gain = 10.0 ** ((target_lufs - loudness_lufs(out, rate_hz)) / 20.0)
        out = limit(np.asarray(out * np.float32(gain), dtype=np.float32), rate_hz)
    return out


def _sounding_rms(samples: NDArray[np.float64], rate_hz: int) -> float:
    """Return the RMS over the 50 ms windows within 30 dB of the loudest."""
    window = rate_hz // 20
    power = np.square(samples).mean(axis=1)
    means = power[: len(power) // window * window].reshape(-1, window).mean(axis=1)
    return float(np.sqrt(means[means > means.max() * 1e-3].mean()))


def _hall(samples: NDArray[np.float64], rate_hz: int, seed: int) -> NDArray[np.float64]:
    """Return the reverberation of a small hall: decaying noise, different on each side, darker as it decays."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(1.6 * rate_hz)) / rate_hz
    out = np.zeros_like(samples)
    for side in range(2):
        impulse = np.zeros(len(t))
        for low, high, rt60_s in ((180.0, 700.0, 1.4), (700.0, 2500.0, 1.2), (2500.0, 9000.0, 0.7)):
            band = signal.butter(2, (low, high), "bandpass", fs=rate_hz, output="sos")
            impulse += signal.sosfilt(band, rng.normal(size=len(t))) * 10.0 ** (-3.0 * t / rt60_s)
        impulse = np.concatenate([np.zeros(int(0.018 * rate_hz)), impulse / np.sqrt(np.sum(impulse**2))])
        out[:, side] = signal.oaconvolve(samples.mean(axis=1), impulse)[: len(samples)]
    return out


def _k_weighting(rate_hz: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return BS.1770's shelf and high pass, designed for any rate from their analogue prototypes."""
    f0, gain_db, q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
    k = np.tan(np.pi * f0 / rate_hz)
    vh = 10.0 ** (gain_db / 20.0)
    vb = vh**0.4996667741545416
    a0 = 1.0 + k / q + k * k
    shelf = [(vh + vb * k / q + k * k) / a0, 2.0 * (k * k - vh) / a0, (vh - vb * k / q + k * k) / a0]
    shelf += [1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0]
    f0, q = 38.13547087602444, 0.5003270373238773
    k = np.tan(np.pi * f0 / rate_hz)
    a0 = 1.0 + k / q + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0]
    return np.array([shelf]), np.array([high_pass])
