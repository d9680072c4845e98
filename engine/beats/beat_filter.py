"""Where in the beat are we, and how fast: a forward filter over tempo and phase.

After the bar-pointer model in the state space of Krebs, Böck and Widmer ("An efficient state-space model for joint
tempo and meter tracking", ISMIR 2015), one beat long and run forward only: each tempo has as many states as its beat
has hops, and may change only on the beat. Added here: a small chance of starting anew anywhere (a tempo jump costs a
few beats of evidence, not a minute), a broad prior on tempo, evidence on tempo from elsewhere, and rests that keep
the phase.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.beats.spectrum import HOPS_PER_S

_PERIODS = np.concatenate([np.arange(28, 60), np.arange(60, 111, 2)])
"""Beat periods in hops: 214 down to 54.5 bpm, 1.7 to 3.6 % apart."""


@dataclass(frozen=True)
class FilterSettings:
    """What the filter believes about music; chosen on development music.

    Attributes:
        tempo_rigidity: a period changes from beat to beat by x with a chance falling as exp(-rigidity |x|).
        tempo_jump: chance, at each beat, of any other tempo.
        restart: chance, in each hop, of any other tempo and phase.
        beat_share: activation that says nothing either way (how often a hop is on a beat, about).
        weight: exponent of the likelihood; neighbouring hops say the same thing, so it is below 1.
        lowest, highest: limits of a hop's likelihood ratio: one missing or false onset must not kill a hypothesis.
        prior_bpm, prior_octaves: centre and width of the log-normal prior on tempo.
        width_hops: standard deviation of an activation peak.
        tempo_weight: exponent of outside evidence on tempo, for each half second of it.
        between_bpm, between_steepness: what falls midway between two beats often looks like a beat, the more often the
            slower the music: with a chance of 1/2 at this tempo, falling with this power of the tempo.
    """

    tempo_rigidity: float = 60.0
    tempo_jump: float = 0.002
    restart: float = 2e-5
    beat_share: float = 0.06
    weight: float = 0.6
    lowest: float = 0.15
    highest: float = 6.0
    prior_bpm: float = 112.0
    prior_octaves: float = 0.55
    width_hops: float = 1.2
    tempo_weight: float = 1.0
    between_bpm: float = 55.0
    between_steepness: float = 4.0


def evidence(activation: float, settings: FilterSettings) -> tuple[float, float]:
    """Return how likely a hop's activation in [0, 1] is on a beat and off it, relative to each other."""
    s = settings
    on = min(max(activation / s.beat_share, s.lowest), s.highest) ** s.weight
    off = max((1.0 - activation) / (1.0 - s.beat_share), s.lowest) ** s.weight
    return on, off


@dataclass(frozen=True, slots=True)
class Belief:
    """The hypothesis that the filter stands by.

    Attributes:
        phase: of the beat at the newest observation, [0, 1).
        period_hops: beat period.
        probability: posterior mass on this tempo (within 5 %) and phase (within 0.15 beat).
    """

    phase: float
    period_hops: float
    probability: float


