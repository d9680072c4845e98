"""What the music -> dance network is told beside the music: beat, bar, tempo, style, energy and the phrase.

One vector per chunk, made by the same function for learning and for the stage. Whatever may be unknown has a
"known" flag and is zero while unknown, so that it can be left out at random while learning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.types import TICKS_PER_BEAT

STYLES: tuple[str, ...] = ("waltz", "rumba", "chacha", "tango")
PHRASE_SIZE = 10
"""Values of a phrase descriptor (`models.music_to_dance.phrases`)."""
_REFERENCE_TEMPO_BPM = 100.0
MUSIC_LIMIT = 4.0
"""Normalised features beyond this many deviations say no more than the limit does."""

_BEAT = slice(0, 4)
_BAR = slice(4, 12)
_BAR_LENGTH = slice(12, 15)
_TEMPO = 15
_STYLE = slice(16, 16 + len(STYLES))
_ENERGY = slice(_STYLE.stop, _STYLE.stop + 2)
_PHRASE_KNOWN = _ENERGY.stop
_PHRASE = slice(_PHRASE_KNOWN + 1, _PHRASE_KNOWN + 1 + PHRASE_SIZE)
_NOISE = _PHRASE.stop
_MUSIC_KNOWN = _NOISE + 1
CONDITION_SIZE = _MUSIC_KNOWN + 1


@dataclass(frozen=True)
class ChunkConditions:
    """The conditions of N chunks.

    Attributes:
        first_tick: (N,) tick index of each chunk's first tick on the dancer's timeline; tick 12 k is beat k.
        tempo_bpm: (N,) or a number.
        beats_per_bar: of the bar, or None while unknown.
        bar_tick: tick index of any bar's start.
        style: index in `STYLES`, or None for no wish.
        energy: (N,) or a number, 0 to 1; None for no wish.
        phrase: (N, PHRASE_SIZE) or (PHRASE_SIZE,) descriptors; None for no plan.
        history_noise: (N,) or a number: deviation of the noise on the history latents.
        music_known: false where the music was withheld.
    """

    first_tick: ArrayLike
    tempo_bpm: ArrayLike
    beats_per_bar: int | None
    bar_tick: int
    style: int | None
    energy: ArrayLike | None
    phrase: ArrayLike | None
    history_noise: ArrayLike
    music_known: bool = True

    def vectors(self) -> NDArray[np.float32]:
        """Return (N, CONDITION_SIZE)."""
        tick = np.asarray(self.first_tick, dtype=np.int64).reshape(-1)
        out = np.zeros((len(tick), CONDITION_SIZE), np.float32)
        out[:, _BEAT] = _waves(tick % TICKS_PER_BEAT / TICKS_PER_BEAT, 2)
        if self.beats_per_bar is not None:
            bar_ticks = TICKS_PER_BEAT * self.beats_per_bar
            out[:, _BAR] = _waves((tick - self.bar_tick) % bar_ticks / bar_ticks, 4)
            out[:, _BAR_LENGTH.start + (0 if self.beats_per_bar == 3 else 1 if self.beats_per_bar == 4 else 2)] = 1.0
        out[:, _TEMPO] = 2.0 * np.log2(np.asarray(self.tempo_bpm) / _REFERENCE_TEMPO_BPM)
        if self.style is not None:
            out[:, _STYLE.start + self.style] = 1.0
        if self.energy is not None:
            out[:, _ENERGY.start] = 1.0
            out[:, _ENERGY.start + 1] = 3.0 * (np.asarray(self.energy) - 0.5)
        if self.phrase is not None:
            out[:, _PHRASE_KNOWN] = 1.0
            out[:, _PHRASE] = self.phrase
        out[:, _NOISE] = 3.0 * np.asarray(self.history_noise)
        out[:, _MUSIC_KNOWN] = float(self.music_known)
        return out


def normalise_music(
    features: NDArray[np.float32], mean: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return features (..., F) by the mean and 1/deviation (F,) of training; what is not finite counts as average."""
    normal = np.nan_to_num((features - mean) * scale, posinf=0.0, neginf=0.0)
    return np.clip(normal, -MUSIC_LIMIT, MUSIC_LIMIT).astype(np.float32)


def _waves(phase: NDArray[np.float64], harmonics: int) -> NDArray[np.float64]:
    """Return sines and cosines (N, 2 x harmonics) of a phase in [0, 1)."""
    angle = 2.0 * np.pi * phase[:, None] * np.arange(1, harmonics + 1)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
