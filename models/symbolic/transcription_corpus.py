"""Bands with known scores to learn transcription from: POP909 songs, rearranged at random, with Groove drums, rendered.

Arrangements, tempos, keys, instruments, rooms and the alignment of the grid vary, so that what is learnt does not hang
on any of them. Songs in three are made of songs in four by leaving every bar's last beat out: waltzes are rare here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.types import VOICES, Key
from models.beats.band import BASS_PROGRAMS, CHORD_PROGRAMS, LEAD_PROGRAMS
from models.rendering.rooms import play_in_room, tilt
from models.rendering.scores import DRUM_CHANNEL, Notes, Score, excerpt, make_notes, read_groove, read_pop909
from models.rendering.synth import SoundFont, normalise, render
from models.rendering.tempo import rubato
from models.symbolic.chords import TEMPLATES, voicing
from models.symbolic.from_midi import drums_from_notes
from models.symbolic.pitch_activations import PitchNetwork
from models.symbolic.step_features import step_features
from models.symbolic.step_grid import HOLD, REST, STEPS_PER_BEAT, StepGrid, notes_of, voice_from_notes

_BARS = 24  # of a mix: about a minute
_LEAD, _BRIDGE, _PIANO, _BASS, _PAD = 0, 1, 2, 3, 4
_PADS = (48, 49, 50, 51, 52, 89, 90, 91, 94)


@dataclass(frozen=True, slots=True)
class Mix:
    """Audio and its truth: `samples` (n,) mono; `step_s` (S + 1,) where steps begin; `grid`, with all voices known."""

    samples: NDArray[np.float32]
    rate_hz: int
    step_s: NDArray[np.float64]
    grid: StepGrid


@dataclass(frozen=True, slots=True)
class Sources:
    """What mixes are made of.

    Attributes:
        pop909: the archive. songs: its grids, of one split.
        groove: the archive. drums: grids of performances, of one split.
        fonts: soundfonts to choose from.
    """

    pop909: Path
    songs: Sequence[StepGrid]
    groove: Path
    drums: Sequence[StepGrid]
    fonts: Sequence[SoundFont]


def make_mix(sources: Sources, rng: np.random.Generator) -> Mix:
    """Arrange, play and record one band."""
    song = sources.songs[int(rng.integers(len(sources.songs)))]
    number, first_beat = (int(part) for part in song.name.removeprefix("pop909/").split("@"))
    bars = min(_BARS, song.steps // song.steps_per_bar)
    first_bar = int(rng.integers(song.steps // song.steps_per_bar - bars + 1))
    start = first_bar * song.steps_per_bar
    grid = song.cut(start, start + bars * song.steps_per_bar)
    score = excerpt(
        read_pop909(sources.pop909, number), first_beat + start // STEPS_PER_BEAT, bars * song.beats_per_bar
    )
    if song.beats_per_bar == 4 and rng.random() < 0.3:
        grid, score = _in_three(grid, score)
    grid, score = _transposed(grid, score, int(rng.integers(-5, 7)))
    if rng.random() < 0.5:
        grid = _with_pattern(grid, rng)
        kept = score.notes[np.isin(score.notes["channel"], (_LEAD, _BRIDGE))]
        notes = np.concatenate([kept, _bass_notes(grid), _chord_notes(grid)])
    elif rng.random() < 0.5:
        kept = score.notes[(score.notes["channel"] != _PIANO) | (score.notes["pitch"] > 52)]
        notes = np.concatenate([kept, _bass_notes(grid)])
    else:
        notes = score.notes
    if rng.random() < 0.3:
        notes = np.concatenate([notes, _pad_notes(grid)])
    if rng.random() < 0.12:  # an interlude: nobody sings
        notes = notes[notes["channel"] != _LEAD]
        grid = replace(grid, lead=np.full(grid.steps, REST), lead_velocity=np.zeros(grid.steps, dtype=np.float32))
    if rng.random() < 0.5:
        notes = notes[notes["channel"] != _BRIDGE]
    if rng.random() < 0.75:  # strings and pianos dance, too
        strokes = _drum_notes(sources, grid, rng)
        notes = np.concatenate([notes, strokes])
        grid = replace(grid, drums=drums_from_notes(strokes, grid.steps), known=np.ones(len(VOICES), dtype=bool))
    grid = replace(grid, known=np.ones(len(VOICES), dtype=bool))  # no drums is known, too
    return _record(grid, notes, sources, rng)


def _record(grid: StepGrid, notes: Notes, sources: Sources, rng: np.random.Generator) -> Mix:
    beats = grid.steps // STEPS_PER_BEAT
    score = Score(
        notes[np.lexsort((notes["pitch"], notes["channel"], notes["start"]))],
        beats,
        grid.beats_per_bar,
        programs={
            _LEAD: int(rng.choice(LEAD_PROGRAMS)),
            _BRIDGE: int(rng.choice(LEAD_PROGRAMS)),
            _PIANO: int(rng.choice(CHORD_PROGRAMS)),
            _BASS: int(rng.choice(BASS_PROGRAMS)),
            _PAD: int(rng.choice(_PADS)),
            DRUM_CHANNEL: int(rng.choice([0, 0, 8, 16, 24, 25, 40])),
        },
        volumes={
            _LEAD: int(rng.integers(85, 128)),
            _BRIDGE: int(rng.integers(40, 90)),
            _PIANO: int(rng.integers(60, 110)),
            _BASS: int(rng.integers(80, 128)),
            _PAD: int(rng.integers(40, 90)),
            DRUM_CHANNEL: int(rng.integers(60, 120)),
        },
    )
    tempo = rubato(float(rng.uniform(72.0, 136.0)), beats, rng, spread=0.01)
    font = sources.fonts[int(rng.integers(len(sources.fonts)))]
    lead_s = 0.3
    take = render(score, tempo, font, lead_s=lead_s)
    samples = normalise(take.mono())
    if rng.random() < 0.5:
        samples = tilt(samples, take.sample_rate_hz, float(rng.uniform(-3.0, 2.0)))
    if rng.random() < 0.4:
        samples = play_in_room(samples, take.sample_rate_hz, rng, strength=0.5)
    step_s = tempo.time_of(np.arange(grid.steps + 1) / STEPS_PER_BEAT) + lead_s
    # Annotated beats of real music are a few hundredths of a second off, and wander.
    wander = np.interp(np.arange(grid.steps + 1), np.linspace(0, grid.steps, 8), rng.normal(0.0, 0.008, 8))
    step_s = step_s + rng.normal(0.0, 0.02) + wander
    bpm = (15.0 / np.diff(step_s)).astype(np.float32)
    return Mix(samples, take.sample_rate_hz, step_s, replace(grid, tempo_bpm=bpm))


def _in_three(grid: StepGrid, score: Score) -> tuple[StepGrid, Score]:
    """Leave the last beat of every bar of four out."""
    keep = grid.bar_positions() < 12
    parts: dict[str, NDArray[np.generic]] = {"drums": grid.drums[keep], "tempo_bpm": grid.tempo_bpm[keep]}
    for voice in VOICES[1:]:
        values = getattr(grid, voice).copy()
        for bar in range(0, grid.steps, 16):  # a hold of what began in the lost beat holds nothing
            stop = bar + 16
            if stop < grid.steps and (values[bar + 12 : stop] != HOLD).any():
                end = stop
                while end < grid.steps and values[end] == HOLD:
                    values[end] = REST
                    end += 1
        parts[voice] = values[keep]
        parts[f"{voice}_velocity"] = getattr(grid, f"{voice}_velocity")[keep]
    notes = score.notes.copy()
    notes = notes[notes["start"] % 4 < 2.94]
    for name in ("start", "end"):
        whole, beat = np.divmod(notes[name], 4.0)
        notes[name] = whole * 3.0 + np.minimum(beat, 3.0)
    notes["end"] = np.maximum(notes["end"], notes["start"] + 0.05)
    fields: dict[str, object] = {**parts, "beats_per_bar": 3, "bar_step": 0}
    shorter = replace(score, notes=notes, length_beats=score.length_beats // 4 * 3, beats_per_bar=3)
    return replace(grid, **fields), shorter  # type: ignore[arg-type]


def _transposed(grid: StepGrid, score: Score, semitones: int) -> tuple[StepGrid, Score]:
    notes = score.notes.copy()
    notes["pitch"] = np.clip(notes["pitch"] + semitones, 0, 127)
    lines = {
        v: np.where(getattr(grid, v) >= 0, getattr(grid, v) + semitones, getattr(grid, v)) for v in ("bass", "lead")
    }
    chord = np.where(grid.chord >= 0, (grid.chord + 8 * semitones) % 96, grid.chord)
    key = None if grid.key is None else Key((grid.key.tonic + semitones) % 12, grid.key.minor)
    return replace(grid, chord=chord, key=key, **lines), replace(score, notes=notes)


def _with_pattern(grid: StepGrid, rng: np.random.Generator) -> StepGrid:
    """Return a grid whose bass and chords follow a rhythm drawn for the piece: oom-pah, or strokes on chosen steps."""
    sounding = chord_labels(grid)
    per_bar = grid.steps_per_bar
    cell = np.arange(per_bar)
    if rng.random() < 0.5:
        bass_hits = cell == 0 if grid.beats_per_bar == 3 else np.isin(cell, (0, 8))
        chord_hits = (cell % 4 == 0) & ~bass_hits
    else:
        odds = np.where(cell % 4 == 0, 0.6, np.where(cell % 2 == 0, 0.3, 0.06))
        bass_hits, chord_hits = rng.random(per_bar) < odds, rng.random(per_bar) < odds
        bass_hits[0] = True
    low = int(rng.integers(28, 37))
    fifths = rng.random() < 0.4
    bass, chords = [], []
    for step in range(grid.steps):
        label = int(sounding[step])
        if label < 0:
            continue
        root = low + (label // 8 - low) % 12
        if bass_hits[step % per_bar]:
            other = fifths and step % per_bar and TEMPLATES[label % 8][2] == 7
            bass.append((step, root + (7 if other else 0)))
        if chord_hits[step % per_bar] or (step and sounding[step - 1] != label):
            chords.append((step, label))
    out: dict[str, NDArray[np.generic]] = {}
    short = int(rng.choice([1, 2, 4, 16]))
    for voice, hits, longest in (("bass", bass, 16), ("chord", chords, max(short, 2))):
        starts = [step for step, _ in hits]
        ends = [min(step + longest, grid.steps) for step in starts]
        loud = np.clip(rng.normal(0.65, 0.12, len(hits)), 0.2, 1.0)
        out[voice], out[f"{voice}_velocity"] = voice_from_notes(grid.steps, starts, ends, [v for _, v in hits], loud)
    return replace(grid, **out)  # type: ignore[arg-type]


def chord_labels(grid: StepGrid) -> NDArray[np.int16]:
    """Return (S,) the chord class in force at each step, -1 before the first; rests between strokes belong to it."""
    begun = np.flatnonzero(grid.chord >= 0)
    if not len(begun):
        return np.full(grid.steps, -1, dtype=np.int16)
    last = np.searchsorted(begun, np.arange(grid.steps), side="right") - 1
    labels = np.where(last >= 0, grid.chord[begun[np.maximum(last, 0)]], -1)
    # A silence of two bars is no chord any more.
    age = np.arange(grid.steps) - np.where(last >= 0, begun[np.maximum(last, 0)], 0)
    return np.asarray(np.where((grid.chord == REST) & (age > 2 * grid.steps_per_bar), -1, labels), dtype=np.int16)


def _line_notes(voice: NDArray[np.int16], velocity: NDArray[np.float32], channel: int) -> Notes:
    return make_notes(
        (a / STEPS_PER_BEAT, b / STEPS_PER_BEAT - 0.02, channel, p, max(1, round(float(velocity[a]) * 127)))
        for a, b, p in notes_of(voice).tolist()
    )


def _bass_notes(grid: StepGrid) -> Notes:
    return _line_notes(grid.bass, grid.bass_velocity, _BASS)


def _chord_notes(grid: StepGrid) -> Notes:
    rows: list[tuple[float, float, int, int, int]] = []
    pitches: tuple[int, ...] = ()
    for a, b, chord in notes_of(grid.chord).tolist():
        pitches = voicing(chord, pitches)
        loud = max(1, round(float(grid.chord_velocity[a]) * 127))
        rows += [(a / STEPS_PER_BEAT, b / STEPS_PER_BEAT - 0.02, _PIANO, pitch, loud) for pitch in pitches]
    return make_notes(rows)


def _pad_notes(grid: StepGrid) -> Notes:
    labels = chord_labels(grid)
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), grid.steps]
    rows: list[tuple[float, float, int, int, int]] = []
    pitches: tuple[int, ...] = ()
    for a, b in itertools.pairwise(edges):
        if labels[a] >= 0:
            pitches = voicing(int(labels[a]), pitches)
            rows += [(a / STEPS_PER_BEAT, b / STEPS_PER_BEAT - 0.02, _PAD, pitch, 70) for pitch in pitches]
    return make_notes(rows)


def _drum_notes(sources: Sources, grid: StepGrid, rng: np.random.Generator) -> Notes:
    """Return a performance from a bar line on, repeated; for a song in three, one in four without its last beats."""
    per_bar = grid.beats_per_bar
    fitting = [d for d in sources.drums if d.beats_per_bar in (4, per_bar) and d.steps >= 2 * d.steps_per_bar]
    drum = fitting[int(rng.integers(len(fitting)))]
    score = read_groove(sources.groove, drum.name.removeprefix("groove/") + ".mid")
    notes = _thinned(score.notes[score.notes["channel"] == DRUM_CHANNEL].copy(), rng)
    if drum.beats_per_bar == 4 and per_bar == 3:
        notes = notes[notes["start"] % 4 < 2.94]
        for name in ("start", "end"):
            bar, beat = np.divmod(notes[name], 4.0)
            notes[name] = bar * 3.0 + np.minimum(beat, 3.0)
    bars = max(1, drum.steps // drum.steps_per_bar)
    first = int(rng.integers(max(1, bars - 8)))
    span = min(bars - first, 16) * per_bar
    notes["start"] -= first * per_bar
    notes["end"] -= first * per_bar
    notes = notes[(notes["start"] > -0.06) & (notes["start"] < span - 0.06)]
    beats = grid.steps // STEPS_PER_BEAT
    copies = []
    for offset in range(0, beats, span):
        copy = notes.copy()
        copy["start"] = np.maximum(copy["start"] + offset, 0.0)
        copy["end"] = np.maximum(copy["end"] + offset, copy["start"] + 0.05)
        copies.append(copy[copy["start"] < beats - 0.1])
    return np.concatenate(copies) if copies else notes[:0]


def _thinned(strokes: Notes, rng: np.random.Generator) -> Notes:
    """Leave some drums out of a performance, and often its ghost notes: dance bands play sparser than soloists."""
    if rng.random() < 0.6:
        strokes = strokes[strokes["velocity"] >= 45]
    pitches = np.unique(strokes["pitch"])
    return strokes[np.isin(strokes["pitch"], pitches[rng.random(len(pitches)) < rng.uniform(0.5, 1.1)])]


def hear(mix: Mix, network: PitchNetwork) -> NDArray[np.float32]:
    """Return the step features (S, F) of a mix."""
    return step_features(mix.samples, mix.rate_hz, network(mix.samples, mix.rate_hz), mix.step_s)
