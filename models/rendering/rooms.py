"""What happens to music on its way to a microphone: room, crowd, noise, tone, overload. All causal or zero-delay,
so that beat truth stays true."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float32]


def reverb(
    samples: Samples, rate_hz: int, rng: np.random.Generator, rt60_s: float = 0.8, wet_db: float = -6.0
) -> Samples:
    """Add a synthetic room: exponentially decaying noise whose treble dies sooner.

    Args:
        samples: (n,) mono; the direct sound keeps its time and level.
        rate_hz: of the samples.
        rng: draws the room.
        rt60_s: time to decay by 60 dB, in the bass; a fifth of it at the top.
        wet_db: energy of the reverberation against the direct sound.
    """
    count = int(rt60_s * rate_hz)
    t = np.arange(count) / rate_hz
    impulse = np.zeros(count)
    edges = [60.0, 400.0, 1600.0, 6000.0, min(16_000.0, 0.45 * rate_hz)]
    for band, (low, high) in enumerate(itertools.pairwise(edges)):
        decay_s = rt60_s * (1.0, 0.8, 0.5, 0.2)[band]
        filtered = signal.sosfilt(
            signal.butter(2, (low, high), "bandpass", fs=rate_hz, output="sos"), rng.normal(size=count)
        )
        impulse += filtered / np.sqrt(np.mean(filtered**2)) * 10.0 ** (-3.0 * t / decay_s)
    # First reflections arrive after the sound has travelled a few metres further.
    impulse = np.concatenate([np.zeros(int(rng.uniform(0.003, 0.015) * rate_hz)), impulse])
    impulse *= 10.0 ** (wet_db / 20.0) / np.sqrt(np.sum(impulse**2))
    wet = signal.oaconvolve(samples, impulse)[: len(samples)]
    return np.asarray(samples + wet, dtype=np.float32)


def noise(kind: str, count: int, rate_hz: int, rng: np.random.Generator) -> Samples:
    """Return noise of unit RMS.

    Args:
        kind: 'white', 'pink', 'brown' (power falling by 0, 3, 6 dB an octave above 20 Hz) or 'crowd' (voices,
            clapping and shouts).
        count: samples.
        rate_hz: their rate.
        rng: source of chance.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "crowd":
        out = _crowd(count, rate_hz, rng)
    elif kind in ("white", "pink", "brown"):
        out = _coloured(count, rate_hz, rng, {"white": 0.0, "pink": 0.5, "brown": 1.0}[kind])
    else:
        raise ValueError(f"noise kind {kind!r}: expected white, pink, brown or crowd")
    return np.asarray(out / np.sqrt(np.mean(out**2)), dtype=np.float32)


def mix_at_snr(samples: Samples, disturbance: Samples, snr_db: float) -> Samples:
    """Add a disturbance of unit RMS at a signal-to-noise ratio [dB] against the whole recording's RMS."""
    level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    gain = np.float32(level * 10.0 ** (-snr_db / 20.0))
    return np.asarray(samples + disturbance[: len(samples)] * gain, dtype=np.float32)


def tilt(samples: Samples, rate_hz: int, db_per_octave: float) -> Samples:
    """Turn the tone about 1 kHz: positive is brighter. A first-order shelf on each side, causal."""
    out = samples.astype(np.float64)
    for corner_hz, octaves in ((200.0, 2.0), (5000.0, 2.0)):
        gain = 10.0 ** (db_per_octave * octaves / 20.0)
        low = signal.sosfilt(signal.butter(1, corner_hz, "lowpass", fs=rate_hz, output="sos"), out)
        out = (low / gain + (out - low)) if corner_hz < 1000.0 else (low + (out - low) * gain)
    return np.asarray(out, dtype=np.float32)


def band_limit(samples: Samples, rate_hz: int, low_hz: float = 200.0, high_hz: float = 6000.0) -> Samples:
    """Hear through a small microphone, such as a phone's: second-order band pass, causal."""
    sos = signal.butter(2, (low_hz, min(high_hz, 0.45 * rate_hz)), "bandpass", fs=rate_hz, output="sos")
    return np.asarray(signal.sosfilt(sos, samples), dtype=np.float32)


