"""How music fits a dance, and how much it is like music: the measures that symbolic music is compared by. Pure NumPy.

Every definition names its source. A step grid's unknown voices count for nothing; measures that need pitches return
NaN where there are none. Alignments come with `random_shift_null`, without which they mean little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from engine.types import Key
from models.symbolic.chords import chroma_templates
from models.symbolic.step_grid import REST, StepGrid

TOLERANCE_S = 0.1
"""Of beat coverage and hit: the published 1 s bins flatter (a system falls from 80.8 to 39.2 % at 100 ms)."""
_MAJOR_SCALE, _MINOR_SCALE = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
_CURVE_HZ = 100.0
"""Of the onset strength from which a tempo is taken."""
_SHORTEST_S, _LONGEST_S = 0.25, 2.0
"""Periods of a beat, 240 to 30 a minute."""

Floats = NDArray[np.float64]


def beat_coverage(onsets_s: Floats, beats_s: Floats, tolerance_s: float = TOLERANCE_S) -> float:
    """Return the share of dance beats (B,) that have a note onset (N,) within the tolerance; NaN without beats.

    This is what the field calls the "beats hit score" of music: true beats that are hit, of all true beats (Zhu et al.
    2022, "Quantized GAN for complex music generation from dance videos", there in bins of a second).
    """
    return _share_near(beats_s, onsets_s, tolerance_s)


def beat_hit(onsets_s: Floats, beats_s: Floats, tolerance_s: float = TOLERANCE_S) -> float:
    """Return the share of onset times (N,), each counted once, that are within the tolerance of a dance beat (B,).

    The hit rate of Lee et al. (2019), "Dancing to Music", with notes for steps: what is played between beats counts
    against it, in real music as well. NaN without onsets.
    """
    return _share_near(np.unique(onsets_s), beats_s, tolerance_s)


def _share_near(events_s: Floats, others_s: Floats, tolerance_s: float) -> float:
    if not len(events_s):
        return float("nan")
    if not len(others_s):
        return 0.0
    others = np.sort(others_s)
    right = np.clip(np.searchsorted(others, events_s), 0, len(others) - 1)
    left = np.maximum(right - 1, 0)
    near = np.minimum(np.abs(others[right] - events_s), np.abs(others[left] - events_s))
    return float(np.mean(near <= tolerance_s + 1e-9))


def random_shift_null(
    measure: Callable[[Floats, Floats], float], onsets_s: Floats, beats_s: Floats, seed: int = 0, draws: int = 200
) -> float:
    """Return the mean of an alignment measure with the onsets shifted at random, wrapped round within the piece.

    What a music of the same rhythm that knows nothing of the dance would score.
    """
    if len(beats_s) < 2 or not len(onsets_s):
        return float("nan")
    rng = np.random.default_rng(seed)
    first = min(float(beats_s.min()), float(onsets_s.min()))
    length = max(float(beats_s.max()), float(onsets_s.max())) - first
    shifts = rng.uniform(0.0, length, draws)
    return float(np.mean([measure(first + (onsets_s - first + shift) % length, beats_s) for shift in shifts]))


def tempo_error(music_bpm: float, dance_bpm: float, octaves: bool = False) -> float:
    """Return |log2| of the ratio of two tempos: 0.07 is 5 %.

    Args:
        music_bpm, dance_bpm: > 0.
        octaves: take half and double time for right.
    """
    ratio = float(np.log2(music_bpm / dance_bpm))
    return abs(ratio - round(ratio)) if octaves else abs(ratio)


def onset_tempo_bpm(grid: StepGrid) -> float:
    """Return the tempo that the onsets suggest: the period at which they come back most; NaN where it has none.

    Ellis (2007), "Beat tracking by dynamic programming": the largest autocorrelation of the onset
    strength, weighted by a Gaussian over the logarithm of the period, 0.5 s and 1.4 octaves. The strength of a step is
    the sum of the velocities that begin in it.
    """
    voices = (grid.bass_velocity, grid.chord_velocity, grid.lead_velocity)
    strength = grid.drums.sum(axis=1, dtype=np.float64) + np.sum(voices, axis=0, dtype=np.float64)
    times = _step_times_s(grid)
    curve = np.zeros(int(times[-1] * _CURVE_HZ) + 1)
    np.add.at(curve, np.round(times[:-1] * _CURVE_HZ).astype(np.intp), strength)
    curve = np.convolve(curve, np.hanning(7), "same")
    curve -= curve.mean()
    lags = np.arange(int(_SHORTEST_S * _CURVE_HZ), int(_LONGEST_S * _CURVE_HZ))
    if not strength.any() or len(curve) < 2 * lags[-1]:
        return float("nan")
    spectrum = np.fft.rfft(curve, 2 * len(curve))
    found = np.fft.irfft(np.abs(spectrum) ** 2)[lags]
    weighted = found * np.exp(-0.5 * (np.log2(lags / _CURVE_HZ / 0.5) / 1.4) ** 2)
    best = int(np.argmax(weighted))
    if weighted[best] <= 0.0:
        return float("nan")
    inner = min(max(best, 1), len(lags) - 2)
    before, at, after = found[inner - 1 : inner + 2]
    bend = before - 2.0 * at + after
    peak = inner + 0.5 * (before - after) / bend if inner == best and bend < 0.0 else best
    return float(60.0 * _CURVE_HZ / (lags[0] + peak))


def onset_times_s(grid: StepGrid) -> Floats:
    """Return the time of each step at which anything begins, from the start of the grid."""
    return np.asarray(_step_times_s(grid)[np.flatnonzero(_begins(grid))], dtype=np.float64)


def _begins(grid: StepGrid) -> NDArray[np.bool_]:
    """Return (S,) whether anything begins."""
    voices = [np.any(grid.drums > 0.0, axis=1), grid.bass >= 0, grid.chord >= 0, grid.lead >= 0]
    return np.asarray(np.stack(voices).any(axis=0))


def _step_times_s(grid: StepGrid) -> Floats:
    return np.concatenate([[0.0], np.cumsum(15.0 / grid.tempo_bpm.astype(np.float64))])


def pitch_class_entropy(grid: StepGrid, bars: int = 1) -> float:
    """Return the mean over windows of `bars` bars of the entropy [bits] of the pitch classes that begin there.

    H1 and H4 of Wu & Yang (2020), "The Jazz Transformer on the front line", section 4.1: one count per onset; a chord
    counts for each of its notes. Windows in which nothing begins are left out. NaN without pitches.
    """
    counts = _class_onsets(grid)
    width = bars * grid.steps_per_bar
    start = grid.bar_step % grid.steps_per_bar
    entropies = []
    for at in range(start, max(start + 1, grid.steps - width + 1), width):
        histogram = counts[at : at + width].sum(axis=0)
        if histogram.sum() > 0.0:
            share = histogram[histogram > 0.0] / histogram.sum()
            entropies.append(float(-(share * np.log2(share)).sum()))
    return float(np.mean(entropies)) if entropies else float("nan")


def _class_onsets(grid: StepGrid) -> Floats:
    """Return (S, 12) how many notes of each pitch class begin in each step."""
    counts = np.zeros((grid.steps, 12))
    for voice in (grid.bass, grid.lead):
        at = np.flatnonzero(voice >= 0)
        counts[at, voice[at] % 12] += 1.0
    at = np.flatnonzero(grid.chord >= 0)
    counts[at] += chroma_templates()[grid.chord[at]]
    return counts


def scale_consistency(grid: StepGrid, key: Key | None = None) -> float:
    """Return the largest share of beginning notes that lie in one major or natural minor scale, or in `key`'s.

    Mogren (2016), "C-RNN-GAN"; as scale consistency in Wu & Yang's and Dong's (2018, MuseGAN) comparisons. A relative
    major and minor are the same set. NaN without pitches.
    """
    histogram = _class_onsets(grid).sum(axis=0)
    if histogram.sum() == 0.0:
        return float("nan")
    if key is not None:
        degrees = _MINOR_SCALE if key.minor else _MAJOR_SCALE
        return float(histogram[[(key.tonic + d) % 12 for d in degrees]].sum() / histogram.sum())
    return float(max(histogram[[(t + d) % 12 for d in _MAJOR_SCALE]].sum() for t in range(12)) / histogram.sum())


def groove_similarity(grid: StepGrid) -> float:
    """Return the mean over all pairs of bars of 1 - (positions at which exactly one has an onset) / positions.

    GS of Wu & Yang (2020), section 4.1, on sixteenths of any voice. NaN with fewer than two whole bars.
    """
    begins = _begins(grid)
    start = grid.bar_step % grid.steps_per_bar
    bars = (grid.steps - start) // grid.steps_per_bar
    if bars < 2:
        return float("nan")
    rows = begins[start : start + bars * grid.steps_per_bar].reshape(bars, -1).astype(np.float64)
    differ = rows @ (1.0 - rows).T
    differ = (differ + differ.T) / grid.steps_per_bar
    return float(1.0 - differ[np.triu_indices(bars, 1)].mean())


def polyphony(grid: StepGrid) -> float:
    """Return the mean number of pitched voices that sound, over the steps in which one does; NaN where none ever does.

    Dong et al. (2018), "MuseGAN", counts notes; here voices, because a chord is one decision of one player.
    """
    sounding = sum((voice != REST).astype(np.int64) for voice in (grid.bass, grid.chord, grid.lead))
    assert isinstance(sounding, np.ndarray)
    return float(sounding[sounding > 0].mean()) if (sounding > 0).any() else float("nan")


def empty_bar_rate(grid: StepGrid) -> float:
    """Return the share of bars in which no known voice sounds or strikes (EB of Dong et al. 2018, over all tracks)."""
    resting = np.stack([voice == REST for voice in (grid.bass, grid.chord, grid.lead)]).all(axis=0)
    silent = np.asarray(resting & ~np.any(grid.drums > 0.0, axis=1))
    start = grid.bar_step % grid.steps_per_bar
    bars = (grid.steps - start) // grid.steps_per_bar
    if not bars:
        return float("nan")
    return float(silent[start : start + bars * grid.steps_per_bar].reshape(bars, -1).all(axis=1).mean())


def note_density(grid: StepGrid) -> float:
    """Return how many things begin per beat: strokes, bass notes, chords and lead notes."""
    count = int((grid.drums > 0.0).sum()) + sum(int((v >= 0).sum()) for v in (grid.bass, grid.chord, grid.lead))
    return 4.0 * count / grid.steps


@dataclass(frozen=True, slots=True)
class MusicMeasures:
    """The measures of one piece that need no dance; NaN where a measure does not apply."""

    pitch_class_entropy_1: float
    pitch_class_entropy_4: float
    scale_consistency: float
    groove_similarity: float
    polyphony: float
    empty_bar_rate: float
    note_density: float

    @staticmethod
    def of(grid: StepGrid) -> MusicMeasures:
        """Measure a grid."""
        return MusicMeasures(
            pitch_class_entropy(grid, 1),
            pitch_class_entropy(grid, 4),
            scale_consistency(grid),
            groove_similarity(grid),
            polyphony(grid),
            empty_bar_rate(grid),
            note_density(grid),
        )


@dataclass(frozen=True, slots=True)
class Range:
    """Where a corpus lies in one measure: its 5th percentile, median, 95th, and over how many pieces."""

    low: float
    median: float
    high: float
    pieces: int

    def holds(self, value: float) -> bool:
        """Tell whether a value lies between the 5th and the 95th percentile."""
        return self.low <= value <= self.high


def corpus_ranges(grids: Iterable[StepGrid], shortest_bars: int = 8) -> dict[str, Range]:
    """Return the range of each of `MusicMeasures` over the longer pieces; measures that apply to none are left out."""
    rows: Sequence[MusicMeasures] = [
        MusicMeasures.of(grid) for grid in grids if grid.steps >= shortest_bars * grid.steps_per_bar
    ]
    out = {}
    for f in fields(MusicMeasures):
        values = np.array([getattr(row, f.name) for row in rows])
        values = values[np.isfinite(values)]
        if len(values):
            low, median, high = np.percentile(values, [5.0, 50.0, 95.0])
            out[f.name] = Range(float(low), float(median), float(high), len(values))
    return out
