"""Bands for the hard set: real drumming and songs that our trackers were not trained on, and small idiomatic combos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.rendering.scores import (
    DRUM_CHANNEL,
    Score,
    excerpt,
    humanise,
    list_groove,
    loop,
    make_notes,
    merge,
    read_groove,
    read_pop909,
    read_pop909_chords,
)

Row = tuple[float, float, int, int, int]
MELODY, BRIDGE, PIANO, BASS = 0, 1, 2, 3
KICK, STICK, SNARE, HAT, FOOT, RIDE = 36, 37, 38, 42, 44, 51


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the symbolic music comes from."""

    pop909: Path
    groove: Path

    def song(self, number: int, beats: int, start_bar: int = 12, programs: tuple[int, int, int] = (0, 0, 0)) -> Score:
        """Return a stretch of a held-out POP909 song from a downbeat, its three parts with given programs."""
        if not 801 <= number <= 859:
            raise ValueError(f"POP909 {number} is training music")
        whole = read_pop909(self.pop909, number)
        start = whole.first_downbeat + 4 * start_bar
        cut = excerpt(whole, start, beats)
        return replace(cut, programs=dict(zip((MELODY, BRIDGE, PIANO), programs, strict=True)))

    def bass(self, number: int, beats: int, start_bar: int = 12, syncopated: bool = False) -> Score:
        """Return a bass that plays the roots of the same stretch: on the bar's first and third beat, or around them."""
        first = read_pop909(self.pop909, number).first_downbeat + 4 * start_bar
        rows: list[Row] = []
        figure = [(0.0, 1.4, 96), (1.5, 0.4, 70), (2.0, 1.4, 88), (3.5, 0.4, 74)]
        if syncopated:  # anticipates every chord and never plays on the third beat
            figure = [(0.0, 0.7, 84), (0.75, 0.7, 90), (1.5, 1.0, 86), (2.75, 0.7, 92), (3.5, 0.5, 96)]
        chords = [(start - first, end - first, root) for start, end, root in read_pop909_chords(self.pop909, number)]
        for bar in range(0, beats, 4):
            for beat, length, velocity in figure:
                at = bar + beat
                root = next((root for start, end, root in chords if start <= at + 0.26 < end), None)
                if root is not None:
                    rows.append((at, at + length, BASS, 28 + (root - 4) % 12, velocity))
        return Score(make_notes(rows), beats, programs={BASS: 33}, volumes={BASS: 105})

    def drums(self, name: str, beats: int, start_bar: int = 0) -> Score:
        """Return drumming of Groove's test split, found by a part of its file name, looped in whole bars.

        Drummers play up to 36 ms before or after their metronome on average; that constant is taken out, because a
        beat is where it sounds. What they do about it, stroke by stroke, stays.
        """
        names = [row["midi_filename"] for row in list_groove(self.groove, "test")]
        found = next(n for n in names if name in n)
        whole = read_groove(self.groove, found)
        bar = whole.beats_per_bar
        bars = whole.length_beats // bar - start_bar
        notes = whole.notes.copy()
        main = np.isin(notes["pitch"], (35, KICK, SNARE, 40)) & (notes["velocity"] > 60)
        off_beat = (notes["start"][main] + 0.5) % 1.0 - 0.5
        lead = float(np.median(off_beat[np.abs(off_beat) < 0.15]))
        notes["start"] -= lead
        notes["end"] -= lead
        cut = excerpt(replace(whole, notes=notes), start_bar * bar, bars * bar)
        return replace(loop(cut, beats), volumes={DRUM_CHANNEL: 112})


def clicks(beats: int, pitch: int = 37, accent_every: int = 0) -> Score:
    """Return one stroke a beat."""
    rows = (
        (float(n), n + 0.2, DRUM_CHANNEL, pitch, 120 if accent_every and n % accent_every == 0 else 90)
        for n in range(beats)
    )
    return Score(make_notes(rows), beats)


