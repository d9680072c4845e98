"""What the dance -> music network is told beside the dance: beat, bar, tempo, mode, energy, density and the phrase.

One vector per step, made by the same function for learning and for the stage. Whatever may be unknown has a "known"
flag and is zero while unknown, so that it can be left out at random while learning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.music_to_dance.conditioning import PHRASE_SIZE
from models.symbolic.step_grid import STEPS_PER_BEAT

_REFERENCE_TEMPO_BPM = 110.0

_STEP = slice(0, STEPS_PER_BEAT)
_BAR = slice(_STEP.stop, _STEP.stop + 8)
_BAR_LENGTH = slice(_BAR.stop, _BAR.stop + 3)
_TEMPO = _BAR_LENGTH.stop
_MODE = slice(_TEMPO + 1, _TEMPO + 3)
_ENERGY = slice(_MODE.stop, _MODE.stop + 2)
_DENSITY = slice(_ENERGY.stop, _ENERGY.stop + 2)
_VOICES = slice(_DENSITY.stop, _DENSITY.stop + 4)
_PHRASE_KNOWN = _VOICES.stop
_PHRASE = slice(_PHRASE_KNOWN + 1, _PHRASE_KNOWN + 1 + PHRASE_SIZE)
_DANCE_KNOWN = _PHRASE.stop
MUSIC_CONDITION_SIZE = _DANCE_KNOWN + 1

METRES = 3
"""Bars of four beats, of three, and others."""


def metre_of(beats_per_bar: int | None) -> int:
    """Return the index of a bar's length: 0 for four beats (and while unknown), 1 for three, 2 for others."""
    return {None: 0, 4: 0, 3: 1}.get(beats_per_bar, 2)


@dataclass(frozen=True)
class StepConditions:
    """The conditions of N steps.

    Attributes:
        step: (N,) index of each step on the band's timeline; step 4 k is beat k.
        tempo_bpm: (N,) or a number.
        beats_per_bar: None while unknown.
        bar_step: index of any step that begins a bar.
        minor: whether the key is minor; None while unknown.
        energy: (N,) or a number, 0 to 1: quantile of how much is played how loudly; None for no wish.
        density: the same of how many notes are played, among music of this energy.
        voices: (4,) which of `engine.types.VOICES` are in the band.
        phrase: (N, PHRASE_SIZE) or (PHRASE_SIZE,) descriptors; None for no plan.
        dance_known: false where the dance was withheld.
    """

    step: ArrayLike
    tempo_bpm: ArrayLike
    beats_per_bar: int | None
    bar_step: int
    minor: bool | None
    energy: ArrayLike | None
    density: ArrayLike | None
    voices: ArrayLike
    phrase: ArrayLike | None
    dance_known: bool

    def vectors(self) -> NDArray[np.float32]:
        """Return (N, MUSIC_CONDITION_SIZE)."""
        step = np.asarray(self.step, dtype=np.int64).reshape(-1)
        out = np.zeros((len(step), MUSIC_CONDITION_SIZE), np.float32)
        out[np.arange(len(step)), _STEP.start + step % STEPS_PER_BEAT] = 1.0
        if self.beats_per_bar is not None:
            bar_steps = STEPS_PER_BEAT * self.beats_per_bar
            angle = 2.0 * np.pi * ((step - self.bar_step) % bar_steps / bar_steps)[:, None] * np.arange(1, 5)
            out[:, _BAR] = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
            out[:, _BAR_LENGTH.start + metre_of(self.beats_per_bar)] = 1.0
        out[:, _TEMPO] = 2.0 * np.log2(np.asarray(self.tempo_bpm) / _REFERENCE_TEMPO_BPM)
        if self.minor is not None:
            out[:, _MODE.start + int(self.minor)] = 1.0
        for wish, place in ((self.energy, _ENERGY), (self.density, _DENSITY)):
            if wish is not None:
                out[:, place.start] = 1.0
                out[:, place.start + 1] = 3.0 * (np.asarray(wish) - 0.5)
        out[:, _VOICES] = np.asarray(self.voices, np.float32)
        if self.phrase is not None:
            out[:, _PHRASE_KNOWN] = 1.0
            out[:, _PHRASE] = self.phrase
        out[:, _DANCE_KNOWN] = float(self.dance_known)
        return out
