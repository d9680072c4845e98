"""The beat as the dancer keeps it: a slowly varying offset between the motion's own beat and the music's.

Published dance clips are often not locked to their music: most were re-cut, and the same movement recurs under
another beat phase. What a model should learn is where in the *dancer's* beat a movement lies, so the motion is put on
its own beat, and beat k of the motion is paired with beat k of the music.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Array = NDArray[np.float64]

_BINS = 48
"""Resolution of the offset: 1/48 beat, a quarter of a tick."""
_CONCENTRATION = 6.0
"""How much one beat's evidence weighs against the drift; see `fit_offset`."""
_DRIFT_BEATS = 0.025
"""Usual change of the offset within a beat (a tempo 2.5 % off)."""
_LOCKED_PULL = 0.15
"""Pull towards zero, per beat, where the clip is known to be locked to its music."""


@dataclass(frozen=True, slots=True)
class MotionBeat:
    """Where the motion's beat lies.

    Attributes:
        offset_beats: (T,) what to add to the music's beat position to get the motion's; continuous.
        coherence: (T,) 0 to 1, how clearly the feet follow it (running over eight beats).
    """

    offset_beats: Array
    coherence: Array


def foot_speed(points: NDArray[np.floating], fps: float) -> Array:
    """Return (T,) how fast the feet (T, N, 3) move: log of the mean speed, its slow course (3 s) taken out.

    The logarithm makes a slow step count as much as a quick one.
    """
    smooth = gaussian_filter1d(np.asarray(points, dtype=np.float64), 0.03 * fps, axis=0, mode="nearest")
    speed = np.linalg.norm(np.gradient(smooth, axis=0), axis=-1).mean(axis=1) * fps
    level = np.log(speed + 0.1)
    signal: Array = level - gaussian_filter1d(level, 1.5 * fps, mode="nearest")
    return signal / max(float(signal.std()), 1e-9)


def fit_offset(signal: Array, beat: Array, *, locked: bool) -> MotionBeat:
    """Find the motion's own beat.

    The convention is that feet are slowest on the beat and fastest in mid-beat. Each beat of the music gives one
    vector (the signal's component at one cycle a beat); the likeliest slowly drifting path through them is found by
    dynamic programming over circular offsets (Viterbi; von Mises evidence, Gaussian drift).

    Args:
        signal: (T,) from `foot_speed`.
        beat: (T,) the music's beat position at each frame (1.0 is a beat), increasing.
        locked: whether the clip is known to follow its music, so that zero is likely.
    """
    index = np.floor(beat).astype(int)
    index -= index[0]
    count = int(index[-1]) + 1
    frames = np.maximum(np.bincount(index, minlength=count), 1)
    turn = -signal * np.exp(-2j * np.pi * beat)
    vectors = (
        np.bincount(index, turn.real, minlength=count) + 1j * np.bincount(index, turn.imag, minlength=count)
    ) / frames

    states = np.arange(_BINS) / _BINS
    # A motion at offset d has the component e^(2 pi i d) here.
    evidence = _CONCENTRATION * (vectors[:, None] * np.exp(-2j * np.pi * states)).real
    if locked:
        evidence = evidence + _LOCKED_PULL * np.cos(2.0 * np.pi * states)
    apart = (states[:, None] - states + 0.5) % 1.0 - 0.5
    drift = -0.5 * (apart / _DRIFT_BEATS) ** 2
    score, back = evidence[0], np.zeros((count, _BINS), dtype=int)
    for k in range(1, count):
        total = score[:, None] + drift
        back[k] = total.argmax(axis=0)
        score = total.max(axis=0) + evidence[k]
    path = np.empty(count, dtype=int)
    path[-1] = int(score.argmax())
    for k in range(count - 1, 0, -1):
        path[k - 1] = back[k, path[k]]
    offset = np.unwrap(states[path], period=1.0)
    offset -= np.round(np.median(offset))
    offset = gaussian_filter1d(offset, 2.0, mode="nearest")
    at = np.interp(beat - np.floor(beat[0]), np.arange(count) + 0.5, offset)
    return MotionBeat(at, _coherence(turn, at, beat))


def _coherence(turn: NDArray[np.complex128], offset: Array, beat: Array) -> Array:
    aligned = turn * np.exp(-2j * np.pi * offset)
    eight_beats = 8.0 * len(beat) / max(float(beat[-1] - beat[0]), 1.0)
    # A pure sine of deviation 1 has the component sqrt(1/2).
    running: Array = gaussian_filter1d(aligned.real, eight_beats / 2.5, mode="nearest")
    clear: Array = np.clip(running * np.sqrt(2.0), 0.0, 1.0)
    return clear


def estimate_tempo(signal: Array, fps: float, near_bpm: float, spread: float = 0.08) -> float:
    """Return the tempo [bpm] within ±`spread` of `near_bpm` at which (T,) `signal` pulses most, over 8 s windows."""
    rates = near_bpm / 60.0 * (1.0 + np.linspace(-spread, spread, 97))
    size = min(len(signal), round(8.0 * fps))
    starts = np.arange(0, len(signal) - size + 1, max(1, round(fps)))
    windows = np.stack([signal[s : s + size] for s in starts]) * np.hanning(size)
    waves = np.exp(-2j * np.pi * rates[:, None] * np.arange(size) / fps)
    power = (np.abs(windows @ waves.T) ** 2).mean(axis=0)
    return float(rates[power.argmax()] * 60.0)
