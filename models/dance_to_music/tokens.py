"""Music as the network sees it: step grids as tokens relative to the home key, and what a step looks like as history.

All pitches are moved so that the scale's major tonic is C (A minor for a minor key): a melody in another key is the
same melody. So nothing has to be learnt twelve times, and a wished key is met by moving the result back.

A pitched voice's token is 0 for rest, 1 for hold, else 2 + value. Velocities have five levels, drums a sixth for "not
struck". Pure NumPy: the stage uses it too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.types import DRUMS, Key
from models.symbolic.step_grid import CHORD_CLASSES, HOLD, REST, StepGrid

REST_TOKEN, HOLD_TOKEN, FIRST_VALUE = 0, 1, 2
BASS_LOWEST, LEAD_LOWEST = 24, 48
"""C1, a third under a bass guitar's E, because a key moves it by up to a fifth; C3, under a fiddle's G."""
VALUES = (36, CHORD_CLASSES, 48)
"""Three octaves of bass, chord classes, four octaves of lead; what lies outside is folded in by octaves."""
PITCHED = tuple(FIRST_VALUE + count for count in VALUES)
"""Number of tokens of bass, chord and lead."""
LEVELS = 5
DRUM_LEVELS = LEVELS + 1

_LONGEST_AGE = 64.0
_DRUM_SIZE = len(DRUMS) * DRUM_LEVELS
HISTORY_SIZE = _DRUM_SIZE + sum(PITCHED) + sum(VALUES) + 3 * LEVELS + 3

Ints = NDArray[np.int16]
Floats = NDArray[np.float32]


def home_shift(key: Key | None) -> int:
    """Return by how many semitones, -5 to 6, a piece of this key lies over the home key."""
    if key is None:
        return 0
    tonic = (key.tonic + (3 if key.minor else 0)) % 12
    return tonic if tonic <= 6 else tonic - 12


@dataclass(frozen=True)
class TokenGrid:
    """A piece of S steps as tokens.

    Attributes:
        drums: (S, 9) level 0 (not struck) to 5.
        voices: (S, 3) tokens of bass, chord and lead.
        levels: (S, 3) velocity level 0 to 4 where something begins, else -1.
        sounding: (S, 3) value that sounds after the step (0 is the lowest), -1: none.
        ages: (S, 3) steps since what sounds began; since the rest did, where nothing sounds.
        known: (4,) which of `engine.types.VOICES` mean something.
    """

    drums: Ints
    voices: Ints
    levels: Ints
    sounding: Ints
    ages: Ints
    known: NDArray[np.bool_]

    @property
    def steps(self) -> int:
        """S."""
        return len(self.drums)

    @staticmethod
    def of(grid: StepGrid, key: Key | None) -> TokenGrid:
        """Convert a grid that is in `key` (None: taken as it is)."""
        shift = home_shift(key)
        voices = np.stack(
            [
                _pitch_tokens(grid.bass, shift, BASS_LOWEST, VALUES[0]),
                _chord_tokens(grid.chord, shift),
                _pitch_tokens(grid.lead, shift, LEAD_LOWEST, VALUES[2]),
            ],
            axis=1,
        )
        velocity = np.stack([grid.bass_velocity, grid.chord_velocity, grid.lead_velocity], axis=1)
        levels = np.where(voices >= FIRST_VALUE, level_of(velocity), -1).astype(np.int16)
        drums = np.where(grid.drums > 0.0, 1 + level_of(grid.drums), 0).astype(np.int16)
        sounding, ages = carry(voices)
        return TokenGrid(drums, voices, levels, sounding, ages, np.asarray(grid.known, bool))

    def history(self, start: int, stop: int) -> Floats:
        """Return (stop - start, HISTORY_SIZE): for each step what the one before it was; zero before the first."""
        rows = np.zeros((stop - start, HISTORY_SIZE), np.float32)
        first = max(start - 1, 0)
        past = slice(first, stop - 1)
        rows[first - start + 1 :] = history_vectors(
            self.drums[past], self.voices[past], self.levels[past], self.sounding[past], self.ages[past], self.known
        )
        return rows


def level_of(velocity: NDArray[np.floating]) -> Ints:
    """Return the level 0 to 4 of velocities in (0, 1]."""
    return np.asarray(np.clip(np.ceil(np.asarray(velocity) * LEVELS) - 1, 0, LEVELS - 1), np.int16)


def velocity_of(level: int) -> float:
    """Return the velocity in the middle of a level 0 to 4."""
    return (level + 0.5) / LEVELS


def _pitch_tokens(values: Ints, shift: int, lowest: int, count: int) -> Ints:
    above = np.asarray(values, np.int64) - shift - lowest
    below, over = np.maximum(-above, 0), np.maximum(above - (count - 1), 0)
    folded = above + 12 * (-(-below // 12)) - 12 * (-(-over // 12))
    return np.where(values >= 0, FIRST_VALUE + folded, _silent(values)).astype(np.int16)


def _chord_tokens(values: Ints, shift: int) -> Ints:
    moved = (np.asarray(values, np.int64) - 8 * shift) % CHORD_CLASSES
    return np.where(values >= 0, FIRST_VALUE + moved, _silent(values)).astype(np.int16)


def _silent(values: Ints) -> Ints:
    return np.where(values == HOLD, HOLD_TOKEN, np.where(values == REST, REST_TOKEN, 0)).astype(np.int16)


def carry(voices: Ints) -> tuple[Ints, Ints]:
    """Return what sounds (S, 3) after each step and its age (S, 3), of tokens (S, 3). A hold of nothing is a rest."""
    steps = np.arange(len(voices))[:, None]
    begins = np.where(voices != HOLD_TOKEN, steps, 0)
    begun = np.maximum.accumulate(begins, axis=0)
    token = np.take_along_axis(voices, begun, axis=0)
    # A hold before anything began.
    token = np.where(token == HOLD_TOKEN, REST_TOKEN, token)
    silent = token < FIRST_VALUE
    changed = np.concatenate([np.ones((1, 3), bool), silent[1:] != silent[:-1]]) | (voices >= FIRST_VALUE)
    since = np.maximum.accumulate(np.where(changed, steps, 0), axis=0)
    return np.where(silent, -1, token - FIRST_VALUE).astype(np.int16), (steps - since).astype(np.int16)


def history_vectors(
    drums: Ints, voices: Ints, levels: Ints, sounding: Ints, ages: Ints, known: NDArray[np.bool_]
) -> Floats:
    """Return (S, HISTORY_SIZE): each step's choices as ones among zeros, what sounds, and since when.

    Args:
        drums, voices, levels, sounding, ages: as in `TokenGrid`.
        known: (4,); voices that are not known leave no trace.
    """
    steps = len(drums)
    rows = np.zeros((steps, HISTORY_SIZE), np.float32)
    row = np.arange(steps)
    at = 0
    for drum in range(len(DRUMS)):
        if known[0]:
            rows[row, at + drums[:, drum]] = 1.0
        at += DRUM_LEVELS
    for voice in range(3):
        if known[1 + voice]:
            rows[row, at + voices[:, voice]] = 1.0
        at += PITCHED[voice]
        if known[1 + voice]:
            sounds = sounding[:, voice] >= 0
            rows[row[sounds], at + sounding[sounds, voice]] = 1.0
        at += VALUES[voice]
        if known[1 + voice]:
            begins = levels[:, voice] >= 0
            rows[row[begins], at + levels[begins, voice]] = 1.0
        at += LEVELS
        if known[1 + voice]:
            rows[:, at] = np.log2(1.0 + np.minimum(ages[:, voice], _LONGEST_AGE)) / 3.0
        at += 1
    return rows


class RunningHistory:
    """The same, one step at a time, for the stage. Threads: one."""

    def __init__(self) -> None:
        self._known = np.ones(4, bool)
        self.reset()

    def reset(self) -> None:
        """Begin with silence."""
        self._sounding = np.full(3, -1, np.int16)
        self._ages = np.full(3, -1, np.int16)

    @property
    def sounding(self) -> Ints:
        """Values (3,) that sound now, -1: none."""
        return self._sounding

    def advance(self, drums: Ints, voices: Ints, levels: Ints) -> Floats:
        """Take a step's drums (9,), tokens (3,) and levels (3,); return its row (HISTORY_SIZE,)."""
        levels = np.where(voices >= FIRST_VALUE, levels, -1).astype(np.int16)
        for voice in range(3):
            token, before = int(voices[voice]), int(self._sounding[voice])
            after = token - FIRST_VALUE if token >= FIRST_VALUE else before if token == HOLD_TOKEN else -1
            goes_on = token < FIRST_VALUE and (after < 0) == (before < 0)
            self._ages[voice] = min(int(self._ages[voice]) + 1, 2 * int(_LONGEST_AGE)) if goes_on else 0
            self._sounding[voice] = after
        rows = history_vectors(
            drums[None], voices[None], levels[None], self._sounding[None], self._ages[None], self._known
        )
        return np.asarray(rows[0])
