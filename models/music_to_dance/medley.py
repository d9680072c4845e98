"""Medleys: training sequences whose dance goes over, phrase by phrase, to other places of other dances.

In a dance as it was danced, what comes next follows from what came before; the plan that the network is told beside
(phrase, energy) says nothing new, and is not listened to: on the stage such a network settles into its favourite loop,
whatever is planned (measured: a phrase's descriptor and what was danced correlate by 0.1). In a medley the phrase that
begins could be any; only the plan tells which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.types import TICKS_PER_BEAT
from models.music_to_dance.joining import BLEND_TICKS

_CANDIDATES = 6
"""Places that are looked at for the next part; the one whose pose is nearest is taken, as a dancer would."""
_SHORTEST_PART_CHUNKS = 9


class MedleyDance(Protocol):
    """What must be known of a dance."""

    latents: NDArray[np.float32]
    first_tick: int
    group: tuple[object, ...]
    """Dances of one group can be mixed: style, metre, side, music or none."""
    bar_tick: int
    bar_ticks: int


@dataclass(frozen=True)
class Part:
    """Chunks [start, stop) of the dance of this index."""

    index: int
    start: int
    stop: int

    @property
    def chunks(self) -> int:
        """How many."""
        return self.stop - self.start


def draw_medley(
    random: np.random.Generator,
    dances: Sequence[MedleyDance],
    first: tuple[int, int],
    chunks: int,
    longest_chunks: int,
    chunk_ticks: int,
) -> list[Part]:
    """Draw parts that together have so many chunks, each going on at the beat of the bar where the last one ends.

    Args:
        random: source of chance.
        dances: to take parts of.
        first: index and first chunk of the first part.
        chunks: of all parts together.
        longest_chunks: of one part.
        chunk_ticks: C.
    """
    index, start = first
    mates = [i for i, d in enumerate(dances) if d.group == dances[index].group]
    parts: list[Part] = []
    left = chunks
    while True:
        wished = int(random.integers(_SHORTEST_PART_CHUNKS, longest_chunks + 1))
        part = Part(index, start, min(start + wished, start + left, _last_chunk(dances[index], chunk_ticks)))
        parts.append(part)
        left -= part.chunks
        if left <= 0:
            return parts
        index, start = _next(random, dances, mates, part, chunk_ticks)


def _next(
    random: np.random.Generator, dances: Sequence[MedleyDance], mates: list[int], part: Part, chunk_ticks: int
) -> tuple[int, int]:
    """Return dance and chunk that the part can go over to: of some drawn places the one with the nearest pose."""
    here = dances[part.index]
    phase = _phase(here, part.stop, chunk_ticks)
    best: tuple[float, int, int] | None = None
    for _ in range(_CANDIDATES):
        index = mates[int(random.integers(len(mates)))]
        dance = dances[index]
        # Chunk 1 is the first that has another before it; the bar comes round every so many chunks.
        every = dance.bar_ticks // chunk_ticks
        begin = 1 + (phase - _phase(dance, 1, chunk_ticks)) // chunk_ticks % every
        places = np.arange(begin, _last_chunk(dance, chunk_ticks) - _SHORTEST_PART_CHUNKS, every)
        if len(places):
            place = int(places[int(random.integers(len(places)))])
            away = float(np.linalg.norm(dance.latents[place - 1] - here.latents[part.stop - 1]))
            if best is None or away < best[0]:
                best = (away, index, place)
    # Dances too short to be entered anywhere: on with this one, or again from its beginning.
    return (best[1], best[2]) if best is not None else (part.index, 1)


def _phase(dance: MedleyDance, chunk: int, chunk_ticks: int) -> int:
    return (dance.first_tick + chunk * chunk_ticks - dance.bar_tick) % dance.bar_ticks


def _last_chunk(dance: MedleyDance, chunk_ticks: int) -> int:
    """Return the first chunk that a part must not have: what follows it is blended with the next part."""
    return len(dance.latents) - -(-BLEND_TICKS // chunk_ticks)


def bar_of(beats_per_bar: int | None, bar_tick: int | None) -> tuple[int, int]:
    """Return (a tick at which a bar begins, its ticks); where the bar is not known, a beat is one."""
    if beats_per_bar is None or bar_tick is None:
        return 0, TICKS_PER_BEAT
    return bar_tick, TICKS_PER_BEAT * beats_per_bar
