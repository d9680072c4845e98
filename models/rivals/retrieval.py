"""Real phrases on the beat: by chance among those that join well (the rival to beat), or by likeness of the music."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.types import TICKS_PER_BEAT
from models.evaluation.facts import SystemFacts
from models.motion.representation import CONTACTS, tick_weights
from models.music_to_dance.joining import BLEND_TICKS, Phrase, join
from models.music_to_dance.sequences import DanceClip
from models.rivals.real import digest
from models.rivals.song import COURSES, Dance, Song

Floats = NDArray[np.float32]

PHRASE_BARS = 2
_CANDIDATES = 12
"""Of the phrases that join best, this many are drawn from: fewer loop, more jolt."""
_REST = 6
"""A phrase is not danced again before this many others."""


@dataclass(frozen=True)
class _Entry:
    phrase: Phrase
    dance: int
    beats_per_bar: int
    style: int
    music: Floats | None


class PhraseBank:
    """All phrases of whole bars in a set of real dances.

    Args:
        dances: training dances with aligned bars; where a style has no phrase of two bars, those of one bar count.
    """

    def __init__(self, dances: Sequence[DanceClip]) -> None:
        self.key = digest(dances)
        self._dances = dances
        heard = [d.music for d in dances if d.music is not None]
        rows = np.concatenate(heard)
        self._mean, self._deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-3)
        self._weights = tick_weights()
        self._weights[CONTACTS] = 0.0
        self._entries = {bars: list(self._cut(dances, bars)) for bars in (PHRASE_BARS, 1)}

    def _cut(self, dances: Sequence[DanceClip], bars: int, metre: int | None = None) -> list[_Entry]:
        entries = []
        for number, dance in enumerate(dances):
            beats = metre or dance.beats_per_bar or 4
            bar = TICKS_PER_BEAT * beats
            first = ((dance.bar_tick or 0) - dance.first_tick) % bar
            for start in range(first, len(dance.ticks) - bars * bar - BLEND_TICKS + 1, bar):
                phrase = Phrase(dance.ticks, start, start + bars * bar)
                music = None if dance.music is None else self.describe(dance.music[start : start + bars * bar])
                entries.append(_Entry(phrase, number, beats, dance.style, music))
        return entries

    def describe(self, music: Floats) -> Floats:
        """Return mean and deviation (2 F,) of normalised music (n, F)."""
        normal = (music - self._mean) / self._deviation
        return np.concatenate([normal.mean(axis=0), normal.std(axis=0)]).astype(np.float32)

    def choose(self, song: Song, *, by_style: bool = False, heard: bool = False) -> tuple[int, list[_Entry]]:
        """Return the phrases that may be danced to a song, and how many bars they are long; `heard`: with their music.

        If no dance has the song's metre, the others are cut into bars of it.

        Raises:
            ValueError: no dance is a bar long.
        """
        beats = song.beats_per_bar or 4
        for style in (song.style, None) if by_style else (None,):
            for bars, entries in self._entries.items():
                fit = [e for e in entries if e.beats_per_bar == beats and style in (None, e.style)]
                found = [e for e in fit if not (heard and e.music is None)]
                if found:
                    return bars, found
        for bars in self._entries:
            found = [e for e in self._cut(self._dances, bars, beats) if not (heard and e.music is None)]
            if found:
                return bars, found
        raise ValueError(f"no phrase of {beats} beats a bar to dance to {song.name}")

    def cost(self, before: Phrase | None, entry: _Entry) -> float:
        """Return how badly a phrase joins another: metres apart, roughly, while the two are blended."""
        if before is None:
            return 0.0
        going_on = before.ticks[before.stop : before.stop + BLEND_TICKS]
        begun = entry.phrase.ticks[entry.phrase.start : entry.phrase.start + BLEND_TICKS]
        return float(np.sqrt((((going_on - begun) * self._weights) ** 2).sum(axis=1)).mean())


class BarRetrieval:
    """Beat-synchronous retrieval: whole bars of the song's style, drawn from those that join well."""

    name, seeded, endless, courses = "retrieval by bars", True, True, COURSES
    facts = SystemFacts(lookahead="none: it only counts the beats")

    def __init__(self, bank: PhraseBank) -> None:
        self._bank = bank
        self.key = bank.key

    def dance(self, song: Song, seed: int) -> Dance:
        """Return phrase after phrase until the song is over."""
        random = np.random.Generator(np.random.PCG64([seed, *song.name.encode()]))
        bars, entries = self._bank.choose(song, by_style=True)
        phrases: list[Phrase] = []
        recent: list[int] = []
        bar = TICKS_PER_BEAT * (song.beats_per_bar or 4)
        for _ in range(_phrases_needed(song, bars * bar)):
            allowed = [i for i in range(len(entries)) if i not in recent] or list(range(len(entries)))
            costs = np.array([self._bank.cost(phrases[-1] if phrases else None, entries[i]) for i in allowed])
            best = np.argsort(costs, kind="stable")[: _CANDIDATES if phrases else None]
            chosen = allowed[int(random.choice(best))]
            phrases.append(entries[chosen].phrase)
            recent = [*recent, chosen][-_REST:]
        return _on_bars(song, phrases, bars * bar)


class NearestMusic:
    """Nearest neighbour: to each two bars, the training phrase of the same metre whose music is most like them."""

    name, seeded, endless, courses = "nearest music", False, True, COURSES
    facts = SystemFacts(lookahead="the whole phrase to come: two bars")

    def __init__(self, bank: PhraseBank) -> None:
        self._bank = bank
        self.key = bank.key

    def dance(self, song: Song, seed: int) -> Dance:
        """Return phrase after phrase until the song is over."""
        bars, entries = self._bank.choose(song, heard=True)
        known = np.stack([e.music for e in entries if e.music is not None])
        size = bars * TICKS_PER_BEAT * (song.beats_per_bar or 4)
        first = song.bar_tick - size if song.bar_tick else 0
        phrases = []
        for number in range(_phrases_needed(song, size)):
            start = first + number * size
            rows = np.arange(start, start + size) % len(song.music)
            wanted = self._bank.describe(song.music[rows])
            phrases.append(entries[int(np.argmin(((known - wanted) ** 2).sum(axis=1)))].phrase)
        return _on_bars(song, phrases, size)


def _phrases_needed(song: Song, size: int) -> int:
    return -(-(len(song.music) + (size - song.bar_tick if song.bar_tick else 0)) // size)


def _on_bars(song: Song, phrases: list[Phrase], size: int) -> Dance:
    """Join phrases such that one begins on the song's first bar; what would lie before the song is left out."""
    ticks = join(phrases)[size - song.bar_tick if song.bar_tick else 0 :][: len(song.music)]
    return Dance.of_ticks(ticks, song.tick_s, song.beats_s)
