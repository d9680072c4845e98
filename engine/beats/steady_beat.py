"""A long memory for the beat: where tempo holds, a beat is where the last dozens of beats say, not the last two.

The filter forgets within a few beats, so that it can follow anything; on steady music its beat therefore swings by 20 ms
about the true one, and walks off where the music pauses for thought. Here lines of different memory are laid through
the activation's peaks (recursive least squares with exponential forgetting, Haykin, Adaptive Filter Theory, ch. 10).
Each is trusted as it foretold the last beats, so that music that moves is followed by a short memory. While the filter
believes in another beat or tempo the line stands, until what is heard fits the filter's beats better than the line's by
enough (a cumulative sum of log likelihood ratios: Page, "Continuous inspection schemes", 1954).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.beats.beat_filter import Belief


@dataclass(frozen=True)
class SteadySettings:
    """How long and how firmly the beat is remembered; chosen on development music.

    Attributes:
        memories: of each line [beats].
        trust_beats: over how many beats lines are compared.
        noise_hops: standard deviation of a clear peak about the beat.
        doubt_hops: peaks that are further off count less and less.
        reach_beats: peaks further off belong to no beat of the line.
        faintest: an activation below this is no peak.
        floor: what an activation is between events.
        apart_beats, apart_tempo: from here on the filter means another beat or tempo.
        firmness: log likelihood by which another beat must fit better than a line that is old ...
        firm_beats: ... which it is after so many beats.
        credit: the most that a line is ahead, in the same measure.
    """

    memories: tuple[float, ...] = (4.0, 12.0, 36.0)
    trust_beats: float = 8.0
    noise_hops: float = 0.8
    doubt_hops: float = 2.5
    worst_hops: float = 5.0
    dead_hops: float = 1.5
    preference: float = 1.5
    reach_beats: float = 0.12
    faintest: float = 0.1
    floor: float = 0.02
    apart_beats: float = 0.12
    apart_tempo: float = 0.04
    firmness: float = 5.0
    firm_beats: float = 8.0
    credit: float = 2.0
    leak: float = 0.0
    width_hops: float = 1.6
    beat_share: float = 0.06
    lowest: float = 0.15
    highest: float = 6.0
    weight: float = 0.6
    filter_share: float = 0.3
    long_beats: float = 8.0
    steadiness_gain: float = 1.5
    lost_hops: float = 4.0
    lost_merit: float = 10.0
    ahead_hops: float = 11.0
    prior_phase: float = 1.5
    prior_tempo: float = 0.012


_RING = 256


class _Line:
    """Beats at `beat`, `beat + period`, ...: [hops], with the covariance of both."""

    __slots__ = ("_keep", "beat", "merit", "p00", "p01", "p11", "period", "prior")

    def __init__(self, memory: float, prior: float) -> None:
        self.prior = prior
        self._keep = 1.0 - 1.0 / memory
        self.merit = 0.0

    def start(self, beat: float, period: float, phase_hops: float, tempo: float) -> None:
        self.beat, self.period = beat, period
        self.p00, self.p01, self.p11 = phase_hops**2, 0.0, (tempo * period) ** 2
        self.merit = 0.0

    def advance(self) -> None:
        """Go to the next beat."""
        self.beat += self.period
        self.p00 += 2.0 * self.p01 + self.p11
        self.p01 += self.p11

    def correct(self, at: float, noise: float, trust: float, doubt: float, worst: float, dead: float) -> None:
        """Take a peak [hop] of so much noise (variance)."""
        error = at - self.beat
        self.merit = self.merit * trust - min(max(abs(error) - dead, 0.0), worst) ** 2 / noise
        noise *= max(1.0, abs(error) / doubt)
        keep = self._keep
        self.p00, self.p01, self.p11 = self.p00 / keep, self.p01 / keep, self.p11 / keep
        total = self.p00 + noise
        self.beat += self.p00 / total * error
        self.period += self.p01 / total * error
        self.p11 -= self.p01 * self.p01 / total
        self.p01 *= noise / total
        self.p00 *= noise / total


class SteadyBeat:
    """Steadies what the filter believes."""

    def __init__(self, settings: SteadySettings | None = None) -> None:
        self.settings = settings or SteadySettings()
        self._lines = [_Line(memory, 2 * k * self.settings.preference) for k, memory in enumerate(self.settings.memories, 1)]
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._hop = 0
        self._ring = np.zeros(_RING)
        self._known = False
        self._beats = 0
        self._case = 0.0
        self._filter_beat = self._filter_period = 0.0
        self._foretold = 0.0
        self._filter_merit = 0.0
        self._apart = False

    def _mean(self) -> tuple[float, float]:
        s = self.settings
        best = max(line.merit + line.prior for line in self._lines)
        if not self._apart:
            best = max(best, self._filter_merit)
        beat = period = total = 0.0
        for line in self._lines:
            w = math.exp(0.5 * (line.merit + line.prior - best))
            beat, period, total = beat + w * line.beat, period + w * line.period, total + w
        if not self._apart and s.filter_share:
            w = math.exp(0.5 * (self._filter_merit - best)) * s.filter_share
            reference = self._lines[0].beat
            turns = round((reference - self._filter_beat) / self._filter_period)
            beat += w * (self._filter_beat + turns * self._filter_period)
            period, total = period + w * self._filter_period, total + w
        return beat / total, period / total

    def _steadiness(self) -> float:
        s = self.settings
        merits = [line.merit + line.prior for line in self._lines] + [self._filter_merit]
        best = max(merits)
        weights = [math.exp(0.5 * (m - best)) for m in merits]
        long = sum(w for w, memory in zip(weights, s.memories) if memory >= s.long_beats)
        return min(1.0, s.steadiness_gain * long / sum(weights))

    def hear(self, activation: float) -> None:
        """Take one hop's activation."""
        self._hop += 1
        self._ring[self._hop % _RING] = activation
        if not self._known:
            return
        if self._apart or self.settings.leak:
            theirs = self._fit(activation, self._filter_beat, self._filter_period)
            ours = self._fit(activation, self._beat, self._period)
            self._case = max((1.0 - self.settings.leak) * self._case + theirs - ours, -self.settings.credit)
        s = self.settings
        reach = min(s.reach_beats * self._period, 9.0)
        if self._hop >= self._lines[0].beat + reach + 1.0:
            self._look(reach)

    def _fit(self, activation: float, beat: float, period: float) -> float:
        s = self.settings
        on = min(max(activation / s.beat_share, s.lowest), s.highest) ** s.weight
        off = max((1.0 - activation) / (1.0 - s.beat_share), s.lowest) ** s.weight
        turns = (self._hop - beat) / period
        distance = (turns - round(turns)) * period / s.width_hops
        bump = math.exp(-0.5 * distance * distance)
        return math.log(bump * (on - off) + off)

    def _look(self, reach: float) -> None:
        s = self.settings
        beat, _ = self._mean()
        first, last = math.ceil(beat - reach), math.floor(beat + reach)
        hops = np.arange(first, min(last, self._hop) + 1)
        heard = self._ring[hops % _RING]
        top = int(heard.argmax())
        peak = float(heard[top])
        if peak > s.faintest and (0 < top < len(heard) - 1):
            near = slice(max(0, top - 2), top + 3)
            mass = np.maximum(heard[near] - s.floor, 0.0)
            at = float(mass @ hops[near] / mass.sum())
            trust = 1.0 - 1.0 / s.trust_beats
            error = (at - self._foretold) / self._filter_period
            error = (error - round(error)) * self._filter_period
            noise = s.noise_hops**2 * max(1.0, 0.5 / peak)
            self._filter_merit = self._filter_merit * trust - min(max(abs(error) - s.dead_hops, 0.0), s.worst_hops)**2 / noise
            for line in self._lines:
                line.correct(at, s.noise_hops**2 * max(1.0, 0.5 / peak), trust, s.doubt_hops, s.worst_hops, s.dead_hops)
        self._beat, self._period = self._mean()
        best = max(self._filter_merit, *(line.merit for line in self._lines))
        for line in self._lines:
            if abs(line.beat - self._beat) > s.lost_hops and line.merit < best - s.lost_merit:
                line.start(self._beat, self._period, s.prior_phase, s.prior_tempo)
                line.merit = -(s.doubt_hops**2) / s.noise_hops**2
            line.advance()
        self._beats += 1
        self._beat, self._period = self._mean()

    def refine(self, belief: Belief) -> Belief:
        """Return the belief to act upon."""
        s = self.settings
        beat, period = self._hop - belief.phase * belief.period_hops, belief.period_hops
        self._filter_beat, self._filter_period = beat, period
        if self._known and self._hop <= self._lines[0].beat - s.ahead_hops:
            self._foretold = beat
        if not self._known:
            self._start(beat, period)
            return belief
        turns = (beat - self._beat) / self._period
        ratio = period / self._period
        apart = abs(ratio - 1.0) > s.apart_tempo or abs(turns - round(turns)) > s.apart_beats
        if not apart:
            if not s.leak:
                self._case = 0.0
        elif (
            min(abs(ratio - 2.0), 2.0 * abs(ratio - 0.5)) < 2.0 * s.apart_tempo
            or self._case > s.firmness * min(1.0, self._beats / s.firm_beats) * self._steadiness()
        ):
            self._start(beat, period)
            return belief
        self._apart = apart
        self._beat, self._period = self._mean()
        phase = (self._hop - self._beat) / self._period % 1.0
        return Belief(phase, self._period, belief.probability)

    def _start(self, beat: float, period: float) -> None:
        s = self.settings
        self._known, self._beats, self._case, self._apart = True, 0, 0.0, False
        while beat + 2.0 < self._hop:
            beat += period
        for line in self._lines:
            line.start(beat, period, s.prior_phase, s.prior_tempo)
        self._beat, self._period = beat, period
        self._foretold, self._filter_merit = beat, 0.0
