"""The bundled song, composed; `make_demo` renders and writes it.

An original piece for a show's sound check: a pop groove (118 bpm), two bars of general pause, the groove again, a
slowing to 96, a waltz (88, in three), a cha-cha (120) and a final hit. Everything a beat follower must live through.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.rendering.scores import DRUM_CHANNEL, Score, humanise, make_notes, merge
from models.rendering.tempo import Segment, TempoMap, from_segments

Row = tuple[float, float, int, int, int]

BASS, KEYS, LEAD, STRINGS, GUITAR, LEAD_TWO, PIANO = 0, 1, 2, 3, 4, 5, 6
PROGRAMS = {BASS: 33, KEYS: 4, LEAD: 11, STRINGS: 48, GUITAR: 24, LEAD_TWO: 40, PIANO: 0}
PANS = {BASS: 64, KEYS: 48, LEAD: 70, STRINGS: 64, GUITAR: 88, LEAD_TWO: 58, PIANO: 78}
KICK, STICK, SNARE, HAT, FOOT, OPEN, CRASH, RIDE = 36, 37, 38, 42, 44, 46, 49, 51
TOM_HIGH, TOM_MID, TOM_LOW = 50, 47, 43
COWBELL, CONGA_SLAP, CONGA, CONGA_LOW, GUIRO, GUIRO_LONG = 56, 62, 63, 64, 73, 74
TIMBALE_HIGH, TIMBALE_LOW, SHAKER = 65, 66, 82


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch in one metre. `tempos` is (start, end) [bpm], stepped every sixteenth if they differ."""

    name: str
    bars: int
    beats_per_bar: int
    tempos: tuple[float, float]


SECTIONS = (
    Section("intro", 2, 4, (118.0, 118.0)),
    Section("groove", 8, 4, (118.0, 118.0)),
    Section("pause", 2, 4, (118.0, 118.0)),
    Section("return", 4, 4, (118.0, 118.0)),
    Section("slowing", 2, 4, (118.0, 96.0)),
    Section("slow", 2, 4, (96.0, 96.0)),
    Section("waltz", 12, 3, (88.0, 88.0)),
    Section("call", 1, 4, (120.0, 120.0)),
    Section("cha-cha", 8, 4, (120.0, 120.0)),
    Section("end", 1, 4, (120.0, 120.0)),
)

# Chord tones by interval over the root.
_QUALITIES = {
    "maj7": (0, 4, 7, 11, 14),
    "6": (0, 4, 7, 9, 14),
    "m7": (0, 3, 7, 10, 14),
    "m6": (0, 3, 7, 9, 14),
    "7": (0, 4, 7, 10),
    "9": (0, 4, 10, 14),
    "7b9": (0, 4, 10, 13),
    "7sus": (0, 5, 7, 10),
    "m7b5": (0, 3, 6, 10),
}
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

GROOVE_CHORDS = "Fmaj7 G6 Em7 Am7 Dm7 G9 Cmaj7 E7b9"
RETURN_CHORDS = "Am7 Fmaj7 Dm7,G9 Cmaj7,E7b9"
SLOW_CHORDS = "Am7 D9 Fmaj7 E7sus,E7b9"
WALTZ_CHORDS = "Am7 Dm7 G9 Cmaj7 Fmaj7 Bm7b5 E7b9 Am7 Dm7 G9 Cmaj7 E7b9"
CHACHA_CHORDS = "Am7 D9 Am7 D9 Fmaj7 E7b9 Am7 E7b9"

