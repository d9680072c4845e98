"""A long memory for the beat: where tempo holds, the beat is where the last dozens of beats say, not the last two.

The filter forgets within a few beats, so that it can follow anything; on steady music its beat therefore swings by some
20 ms about the true one, and walks off where the music leaves beats out. Here lines of different memory are laid
through the peaks of the activation (recursive least squares with exponential forgetting: Haykin, "Adaptive Filter
Theory", chapter 10). They and the filter are trusted as they foretold the last beats: the longest memory as long as it
errs no more than players scatter, the filter where the tempo moves. While the filter believes in another beat or tempo
the lines stand, until what is heard fits the filter's beats better by enough (a cumulative sum of log likelihood
ratios: Page, "Continuous inspection schemes", Biometrika 1954).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.beats.beat_filter import Belief, FilterSettings, evidence


@dataclass(frozen=True)
class SteadySettings:
    """How long and how firmly the beat is remembered; chosen on development music.

    Attributes:
        memories: of each line, shortest first [beats].
        preference: by which each line is preferred to the next shorter one (log odds), all else equal.
        filter_share: how much the filter counts beside them, all else equal.
        trust_beats: over how many beats their errors are compared.
        scatter_hops: so far from the beat players play; only what exceeds it counts as an error in that comparison ...
        worst_hops: ... and at most so much.
        noise_hops: standard deviation of a clear peak; fainter ones vary more.
        doubt_hops: peaks further off than this move a line the less.
        reach_beats: peaks further off than this belong to no beat of the lines.
        apart_beats, apart_tempo: from here on the filter means another beat, or another tempo.
        firmness: by so much (log likelihood) the filter's beats must fit better to overthrow old lines ...
        firm_beats: ... which they are after so many beats.
        credit: the lines never start with a greater lead in this measure.
    """

    memories: tuple[float, ...] = (4.0, 12.0, 36.0)
    preference: float = 1.5
    filter_share: float = 0.3
    trust_beats: float = 8.0
    scatter_hops: float = 1.5
    worst_hops: float = 5.0
    noise_hops: float = 0.8
    doubt_hops: float = 2.5
    reach_beats: float = 0.12
    apart_beats: float = 0.12
    apart_tempo: float = 0.04
    firmness: float = 5.0
    firm_beats: float = 8.0
    credit: float = 2.0


_RECENT_HOPS = 64
"""Longer than any search for a peak."""
_FARTHEST_HOPS = 9.0
"""However long the beat, a peak further off than this is not looked for."""
_FAINTEST, _CLEAR, _FLOOR = 0.1, 0.5, 0.02
"""Activation of the faintest peak that counts, of a clear one, and of nothing at all."""
_WIDTH_HOPS = 1.6
"""Standard deviation of a peak about a foretold beat."""
_AHEAD_HOPS = 11.0
"""A beat counts as foretold by what was believed so long before its peak: then it is acted upon."""
_LOST_HOPS, _LOST_MERIT, _LOST_BEATS = 4.0, 10.0, 0.2
"""A line so far from what is believed and so much worse, or further still, begins anew from there ..."""
_REBORN_MERIT = -4.0
"""... and so much below the best."""
_FIRST_PHASE_HOPS, _FIRST_TEMPO = 2.0, 0.015
"""How well (standard deviation) the filter's belief is known from which lines begin."""
_STEADY_MEMORY_BEATS = 8.0
"""Music is steady as far as memories longer than this are trusted."""


class _Line:
    """A regular beat: one of its beats and its period [hops], with their covariance."""

    __slots__ = ("_cross", "_keep", "_phase", "_tempo", "beat", "merit", "period", "prior")

    def __init__(self, memory_beats: float, prior: float) -> None:
        self._keep = 1.0 - 1.0 / memory_beats
        self.prior = prior

    def start(self, beat: float, period: float, merit: float) -> None:
        self.beat, self.period, self.merit = beat, period, merit
        self._phase, self._cross, self._tempo = _FIRST_PHASE_HOPS**2, 0.0, (_FIRST_TEMPO * period) ** 2

    def advance(self) -> None:
        """Go on to the next beat."""
        self.beat += self.period
        self._phase += 2.0 * self._cross + self._tempo
        self._cross += self._tempo

    def correct(self, error: float, variance: float) -> None:
        """Move towards a peak so many hops after the beat."""
        keep = self._keep
        phase, cross = self._phase / keep, self._cross / keep
        total = phase + variance
        self.beat += phase / total * error
        self.period += cross / total * error
        self._tempo = self._tempo / keep - cross * cross / total
        self._phase, self._cross = phase * variance / total, cross * variance / total