def pattern(beats: int, steps_per_beat: int, voices: dict[int, str], rng: np.random.Generator) -> Score:
    """Return drums from step strings ('.' rest, '1' to '9' how hard), loosened a little."""
    rows: list[Row] = []
    for pitch, text in voices.items():
        steps = text.replace(" ", "")
        for step in range(beats * steps_per_beat):
            mark = steps[step % len(steps)]
            if mark != ".":
                at = step / steps_per_beat
                rows.append((at, at + 0.2, DRUM_CHANNEL, pitch, 20 + 11 * int(mark)))
    return humanise(Score(make_notes(rows), beats, volumes={DRUM_CHANNEL: 108}), rng, 0.006, 5.0)


# Roots and whether minor, per bar: turns of harmony long enough not to be learnt by rote.
_TURNS = (
    ((9, 1), (2, 1), (7, 0), (0, 0), (5, 0), (11, 1), (4, 0), (9, 1)),
    ((0, 0), (9, 1), (2, 1), (7, 0), (4, 1), (9, 1), (2, 0), (7, 0)),
    ((5, 0), (4, 1), (2, 1), (0, 0), (10, 0), (9, 1), (7, 0), (0, 0)),
)


def _harmony(bars: int, rng: np.random.Generator) -> list[tuple[int, list[int]]]:
    """Return (bass pitch, chord tones about middle C) of every bar, in a random key."""
    turn, key = _TURNS[int(rng.integers(len(_TURNS)))], int(rng.integers(12))
    out = []
    for bar in range(bars):
        root, minor = turn[bar % len(turn)]
        root = (root + key) % 12
        tones = sorted(52 + (root + step - 52) % 12 for step in (0, 3 if minor else 4, 7, 10))
        out.append((28 + (root - 4) % 12, tones))
    return out


def _tune(
    harmony: list[tuple[int, list[int]]],
    beats_per_bar: int,
    channel: int,
    rng: np.random.Generator,
    rhythms: list[list[float]],
) -> list[Row]:
    """Return a melody: random rhythms, chord tones on the beat, steps between."""
    rows: list[Row] = []
    pitch = 72
    for bar, (_, tones) in enumerate(harmony):
        at = float(bar * beats_per_bar)
        for length in rhythms[int(rng.integers(len(rhythms)))]:
            if length > 0:
                aim = pitch + int(rng.integers(-4, 5))
                if at % 1.0 == 0.0:
                    aim = min((t + 12 * octave for t in tones for octave in (0, 1, 2)), key=lambda p: abs(p - aim))
                pitch = int(np.clip(aim, 64, 86))
                rows.append((at, at + 0.9 * length, channel, pitch, int(rng.integers(72, 100))))
            at += abs(length)
    return rows


def waltz(bars: int, rng: np.random.Generator, programs: tuple[int, int, int], drums: bool) -> Score:
    """Return melody, after-beats and bass in three; programs of melody, chords and bass."""
    harmony = _harmony(bars, rng)
    rows = _tune(harmony, 3, 0, rng, [[2, 1], [1, 1, 1], [1.5, 0.5, 1], [1, 0.5, 0.5, 1], [3], [-1, 1, 1]])
    for bar, (bass, tones) in enumerate(harmony):
        rows.append((3.0 * bar, 3.0 * bar + 1.2, 2, bass + 12, 92))
        rows += [(3.0 * bar + beat, 3.0 * bar + beat + 0.6, 1, tone, 62) for beat in (1, 2) for tone in tones]
    score = humanise(
        Score(make_notes(rows), 3 * bars, beats_per_bar=3, programs=dict(enumerate(programs))), rng, 0.012, 6.0
    )
    if drums:
        voices = {KICK: "7. .. ..", STICK: ".. 5. 5.", RIDE: "5. 4. 42"}
        score = merge(score, pattern(3 * bars, 2, voices, rng))
    return score