# Melodies: pitch and length [beats]; r rests.
GROOVE_MELODY = """
r .5 A4 .5 C5 .5 E5 1 D5 .5 C5 .5 A4 .5   B4 1.5 D5 .5 G5 1 E5 .5 D5 .5
B4 1 r .5 G4 .5 B4 .5 D5 1 B4 .5          C5 1.5 B4 .5 A4 2
r .5 F4 .5 A4 .5 C5 1 A4 .5 D5 1          F5 1 E5 .5 D5 .5 B4 1 D5 .5 E5 .5
E5 1.5 G5 .5 B5 1 A5 .5 G5 .5             G#5 1 E5 .5 B4 .5 G#4 .5 r .5 E5 .4 r .6
"""
RETURN_MELODY = """
A5 1 G5 .5 E5 .5 C5 .5 E5 1 D5 .5         C5 1.5 E5 .5 A5 1 G5 .5 E5 .5
F5 1 D5 .5 A4 .5 B4 .5 D5 .5 F5 .5 G5 .5  E5 1.5 G5 .5 F5 .5 D5 .5 B4 .5 G#4 .5
"""
SLOW_MELODY = """
A4 1 C5 .5 B4 .5 A4 2                     F#4 1 A4 .5 B4 .5 C5 1 E5 1
G5 .5 E5 .5 C5 1 A4 1 C5 1                B4 2 A4 1 G#4 1
"""
WALTZ_MELODY = """
E5 2 D5 .5 C5 .5   D5 1.5 E5 .5 F5 1   D5 2 C5 .5 B4 .5   C5 1.5 D5 .5 E5 1
C5 1 A4 1 C5 1     B4 1.5 C5 .5 D5 1   G#4 1 B4 1 E5 1    C5 2 A4 .5 C5 .5
F5 1.5 E5 .5 D5 1  G5 1.5 F5 .5 D5 1   E5 1 G5 1 B5 1     G#5 2 r 1
"""
CHACHA_MELODY = """
r .5 E5 .5 A5 .5 G5 .5 E5 1 C5 .5 D5 .5    E5 1 r .5 F#5 .5 A5 .5 F#5 .5 E5 .5 C5 .5
r .5 E5 .5 A5 .5 B5 .5 C6 1 B5 .5 A5 .5    F#5 1 r .5 E5 .5 F#5 .5 A5 .5 E5 1
C5 .5 E5 .5 A5 1 G5 .5 E5 .5 C5 1          B4 .5 D5 .5 G#5 1 E5 .5 D5 .5 B4 1
A4 .5 C5 .5 E5 .5 A5 1 G5 .5 E5 .5 D5 .5   E5 .5 r .5 G#5 .5 r .5 B5 .5 r .5 E5 .4 r .1 G#5 .4 r .1
"""


def pitch_of(name: str) -> int:
    """Return the MIDI pitch of a name such as 'F#4' (C4 is 60)."""
    return 12 * (int(name[-1]) + 1) + _LETTERS[name[0]] + name.count("#")


def melody(text: str, start: float, channel: int, loud: int, shift: int = 0) -> list[Row]:
    """Turn a melody string into notes: on-beat notes a little louder, long notes held almost full length."""
    words = text.split()
    rows: list[Row] = []
    at = start
    for name, length in zip(words[::2], words[1::2], strict=True):
        beats = float(length)
        if name != "r":
            accent = 6 if (at - start) % 1.0 < 0.01 else 0
            rows.append((at, at + beats * 0.93, channel, pitch_of(name) + shift, loud + accent))
        at += beats
    return rows


def chord_bars(text: str) -> list[list[str]]:
    """Split 'Am7 Dm7,G9' into the chords of each bar."""
    return [bar.split(",") for bar in text.split()]


def voice(chord: str, previous: list[int]) -> list[int]:
    """Return four close tones between E3 and G4 that move least from the previous chord; the bass has the root."""
    tones = sorted({(_LETTERS[chord[0]] + interval) % 12 for interval in _QUALITIES[chord[1:]][-4:]})
    best: list[int] = []
    for rotation in range(len(tones)):
        order = tones[rotation:] + tones[:rotation]
        for octave in (48, 60):
            candidate = [octave + order[0]]
            for tone in order[1:]:
                candidate.append(candidate[-1] + (tone - candidate[-1]) % 12)
            inside = candidate[0] >= 52 and candidate[-1] <= 69
            if inside and (not best or _distance(candidate, previous) < _distance(best, previous)):
                best = candidate
    return best


def _distance(chord: list[int], previous: list[int]) -> int:
    return sum(min(abs(tone - old) for old in previous) for tone in chord) if previous else abs(chord[0] - 55)


def root_of(chord: str) -> int:
    """Return the bass note of a chord, between E1 and D#2."""
    pitch = 24 + _LETTERS[chord[0]]
    return pitch if pitch >= 28 else pitch + 12


def comp(
    bars: list[list[str]], start: float, beats_per_bar: int, channel: int, hits: list[tuple[float, float, int]]
) -> list[Row]:
    """Play voiced chords at (beat in bar, length, velocity) in every bar."""
    rows: list[Row] = []
    previous: list[int] = []
    for number, bar in enumerate(bars):
        at = start + number * beats_per_bar
        share = beats_per_bar / len(bar)
        voiced = []
        for chord in bar:
            previous = voice(chord, previous)
            voiced.append(previous)
        for beat, length, loud in hits:
            for order, tone in enumerate(voiced[int(beat / share)]):
                begin = at + beat + 0.008 * order  # fingers do not fall together
                rows.append((begin, begin + length, channel, tone, loud + 2 * order))
    return rows


