"""Phrases: what a dancer is about to do for the next bars, as a few numbers.

A model that only knows its own past settles into one loop. So a dance is planned in phrases: while learning, each
phrase of the real dance is described by statistics of its motion (where the limbs are, how much they vary, how it
turns and travels), and on the stage descriptors of real phrases are drawn, by seed, style and wished energy, one
after the other. The network fills them with motion.

Pure NumPy: the stage uses it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.types import TICKS_PER_BEAT
from models.motion.representation import CONTACTS, HEADING, HEIGHT, TICK_SIZE, tick_weights
from models.music_to_dance.conditioning import PHRASE_SIZE

_POSE_COMPONENTS = 12
_ENERGY_SPREAD = 0.12
"""Phrases within about this much of the wished energy (a quantile) are likely to be drawn."""
_PHRASE_BEATS = 8
_PHRASE_ENERGY_SPREAD = 0.35
"""Dancers do not keep one energy: phrases vary by this much (deviation) about the wish."""
_REPLAN_ENERGY = 0.25
"""A wished energy that moved by this much begins a new phrase at once: a drop cannot wait for the phrase's end."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PhraseSpace:
    """Maps windows of motion to descriptors.

    Attributes:
        mean: (152,) of the tick vectors.
        projection: (152, U) to the tick statistics that are averaged.
        statistics_mean: (2 U,) of window means and deviations.
        whitening: (2 U, PHRASE_SIZE).
    """

    mean: Floats
    projection: Floats
    statistics_mean: Floats
    whitening: Floats

    @staticmethod
    def fit(motions: Sequence[Floats], window_ticks: int) -> PhraseSpace:
        """Fit to motions (T, 152), on windows of `window_ticks`."""
        data = np.concatenate(motions).astype(np.float64)
        weights = tick_weights().astype(np.float64)
        weights[CONTACTS] = 0.0
        moves = slice(HEIGHT, HEADING + 3)
        pose_weights = weights.copy()
        pose_weights[moves] = 0.0
        mean = data.mean(axis=0)
        centred = (data - mean) * pose_weights
        _, axes = np.linalg.eigh(centred.T @ centred)
        projection = np.zeros((TICK_SIZE, _POSE_COMPONENTS + 4))
        projection[:, :_POSE_COMPONENTS] = pose_weights[:, None] * axes[:, ::-1][:, :_POSE_COMPONENTS]
        # Heights, turns and steps are small per tick and add up: they weigh as much as the first pose components.
        spread = np.std(centred @ axes[:, -1])
        for column, entry in enumerate(range(HEIGHT, HEADING + 3)):
            projection[entry, _POSE_COMPONENTS + column] = spread / max(float(data[:, entry].std()), 1e-6)
        space = PhraseSpace(
            mean.astype(np.float32),
            projection.astype(np.float32),
            np.zeros(2 * projection.shape[1], np.float32),
            np.zeros((2 * projection.shape[1], PHRASE_SIZE), np.float32),
        )
        windows = []
        for motion in motions:
            sums = space.cumulative(motion)
            starts = np.arange(0, len(motion) - window_ticks, 12)
            windows.append(space._statistics(sums, starts, starts + window_ticks))
        statistics = np.concatenate(windows)
        centre = statistics.mean(axis=0)
        variance, directions = np.linalg.eigh(np.cov((statistics - centre).T))
        variance, directions = variance[::-1][:PHRASE_SIZE], directions[:, ::-1][:, :PHRASE_SIZE]
        return PhraseSpace(
            space.mean,
            space.projection,
            centre.astype(np.float32),
            (directions / np.sqrt(variance)).astype(np.float32),
        )

    def cumulative(self, ticks: Floats) -> NDArray[np.float64]:
        """Return running sums (T + 1, 2 U) from which any window's descriptor follows."""
        projected = ((ticks - self.mean) @ self.projection).astype(np.float64)
        both = np.concatenate([projected, projected**2], axis=1)
        return np.concatenate([np.zeros((1, both.shape[1])), np.cumsum(both, axis=0)])

    def describe(self, cumulative: NDArray[np.float64], start: NDArray[np.intp], stop: NDArray[np.intp]) -> Floats:
        """Return descriptors (n, PHRASE_SIZE) of the windows [start, stop), each (n,)."""
        statistics = self._statistics(cumulative, start, stop) - self.statistics_mean
        return np.asarray(statistics @ self.whitening, np.float32)

    def _statistics(
        self, cumulative: NDArray[np.float64], start: NDArray[np.intp], stop: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        size = self.projection.shape[1]
        mean = (cumulative[stop] - cumulative[start]) / np.maximum(stop - start, 1)[:, None]
        deviation = np.sqrt(np.maximum(mean[:, size:] - mean[:, :size] ** 2, 1e-9))
        return np.concatenate([mean[:, :size], deviation], axis=1)


@dataclass(frozen=True)
class PhraseTable:
    """Descriptors of real phrases, to draw from.

    Attributes:
        descriptors: (n, PHRASE_SIZE).
        styles: (n,) index in `models.music_to_dance.conditioning.STYLES`.
        energies: (n,) quantile of the phrase's movement energy within its style.
    """

    descriptors: Floats
    styles: NDArray[np.int32]
    energies: Floats

    def draw(self, random: np.random.Generator, style: int | None, energy: float) -> Floats:
        """Draw a descriptor (PHRASE_SIZE,) of a style (any if None, or if it was never danced), near an energy."""
        rows = np.flatnonzero(self.styles == style) if style in self.styles else np.arange(len(self.styles))
        distance = (self.energies[rows] - energy) / _ENERGY_SPREAD
        # The nearest phrase always has weight 1, so that an extreme wish still finds one.
        likelihood = np.exp(-0.5 * (distance**2 - np.min(distance**2)))
        edges = np.cumsum(likelihood)
        row = rows[int(np.searchsorted(edges, random.random() * edges[-1], side="right").clip(0, len(rows) - 1))]
        return self.descriptors[row]


@dataclass(frozen=True)
class PoseTable:
    """Latents (n, L) of chunks to begin a dance from, and their styles (n,); a dance likes to go on as it began."""

    latents: Floats
    styles: NDArray[np.int32]

    def draw(self, random: np.random.Generator, style: int | None) -> Floats:
        """Draw a latent (L,) of a style, or of the first, most danced one without a wish that can be granted."""
        rows = np.flatnonzero(self.styles == (style if style in self.styles else self.styles[0]))
        return self.latents[rows[int(random.integers(len(rows)))]]


class PhrasePlanner:
    """Says which phrase is being danced: a new one every eight beats, rounded to bars, by seed, style and energy."""

    def __init__(self, table: PhraseTable, random: np.random.Generator) -> None:
        self._table, self._random = table, random
        self._descriptor: Floats = np.zeros(PHRASE_SIZE, np.float32)
        self._end_tick: int | None = None
        self._style: int | None = None
        self._wish = 0.0
        self._deviation = 0.0

    def phrase(
        self, first_tick: int, beats_per_bar: int | None, bar_tick: int, style: int | None, energy: float
    ) -> tuple[Floats, float]:
        """Return the descriptor (PHRASE_SIZE,) and the energy of the chunk at `first_tick`.

        A new phrase is drawn where one ends, where the performer wishes for another style or energy, and where the
        clock of the dance was set anew. Its energy is the wish, give or take what phrases vary by.
        """
        bar = TICKS_PER_BEAT * (beats_per_bar or 4)
        length = max(1, round(_PHRASE_BEATS * TICKS_PER_BEAT / bar)) * bar
        running = self._end_tick is not None and first_tick < self._end_tick <= first_tick + length
        if not running or style != self._style or abs(energy - self._wish) > _REPLAN_ENERGY:
            self._style, self._wish = style, energy
            self._deviation = _PHRASE_ENERGY_SPREAD * float(self._random.standard_normal())
            self._descriptor = self._table.draw(self._random, style, min(max(energy + self._deviation, 0.0), 1.0))
            origin = bar_tick if beats_per_bar else 0
            self._end_tick = first_tick - (first_tick - origin) % bar + length
        return self._descriptor, min(max(energy + self._deviation, 0.0), 1.0)