class BeatFilter:
    """Posterior over beat period and phase, updated once a hop (10 ms).

    Args:
        settings: see there.
    """

    def __init__(self, settings: FilterSettings | None = None) -> None:
        self.settings = s = settings or FilterSettings()
        self.periods = _PERIODS
        count = len(self.periods)
        spacing = np.gradient(np.log(self.periods))
        self._first = np.concatenate([[0], np.cumsum(self.periods)[:-1]])
        self._last = self._first + self.periods - 1
        position = np.concatenate([np.arange(n) for n in self.periods])
        length = np.repeat(self.periods, self.periods)
        self._row = np.repeat(np.arange(count), self.periods)
        self._phase = (position / length).astype(np.float32)
        turn = np.exp(2j * np.pi * self._phase)
        self._cos, self._sin = turn.real.astype(np.float32), turn.imag.astype(np.float32)
        bpm = 60.0 * HOPS_PER_S / self.periods
        distance = np.minimum(position, length - position)
        midway = np.exp(-0.5 * ((position - length / 2) / s.width_hops) ** 2)
        between = 1.0 / (1.0 + (bpm / s.between_bpm) ** s.between_steepness)
        bump = np.exp(-0.5 * (distance / s.width_hops) ** 2) + midway * between[self._row]
        self._bump = bump.astype(np.float32)
        self._length = length.astype(np.float32)

        prior = np.exp(-0.5 * (np.log2(bpm / s.prior_bpm) / s.prior_octaves) ** 2) * spacing
        self._tempo_prior = (prior / prior.sum()).astype(np.float32)
        self._prior = (self._tempo_prior / self.periods).astype(np.float32)[self._row]
        ratio = self.periods[None, :] / self.periods[:, None]
        move = np.exp(-s.tempo_rigidity * np.abs(ratio - 1)) * spacing
        move /= move.sum(axis=1, keepdims=True)
        self._move = ((1 - s.tempo_jump) * move + s.tempo_jump * self._tempo_prior).astype(np.float32)
        close = np.abs(ratio - 1) < 0.055
        self._cluster = [(int(r.argmax()), int(count - 1 - r[::-1].argmax())) for r in close]
        self._edges = (self.periods[1:] + self.periods[:-1]) / 2
        self._bins = (self._phase * _PHASE_BINS).astype(np.intp)
        self.reset()

    def reset(self) -> None:
        """Believe anything again."""
        self._p = self._prior.copy()
        self._next = np.empty_like(self._p)
        self._belief: Belief | None = None
        self._age_hops = 0

    def step(self, activation: float) -> None:
        """Take the chance in [0, 1] that this hop is on a beat."""
        s = self.settings
        self._age_hops += 1
        p, new = self._p, self._next
        new[1:] = p[:-1]
        new[self._first] = p[self._last] @ self._move
        on, off = evidence(activation, s)
        new *= self._bump * np.float32(on - off) + np.float32(off)
        # The restart is mixed in after the evidence: a fresh guess has no say in this hop yet.
        total = float(new.sum())
        new *= np.float32((1.0 - s.restart) / total)
        new += self._prior * np.float32(s.restart)
        self._p, self._next = new, p

    def hear_tempo(self, chances: NDArray[np.float64], hops: int) -> None:
        """Take evidence on the tempo that stands for so many hops: relative chances (P,) > 0 of `periods`."""
        self._p *= (chances ** (self.settings.tempo_weight * hops / 50.0)).astype(np.float32)[self._row]
        self._p /= self._p.sum()

    def belief(self) -> Belief:
        """Return the present hypothesis; it is changed only for one clearly more probable than before."""
        tempo = np.add.reduceat(self._p, self._first)
        best = self._around(int(np.convolve(tempo, _NEIGHBOURS, "same").argmax()), None)
        if self._belief is not None:
            expected = (self._belief.phase + self._age_hops / self._belief.period_hops) % 1.0
            kept = self._around(int(np.searchsorted(self._edges, self._belief.period_hops)), expected)
            if kept.probability > _LOYALTY * best.probability:
                best = kept
        self._belief, self._age_hops = best, 0
        return best

    def _around(self, row: int, phase: float | None) -> Belief:
        """Return the posterior mean within 5 % of a period and 0.15 beat of a phase (None: the best)."""
        low, high = self._cluster[row]
        span = slice(self._first[low], self._last[high] + 1)
        p = self._p[span]
        if phase is None:
            histogram = np.bincount(self._bins[span], weights=p, minlength=_PHASE_BINS)
            wide = histogram + np.roll(histogram, 1) + np.roll(histogram, -1)
            phase = (float(wide.argmax()) + 0.5) / _PHASE_BINS
        angle = 2 * np.pi * phase
        along = self._cos[span] * np.float32(np.cos(angle)) + self._sin[span] * np.float32(np.sin(angle))
        p = p * (along > _NEAR_COS)
        mass = float(p.sum())
        if mass < 1e-12:
            return Belief(phase % 1.0, float(self.periods[row]), 0.0)
        mean_phase = float(np.arctan2(p @ self._sin[span], p @ self._cos[span]) / (2 * np.pi)) % 1.0
        return Belief(mean_phase, float(p @ self._length[span]) / mass, mass)

    def rest(self, hops: int) -> None:
        """Let a silence pass: the beat may have gone on, may begin anywhere at the old tempo, or be another one."""
        held = self._p
        out = np.empty_like(held)
        for row, period in enumerate(self.periods):
            start = self._first[row]
            out[start : start + period] = np.roll(held[start : start + period], hops % period)
        self._age_hops += hops
        tempo = np.add.reduceat(held, self._first)
        anywhere = (tempo / self.periods).astype(np.float32)[self._row]
        keep = 0.5 * 0.5 ** (hops / _REST_HALF_LIFE_HOPS)
        self._p = np.float32(keep) * out + np.float32(0.7 - keep) * anywhere + np.float32(0.3) * self._prior


_PHASE_BINS = 48
_NEIGHBOURS = np.array([1.0, 1.0, 1.0])
_NEAR_COS = np.float32(np.cos(2 * np.pi * 0.15))
_LOYALTY = 0.7
"""The present hypothesis stays until another is 1 / 0.7 times as probable: beliefs should not flicker."""
_REST_HALF_LIFE_HOPS = 800
"""After 8 s of silence it is half as likely that the beat has gone on."""