def bass_line(
    bars: list[list[str]], start: float, beats_per_bar: int, figure: list[tuple[float, float, int, int]]
) -> list[Row]:
    """Play (beat in bar, length, semitones over the root, velocity) over each bar's chords; 7 is the chord's fifth."""
    rows: list[Row] = []
    for number, bar in enumerate(bars):
        share = beats_per_bar / len(bar)
        for beat, length, interval, loud in figure:
            chord = bar[int(beat / share)]
            fifth = 6 if "b5" in chord else 7
            pitch = root_of(chord) + (fifth if interval == 7 else interval)
            at = start + number * beats_per_bar + beat
            rows.append((at, at + length, BASS, pitch, loud))
    return rows


def pad(bars: list[list[str]], start: float, beats_per_bar: int, loud: int) -> list[Row]:
    """Hold each chord in the strings, the tones that stay tied over."""
    rows: list[Row] = []
    held: dict[int, tuple[float, float]] = {}
    previous: list[int] = []
    at = start
    for bar in bars:
        for chord in bar:
            length = beats_per_bar / len(bar)
            previous = voice(chord, previous)
            for tone in [t for t in held if t not in previous]:
                rows.append((*held.pop(tone), STRINGS, tone, loud))  # noqa: PERF401  # pops while it goes
            for tone in previous:
                begin = held[tone][0] if tone in held else at
                held[tone] = (begin, at + length)
            at += length
    rows += [(*span, STRINGS, tone, loud) for tone, span in held.items()]
    return rows


def drum_bar(at: float, pattern: dict[int, str], steps_per_beat: int = 4, lift: int = 0) -> list[Row]:
    """Play one bar of drums, a character per step: '.' rests, '1' to '9' is how hard."""
    rows: list[Row] = []
    for pitch, steps in pattern.items():
        for step, mark in enumerate(steps.replace(" ", "")):
            if mark != ".":
                begin = at + step / steps_per_beat
                rows.append((begin, begin + 0.2, DRUM_CHANNEL, pitch, min(127, 22 + 11 * int(mark) + lift)))
    return rows


GROOVE_BEAT = {KICK: "8... ..5. 7.6. ....", SNARE: ".... 8..2 .2.. 8...", HAT: "6.4. 6.4. 6.4. 6.45"}
GROOVE_BUSY = {
    KICK: "8..4 ..5. 7.6. ..3.",
    SNARE: ".... 9..2 .2.. 9..2",
    HAT: "7.5. 7.5. 7.5. 7...",
    OPEN: ".... .... .... ..6.",
}
GROOVE_FILL = {
    KICK: "8... ..5. 8... 8...",
    SNARE: ".... 8... 5678 ....",
    TOM_HIGH: ".... .... .... 8...",
    TOM_LOW: ".... .... .... ..8.",
}
STOP = {
    KICK: "8... ..5. 9.9. ....",
    SNARE: ".... 8... 9.9. ....",
    HAT: "6.4. 6.4. .... ....",
    CRASH: ".... .... 8... ....",
}
SLOW_BEAT = {KICK: "7... .... 5... ....", STICK: ".... 6... .... 6...", HAT: "4.2. 4.2. 4.2. 4.23"}
SLOW_FILL = {
    KICK: "7... .... 5... ....",
    STICK: ".... 6... .... ....",
    TOM_MID: ".... .... 4.5. ....",
    TOM_LOW: ".... .... .... 5.6.",
}
CALL = {TIMBALE_HIGH: "9... 8... 8.89 ....", TIMBALE_LOW: ".... .... .... 9.89", COWBELL: "7... 7... 7... 7..."}
CHACHA_BEAT = {
    COWBELL: "8... 6... 8... 6...",
    KICK: "6... .... .... 5...",
    CONGA_SLAP: ".... 7... .... ....",
    CONGA: "4.3. ..3. 4.3. ....",
    CONGA_LOW: ".... .... .... 7.7.",
    GUIRO: "..5. 5... ..5. 5...",
    GUIRO_LONG: "6... .... 6... ....",
}
CHACHA_STOP = {KICK: "8... 8... 8... 8.8.", TIMBALE_HIGH: "8... 8... 8... 9.9.", COWBELL: "8... 8... 8... 7.7."}
WALTZ_BEAT = {KICK: "7. .. ..", STICK: ".. 4. 4.", RIDE: "5. 3. 3.", FOOT: ".. 4. 4."}
WALTZ_LIFT = {KICK: "8. .. .3", SNARE: ".. 4. 4.", RIDE: "6. 4. 42", FOOT: ".. 4. 4."}
WALTZ_FILL = {KICK: "8. .. ..", SNARE: ".. 35 78", TOM_LOW: ".. .. .8"}