def overload(samples: Samples, drive_db: float) -> Samples:
    """Clip hard at full scale after `drive_db` of gain over a peak of 1, as a hot line input does."""
    peak = float(np.abs(samples).max()) or 1.0
    return np.asarray(np.clip(samples * (10.0 ** (drive_db / 20.0) / peak), -1.0, 1.0), dtype=np.float32)


def play_in_room(samples: Samples, rate_hz: int, rng: np.random.Generator, strength: float = 1.0) -> Samples:
    """Apply a random chain of the effects of this module and a random gain, for training.

    Args:
        samples: (n,) mono.
        rate_hz: their rate.
        rng: source of chance.
        strength: 0 (clean, gain only) to 1 (a bad room): scales how likely each effect is.
    """
    out = samples
    if rng.random() < 0.6 * strength:
        out = tilt(out, rate_hz, float(rng.uniform(-3.0, 3.0)))
    if rng.random() < 0.5 * strength:
        out = reverb(out, rate_hz, rng, float(rng.uniform(0.2, 1.8)), float(rng.uniform(-15.0, 2.0)))
    if rng.random() < 0.5 * strength:
        kind = str(rng.choice(["pink", "brown", "crowd", "white"]))
        out = mix_at_snr(out, noise(kind, len(out), rate_hz, rng), float(rng.uniform(3.0, 30.0)))
    if rng.random() < 0.2 * strength:
        out = band_limit(out, rate_hz, float(rng.uniform(80, 350)), float(rng.uniform(3000, 9000)))
    if rng.random() < 0.15 * strength:
        out = overload(out, float(rng.uniform(1.0, 12.0)))
    peak = float(np.abs(out).max()) or 1.0
    return np.asarray(out * np.float32(10.0 ** (rng.uniform(-30.0, -0.5) / 20.0) / peak), dtype=np.float32)


def _coloured(count: int, rate_hz: int, rng: np.random.Generator, exponent: float) -> NDArray[np.float64]:
    """Return noise whose amplitude falls as frequency ** -exponent above 20 Hz."""
    size = 1 << max(1, (count - 1).bit_length())
    frequency = np.fft.rfftfreq(size, 1.0 / rate_hz)
    spectrum = rng.normal(size=len(frequency)) + 1j * rng.normal(size=len(frequency))
    spectrum *= np.maximum(frequency, 20.0) ** -exponent
    spectrum[0] = 0.0
    return np.fft.irfft(spectrum, size)[:count]


def _crowd(count: int, rate_hz: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return babble (bands of noise gated at the rate of syllables), some clapping and a shout now and then."""
    base = _coloured(count, rate_hz, rng, 0.5)
    times = np.arange(count) / rate_hz
    out = np.zeros(count)
    for centre in (180.0, 350.0, 700.0, 1300.0, 2400.0):
        sos = signal.butter(2, (centre * 0.7, min(centre * 1.5, 0.45 * rate_hz)), "bandpass", fs=rate_hz, output="sos")
        band = signal.sosfilt(sos, np.roll(base, int(rng.integers(count))))
        knots = rng.gamma(1.5, 1.0, int(times[-1] * rng.uniform(3.0, 6.0)) + 2)
        gate = np.interp(times, np.linspace(0.0, times[-1], len(knots)), knots)
        out += band * gate / np.sqrt(np.mean(band**2))
    clap_length = int(0.04 * rate_hz)
    decay = np.exp(-np.arange(clap_length) / (0.006 * rate_hz))
    for start in rng.integers(0, max(1, count - clap_length), int(times[-1] * 1.5) + 1):
        stop = min(count, start + clap_length)
        out[start:stop] += (rng.normal(size=clap_length) * decay * rng.gamma(2.0, 2.0))[: stop - start]
    for start in rng.integers(0, count, int(times[-1] / 12.0) + 1):
        stop = min(count, start + int(rng.uniform(0.3, 1.2) * rate_hz))
        t = times[: stop - start]
        pitch = rng.uniform(300.0, 900.0) * (1.0 + 0.1 * np.sin(2 * np.pi * 1.5 * t))
        out[start:stop] += 3.0 * np.hanning(len(t)) * np.sin(2 * np.pi * np.cumsum(pitch) / rate_hz)
    return out
