"""A band written by rule: bass and chords, a tune, drums, a metronome, in any metre, for training a beat activation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.rendering.scores import DRUM_CHANNEL, Score, make_notes

BASS, CHORDS, LEAD = 4, 5, 6
"""Channels of the written parts."""
LENGTH_BEATS = 112
"""Every piece is at least this long: 35 s at 190 bpm."""
CHORD_PROGRAMS = (0, 1, 2, 4, 5, 6, 7, 11, 16, 18, 21, 24, 25, 26, 27, 28, 29, 30, 46, 48, 50, 61, 62, 80, 81, 88, 90)
BASS_PROGRAMS = (32, 33, 34, 35, 36, 38, 39, 43, 58)
_SOLOISTS = (9, 10, 12, 13, 22, 40, 41, 42, 52, 53, 56, 57, 60, 64, 65, 66, 68, 71, 73, 75, 82, 85, 105, 109)
LEAD_PROGRAMS = (*CHORD_PROGRAMS, *_SOLOISTS)
"""General MIDI programs that each part is played with."""


def make_score(rows: list[tuple[float, float, float, float, float]], per_bar: int) -> Score:
    """Make a score of rows (start, duration, pitch, velocity, channel)."""
    notes = make_notes((a, a + d, int(c), int(p), int(v)) for a, d, p, v, c in rows)
    return Score(notes, LENGTH_BEATS, per_bar)


def write_bass_and_chords(rng: np.random.Generator, per_bar: int, tempo_bpm: float) -> Score:
    """Write bass and chords in a random key, rhythm and density."""
    triple = rng.random() < 0.15
    grid = 3 if triple else (4 if tempo_bpm < rng.uniform(85, 130) else 2)
    cells = per_bar * grid
    on_beat = np.arange(cells) % grid == 0
    key, roots = int(rng.integers(12)), (0, 2, 4, 5, 7, 9)

    def rhythm(density: float, anchored: float) -> NDArray[np.bool_]:
        odds = np.where(on_beat, density * 1.6, density * rng.uniform(0.2, 0.9))
        if grid == 4:
            odds[(np.arange(cells) % 4 == 2)] *= 1.6
        played: NDArray[np.bool_] = rng.random(cells) < odds
        played[0] = rng.random() < anchored
        return played

    bass, comp = rhythm(rng.uniform(0.2, 0.7), 0.93), rhythm(rng.uniform(0.15, 0.7), 0.8)
    chord_style = rng.choice(["pad", "comp", "offbeat", "arpeggio", "boomchuck"], p=[0.2, 0.35, 0.1, 0.2, 0.15])
    rows: list[tuple[float, float, float, float, float]] = []
    root = 0
    change_bars = int(rng.choice([1, 2], p=[0.75, 0.25]))
    for bar in range(LENGTH_BEATS // per_bar):
        if bar % change_bars == 0:
            root = int(rng.choice(roots))
        third = 3 if root in (2, 4, 9) else 4
        chord = np.array([0, third, 7, 12]) + 52 + (key + root + 5) % 12 - 5
        low = 36 + (key + root) % 12 - (12 if rng.random() < 0.1 else 0)
        start = bar * per_bar
        if rng.random() < 0.1:
            bass, comp = rhythm(rng.uniform(0.2, 0.7), 0.93), rhythm(rng.uniform(0.15, 0.7), 0.8)
        hits = np.flatnonzero(bass) if chord_style != "boomchuck" else np.array([0])
        for i, cell in enumerate(hits):
            until = hits[i + 1] if i + 1 < len(hits) else cells
            pitch = low + (7 if rng.random() < 0.2 and cell else 0)
            rows.append((start + cell / grid, 0.9 * (until - cell) / grid, pitch, rng.integers(70, 115), BASS))
        if chord_style == "pad":
            rows += [(start, per_bar * 0.98, p, rng.integers(55, 90), CHORDS) for p in chord]
        elif chord_style == "arpeggio":
            order = rng.permutation(4)
            rows += [
                (start + c / grid, 1 / grid, chord[order[c % 4]], 75 + 15 * (c % grid == 0), CHORDS)
                for c in range(cells)
            ]
        else:
            if chord_style == "comp":
                cells_hit = np.flatnonzero(comp) / grid
            elif chord_style == "offbeat":
                cells_hit = np.arange(per_bar) + 0.5
            else:
                cells_hit = np.arange(1, per_bar)
            held = rng.uniform(0.2, 0.9) / (1 if grid == 2 else 2)
            rows += [(start + t, held, p, rng.integers(60, 100), CHORDS) for t in cells_hit for p in chord]
    return make_score(rows, per_bar)


def write_melody(rng: np.random.Generator, per_bar: int, tempo_bpm: float) -> Score:
    """Write a tune: a random walk over a scale in phrases that repeat."""
    grid = 4 if tempo_bpm < rng.uniform(70, 110) else 2
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    phrase_bars = int(rng.choice([2, 4]))
    cells = phrase_bars * per_bar * grid
    odds = np.where(np.arange(cells) % grid == 0, rng.uniform(0.5, 0.95), rng.uniform(0.15, 0.7))
    rows: list[tuple[float, float, float, float, float]] = []
    phrase: list[tuple[float, float, int]] = []
    for start in range(0, LENGTH_BEATS, phrase_bars * per_bar):
        if not phrase or rng.random() < 0.4:
            hits = np.flatnonzero(rng.random(cells) < odds)
            degree, phrase = int(rng.integers(7, 14)), []
            for i, cell in enumerate(hits):
                until = hits[i + 1] if i + 1 < len(hits) else cells
                degree = int(np.clip(degree + rng.integers(-2, 3), 4, 18))
                phrase.append(
                    (cell / grid, min(2.0, (until - cell) / grid), 60 + 12 * (degree // 7 - 1) + scale[degree % 7])
                )
        if rng.random() < 0.85:
            rows += [(start + t, 0.9 * d, p, rng.integers(70, 115), LEAD) for t, d, p in phrase]
    return make_score(rows, per_bar)


def write_drums(rng: np.random.Generator, per_bar: int, tempo_bpm: float) -> Score:
    """Write drums in a random style for any metre."""
    grid = 3 if rng.random() < 0.12 else (4 if tempo_bpm < rng.uniform(80, 120) else 2)
    style = rng.choice(["rock", "four", "half", "waltz", "sparse", "percussion"], p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    if per_bar == 3:
        style = str(rng.choice(["waltz", "rock", "sparse"], p=[0.6, 0.2, 0.2]))
    cells = per_bar * grid
    kick, snare = np.zeros(cells, bool), np.zeros(cells, bool)
    kick[0] = True
    if style == "four":
        kick[::grid] = True
        snare[grid :: 2 * grid] = rng.random() < 0.7
    elif style == "half":
        snare[(per_bar // 2) * grid] = True
    elif style == "waltz":
        snare[grid::grid] = rng.random() < 0.7
    elif style == "rock":
        snare[grid :: 2 * grid] = True
        kick |= (rng.random(cells) < 0.2) & ~snare
    else:
        kick |= rng.random(cells) < 0.15
        snare |= rng.random(cells) < 0.12
    hat_every = int(rng.choice([1, max(1, grid // 2), grid], p=[0.3, 0.4, 0.3]))
    hat = np.zeros(cells, bool)
    if rng.random() < 0.85:
        hat[(grid // 2 if grid % 2 == 0 and rng.random() < 0.15 else 0) :: hat_every] = True
    hat_pitch = int(rng.choice([42, 42, 46, 51, 70, 54]))
    kick_pitch, snare_pitch = int(rng.choice([35, 36])), int(rng.choice([37, 38, 39, 40]))
    if style == "percussion":
        kick_pitch, snare_pitch = int(rng.choice([61, 64, 66])), int(rng.choice([60, 62, 63, 65, 76]))
    rows: list[tuple[float, float, float, float, float]] = []
    for bar in range(LENGTH_BEATS // per_bar):
        fill = bar % 8 == 7 and rng.random() < 0.5
        for cell in range(cells):
            at = bar * per_bar + cell / grid
            strong = 12 if cell % grid == 0 else 0
            if fill and cell >= cells // 2:
                if rng.random() < 0.75:
                    rows.append((at, 0.1, rng.choice([38, 41, 45, 48]), rng.integers(80, 120), DRUM_CHANNEL))
                continue
            rows += [(at, 0.1, kick_pitch, rng.integers(90, 122), DRUM_CHANNEL)] if kick[cell] else []
            rows += [(at, 0.1, snare_pitch, rng.integers(85, 122), DRUM_CHANNEL)] if snare[cell] else []
            rows += [(at, 0.1, hat_pitch, rng.integers(50, 90) + strong, DRUM_CHANNEL)] if hat[cell] else []
        if bar % 8 == 0 and rng.random() < 0.4:
            rows.append((bar * per_bar, 0.5, 49, rng.integers(80, 115), DRUM_CHANNEL))
    return make_score(rows, per_bar)


def write_clicks(rng: np.random.Generator) -> Score:
    """Write a metronome: one sound a beat, the bar's first perhaps another, perhaps soft ones between."""
    per_bar = int(rng.choice([3, 4], p=[0.3, 0.7]))
    sound, first = (int(p) for p in rng.choice([31, 33, 37, 39, 42, 54, 56, 67, 75, 76, 77, 81], 2))
    accented, between = rng.random() < 0.5, rng.random() < 0.2
    rows: list[tuple[float, float, float, float, float]] = []
    for beat in range(LENGTH_BEATS):
        strong = accented and beat % per_bar == 0
        rows.append((beat, 0.1, first if strong else sound, 115 if strong else 95, DRUM_CHANNEL))
        if between:
            rows.append((beat + 0.5, 0.1, sound, 55, DRUM_CHANNEL))
    return make_score(rows, per_bar)
