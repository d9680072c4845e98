"""Tempo maps: where in time each beat falls. Steady, ramps, jumps, rubato, and breaks of silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

_KNOTS_PER_BEAT = 24  # fine enough that a line between knots is within 0.1 ms of any ramp used here


@dataclass(frozen=True, slots=True)
class TempoMap:
    """Beats -> seconds, strictly increasing.

    Attributes:
        beats: (K,) knots.
        seconds: (K,) their times; linear between, extrapolated at the end tempos.
        breaks: (beat, seconds) of silence inserted just before a beat.
    """

    beats: NDArray[np.float64]
    seconds: NDArray[np.float64]
    breaks: tuple[tuple[float, float], ...] = ()

    def time_of(self, beats: ArrayLike, before_break: bool = False) -> NDArray[np.float64]:
        """Return the time [s] of beats of any shape; at a break, its end, or its start if `before_break`."""
        b = np.asarray(beats, dtype=np.float64)
        index = np.clip(np.searchsorted(self.beats, b, side="right") - 1, 0, len(self.beats) - 2)
        slope = np.diff(self.seconds) / np.diff(self.beats)
        at = self.seconds[index] + (b - self.beats[index]) * slope[index]
        for beat, duration in self.breaks:
            at = at + duration * (b > beat if before_break else b >= beat)
        return at

    def silences(self) -> list[tuple[float, float]]:
        """Return (start, end) [s] of each break."""
        return [(float(self.time_of(b, before_break=True)), float(self.time_of(b))) for b, _ in self.breaks]

    def with_break(self, beat: float, seconds: float) -> TempoMap:
        """Return a map that is silent for `seconds` just before `beat`."""
        return replace(self, breaks=(*self.breaks, (float(beat), float(seconds))))


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of beats whose tempo runs linearly (in beats) from one value to another."""

    beats: float
    start_bpm: float
    end_bpm: float


def steady(bpm: float, beats: float) -> TempoMap:
    """Return a constant tempo."""
    return from_segments([Segment(beats, bpm, bpm)])


def ramp(start_bpm: float, end_bpm: float, beats: float, hold_beats: float = 0.0) -> TempoMap:
    """Return a tempo that holds, then runs to another within what is left of `beats`."""
    held = [Segment(hold_beats, start_bpm, start_bpm)] if hold_beats > 0 else []
    return from_segments([*held, Segment(beats - hold_beats, start_bpm, end_bpm)])


def jump(bpms: Sequence[float], beats_each: float) -> TempoMap:
    """Return a tempo that changes at once every `beats_each` beats."""
    return from_segments([Segment(beats_each, bpm, bpm) for bpm in bpms])


def from_segments(segments: Sequence[Segment]) -> TempoMap:
    """Join segments; t(b) is the exact integral of 60 / tempo at the knots."""
    beats, seconds = [0.0], [0.0]
    for segment in segments:
        local = np.linspace(0.0, segment.beats, max(2, round(segment.beats * _KNOTS_PER_BEAT) + 1))[1:]
        slope = (segment.end_bpm - segment.start_bpm) / segment.beats
        if abs(slope) < 1e-9:
            at = 60.0 * local / segment.start_bpm
        else:
            at = 60.0 / slope * np.log1p(slope * local / segment.start_bpm)
        start_beat, start_s = beats[-1], seconds[-1]
        beats.extend(start_beat + local)
        seconds.extend(start_s + at)
    return TempoMap(np.array(beats), np.array(seconds))


def rubato(
    bpm: float, beats: float, rng: np.random.Generator, spread: float = 0.06, wander_beats: float = 8.0
) -> TempoMap:
    """Return a human tempo: its logarithm is a mean-reverting random walk.

    Args:
        bpm: about which it wanders.
        beats: length.
        rng: source of chance.
        spread: standard deviation as a share of the tempo (0.01 a good band, 0.03 a live band, 0.08 rubato).
        wander_beats: correlation length.
    """
    keep = np.exp(-1.0 / wander_beats)
    count = int(np.ceil(beats)) + 2
    kicks = rng.normal(0.0, spread * np.sqrt(1.0 - keep**2), count)
    log_tempo = np.empty(count)
    log_tempo[0] = rng.normal(0.0, spread)
    for n in range(1, count):
        log_tempo[n] = keep * log_tempo[n - 1] + kicks[n]
    knots = np.arange(int(np.ceil(beats)) * _KNOTS_PER_BEAT + 1) / _KNOTS_PER_BEAT
    period = 60.0 / bpm * np.exp(-np.interp(knots, np.arange(count), log_tempo))
    steps = (period[1:] + period[:-1]) / (2.0 * _KNOTS_PER_BEAT)
    return TempoMap(knots, np.concatenate([[0.0], np.cumsum(steps)]))


def from_beat_times(seconds: ArrayLike) -> TempoMap:
    """Return the map whose beat n is at seconds[n], e.g. of an annotated performance."""
    at = np.asarray(seconds, dtype=np.float64)
    return TempoMap(np.arange(len(at), dtype=np.float64), at)