def compose() -> tuple[Score, TempoMap, list[int]]:
    """Return the score, its tempo map and the bar position (1 = downbeat) of every beat."""
    starts: dict[str, float] = {}
    bar_beats: list[int] = []
    segments: list[Segment] = []
    for section in SECTIONS:
        starts[section.name] = float(len(bar_beats))
        beats = section.bars * section.beats_per_bar
        bar_beats += [n % section.beats_per_bar + 1 for n in range(beats)]
        first, last = section.tempos
        steps = 4 * beats if first != last else 1
        tempos = np.linspace(first, last, steps)
        segments += [Segment(beats / steps, bpm, bpm) for bpm in tempos.tolist()]

    parts = [*_groove(starts), *_waltz(starts["waltz"]), *_chacha(starts)]
    pitched = make_notes(row for row in parts if row[2] != DRUM_CHANNEL)
    drums = make_notes(row for row in parts if row[2] == DRUM_CHANNEL)
    rng = np.random.default_rng(1837)  # any seed: it is a take, and every run is the same take
    whole = Score(pitched, len(bar_beats), programs=PROGRAMS, pans=PANS)
    score = merge(
        humanise(whole, rng, timing_beats=0.008, velocity=4.0),
        humanise(Score(drums, len(bar_beats)), rng, timing_beats=0.004, velocity=5.0),
    )
    return score, from_segments(segments), bar_beats


def _groove(starts: dict[str, float]) -> list[Row]:
    """Intro, groove, return, slowing and slow part."""
    intro, groove, back, slow = (starts[name] for name in ("intro", "groove", "return", "slowing"))
    rows = drum_bar(intro, {KICK: GROOVE_BEAT[KICK], HAT: GROOVE_BEAT[HAT], CRASH: "6"})
    rows += drum_bar(intro + 4, GROOVE_FILL)
    funk = [(0.0, 0.6, 0, 100), (1.5, 0.4, 0, 84), (2.0, 0.4, 12, 92), (2.5, 0.4, 7, 84), (3.5, 0.45, 0, 90)]
    rows += bass_line([["Fmaj7"], ["Fmaj7"]], intro, 4, funk)
    bars = chord_bars(GROOVE_CHORDS)
    stabs = [(0.0, 0.9, 70), (1.5, 0.35, 62), (2.5, 0.8, 66)]
    chops = [(0.5, 0.2, 46), (1.5, 0.2, 52), (2.5, 0.2, 46), (3.5, 0.2, 54)]
    for n in range(7):
        rows += drum_bar(groove + 4 * n, GROOVE_FILL if n == 3 else GROOVE_BEAT if n < 4 else GROOVE_BUSY)
    rows += drum_bar(groove + 28, STOP) + drum_bar(groove, {CRASH: "6"}) + drum_bar(groove + 16, {CRASH: "5"})
    rows += bass_line(bars[:7], groove, 4, funk)
    rows += bass_line(
        bars[7:], groove + 28, 4, [(0.0, 0.6, 0, 100), (1.5, 0.4, 0, 88), (2.0, 0.2, 0, 108), (2.5, 0.2, 0, 110)]
    )
    rows += comp(bars[:7], groove, 4, KEYS, stabs) + comp(bars[4:7], groove + 16, 4, GUITAR, chops)
    rows += comp(bars[7:], groove + 28, 4, KEYS, [(0.0, 0.9, 70), (2.0, 0.2, 84), (2.5, 0.2, 88)])
    rows += pad(bars[4:7], groove + 16, 4, 46)
    rows += melody(GROOVE_MELODY, groove, LEAD, 84)

    bars = chord_bars(RETURN_CHORDS)
    for n in range(4):
        rows += drum_bar(back + 4 * n, GROOVE_FILL if n == 3 else GROOVE_BUSY, lift=4)
    rows += drum_bar(back, {CRASH: "8"})
    rows += bass_line(bars, back, 4, funk) + comp(bars, back, 4, KEYS, stabs) + comp(bars, back, 4, GUITAR, chops)
    rows += pad(bars, back, 4, 56) + melody(RETURN_MELODY, back, LEAD, 94)
    rows += melody(RETURN_MELODY, back, LEAD_TWO, 66, shift=-12)

    bars = chord_bars(SLOW_CHORDS)
    for n in range(4):
        rows += drum_bar(slow + 4 * n, SLOW_FILL if n == 3 else SLOW_BEAT)
    rows += bass_line(bars, slow, 4, [(0.0, 1.4, 0, 84), (1.5, 0.4, 7, 70), (2.0, 1.7, 0, 80)])
    rows += comp(bars, slow, 4, KEYS, [(0.0, 1.9, 56), (2.0, 1.8, 52)]) + pad(bars, slow, 4, 44)
    rows += melody(SLOW_MELODY, slow, GUITAR, 88)
    return rows