class SteadyBeat:
    """Steadies what the beat filter believes. Deterministic.

    Args:
        settings: see there.
        filter_settings: of the filter, for what an activation says of a beat.
    """

    def __init__(self, settings: SteadySettings | None = None, filter_settings: FilterSettings | None = None) -> None:
        self.settings = s = settings or SteadySettings()
        self._filter_settings = filter_settings or FilterSettings()
        self._lines = [_Line(memory, (number + 1) * s.preference) for number, memory in enumerate(s.memories)]
        self._filter_prior = math.log(max(s.filter_share, 1e-9))
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._hop = 0
        self._recent = np.zeros(_RECENT_HOPS)
        self._known = self._apart = False
        self._beats = 0
        self._beat = self._period = 0.0
        self._filter_beat = self._filter_period = self._foretold = 0.0
        self._filter_merit = self._case = 0.0

    def hear(self, activation: float) -> None:
        """Take the chance in [0, 1] that this hop is on a beat."""
        self._hop += 1
        self._recent[self._hop % _RECENT_HOPS] = activation
        if not self._known:
            return
        if self._apart:
            on, off = evidence(activation, self._filter_settings)
            theirs = self._fit(on, off, self._filter_beat, self._filter_period)
            ours = self._fit(on, off, self._beat, self._period)
            self._case = max(self._case + theirs - ours, -self.settings.credit)
        reach = min(self.settings.reach_beats * self._period, _FARTHEST_HOPS)
        if self._hop >= self._lines[0].beat + reach + 1.0:
            self._pass_beat(reach)

    def refine(self, belief: Belief) -> Belief:
        """Return what to act upon after the newest hop, given what the filter believes."""
        s = self.settings
        beat, period = self._hop - belief.phase * belief.period_hops, belief.period_hops
        if not self._known:
            self._start(beat, period)
            return belief
        self._filter_beat, self._filter_period = beat, period
        if self._hop <= self._lines[0].beat - _AHEAD_HOPS:
            self._foretold = beat
        ratio, turns = period / self._period, (beat - self._beat) / self._period
        self._apart = abs(ratio - 1.0) > s.apart_tempo or abs(turns - round(turns)) > s.apart_beats
        if not self._apart:
            self._case = 0.0
        else:
            # Twice or half the tempo is no other beat, and the filter knows more of that than peaks on the beat do.
            octave = min(abs(ratio - 2.0), 2.0 * abs(ratio - 0.5)) < 2.0 * s.apart_tempo
            needed = s.firmness * min(1.0, self._beats / s.firm_beats) * self._steadiness()
            if octave or self._case > needed:
                self._start(beat, period)
                return belief
        self._beat, self._period = self._mean()
        return Belief((self._hop - self._beat) / self._period % 1.0, self._period, belief.probability)

    def _start(self, beat: float, period: float) -> None:
        """Begin with what the filter believes."""
        self._known, self._apart = True, False
        self._beats, self._case = 0, 0.0
        beat += max(0, math.ceil((self._hop - 2.0 - beat) / period)) * period
        for line in self._lines:
            line.start(beat, period, 0.0)
        self._beat, self._period = beat, period
        self._filter_beat = self._foretold = beat
        self._filter_period, self._filter_merit = period, 0.0

    def _fit(self, on: float, off: float, beat: float, period: float) -> float:
        """Return the log likelihood of the newest hop's evidence, given beats."""
        turns = (self._hop - beat) / period
        distance = (turns - round(turns)) * period / _WIDTH_HOPS
        return math.log(math.exp(-0.5 * distance * distance) * (on - off) + off)

    def _weights(self) -> list[float]:
        """Return how far each line and, last, the filter is trusted; their sum is 1."""
        odds = [0.5 * line.merit + line.prior for line in self._lines]
        odds.append(0.5 * self._filter_merit + self._filter_prior)
        best = max(odds)
        weights = [math.exp(odd - best) for odd in odds]
        total = sum(weights)
        return [weight / total for weight in weights]

    def _steadiness(self) -> float:
        """Return 1 where the tempo holds, down to 0."""
        *weights, _ = self._weights()
        lines = zip(weights, self.settings.memories, strict=True)
        return sum(weight for weight, memory_beats in lines if memory_beats > _STEADY_MEMORY_BEATS)

    def _mean(self) -> tuple[float, float]:
        """Return the next beat and the period that all agree upon; a filter that means another beat has no say."""
        *weights, filters = self._weights()
        total = sum(weights)
        beat = sum(weight * line.beat for weight, line in zip(weights, self._lines, strict=True))
        period = sum(weight * line.period for weight, line in zip(weights, self._lines, strict=True))
        if not self._apart:
            turns = round((self._lines[0].beat - self._filter_beat) / self._filter_period)
            beat += filters * (self._filter_beat + turns * self._filter_period)
            period += filters * self._filter_period
            total += filters
        return beat / total, period / total

    def _pass_beat(self, reach: float) -> None:
        """Learn from the peak about the beat that has just been, and go on to the next one."""
        beat, _ = self._mean()
        hops = np.arange(math.ceil(beat - reach), min(math.floor(beat + reach), self._hop) + 1)
        heard = self._recent[hops % _RECENT_HOPS]
        top = int(heard.argmax())
        peak = float(heard[top])
        if peak > _FAINTEST and 0 < top < len(heard) - 1:
            around = slice(max(0, top - 2), top + 3)
            mass = np.maximum(heard[around] - _FLOOR, 0.0)
            self._learn(float(mass @ hops[around] / mass.sum()), peak)
        beat, period = self._mean()
        best = max(self._filter_merit, *(line.merit for line in self._lines))
        for line in self._lines:
            far = abs(line.beat - beat)
            if (far > _LOST_HOPS and line.merit < best - _LOST_MERIT) or far > _LOST_BEATS * period:
                line.start(beat, period, best + _REBORN_MERIT)
            line.advance()
        self._beats += 1
        self._beat, self._period = self._mean()

    def _learn(self, at: float, peak: float) -> None:
        """Compare with what was foretold, then move the lines, for a peak of this height at this (part of a) hop."""
        s = self.settings
        variance = s.noise_hops**2 * max(1.0, _CLEAR / peak)
        kept = 1.0 - 1.0 / s.trust_beats

        def judged(merit: float, error: float) -> float:
            return kept * merit - min(max(abs(error) - s.scatter_hops, 0.0), s.worst_hops) ** 2 / variance

        turns = (at - self._foretold) / self._filter_period
        self._filter_merit = judged(self._filter_merit, (turns - round(turns)) * self._filter_period)
        for line in self._lines:
            error = at - line.beat
            line.merit = judged(line.merit, error)
            line.correct(error, variance * max(1.0, abs(error) / s.doubt_hops))
