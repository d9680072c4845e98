"""From the transcription network's chances to definite notes, chords, strokes and bars."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.types import DRUMS
from models.symbolic.keys import estimate_key, pitch_class_weights
from models.symbolic.step_grid import HOLD, REST, STEPS_PER_BEAT, StepGrid, empty

STATE_REST, STATE_BEGIN, STATE_HOLD = 0, 1, 2
CHORDS = 97
"""Chord classes, and at the end: no chord."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Chances:
    """What was heard in S steps; logits, as in `models.symbolic.transcription_network.Heard`.

    Attributes:
        drums, drum_velocity: (S, 9).
        bass_state, lead_state: (S, 3). bass_pitch, lead_pitch: (S, P), from MIDI pitch `*_lowest` up.
        chord: (S, 97). chord_begins: (S, 1). velocity: (S, 3) of bass, chord, lead. downbeat: (S, 1).
    """

    drums: Array
    drum_velocity: Array
    bass_state: Array
    lead_state: Array
    bass_pitch: Array
    lead_pitch: Array
    chord: Array
    chord_begins: Array
    velocity: Array
    downbeat: Array
    bass_lowest: int
    lead_lowest: int


@dataclass(frozen=True, slots=True)
class Decoding:
    """How boldly chances become notes; chosen with a network's weights, for the best F1 on validation songs.

    Attributes:
        drums: (9,) chance above which a drum is struck.
        bass_begin, lead_begin: added to the log odds of a beginning note.
        chord_begins: chance above which a chord is struck again.
        change_cost: log odds that a chord change must gain on a beat; half of it at a bar line.
    """

    drums: tuple[float, ...] = (0.4,) * len(DRUMS)
    bass_begin: float = 0.0
    lead_begin: float = 0.0
    chord_begins: float = 0.4
    change_cost: float = 4.0


def decode(
    chances: Chances,
    tempo_bpm: NDArray[np.floating],
    beats_per_bar: int,
    beat_step: int,
    name: str,
    split: str,
    how: Decoding,
    source: str = "transcription",
) -> StepGrid:
    """Return the grid of what was heard.

    Args:
        chances: of S steps.
        tempo_bpm: (S,).
        beats_per_bar: of the music; which beat begins a bar is decided here.
        beat_step: index of a step that is on a beat.
        name, split, source: written into the grid.
        how: thresholds.
    """
    steps = len(chances.drums)
    bar_step = find_bars(chances.downbeat[:, 0], beats_per_bar, beat_step)
    grid = empty(steps, tempo_bpm, beats_per_bar, bar_step, name, source, split)
    struck = _chance(chances.drums) > np.array(how.drums)
    loud = np.clip(_chance(chances.velocity), 1.0 / 127.0, 1.0)
    chord = chord_path(chances.chord, beats_per_bar, bar_step, how.change_cost)
    bass = notes_path(chances.bass_state, chances.bass_pitch, chances.bass_lowest, how.bass_begin)
    lead = notes_path(chances.lead_state, chances.lead_pitch, chances.lead_lowest, how.lead_begin)
    chords = _struck_chords(chord, _chance(chances.chord_begins[:, 0]) > how.chord_begins)
    grid = replace(
        grid,
        drums=np.where(struck, np.clip(_chance(chances.drum_velocity), 1.0 / 127.0, 1.0), 0.0),
        bass=bass,
        bass_velocity=np.where(bass >= 0, loud[:, 0], 0.0),
        chord=chords,
        chord_velocity=np.where(chords >= 0, loud[:, 1], 0.0),
        lead=lead,
        lead_velocity=np.where(lead >= 0, loud[:, 2], 0.0),
    )
    return replace(grid, key=estimate_key(pitch_class_weights(grid)))