def _waltz(start: float) -> list[Row]:
    """Twelve bars in three: the violin sings, the second strain an octave of strings higher."""
    bars = chord_bars(WALTZ_CHORDS)
    rows: list[Row] = []
    for n in range(12):
        rows += drum_bar(start + 3 * n, WALTZ_FILL if n in (7, 11) else WALTZ_BEAT if n < 8 else WALTZ_LIFT, 2)
    rows += drum_bar(start, {CRASH: "4"}) + drum_bar(start + 24, {CRASH: "6"})
    rows += bass_line(bars, start, 3, [(0.0, 0.9, 0, 96), (2.5, 0.4, 7, 62)])
    rows += comp(bars, start, 3, PIANO, [(1.0, 0.55, 62), (2.0, 0.55, 56)])
    rows += comp(bars[8:], start + 24, 3, GUITAR, [(1.0, 0.4, 56), (2.0, 0.4, 52)])
    rows += pad(bars, start, 3, 46) + melody(WALTZ_MELODY, start, LEAD_TWO, 86)
    second_strain = " ".join(WALTZ_MELODY.split("\n")[3].split())
    rows += melody(second_strain, start + 24, LEAD, 74)
    return rows


def _chacha(starts: dict[str, float]) -> list[Row]:
    """A timbale call, eight bars of cha-cha and the last hit."""
    start, end = starts["cha-cha"], starts["end"]
    bars = chord_bars(CHACHA_CHORDS)
    rows = drum_bar(starts["call"], CALL)
    for n in range(7):
        rows += drum_bar(start + 4 * n, CHACHA_BEAT)
    rows += drum_bar(start, {CRASH: "7"}) + drum_bar(start + 16, {CRASH: "5"}) + drum_bar(start + 28, CHACHA_STOP)
    rows += bass_line(
        bars[:7], start, 4, [(0.0, 0.9, 0, 98), (1.5, 0.9, 7, 86), (3.0, 0.45, 12, 90), (3.5, 0.4, 0, 86)]
    )
    rows += bass_line(
        bars[7:],
        start + 28,
        4,
        [(0.0, 0.4, 0, 104), (1.0, 0.4, 0, 104), (2.0, 0.4, 0, 104), (3.0, 0.3, 0, 108), (3.5, 0.3, 0, 110)],
    )
    montuno = [(0.0, 0.4, 72), (1.0, 0.3, 66), (1.5, 0.4, 70), (2.5, 0.4, 70), (3.5, 0.4, 74)]
    rows += comp(bars[:7], start, 4, PIANO, montuno)
    rows += comp(
        bars[7:], start + 28, 4, PIANO, [(0.0, 0.4, 84), (1.0, 0.4, 84), (2.0, 0.4, 84), (3.0, 0.3, 88), (3.5, 0.3, 90)]
    )
    rows += pad(bars[4:7], start + 16, 4, 50)
    rows += comp(bars[4:7], start + 16, 4, GUITAR, [(0.5, 0.2, 50), (1.5, 0.2, 54), (2.5, 0.2, 50), (3.5, 0.2, 56)])
    rows += melody(CHACHA_MELODY, start, LEAD, 88)
    rows += melody("\n".join(CHACHA_MELODY.strip().split("\n")[2:]), start + 16, LEAD_TWO, 76, shift=-12)
    rows += drum_bar(end, {KICK: "9", CRASH: "9", TIMBALE_HIGH: "9"})
    rows += bass_line([["Am7"]], end, 4, [(0.0, 2.0, 0, 112)]) + comp([["Am6"]], end, 4, PIANO, [(0.0, 2.0, 92)])
    rows += melody("A5 2", end, LEAD, 92) + melody("A4 2", end, LEAD_TWO, 84) + pad([["Am6"]], end, 2, 70)
    return rows