def jazz_trio(bars: int, rng: np.random.Generator, ratio: float) -> Score:
    """Return swing: ride and foot hat, a walking bass, a piano that comps off the beat and a sparse melody."""
    harmony = _harmony(bars, rng)
    off = ratio / (1.0 + ratio)
    rows: list[Row] = []
    for bar, (bass, tones) in enumerate(harmony):
        at = 4.0 * bar
        following = harmony[(bar + 1) % bars][0]
        for beat, pitch in enumerate((bass, bass + (7 if rng.random() < 0.5 else 4), bass + 12, following + 1)):
            rows.append((at + beat, at + beat + 0.85, BASS, pitch + 12 * (pitch < 28), int(rng.integers(84, 100))))
        for beat in (0 + off, 1.0 + off, 2.0 + off, 3.0 + off):
            if rng.random() < 0.4:
                rows += [(at + beat, at + beat + 0.3, PIANO, tone, 66) for tone in tones]
        for beat in range(4):
            rows.append((at + beat, at + beat + 0.2, DRUM_CHANNEL, RIDE, 96 if beat % 2 else 82))
            if beat % 2:
                rows.append((at + beat + off, at + beat + off + 0.2, DRUM_CHANNEL, RIDE, 66))
                rows.append((at + beat, at + beat + 0.2, DRUM_CHANNEL, FOOT, 74))
        if rng.random() < 0.4:  # the drummer answers
            beat = float(rng.integers(4)) + off
            rows.append((at + beat, at + beat + 0.2, DRUM_CHANNEL, SNARE, int(rng.integers(60, 100))))
    rhythms = [[off, 1 - off, 1, -1, 1], [-1, off, 1 - off, off, 1 - off, 1], [-2, 1, 1], [1 + off, 1 - off, 2]]
    rows += _tune(harmony, 4, MELODY, rng, rhythms)
    score = Score(make_notes(rows), 4 * bars, programs={MELODY: 66, PIANO: 0, BASS: 32}, volumes={DRUM_CHANNEL: 92})
    return humanise(score, rng, 0.01, 6.0)


def tumbao(bars: int, rng: np.random.Generator) -> Score:
    """Return a Latin bass that anticipates the bar and a piano montuno: nothing but the first falls on a beat."""
    harmony = _harmony(bars, rng)
    rows: list[Row] = []
    for bar, (bass, tones) in enumerate(harmony):
        at = 4.0 * bar
        upcoming = harmony[(bar + 1) % bars][0]
        rows += [(at + 1.5, at + 2.9, BASS, bass + 7, 96), (at + 3.0, at + 4.4, BASS, upcoming, 100)]
        for beat in (0.0, 0.5, 1.5, 2.5, 3.5):
            rows += [(at + beat, at + beat + 0.35, PIANO, tone + 12, 78) for tone in (tones[0], tones[2])]
    return humanise(Score(make_notes(rows), 4 * bars, programs={PIANO: 0, BASS: 32}), rng, 0.008, 6.0)


def slow_twelve(bars: int, rng: np.random.Generator) -> Score:
    """Return a slow 12/8 ballad: triplets in piano and hat against four slow beats, a trap for the octave."""
    harmony = _harmony(bars, rng)
    rows: list[Row] = []
    for bar, (bass, tones) in enumerate(harmony):
        at = 4.0 * bar
        rows += [(at, at + 1.9, BASS, bass, 92), (at + 2.0, at + 3.6, BASS, bass + 7, 84)]
        for triplet in range(12):
            begin = at + triplet / 3.0
            rows += [(begin, begin + 0.3, PIANO, tone, 70 if triplet % 3 else 78) for tone in tones[1:]]
    rows += _tune(harmony, 4, MELODY, rng, [[2, 2 / 3, 2 / 3, 2 / 3], [1, 1, 2], [1 + 2 / 3, 1 / 3, 2]])
    band = Score(make_notes(rows), 4 * bars, programs={MELODY: 65, PIANO: 0, BASS: 33})
    voices = {KICK: "8.. ... 7.. ...", SNARE: "... 8.. ... 8..", HAT: "555 555 555 555"}
    return merge(humanise(band, rng, 0.006, 6.0), pattern(4 * bars, 3, voices, rng))
