"""Music with exactly known beats for training a beat activation: drawn scores, tempo curves, rooms.

Sources: POP909, the Groove MIDI Dataset, fiddle tunes in abc notation, accompaniments in hundreds of styles
(`models.beats.accompaniment`), and a band written by rule. Everything is drawn from one NumPy generator, so a corpus
can be made again from its seed.
The rooms are this module's own, not those of `models.rendering.rooms`: the benchmark uses the latter, and a model
should not meet there the very noise it was trained on.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from models.beats.accompaniment import Accompaniment, read_accompaniments
from models.beats.band import (
    BASS,
    BASS_PROGRAMS,
    CHORD_PROGRAMS,
    CHORDS,
    LEAD,
    LEAD_PROGRAMS,
    LENGTH_BEATS,
    make_score,
    write_bass_and_chords,
    write_clicks,
    write_drums,
    write_melody,
)
from models.rendering.read_abc import parse_abc
from models.rendering.scores import (
    DRUM_CHANNEL,
    Score,
    excerpt,
    humanise,
    list_groove,
    loop,
    merge,
    only,
    read_groove,
    read_midi,
    read_pop909,
    swing,
    transpose,
    without_drums,
)
from models.rendering.synth import SAMPLE_RATE_HZ, SoundFont, Take, render
from models.rendering.tempo import TempoMap, from_beat_times

_SOURCES = {"pop": 0.22, "accompaniment": 0.34, "tune": 0.05, "drummer": 0.26, "band": 0.1, "clicks": 0.03}
"""How often each kind of piece is drawn."""
_PLAIN_STYLES = ("rock", "pop", "country", "punk", "dance")
_SYNCOPATED_WEIGHT = 2.0
"""Drummers of every other style are drawn twice as often: there the strokes do not give the beat away."""
_TUNE_CHANNELS = (0, 1, 2)
"""Channels of a POP909 song, kept free of its accompaniment."""
_KIT_SHARE = 0.4
"""How often the drums are played by a kit of recorded drums instead of the soundfont's own."""


@dataclass(frozen=True)
class Clip:
    """Sound with its beats.

    Attributes:
        audio: (n,) float32 mono at 48 kHz.
        beats_s: (B,) times of the beats.
        bar_positions: (B,) 0 = downbeat; -1 where the metre is unknown.
        unknown_s: (U, 2) spans whose beats nobody could hear (silence).
        beats_per_bar: beats in one bar, or 0 when unknown.
    """

    audio: NDArray[np.float32]
    beats_s: NDArray[np.float64]
    bar_positions: NDArray[np.int64]
    unknown_s: NDArray[np.float64]
    beats_per_bar: int


