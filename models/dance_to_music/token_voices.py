"""From a network's choices to music: tokens of the home key as notes of a key, levels as velocities. Pure NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.types import MusicStep, VoiceStep
from models.dance_to_music.tokens import BASS_LOWEST, FIRST_VALUE, HOLD_TOKEN, LEAD_LOWEST, LEVELS
from models.symbolic.chords import voicing
from models.symbolic.step_grid import CHORD_CLASSES

_LOWEST_BASS = 28
"""E1, a bass guitar's lowest string; a key may move the bass below."""

Ints = NDArray[np.int16]


class TokenVoices:
    """Plays tokens; remembers the last chord, whose notes the next one stays near. Threads: one."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start a new piece."""
        self._chord_pitches: tuple[int, ...] = ()

    def play(self, drums: Ints, voices: Ints, levels: Ints, shift: int, random: np.random.Generator) -> MusicStep:
        """Return a step.

        Args:
            drums: (9,) levels, 0: not struck.
            voices: (3,) tokens of bass, chord and lead.
            levels: (3,) of their velocities.
            shift: semitones from the home key.
            random: says where in its level a velocity lies: one that never repeats exactly is what makes a band of it.
        """
        loud = (np.concatenate([drums - 1, levels]) + random.random(len(drums) + len(levels))) / LEVELS
        pitches: list[tuple[int, ...]] = [(), (), ()]
        values = voices.astype(int) - FIRST_VALUE
        if values[0] >= 0:
            bass = BASS_LOWEST + int(values[0]) + shift
            pitches[0] = (bass if bass >= _LOWEST_BASS else bass + 12,)
        if values[1] >= 0:
            self._chord_pitches = voicing((int(values[1]) + 8 * shift) % CHORD_CLASSES, self._chord_pitches)
            pitches[1] = self._chord_pitches
        if values[2] >= 0:
            pitches[2] = (LEAD_LOWEST + int(values[2]) + shift,)
        steps = [
            VoiceStep(notes, float(loud[len(drums) + i]) if notes else 0.0, hold=bool(voices[i] == HOLD_TOKEN))
            for i, notes in enumerate(pitches)
        ]
        return MusicStep(np.where(drums > 0, loud[: len(drums)], 0.0).astype(np.float32), *steps)
