"""Kinematic beats and how they lie to the music's: alignment both ways, coverage, hits, events, and what chance gives.

All-joint beats barely tell a real dancer from chance in ballroom dance; the feet do. No alignment may be read without
the value of randomly shifted beats beside it, and none alone: some models score above real dancers (Tseng et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float64]

FEET = (7, 8, 10, 11)
"""Ankles and balls of the feet."""
_SPEED_SMOOTHING_S = 0.083
"""Five frames at 60 fps, as FACT smooths."""
_BEAT_SIGMA_S = 0.05
"""FACT's sigma of three frames at 60 fps, in seconds, so that frame rates compare."""
HIT_S = 0.1
EVENT_S = 0.07
"""The tolerance of beat tracking (MIREX)."""
_SHIFTS = 64
_STILL_M_S = 1e-3
"""What never changes its speed by a millimetre a second has no beats, only rounding."""


def body_beats(positions: ArrayLike, rate_hz: float) -> Floats:
    """Return the times [s] of the local minima of mean joint speed, smoothed over 83 ms (Li et al. 2021)."""
    return _minima_s(_mean_speed(np.asarray(positions, np.float64), rate_hz), rate_hz)


def foot_speed(positions: ArrayLike, rate_hz: float) -> Floats:
    """Return the mean speed (T,) [m/s] of both feet (ankle and ball), smoothed over 83 ms."""
    return _mean_speed(np.asarray(positions, np.float64)[:, list(FEET)], rate_hz)


def foot_beats(positions: ArrayLike, rate_hz: float) -> Floats:
    """Return the times [s] of the minima of foot speed: where steps land."""
    return _minima_s(foot_speed(positions, rate_hz), rate_hz)


def beat_alignment(kinematic_s: ArrayLike, beats_s: ArrayLike, sigma_s: float = _BEAT_SIGMA_S) -> float:
    """Return the mean over kinematic beats of exp(-d^2 / 2 sigma^2), d to the nearest beat (Li et al. 2021, eq. 8).

    Never to be read without `alignment_by_chance`.
    """
    kinematic, beats = np.asarray(kinematic_s, np.float64), np.sort(np.asarray(beats_s, np.float64))
    if len(kinematic) == 0 or len(beats) == 0:
        return 0.0
    return float(np.exp(-0.5 * (_to_nearest(kinematic, beats) / sigma_s) ** 2).mean())


def music_alignment(kinematic_s: ArrayLike, beats_s: ArrayLike, sigma_s: float = _BEAT_SIGMA_S) -> float:
    """Return the same averaged over the music's beats (as Bailando's code does): none may be passed by."""
    return beat_alignment(beats_s, kinematic_s, sigma_s)


def alignment_by_chance(kinematic_s: ArrayLike, beats_s: ArrayLike, shifts: int = _SHIFTS) -> float:
    """Return the mean alignment over shifts of the beats by even fractions of a beat: what no relation would give."""
    return by_chance(beat_alignment, kinematic_s, beats_s, shifts)


def by_chance(
    score: Callable[[Floats, Floats], float], kinematic_s: ArrayLike, beats_s: ArrayLike, shifts: int = _SHIFTS
) -> float:
    """Return the mean of a score over shifts of the beats by even fractions of the beat they are in."""
    kinematic, beats = np.asarray(kinematic_s, np.float64), np.sort(np.asarray(beats_s, np.float64))
    if len(beats) < 2:
        return score(kinematic, beats)
    periods = np.diff(beats, append=2.0 * beats[-1] - beats[-2])
    return float(np.mean([score(kinematic, beats + periods * k / shifts) for k in range(shifts)]))


def beat_coverage(kinematic_s: ArrayLike, beats_s: ArrayLike) -> float:
    """Return the number of kinematic beats over that of the music's (Lee et al. 2019)."""
    return len(np.asarray(kinematic_s)) / max(len(np.asarray(beats_s)), 1)


