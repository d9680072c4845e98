"""Music that a composer makes to a whole dance, offline, as a step grid to measure and to write as MIDI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.protocols import Composer
from engine.types import TICKS_PER_STEP, Key, MusicRequest, MusicStep, VoiceStep
from models.symbolic.chords import match_pitches
from models.symbolic.step_grid import HOLD, REST, StepGrid, empty, without_leading_hold

_SOFTEST = 1.0 / 127.0


@dataclass(frozen=True)
class DanceToPlay:
    """What a composer is given of a dance of S steps.

    Attributes:
        poses: (T, P) pose features, row k of tick k; step 0 begins at tick `first_tick`.
        first_tick: row of the first step.
        tempo_bpm: (S,).
        energy: (S,) movement energy 0 to 1.
        beats_per_bar: None while unknown.
        bar_step: a step that begins a bar; step 0 lies on a beat.
        key: wished, or None.
        density: wished.
    """

    poses: NDArray[np.float32]
    first_tick: int
    tempo_bpm: NDArray[np.floating]
    energy: NDArray[np.floating]
    beats_per_bar: int | None
    bar_step: int
    key: Key | None = None
    density: float = 0.5

    def request(self, step: int, lookahead_ticks: int) -> MusicRequest:
        """Return what is asked for at a step."""
        newest = self.first_tick + TICKS_PER_STEP * step - lookahead_ticks
        rows = np.clip(np.arange(newest - TICKS_PER_STEP + 1, newest + 1), 0, len(self.poses) - 1)
        return MusicRequest(
            step=step,
            poses=self.poses[rows],
            tempo_bpm=float(self.tempo_bpm[step]),
            beats_per_bar=self.beats_per_bar,
            bar_step=self.bar_step,
            key=self.key,
            energy=float(self.energy[step]),
            density=self.density,
        )


def compose(composer: Composer, dance: DanceToPlay, seed: int, name: str, split: str) -> StepGrid:
    """Play to a whole dance from the beginning; return the music as a grid."""
    composer.reset(seed)
    ahead = composer.info.lookahead_ticks
    steps = [composer.step(dance.request(step, ahead)) for step in range(len(dance.tempo_bpm))]
    return grid_of(steps, dance.tempo_bpm, dance.beats_per_bar or 4, dance.bar_step, name, composer.info.name, split)


def grid_of(
    steps: Sequence[MusicStep],
    tempo_bpm: ArrayLike,
    beats_per_bar: int,
    bar_step: int,
    name: str,
    source: str,
    split: str,
) -> StepGrid:
    """Return steps as a grid; chords become the chord class that fits them best."""
    grid = empty(len(steps), tempo_bpm, beats_per_bar, bar_step, name, source, split)
    drums = np.stack([np.asarray(step.drums) for step in steps])
    bass, bass_velocity = _line([s.bass for s in steps], chords=False)
    chord, chord_velocity = _line([s.chord for s in steps], chords=True)
    lead, lead_velocity = _line([s.lead for s in steps], chords=False)
    return replace(
        grid,
        drums=drums,
        bass=bass,
        bass_velocity=bass_velocity,
        chord=chord,
        chord_velocity=chord_velocity,
        lead=lead,
        lead_velocity=lead_velocity,
    )


def _line(steps: Sequence[VoiceStep], *, chords: bool) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    values = np.full(len(steps), REST, np.int16)
    velocity = np.zeros(len(steps), np.float32)
    for index, step in enumerate(steps):
        value = match_pitches(step.pitches) if chords else max(step.pitches, default=None)
        if value is not None:
            values[index], velocity[index] = value, max(step.velocity, _SOFTEST)
        elif step.hold and index > 0 and values[index - 1] != REST:
            values[index] = HOLD
    return without_leading_hold(values), velocity
