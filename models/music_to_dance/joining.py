"""Phrases of real dance put one after the other, each blended over eight ticks with how the last would have gone on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.motion.representation import TICK_SIZE

Floats = NDArray[np.float32]

BLEND_TICKS = 8
"""Two thirds of a beat: shorter jolts, longer smears a step."""


@dataclass(frozen=True)
class Phrase:
    """Ticks [start, stop) of a dance (T, 152), of which `BLEND_TICKS` more are known."""

    ticks: Floats
    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= len(self.ticks) - BLEND_TICKS:
            raise ValueError(f"phrase [{self.start}, {self.stop}) of {len(self.ticks)} ticks leaves none to blend")


def join(phrases: Sequence[Phrase]) -> Floats:
    """Return the phrases as one run of tick vectors: displacements and headings are per tick, so they just follow."""
    out = np.empty((sum(p.stop - p.start for p in phrases), TICK_SIZE), np.float32)
    at, before = 0, None
    for phrase in phrases:
        own = phrase.ticks[phrase.start : phrase.stop].copy()
        if before is not None:
            rest = before.ticks[before.stop : before.stop + BLEND_TICKS]
            count = min(len(own), BLEND_TICKS)
            share = (np.arange(count) + 1.0) / (BLEND_TICKS + 1.0)
            share = (share * share * (3.0 - 2.0 * share)).astype(np.float32)[:, None]
            own[:count] = rest[:count] + share * (own[:count] - rest[:count])
        out[at : at + len(own)] = own
        at, before = at + len(own), phrase
    return out