def beat_hit_rate(kinematic_s: ArrayLike, beats_s: ArrayLike, tolerance_s: float = HIT_S) -> float:
    """Return the share of kinematic beats within a tolerance of a beat of the music (Lee et al. 2019).

    They count in bins of a second, which forgives nearly everything.
    """
    kinematic, beats = np.asarray(kinematic_s, np.float64), np.sort(np.asarray(beats_s, np.float64))
    if len(kinematic) == 0 or len(beats) == 0:
        return 0.0
    return float((_to_nearest(kinematic, beats) <= tolerance_s).mean())


def event_scores(
    kinematic_s: ArrayLike, beats_s: ArrayLike, tolerance_s: float = EVENT_S
) -> tuple[float, float, float, float]:
    """Match kinematic beats to the music's one to one within a tolerance, in order of time.

    Returns:
        Precision, recall, F1, and the median signed offset [s] of the matched ones (positive: the dancer is late; NaN
        if none matched).
    """
    kinematic, beats = np.sort(np.asarray(kinematic_s, np.float64)), np.sort(np.asarray(beats_s, np.float64))
    offsets, i, j = [], 0, 0
    # The earliest free partner in reach is always a best one: windows of one width.
    while i < len(kinematic) and j < len(beats):
        offset = float(kinematic[i] - beats[j])
        if abs(offset) <= tolerance_s:
            offsets.append(offset)
            i, j = i + 1, j + 1
        elif offset < 0.0:
            i += 1
        else:
            j += 1
    hits = len(offsets)
    precision, recall = hits / max(len(kinematic), 1), hits / max(len(beats), 1)
    f1 = 2.0 * precision * recall / (precision + recall) if hits else 0.0
    return precision, recall, f1, float(np.median(offsets)) if hits else float("nan")


@dataclass(frozen=True)
class BeatFigures:
    """How kinematic beats lie to the music's; `_chance` is the same for randomly shifted beats.

    Attributes:
        alignment: over kinematic beats. music_alignment: over the music's beats.
        coverage: see `beat_coverage`. hit_rate: see `beat_hit_rate`, at 100 ms.
        precision, recall, f1: of events, at 70 ms. offset_ms: median, positive is late.
    """

    alignment: float
    alignment_chance: float
    music_alignment: float
    music_alignment_chance: float
    coverage: float
    hit_rate: float
    hit_rate_chance: float
    precision: float
    recall: float
    f1: float
    f1_chance: float
    offset_ms: float


def beat_figures(kinematic_s: ArrayLike, beats_s: ArrayLike) -> BeatFigures:
    """Measure kinematic beats against the music's."""
    kinematic, beats = np.asarray(kinematic_s, np.float64), np.asarray(beats_s, np.float64)
    precision, recall, f1, offset_s = event_scores(kinematic, beats)
    return BeatFigures(
        alignment=beat_alignment(kinematic, beats),
        alignment_chance=alignment_by_chance(kinematic, beats),
        music_alignment=music_alignment(kinematic, beats),
        music_alignment_chance=by_chance(music_alignment, kinematic, beats),
        coverage=beat_coverage(kinematic, beats),
        hit_rate=beat_hit_rate(kinematic, beats),
        hit_rate_chance=by_chance(beat_hit_rate, kinematic, beats),
        precision=precision,
        recall=recall,
        f1=f1,
        f1_chance=by_chance(lambda k, b: event_scores(k, b)[2], kinematic, beats, shifts=16),
        offset_ms=1e3 * offset_s,
    )


def _mean_speed(positions: Floats, rate_hz: float) -> Floats:
    speed = np.linalg.norm(np.gradient(positions, 1.0 / rate_hz, axis=0), axis=-1).mean(axis=1)
    return np.asarray(gaussian_filter1d(speed, _SPEED_SMOOTHING_S * rate_hz))


def _minima_s(speed: Floats, rate_hz: float) -> Floats:
    if float(np.ptp(speed)) < _STILL_M_S:
        return np.empty(0)
    middle = speed[1:-1]
    return np.asarray((np.flatnonzero((middle < speed[:-2]) & (middle <= speed[2:])) + 1) / rate_hz)


def _to_nearest(times: Floats, beats: Floats) -> Floats:
    after = np.searchsorted(beats, times)
    to_next = np.abs(beats[np.minimum(after, len(beats) - 1)] - times)
    return np.asarray(np.minimum(to_next, np.abs(times - beats[np.maximum(after - 1, 0)])))