def find_bars(downbeat: NDArray[np.floating], beats_per_bar: int, beat_step: int) -> int:
    """Return the step that begins a bar: of all bar phases on the beat the one in which downbeats are likeliest.

    Args:
        downbeat: (S,) logits. beats_per_bar: known. beat_step: any step on a beat.
    """
    # One bar phase for the whole piece: the sum of log odds over its bar lines is the log odds of the phase.
    phases = [(beat_step + STEPS_PER_BEAT * beat) % (STEPS_PER_BEAT * beats_per_bar) for beat in range(beats_per_bar)]
    return max(phases, key=lambda phase: float(downbeat[phase :: STEPS_PER_BEAT * beats_per_bar].sum()))


def notes_path(state: NDArray[np.floating], pitch: NDArray[np.floating], lowest: int, bias: float) -> NDArray[np.int16]:
    """Return a voice (S,): the likeliest path of states (Viterbi; no hold after a rest), each note its likeliest pitch.

    Args:
        state: (S, 3) logits of rest, begin, hold. pitch: (S, P) logits. lowest: MIDI pitch of the first of P.
        bias: added to the logit of a beginning.
    """
    chance = _log_softmax(state + np.array([0.0, bias, 0.0]))
    steps = len(chance)
    best = np.array([chance[0, STATE_REST], chance[0, STATE_BEGIN], -np.inf])
    back = np.zeros((steps, 3), dtype=np.int64)
    for step in range(1, steps):
        anyone = int(np.argmax(best))
        sounding = STATE_BEGIN if best[STATE_BEGIN] >= best[STATE_HOLD] else STATE_HOLD
        back[step] = (anyone, anyone, sounding)
        best = best[back[step]] + chance[step]
    path = np.empty(steps, dtype=np.int64)
    path[-1] = int(np.argmax(best))
    for step in range(steps - 1, 0, -1):
        path[step - 1] = back[step, path[step]]
    voice = np.where(path == STATE_HOLD, HOLD, REST).astype(np.int16)
    likely = _log_softmax(pitch)
    begins = np.flatnonzero(path == STATE_BEGIN)
    for start, stop in itertools.pairwise([*begins.tolist(), steps]):
        end = start + 1
        while end < stop and path[end] == STATE_HOLD:
            end += 1
        voice[start] = lowest + int(np.argmax(likely[start] + likely[start:end].sum(axis=0)))  # the attack counts twice
    return voice


def chord_path(
    logits: NDArray[np.floating], beats_per_bar: int, bar_step: int, change_cost: float
) -> NDArray[np.int16]:
    """Return the chord (S,) in force, -1 for none: the likeliest path that changes on beats only (Viterbi).

    Args:
        logits: (S, 97). bar_step: a step that begins a bar. change_cost: of a change on a beat; half at a bar line.
    """
    chance = _log_softmax(logits)
    steps = len(chance)
    first = bar_step % STEPS_PER_BEAT
    edges = sorted({0, *range(first, steps, STEPS_PER_BEAT), steps})
    at = np.array(edges[:-1])
    sums = np.add.reduceat(chance, at, axis=0)
    cost = np.where((at - bar_step) % (STEPS_PER_BEAT * beats_per_bar) == 0, 0.5, 1.0) * change_cost
    best = sums[0]
    back = np.zeros((len(at), CHORDS), dtype=np.int64)
    for i in range(1, len(at)):
        top = int(np.argmax(best))
        stay = best >= best[top] - cost[i]
        back[i] = np.where(stay, np.arange(CHORDS), top)
        best = np.where(stay, best, best[top] - cost[i]) + sums[i]
    path = np.empty(len(at), dtype=np.int64)
    path[-1] = int(np.argmax(best))
    for i in range(len(at) - 1, 0, -1):
        path[i - 1] = back[i, path[i]]
    labels = np.repeat(np.where(path == CHORDS - 1, -1, path), np.diff(edges))
    return np.asarray(labels, dtype=np.int16)


def _struck_chords(labels: NDArray[np.int16], again: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Return the chord voice (S,): chords begin where they change or are struck, and sound until the next."""
    changes = np.concatenate([[True], labels[1:] != labels[:-1]])
    return np.where(labels < 0, REST, np.where(changes | again, labels, HOLD)).astype(np.int16)


def _chance(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float64)


def _log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dtype=np.float64)
