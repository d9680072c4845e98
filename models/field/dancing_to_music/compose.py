"""Dancing on the stage: sequences of units composed to the style heard, each stretched to the beats that are predicted.

A kinematic-beat interval lasts one beat of the music, as in the published code; in the dances learnt from it does, too
(medians by style: 0.9 to 1.3 beats). So a unit of four begins on a beat and is over four beats later. Nothing of the
future is needed: the beat is the engine's prediction, and the style is that of the music so far. What is played now was
decided at the beginning of its sequence, though: a change in the music is danced when the sequence is over.

Pure NumPy over a `UnitModel`, so that training, evaluation and the stage dance by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.types import TICKS_PER_BEAT
from models.field.dancing_to_music.tables import UnitTables
from models.field.dancing_to_music.units import stretched
from models.motion.representation import DISPLACEMENT, HEADING

Floats = NDArray[np.float32]

CHUNK_TICKS = 4
"""As our own model's: a unit is made at once, and handed over in parts."""


class UnitModel(Protocol):
    """The networks as a dancer uses them."""

    def compose(self, music: Floats, noise: Floats) -> Floats:
        """Return the movements (N, m) of a sequence of units to the music heard (W, M) and noise (n,)."""
        ...

    def next_unit(self, pose: Floats, movement: Floats, noise: Floats) -> Floats:
        """Return the unit (poses, 152) that follows a pose (152,), given its movement (m,) and noise (i,)."""
        ...


@dataclass(frozen=True)
class UnitPlan:
    """Sizes that a dancer needs.

    Attributes:
        beats: of music that a unit lasts.
        heard_ticks: of music that a sequence is composed to.
        noise, initial_noise: Gaussian numbers that a sequence, and a unit, takes.
    """

    beats: int
    heard_ticks: int
    noise: int
    initial_noise: int


class UnitDancer:
    """One dancer; deterministic for its seed. Threads: one.

    Args:
        model: the networks.
        tables: scales and starts.
        plan: sizes.
        seed: of the first dance.
    """

    def __init__(self, model: UnitModel, tables: UnitTables, plan: UnitPlan, seed: int = 0) -> None:
        self._model, self._tables, self._plan = model, tables, plan
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Begin a new dance, from a calm pose, having heard nothing."""
        self._random = np.random.Generator(np.random.PCG64(seed))
        # Before the music begins there is the average of all music.
        self._heard = np.zeros((self._plan.heard_ticks, self._tables.music_size), np.float32)
        self._pose: Floats | None = None
        self._movements: list[Floats] = []
        self._ready = np.empty((0, len(self._tables.pose_mean)), np.float32)
        self._due_tick: int | None = None

    def hear(self, features: Floats, tempo_bpm: float) -> None:
        """Take the newest rows of music (n, F), one a tick, at a tempo."""
        rows = self._tables.music(features, tempo_bpm)
        self._heard = np.concatenate([self._heard, rows])[-self._plan.heard_ticks :]

    def dance(self, first_tick: int, count: int, style: int | None = None) -> Floats:
        """Return the next tick vectors (count, 152).

        Args:
            first_tick: of them, on the beat timeline; where the timeline was set anew, a new unit begins at once.
            count: of ticks.
            style: whose calm pose a dance begins from; the style that is danced is the one heard.
        """
        if self._pose is None:
            self._pose = self._tables.start(self._random, style)
            self._ready = self._still(self._pose)
        elif self._due_tick is not None and (first_tick - self._due_tick) % TICKS_PER_BEAT:
            self._ready = self._ready[:0]
        while len(self._ready) < count:
            self._ready = np.concatenate([self._ready, self._unit(first_tick + len(self._ready))])
        out, self._ready = self._ready[:count], self._ready[count:]
        self._due_tick = first_tick + count
        return out

    def _unit(self, tick: int) -> Floats:
        """Return the next unit (n, 152), whose first tick is `tick` and whose last is on a beat."""
        plan = self._plan
        if not self._movements:
            noise = self._random.standard_normal(plan.noise, np.float32)
            self._movements = list(self._model.compose(self._heard, noise))
        assert self._pose is not None
        noise = self._random.standard_normal(plan.initial_noise, np.float32)
        unit = self._model.next_unit(self._pose, self._movements.pop(0), noise)
        before, self._pose = self._pose, unit[-1]
        last = (tick - 1) // TICKS_PER_BEAT * TICKS_PER_BEAT + plan.beats * TICKS_PER_BEAT
        return stretched(self._tables.ticks(unit), self._tables.ticks(before[None])[0], last - tick + 1)

    def _still(self, pose: Floats) -> Floats:
        """Return a pose (152,) as a tick vector (1, 152) in which nothing travels."""
        tick = self._tables.ticks(pose[None])
        tick[:, HEADING], tick[:, DISPLACEMENT] = 0.0, 0.0
        return tick


def dance_through(
    dancer: UnitDancer,
    music: Floats,
    tempo_bpm: NDArray[np.float64],
    lookahead_ticks: int,
    seed: int,
    style: int | None,
) -> Floats:
    """Return the dance (T, 152), a tick vector a tick, to music (T, F) that is heard as on the stage.

    Args:
        dancer: is reset.
        music: features, row k ending at tick k; T is cut to whole chunks.
        tempo_bpm: (T,).
        lookahead_ticks: the newest music ends so many ticks before a chunk's first tick.
        seed: of the dance.
        style: whose calm pose it begins from.
    """
    dancer.reset(seed)
    chunks, heard = [], 0
    for tick in range(0, len(music) // CHUNK_TICKS * CHUNK_TICKS, CHUNK_TICKS):
        newest = max(tick - lookahead_ticks + 1, 0)
        if newest > heard:
            dancer.hear(music[heard:newest], float(tempo_bpm[tick]))
            heard = newest
        chunks.append(dancer.dance(tick, CHUNK_TICKS, style))
    return np.concatenate(chunks)
