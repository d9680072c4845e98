"""What the dance -> music model plays to dances it has not learnt from, measured; with the nulls beside.

Each dance is played to with several seeds, as on the stage: causally, from silence, with the movement's energy as a
quantile among the training dances. Beats are the dance's own (`PreparedClip`). The same measures of the transcribed
music that was really danced to, and the ranges of the MIDI corpora, are what the figures are to be compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body.pose_features import PoseFeatureSpec
from engine.types import TICKS_PER_BEAT, TICKS_PER_STEP
from models.dance_to_music.composed import DanceToPlay
from models.dance_to_music.data import pose_rows
from models.data.dataset import PreparedClip
from models.symbolic.music_metrics import (
    MusicMeasures,
    beat_coverage,
    beat_hit,
    onset_tempo_bpm,
    onset_times_s,
    random_shift_null,
    tempo_error,
)
from models.symbolic.step_grid import STEPS_PER_BEAT, StepGrid

Floats = NDArray[np.float64]

_ENERGY_TICKS = TICKS_PER_BEAT
"""The movement's energy is taken over the last beat."""
_COUPLING_STEPS = 8
"""Music and movement are compared as means over two beats: an accent may be answered on the next beat."""
_SHUFFLES = 200
_QUANTILES = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class EnergyScale:
    """Movement energy -> its quantile among dances; table (101,) of energies [body units / s] at 0, 1, ... 100 %."""

    table: Floats

    @staticmethod
    def of(dances: Sequence[NDArray[np.float32]]) -> EnergyScale:
        """Take it from the pose features (T, P) of training dances."""
        return EnergyScale(np.quantile(np.concatenate([movement_energy(rows) for rows in dances]), _QUANTILES))

    def __call__(self, rows: NDArray[np.float32]) -> Floats:
        """Return (T,) the energy of each tick of pose features (T, P), 0 to 1."""
        return np.asarray(np.interp(movement_energy(rows), self.table, _QUANTILES))


def movement_energy(rows: NDArray[np.float32]) -> Floats:
    """Return (T,) mean joint speed [body units / s] over the last beat, of pose features (T, P)."""
    speed = rows[:, PoseFeatureSpec().column("energy")].astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(speed)])
    stop = np.arange(1, len(speed) + 1)
    start = np.maximum(stop - _ENERGY_TICKS, 0)
    return np.asarray((sums[stop] - sums[start]) / (stop - start))


def dance_to_play(clip: PreparedClip, scale: EnergyScale, bar_tick: int, lookahead_ticks: int) -> DanceToPlay:
    """Return a prepared dance as a composer sees it, from its first whole beat on.

    Args:
        clip: the dance.
        scale: of its energy.
        bar_tick: a tick of its timeline that begins a bar.
        lookahead_ticks: the energy told at a step is that of so long before.
    """
    rows = pose_rows(clip)[0]
    first = -clip.first_tick % TICKS_PER_BEAT
    ticks = first + TICKS_PER_STEP * np.arange((clip.ticks - first) // TICKS_PER_STEP)
    bar_steps = STEPS_PER_BEAT * clip.beats_per_bar
    return DanceToPlay(
        rows,
        first,
        np.asarray(clip.tempo_bpm, np.float64)[ticks],
        scale(rows)[np.maximum(ticks - lookahead_ticks, 0)],
        clip.beats_per_bar,
        (bar_tick - clip.first_tick - first) // TICKS_PER_STEP % bar_steps,
    )


@dataclass(frozen=True)
class PlayedFigures:
    """The music played to one dance, measured.

    Attributes:
        name, style, seed: of the dance and the piece.
        steps: length.
        beat_hit, beat_hit_null: share of onsets within 100 ms of a beat of the dance; shifted at random.
        beat_coverage, beat_coverage_null: share of beats with an onset; shifted at random.
        coupling, coupling_null: correlation of loudness with movement energy over two beats; the music shifted at
            random against the dance.
        tempo_error: of the tempo heard in the onsets against the dance's [octaves]; half and double time are right.
        onsets: steps in which drums, bass, chord and lead begin something, per bar.
        measures: of the music itself.
    """

    name: str
    style: str
    seed: int
    steps: int
    beat_hit: float
    beat_hit_null: float
    beat_coverage: float
    beat_coverage_null: float
    coupling: float
    coupling_null: float
    tempo_error: float
    onsets: tuple[float, float, float, float]
    measures: MusicMeasures


def measure(grid: StepGrid, energy: Floats, style: str, seed: int) -> PlayedFigures:
    """Measure music on a dance's own beats; `energy` (S,) of its movement."""
    times = np.concatenate([[0.0], np.cumsum(60.0 / STEPS_PER_BEAT / grid.tempo_bpm.astype(np.float64))])
    beats, onsets = times[:-1:STEPS_PER_BEAT], onset_times_s(grid)
    coupling, null = coupled(loudness(grid), energy, seed)
    bars = grid.steps / grid.steps_per_bar
    begins = [(grid.drums > 0.0).any(axis=1), *(voice >= 0 for voice in (grid.bass, grid.chord, grid.lead))]
    drums, bass, chord, lead = (round(float(b.sum()) / bars, 2) for b in begins)
    return PlayedFigures(
        grid.name,
        style,
        seed,
        grid.steps,
        beat_hit(onsets, beats),
        random_shift_null(beat_hit, onsets, beats),
        beat_coverage(onsets, beats),
        random_shift_null(beat_coverage, onsets, beats),
        coupling,
        null,
        tempo_error(onset_tempo_bpm(grid), float(np.median(grid.tempo_bpm)), octaves=True),
        (drums, bass, chord, lead),
        MusicMeasures.of(grid),
    )


def loudness(grid: StepGrid) -> Floats:
    """Return (S,) the velocities of all that begins in each step, summed: density times velocity."""
    total = grid.drums.sum(axis=1) + grid.bass_velocity + grid.chord_velocity + grid.lead_velocity
    return np.asarray(total, np.float64)


def coupled(music: Floats, energy: Floats, seed: int = 0) -> tuple[float, float]:
    """Return the correlation of two curves (S,) over two beats, and its mean with one shifted at random, wrapped round.

    NaN where one of them is flat.
    """
    kernel = np.full(_COUPLING_STEPS, 1.0 / _COUPLING_STEPS)
    a, b = (np.convolve(x, kernel, "valid") for x in (music, energy))
    if len(a) < 3 * _COUPLING_STEPS or a.std() < 1e-9 or b.std() < 1e-9:
        return float("nan"), float("nan")
    shifts = np.random.default_rng(seed).integers(_COUPLING_STEPS, len(a) - _COUPLING_STEPS, _SHUFFLES)
    null = [np.corrcoef(np.roll(a, int(shift)), b)[0, 1] for shift in shifts]
    return float(np.corrcoef(a, b)[0, 1]), float(np.mean(null))