def tempo_curve(rng: np.random.Generator, kind: str, tempo_bpm: float, beats: int) -> NDArray[np.float64]:
    """Return the times [s] of beats 0 to `beats` - 1.

    Args:
        kind: 'steady', 'drift' (slow, a few percent), 'rubato' (fast, up to a fifth), 'ramp' or 'jump'.
    """
    beats -= 1
    ratio = np.ones(beats)
    index = np.arange(beats)
    if kind == "drift":
        ratio += rng.uniform(0.015, 0.06) * np.sin(2 * np.pi * index / rng.uniform(16, 64) + rng.uniform(0, 6.3))
    elif kind == "rubato":
        noise = np.cumsum(rng.normal(0, 0.03, beats))
        noise -= signal.lfilter([0.06], [1, -0.94], noise)
        ratio += np.clip(noise, -0.2, 0.2)
    elif kind == "ramp":
        ratio = np.geomspace(1, rng.uniform(0.75, 1.35), beats)
    elif kind == "jump":
        jump = int(rng.integers(beats // 4, 3 * beats // 4))
        change = rng.uniform(1.08, 1.4)
        ratio[jump:] = change if rng.random() < 0.5 else 1 / change
    if kind != "steady":
        ratio *= 1 + rng.normal(0, 0.004, beats)
    return np.concatenate([[0.0], np.cumsum(60.0 / (tempo_bpm * ratio))])


def degrade(rng: np.random.Generator, audio: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """Return the sound as a room, a microphone, a crowd and a desk might change it; `strength` 0 to 1: how often."""
    x = audio.astype(np.float32)
    if rng.random() < 0.6 * strength:  # a room: exponentially decaying noise behind the direct sound
        t60 = rng.uniform(0.2, 1.6)
        n = int(t60 * SAMPLE_RATE_HZ * 0.7)
        tail = rng.standard_normal(n).astype(np.float32) * 10 ** (-3 * np.arange(n) / (t60 * SAMPLE_RATE_HZ))
        tail = signal.lfilter([1 - 0.6], [1, -0.6], tail)
        tail[: int(rng.uniform(0.002, 0.02) * SAMPLE_RATE_HZ)] = 0
        tail *= 10 ** (rng.uniform(-14, 3) / 20) / np.sqrt(np.sum(tail**2) + 1e-12)
        x = x + signal.fftconvolve(x, tail)[: len(x)].astype(np.float32)
    if rng.random() < 0.6 * strength:  # a tilt and two bumps
        freqs = np.geomspace(20, 24_000, 48)
        tilt = rng.uniform(-4, 4) * np.log2(freqs / 1000) / 2
        for _ in range(2):
            tilt += rng.uniform(-9, 9) * np.exp(
                -0.5 * (np.log2(freqs / rng.uniform(60, 8000)) / rng.uniform(0.4, 1.5)) ** 2
            )
        if rng.random() < 0.3:  # a small loudspeaker
            tilt -= 24 * np.maximum(0, np.log2(rng.uniform(90, 300) / freqs))
        elif rng.random() < 0.25:  # through a wall, a curtain or a pocket
            tilt -= rng.uniform(9, 24) * np.maximum(0, np.log2(freqs / rng.uniform(400, 3000)))
        spectrum = np.fft.rfft(x)
        gain = np.interp(np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE_HZ), freqs, np.clip(tilt, -48, 18))
        x = np.fft.irfft(spectrum * 10 ** (gain / 20), len(x)).astype(np.float32)
    level = np.sqrt(np.mean(x**2)) + 1e-9
    if rng.random() < 0.3 * strength:  # overdriven or heavily limited
        x = np.tanh(x / level * rng.uniform(0.3, 1.5)).astype(np.float32) * level
    if rng.random() < 0.65 * strength:  # noise of a random colour, with the slow swell of a crowd
        noise = np.fft.rfft(rng.standard_normal(len(x)))
        noise /= np.maximum(np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE_HZ), 30) ** rng.uniform(0, 1)
        hiss = np.fft.irfft(noise, len(x))
        swell = np.interp(np.arange(len(x)), np.linspace(0, len(x), 24), rng.uniform(0.3, 1, 24))
        hiss *= swell / (np.std(hiss) + 1e-9)
        x = x + (hiss * level * 10 ** (-rng.uniform(4, 40) / 20)).astype(np.float32)
    peak = np.abs(x).max() + 1e-9
    return (x / peak * 10 ** (rng.uniform(-30, -0.5) / 20)).astype(np.float32)


@dataclass(frozen=True)
class Library:
    """What clips are made of: pop songs by number, tunes with their metre, drummers with their tempo, MMA's bands.

    `drum_odds` (D,) are the chances of each drummer.
    """

    pop: dict[int, tuple[Score, float]]
    tunes: list[Score]
    drums: list[tuple[Score, float]]
    drum_odds: NDArray[np.float64]
    accompaniments: list[Accompaniment]
    accompaniment_folder: Path

    @classmethod
    def open(
        cls, midi_folder: Path, songs: range, drum_split: str, accompaniments: Path, development: bool = False
    ) -> Library:
        """Read `pop909.zip` (`songs`), `groove.zip` (`drum_split`), `ryansMammoth.zip` and what MMA wrote."""
        archive = midi_folder / "pop909.zip"
        pop = {}
        with zipfile.ZipFile(archive) as files:
            tables = {n: np.loadtxt(io.BytesIO(files.read(f"pop909/{n:03d}/beat_midi.txt"))) for n in songs}
        for number, table in tables.items():
            gaps = np.diff(np.flatnonzero(table[:, 2] > 0.5))
            if len(table) > 32 and len(gaps) and np.mean(gaps % 4 == 0) > 0.95:
                pop[number] = (read_pop909(archive, number), 60.0 / float(np.median(np.diff(table[:, 0]))))
        tunes = []
        with zipfile.ZipFile(midi_folder / "ryansMammoth.zip") as files:
            for name in sorted(n for n in files.namelist() if n.endswith(".abc")):
                try:
                    tune = parse_abc(files.read(name).decode(errors="replace"))
                except ValueError:
                    continue
                if tune.beats_per_bar in (2, 3, 4) and tune.length_beats >= 16:
                    tunes.append(tune)
        drummers = [
            row
            for row in list_groove(midi_folder / "groove.zip", drum_split)
            if row["time_signature"] == "4-4" and float(row["duration"]) > 8
        ]
        drums = [
            (_on_the_grid(read_groove(midi_folder / "groove.zip", row["midi_filename"])), float(row["bpm"]))
            for row in drummers
        ]
        odds = np.where([r["style"].startswith(_PLAIN_STYLES) for r in drummers], 1.0, _SYNCOPATED_WEIGHT)
        rows = [
            row
            for row in read_accompaniments(accompaniments)
            if row.development == development and (row.song == 0 or row.song in pop)
        ]
        return cls(pop, tunes, drums, odds / odds.sum(), rows, accompaniments)


def _on_the_grid(played: Score) -> Score:
    """Take a drummer's constant lead on the metronome out: the beat is where the strokes are."""
    notes = played.notes.copy()
    early = float(np.median(notes["start"] - np.round(notes["start"] * 4) / 4))
    for name in ("start", "end"):
        notes[name] -= early
    notes["start"] = np.maximum(notes["start"], 0.0)
    return replace(played, notes=notes)


def _arrange(rng: np.random.Generator, library: Library) -> tuple[Score, float]:
    """Draw a piece and its tempo: a pop song, a tune, a drummer or a written band, with or without company.

    Played music stays near its own tempo: how much goes on in a beat is what tells the beat from its double.
    """
    source = rng.choice(list(_SOURCES), p=list(_SOURCES.values()))
    programs = {
        BASS: int(rng.choice(BASS_PROGRAMS)),
        CHORDS: int(rng.choice(CHORD_PROGRAMS)),
        LEAD: int(rng.choice(LEAD_PROGRAMS)),
    }
    if source == "pop":
        song, tempo = library.pop[int(rng.choice(list(library.pop)))]
        score = excerpt(song, song.first_downbeat + 4 * int(rng.integers(0, 24)), LENGTH_BEATS)
        if rng.random() < 0.35:  # the player's liberties removed
            notes = score.notes.copy()
            for name in ("start", "end"):
                notes[name] = np.round(notes[name] * 4) / 4
            score = replace(score, notes=notes)
        dropped = [c for c, odds in ((0, 0.2), (1, 0.3), (2, 0.07)) if rng.random() < odds]
        if len(dropped) < 3:
            score = only(score, {0, 1, 2} - set(dropped))
        programs |= {
            0: int(rng.choice(LEAD_PROGRAMS)),
            1: int(rng.choice(LEAD_PROGRAMS)),
            2: int(rng.choice(CHORD_PROGRAMS)),
        }
        if rng.random() < 0.5:
            programs[2] = int(rng.choice((0, 0, 0, 1, 2, 4, 5, 24, 25, 25, 27)))
        solo = rng.random() < 0.3
        if solo:  # as published: everything on one piano, or another instrument of many voices
            programs |= dict.fromkeys((0, 1, 2), int(rng.choice((0, 0, 0, 0, 1, 4, 6, 11, 19, 21, 24, 46, 48))))
        tempo *= 2 ** rng.normal(0, 0.15)
        drums, backing, melody = not solo and rng.random() < 0.6, not solo and rng.random() < 0.25, False
    elif source == "tune":
        tune = library.tunes[rng.integers(len(library.tunes))]
        bars = tune.length_beats // tune.beats_per_bar * tune.beats_per_bar
        score = loop(excerpt(tune, 0, bars), LENGTH_BEATS)
        programs[0] = int(rng.choice(LEAD_PROGRAMS))
        tempo = float(rng.uniform(75, 165))
        drums, backing, melody = rng.random() < 0.35, rng.random() < 0.7, False
    elif source == "drummer":
        played, tempo = library.drums[rng.choice(len(library.drums), p=library.drum_odds)]
        score = loop(excerpt(played, 0, max(4, played.length_beats // 4 * 4)), LENGTH_BEATS)
        tempo *= 2 ** rng.normal(0, 0.12)
        drums, backing, melody = False, rng.random() < 0.5, rng.random() < 0.4
    elif source == "accompaniment":
        score, tempo = _accompanied(rng, library)
        programs = dict(score.programs) | {channel: programs[LEAD] for channel in _TUNE_CHANNELS}
        drums, backing, melody = False, False, False
    elif source == "clicks":
        score, tempo = write_clicks(rng), float(rng.uniform(58, 195))
        drums, backing, melody = False, False, False
    else:
        score = make_score([], int(rng.choice([2, 3, 4], p=[0.05, 0.25, 0.7])))
        tempo = float(rng.uniform(58, 190))
        drums, backing, melody = rng.random() < 0.55, True, rng.random() < 0.6
    while tempo > 195:
        tempo /= 2
    while tempo < 55:
        tempo *= 2
    per_bar = score.beats_per_bar
    if backing:
        score = merge(score, write_bass_and_chords(rng, per_bar, tempo))
    if melody:
        score = merge(score, write_melody(rng, per_bar, tempo))
    if drums:
        near = [played for played, bpm in library.drums if 0.8 < bpm / tempo < 1.25]
        if per_bar == 4 and near and rng.random() < 0.5:
            played = near[rng.integers(len(near))]
            score = merge(score, loop(excerpt(played, 0, max(4, played.length_beats // 4 * 4)), LENGTH_BEATS))
        else:
            score = merge(score, write_drums(rng, per_bar, tempo))
    if rng.random() < 0.3:  # electronic and other kits
        programs[DRUM_CHANNEL] = int(rng.choice((8, 16, 24, 25, 32, 40)))
    volumes = {c: int(rng.uniform(55, 110)) for c in range(9)} | {DRUM_CHANNEL: int(rng.uniform(45, 120))}
    return replace(score, programs=programs, volumes=volumes), tempo


def _accompanied(rng: np.random.Generator, library: Library) -> tuple[Score, float]:
    """Draw an accompaniment with its song's tune, a written one or none; perhaps only its drums, or all but them."""
    row = library.accompaniments[rng.integers(len(library.accompaniments))]
    played = read_midi(library.accompaniment_folder / row.file)
    played = only(played, set(range(16)) - set(_TUNE_CHANNELS))
    programs = dict(played.programs)
    for channel in sorted(set(played.notes["channel"].tolist()) - {DRUM_CHANNEL}):
        if rng.random() < 0.3:
            low = np.mean(played.notes["pitch"][played.notes["channel"] == channel]) < 48
            programs[channel] = int(rng.choice(BASS_PROGRAMS if low else CHORD_PROGRAMS))
    played = replace(played, programs=programs, beats_per_bar=row.beats_per_bar, first_downbeat=0)
    parts = str(rng.choice(["all", "no drums", "drums", "drums and low"], p=[0.42, 0.33, 0.17, 0.08]))
    if parts == "no drums":
        played = without_drums(played)
    elif parts == "drums":
        played = only(played, {DRUM_CHANNEL})
    elif parts == "drums and low":
        high = (played.notes["channel"] != DRUM_CHANNEL) & (played.notes["pitch"] > 50)
        played = replace(played, notes=played.notes[~high])
    bar = row.beats_per_bar
    if row.song:
        song, tempo = library.pop[row.song]
        tempo *= 2 ** rng.normal(0, 0.12)
        whole = min(LENGTH_BEATS, played.length_beats // bar * bar)
        score = loop(excerpt(played, 0, whole), LENGTH_BEATS)
        tune = excerpt(song, song.first_downbeat + bar * row.first_bar, whole)
        kept = {0} if rng.random() < 0.6 else {0, 1, 2}
        if rng.random() < 0.75 and parts != "drums":
            score = merge(score, only(replace(tune, programs={}), kept))
    else:
        tempo = float(np.exp(rng.uniform(np.log(row.slowest_bpm), np.log(row.fastest_bpm))))
        whole = max(bar, min(played.length_beats // bar, 32) * bar)
        score = loop(excerpt(played, 0, whole), LENGTH_BEATS)
        if rng.random() < 0.4 and parts != "drums":
            score = merge(score, write_melody(rng, bar, tempo))
    return score, tempo


def _perform(
    rng: np.random.Generator,
    score: Score,
    curve: TempoMap,
    fonts: list[SoundFont],
    kits: list[SoundFont],
    lead_s: float,
) -> Take:
    """Render a score with one font, or its drums with a kit of their own."""
    font = fonts[rng.integers(len(fonts))]
    drums = only(score, {DRUM_CHANNEL})
    if not kits or not len(drums.notes) or rng.random() > _KIT_SHARE:
        return render(score, curve, font, lead_s, tail_s=0.0)
    kit = kits[rng.integers(len(kits))]
    beaten = render(replace(drums, programs={}), curve, kit, lead_s, tail_s=0.0)
    rest = render(without_drums(score), curve, font, lead_s, tail_s=0.0)
    loud = float(np.sqrt(np.mean(rest.samples**2))) or 1.0
    gain = loud / (float(np.sqrt(np.mean(beaten.samples**2))) + 1e-9) * 10 ** (rng.uniform(-6, 10) / 20)
    count = min(len(beaten.samples), len(rest.samples))
    return replace(rest, samples=rest.samples[:count] + beaten.samples[:count] * np.float32(gain))


def make_clip(
    rng: np.random.Generator, library: Library, fonts: list[SoundFont], kits: list[SoundFont], length_s: float
) -> Clip:
    """Draw one clip: a piece, a tempo curve, swing, an intro without drums, a break, a room."""
    score, tempo = _arrange(rng, library)
    kind = str(rng.choice(["steady", "drift", "rubato", "ramp", "jump"], p=[0.38, 0.27, 0.1, 0.1, 0.15]))
    times = tempo_curve(rng, kind, tempo, LENGTH_BEATS + 1)
    lead_s = float(rng.uniform(0, 2.5) if rng.random() < 0.5 else rng.uniform(0, 0.3))
    if rng.random() < 0.12:
        score = swing(score, rng.uniform(1.2, 2.2))
    score = humanise(transpose(score, int(rng.integers(-5, 7))), rng, rng.uniform(0, 0.010) * tempo / 60)
    notes = score.notes
    if rng.random() < 0.2 and len(without_drums(score).notes):  # drums rest for a while
        start = int(rng.choice([0, rng.integers(0, 40)]))
        resting = (notes["channel"] == DRUM_CHANNEL) & (notes["start"] >= start)
        notes = notes[~(resting & (notes["start"] < start + rng.integers(8, 33)))]
    curve = from_beat_times(times)
    silent = np.zeros((0, 2))
    chance = rng.random()
    stop = int(np.searchsorted(times, rng.uniform(0.3, 0.7) * length_s))
    if chance < 0.08:  # the band stops dead and counts in silence
        rest = int(rng.integers(3, 9))
        notes = notes[(notes["start"] < stop - 0.1) | (notes["start"] >= stop + rest - 0.1)]
        cut = (notes["start"] < stop) & (notes["end"] > stop)
        notes["end"][cut] = stop
        silent = np.array([[times[stop] + lead_s + 0.5, times[stop + rest] + lead_s]])
    elif chance < 0.16:  # the band stops and begins again when it likes
        curve = curve.with_break(stop, float(rng.uniform(1.5, 6.0)))
        silent = np.array([(start + lead_s + 0.5, end + lead_s) for start, end in curve.silences()])
    if not len(notes):
        return make_clip(rng, library, fonts, kits, length_s)
    # What comes after the clip's end need not be played.
    needed = int(np.searchsorted(curve.time_of(np.arange(LENGTH_BEATS)), length_s - lead_s)) + 1
    heard_part = replace(score, notes=notes[notes["start"] < needed], length_beats=min(needed, LENGTH_BEATS))
    if not len(heard_part.notes):
        return make_clip(rng, library, fonts, kits, length_s)
    take = _perform(rng, heard_part, curve, fonts, kits, lead_s)
    audio = np.zeros(round(length_s * SAMPLE_RATE_HZ), np.float32)
    heard = take.mono()[: len(audio)]
    audio[: len(heard)] = heard
    ended_s = len(heard) / SAMPLE_RATE_HZ
    first_s = float(curve.time_of(notes["start"]).min()) + lead_s
    unknown = np.concatenate([[(0.0, first_s), (ended_s, length_s)], silent])
    inside = take.beats_s < length_s
    positions = (np.arange(len(take.beats_s)) - score.first_downbeat) % score.beats_per_bar
    audio = degrade(rng, audio, 0.8)
    return Clip(audio, take.beats_s[inside], positions[inside], unknown, score.beats_per_bar)
