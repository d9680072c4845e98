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
        weight: exponent of the likelihood; neighbouring hops say the same thing, so it is below 1.
        lowest, highest: limits of a hop's likelihood ratio: one missing or false onset must not kill a hypothesis.
        prior_bpm, prior_octaves: centre and width of the log-normal prior on tempo.
        tempo_weight: exponent, per beat-like half second, of outside evidence on tempo.
    """

    tempo_rigidity: float = 60.0
    tempo_jump: float = 0.01
    restart: float = 2e-4
    weight: float = 0.6
    lowest: float = 0.15
    highest: float = 12.0
    prior_bpm: float = 112.0
    prior_octaves: float = 0.55
    tempo_weight: float = 0.15


PLACES = 13
"""Places in a beat that activations tell apart: 4 hops before the beat to 4 after it, then near its half, its thirds,
its quarters (within 2 hops), and elsewhere."""
PACES = 3
"""Slow (below 85 bpm), middling, fast (above 140): the slower the beat, the more goes on within it."""
_ACTIVATION_EDGES = np.array([0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.11, 0.16, 0.22, 0.3, 0.4, 0.5, 0.62, 0.75, 0.87])
GRADES = len(_ACTIVATION_EDGES) + 1
"""Activations are told apart in so many grades."""


def grade(activation: float) -> int:
    """Return the grade, 0 to GRADES - 1, of an activation."""
    return int(_ACTIVATION_EDGES.searchsorted(activation))


def place(position: NDArray[np.float64], period: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return place + PLACES * pace of positions [hops since the beat, 0 <= position < period] in beats of a period."""
    after = np.round(position).astype(int)
    before = np.round(period - position).astype(int)
    phase = position / period

    def near(*targets: float) -> NDArray[np.bool_]:
        return np.any([np.abs(phase - t) * period <= 2.0 for t in targets], axis=0)

    out = np.select(
        [after <= 4, before <= 4, near(0.5), near(1 / 3, 2 / 3), near(0.25, 0.75)],
        [4 + after, 4 - before, 9, 10, 11],
        12,
    )
    bpm = 60.0 * HOPS_PER_S / period
    return np.asarray(out + PLACES * ((bpm > 85).astype(int) + (bpm > 140)), np.intp)


def bump_likelihoods(share: float = 0.06, width_hops: float = 1.2) -> NDArray[np.float32]:
    """Return likelihood ratios (GRADES, PLACES * PACES) for an activation of which nothing was measured.

    It is taken for the chance of a beat, smeared by a Gaussian; `share` is the activation that says nothing.
    """
    middles = np.concatenate([[0.003], np.sqrt(_ACTIVATION_EDGES[1:] * _ACTIVATION_EDGES[:-1]), [0.93]])[:, None]
    bump = np.zeros(PLACES)
    bump[:9] = np.exp(-0.5 * (np.arange(-4, 5) / width_hops) ** 2)
    ratios = bump * middles / share + (1 - bump) * (1 - middles) / (1 - share)
    return np.tile(ratios, PACES).astype(np.float32)


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
        likelihoods: (GRADES, PLACES * PACES) ratios P(grade | place) / P(grade) of the activation it will be given.
    """

    def __init__(self, settings: FilterSettings | None = None, likelihoods: NDArray[np.float32] | None = None) -> None:
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
        self._place = place(position, length)
        table = bump_likelihoods() if likelihoods is None else likelihoods
        self._table = (np.clip(table, s.lowest, s.highest) ** s.weight).astype(np.float32)
        self._length = length.astype(np.float32)

        bpm = 60.0 * HOPS_PER_S / self.periods
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
        new *= self._table[grade(activation)][self._place]
        # The restart is mixed in after the evidence: a fresh guess has no say in this hop yet.
        total = float(new.sum())
        new *= np.float32((1.0 - s.restart) / total)
        new += self._prior * np.float32(s.restart)
        self._p, self._next = new, p

    def hear_tempo(self, log_chances: NDArray[np.float32], hops: int) -> None:
        """Take evidence on the tempo, (P,) logarithms for `periods`, that stands for so many hops."""
        chances = np.exp((log_chances - log_chances.max()) * (self.settings.tempo_weight * hops / 50.0))
        self._p *= chances.astype(np.float32)[self._row]
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
