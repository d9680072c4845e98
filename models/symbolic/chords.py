"""Chord classes: 12 roots by 8 qualities, their pitch classes, how they are written and how they are voiced."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

QUALITIES = ("maj", "min", "dom7", "maj7", "min7", "sus4", "dim", "aug")
TEMPLATES: tuple[tuple[int, ...], ...] = (
    (0, 4, 7),
    (0, 3, 7),
    (0, 4, 7, 10),
    (0, 4, 7, 11),
    (0, 3, 7, 10),
    (0, 5, 7),
    (0, 3, 6),
    (0, 4, 8),
)
"""Semitones over the root, by quality."""

_ROOTS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_SHORTHAND = {
    "maj": "maj",
    "": "maj",
    "maj6": "maj",
    "6": "maj",
    "min": "min",
    "m": "min",
    "min6": "min",
    "minmaj7": "min",
    "7": "dom7",
    "9": "dom7",
    "maj7": "maj7",
    "maj9": "maj7",
    "min7": "min7",
    "m7": "min7",
    "min9": "min7",
    "sus4": "sus4",
    "sus4(b7)": "sus4",
    "7sus4": "sus4",
    "dim": "dim",
    "dim7": "dim",
    "hdim7": "dim",
    "aug": "aug",
    "+": "aug",
}
"""Chord shorthands of Harte et al. (2005) as POP909 writes them -> the nearest of our eight."""

# A keyboard player's right hand: E3 to E5, around the B over middle C's fourth below.
_LOWEST, _HIGHEST, _CENTRE = 52, 76, 62.0
# Semitones of movement that one semitone away from the centre is worth: enough to come back within a few changes.
_PULL = 0.35


def chord_class(root: int, quality: str) -> int:
    """Return 8 * root + quality. Raises ValueError for a quality that is not one of `QUALITIES`."""
    return 8 * (root % 12) + QUALITIES.index(quality)


def root_of(chord: int) -> int:
    """Return the root pitch class."""
    return chord // 8


def quality_of(chord: int) -> str:
    """Return the name of the quality."""
    return QUALITIES[chord % 8]


def pitch_classes(chord: int) -> tuple[int, ...]:
    """Return the pitch classes of a chord class, its root first."""
    return tuple((chord // 8 + interval) % 12 for interval in TEMPLATES[chord % 8])


def chroma_templates() -> NDArray[np.float32]:
    """Return (96, 12) float32: 1 where a pitch class belongs to the chord class."""
    table = np.zeros((96, 12), dtype=np.float32)
    for chord in range(96):
        table[chord, list(pitch_classes(chord))] = 1.0
    return table


def parse_symbol(symbol: str) -> int | None:
    """Return the class of a chord symbol ("F#:maj7/5", "Bb:sus2", "Am7"), or None for no chord ("N").

    A bass note after "/" is left out. A sus2 is the sus4 with the same notes (Csus2 = Gsus4).

    Raises:
        ValueError: it is not a chord symbol that we know.
    """
    if symbol in ("N", "X"):
        return None
    match = re.fullmatch(r"([A-G])([#b]*):?([^/]*)(?:/[#b]*[0-9A-G]+[#b]*)?", symbol)
    if match is None:
        raise ValueError(f"not a chord symbol: {symbol!r}")
    root = _ROOTS[match[1]] + match[2].count("#") - match[2].count("b")
    if match[3] == "sus2":
        return chord_class(root + 7, "sus4")
    if match[3] not in _SHORTHAND:
        raise ValueError(f"unknown chord quality: {symbol!r}")
    return chord_class(root, _SHORTHAND[match[3]])


def symbol_of(chord: int) -> str:
    """Return the chord symbol of a class: "F#:maj7"; `parse_symbol` reads it back."""
    quality = quality_of(chord)
    return f"{_NAMES[root_of(chord)]}:{'7' if quality == 'dom7' else quality}"


def voicing(chord: int, previous: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Return the pitches, low to high, in which a chord is played after another.

    Of all close positions between E3 and E5 the one whose voices move least from `previous`, drawn towards the middle
    of that range so that long progressions do not wander off.

    Args:
        chord: class.
        previous: pitches of the chord before; empty: none.
    """
    classes = pitch_classes(chord)
    best: tuple[float, tuple[int, ...]] = (np.inf, ())
    for bottom in range(_LOWEST, _HIGHEST - 6):
        if bottom % 12 not in classes:
            continue
        pitches = tuple(sorted(bottom + (c - bottom) % 12 for c in classes))
        if pitches[-1] > _HIGHEST:
            continue
        cost = _PULL * abs(sum(pitches) / len(pitches) - _CENTRE) * len(pitches)
        if previous:
            cost += _movement(pitches, previous)
        best = min(best, (cost, pitches))
    return best[1]


def _movement(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Return how far two chords' voices are apart: each note to the nearest of the other chord, both ways."""
    there = sum(min(abs(x - y) for y in b) for x in a)
    back = sum(min(abs(x - y) for y in a) for x in b)
    return (there + back) / 2.0


def match_pitches(pitches: Iterable[int]) -> int | None:
    """Return the chord class that fits some pitches best, or None if there are none.

    Notes of the chord that are missing count as much against it as notes that are not the chord's; among equals the
    one whose root is the lowest pitch wins, then the simpler quality.
    """
    sounding = sorted(pitches)
    if not sounding:
        return None
    classes = {pitch % 12 for pitch in sounding}
    return min(
        range(96),
        key=lambda c: (len(classes ^ set(pitch_classes(c))), root_of(c) != sounding[0] % 12, c % 8, c),
    )
