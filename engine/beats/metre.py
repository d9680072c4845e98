"""Which beat is the bar's first: a small hidden Markov model that moves once a beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

METRES = (2, 3, 4)
_PRIOR = np.array([0.08, 0.27, 0.65])
"""How common each metre is on a stage, roughly."""
_SLIP = 0.01
"""Chance, at each beat, that the count is lost (a dropped or added beat, a change of metre)."""


class MetreFilter:
    """Posterior over beats per bar and the position in the bar."""

    def __init__(self) -> None:
        self._start = np.concatenate([np.full(m, share / m) for m, share in zip(METRES, _PRIOR, strict=True)])
        self._offset = np.concatenate([[0], np.cumsum(METRES)[:-1]])
        self._previous = np.concatenate([o + (np.arange(m) - 1) % m for o, m in zip(self._offset, METRES, strict=True)])
        self.reset()

    def reset(self) -> None:
        """Believe anything again."""
        self._p: NDArray[np.float64] = self._start.copy()

    def unsettle(self) -> None:
        """Beats have been renumbered: keep little of what was counted."""
        self._p = 0.2 * self._p + 0.8 * self._start

    def step(self, downbeat: float) -> None:
        """Take the chance that the beat just passed was a downbeat."""
        chance = min(max(downbeat, 0.04), 0.9)
        moved = (1 - _SLIP) * self._p[self._previous] + _SLIP * self._start
        likely = np.full(len(moved), 1.0 - chance)
        likely[self._offset] = chance
        self._p = moved * likely
        self._p /= self._p.sum()

    def belief(self) -> tuple[int, int, float]:
        """Return (beats per bar, position of the newest beat with 0 the downbeat, probability of both)."""
        best = int(self._p.argmax())
        metre = int(np.searchsorted(self._offset, best, side="right")) - 1
        return METRES[metre], best - int(self._offset[metre]), float(self._p[best])
