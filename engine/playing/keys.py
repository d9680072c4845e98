"""Keys and scales: reading them, and moving notes into them."""

from __future__ import annotations

import re

from engine.types import Key

_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_KEY = re.compile(r"\s*([A-Ga-g])\s*([#♯b♭]?)\s*(major|maj|minor|min|m|M)?\s*", re.UNICODE)
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
"""Semitones over the tonic: the major and the natural minor scale."""


def parse_key(text: str) -> Key | None:
    """Return the key that a text such as "C major", "F# minor", "Bbm" names; None for "auto".

    Raises:
        ValueError: it names none; the message is fit for an operator.
    """
    if text.strip().lower() == "auto":
        return None
    match = _KEY.fullmatch(text)
    if match is None:
        raise ValueError(f"unknown key '{text}'; write it as 'C major', 'F# minor' or 'auto'")
    letter, accidental, mode = match.groups()
    tonic = _LETTERS[letter.upper()] + (1 if accidental in ("#", "♯") else -1 if accidental in ("b", "♭") else 0)
    minor = mode is not None and (mode.startswith("min") or mode == "m")
    return Key(tonic % 12, minor)


def key_name(key: Key | None) -> str:
    """Return how a key is written: "C major", or "auto"."""
    return "auto" if key is None else f"{_NAMES[key.tonic]} {'minor' if key.minor else 'major'}"


def scale(key: Key) -> tuple[int, ...]:
    """Return the seven pitch classes of a key, the tonic first."""
    return tuple((key.tonic + step) % 12 for step in (MINOR if key.minor else MAJOR))


def into_key(pitch: int, key: Key) -> int:
    """Return the nearest pitch inside the key; of two equally near ones the lower."""
    classes = scale(key)
    return next(p for shift in (0, 1, 2) for p in (pitch - shift, pitch + shift) if p % 12 in classes)
