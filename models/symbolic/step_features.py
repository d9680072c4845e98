"""What the transcriber hears of each sixteenth: pitch activations and a coarse spectrum at given step times."""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.fft import rfft

from models.symbolic.pitch_activations import FRAME_S, HOP_SAMPLES, PITCHES, RATE_HZ, PitchActivations

MEL_BANDS, SLOTS = 40, 4
FEATURES = 3 * PITCHES + SLOTS * MEL_BANDS
"""Of a step: pitches at its beginning, later in it, beginning in it; four quarters of a spectrum."""
_FFT = 1024
_LEVEL_DBFS = -20.0
_EARLY, _LATE = 0.35, 0.55  # of a step: an onset belongs to the step it is nearest to, and attacks are heard late


def step_features(
    samples: NDArray[np.float32], rate_hz: int, activations: PitchActivations, step_s: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return what is heard in each step.

    Args:
        samples: (n,) mono audio.
        rate_hz: its rate.
        activations: of the same audio.
        step_s: (S + 1,) audio time at which each step begins, and at which the last one ends; increasing.

    Returns:
        (S, `FEATURES`) float32, all about 0 to 1; silence where the audio has no sound.
    """
    length = np.diff(step_s)
    middle = step_s[:-1] - length / SLOTS  # a quarter of a step early: attacks may come before their time
    edges = middle[:, None] + length[:, None] * np.arange(SLOTS + 1) / SLOTS
    notes = _means(activations.notes, edges[:, [0, 2, 4]] / FRAME_S)
    onsets = _maxima(
        activations.onsets, (step_s[:-1] - _EARLY * length) / FRAME_S, (step_s[:-1] + _LATE * length) / FRAME_S
    )
    bands = _means(mel_spectrum(samples, rate_hz), edges / FRAME_S)
    steps = len(length)
    parts: list[NDArray[Any]] = [notes.reshape(steps, -1), onsets, bands.reshape(steps, -1)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def mel_spectrum(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Return (T, 40) compressed mel power per frame of 256 samples at 22,050 Hz, centred on the frame's time.

    The audio is first brought to one level, so that loud and soft recordings look alike.
    """
    audio = samples if rate_hz == RATE_HZ else soxr.resample(samples, rate_hz, RATE_HZ, quality="HQ")
    level = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) + 1e-6
    audio = audio * (10.0 ** (_LEVEL_DBFS / 20.0) / level)
    frames = -(-len(audio) // HOP_SAMPLES)
    padded = np.pad(audio, (_FFT // 2, _FFT + HOP_SAMPLES)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::HOP_SAMPLES][:frames]
    out = np.empty((frames, MEL_BANDS), dtype=np.float32)
    hann = np.hanning(_FFT + 1)[:-1].astype(np.float32)
    for start in range(0, frames, 4096):  # in pieces: a song's spectra together would fill the memory
        power = np.abs(rfft(windows[start : start + 4096] * hann, axis=1)) ** 2
        out[start : start + 4096] = power @ _MEL.T
    # 1e-2 is about the level of a quiet cymbal; 0.1 brings the result to about 0 to 1.
    return np.asarray(0.1 * np.log1p(out / 1e-2), dtype=np.float32)


def _mel_filters() -> NDArray[np.float32]:
    """Return (40, 513) triangles, equally spaced on the mel scale of O'Shaughnessy from 30 Hz to 10.5 kHz."""
    hz = np.arange(_FFT // 2 + 1) * RATE_HZ / _FFT
    low_mel, high_mel = (2595.0 * np.log10(1.0 + edge / 700.0) for edge in (30.0, 10_500.0))
    ends = 700.0 * (10.0 ** (np.linspace(low_mel, high_mel, MEL_BANDS + 2) / 2595.0) - 1.0)
    low, mid, high = ends[:-2, None], ends[1:-1, None], ends[2:, None]
    shape = np.maximum(0.0, np.minimum((hz - low) / (mid - low), (high - hz) / (high - mid)))
    return np.asarray(shape / np.maximum(shape.sum(axis=1, keepdims=True), 1e-9), dtype=np.float32)


_MEL = _mel_filters()


def _means(rows: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means (S, K, C) of rows (T, C) between fractional row numbers (S, K + 1); zeros beyond the ends."""
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])
    at = np.clip(edges + 0.5, 0.0, len(rows))  # row k is centred on k
    whole = np.minimum(at.astype(np.int64), len(rows) - 1)
    integral = total[whole] + (at - whole)[..., None] * rows[whole]
    return np.diff(integral, axis=1) / np.maximum(np.diff(edges, axis=1), 1e-9)[..., None]


def _maxima(rows: NDArray[np.float32], starts: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the maxima (S, C) of rows (T, C) between row numbers (S,) and (S,); zeros where there are no rows."""
    out = np.zeros((len(starts), rows.shape[1]), dtype=np.float32)
    for i, (first, last) in enumerate(zip(np.ceil(starts).astype(int), np.ceil(ends).astype(int), strict=True)):
        part = rows[max(first, 0) : max(last, 0)]
        if len(part):
            out[i] = part.max(axis=0)
    return out
