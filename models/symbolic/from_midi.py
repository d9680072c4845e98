"""Symbolic music -> step grids: POP909, the Groove MIDI Dataset, abc tunes, and four-voice MIDI files of our own.

Where a piece changes its metre or drops beats it falls into several grids, so that within each the bars are certain.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.types import DRUMS, Key
from models.rendering.read_abc import parse_abc
from models.rendering.scores import DRUM_CHANNEL, Notes, Score, read_groove, read_pop909
from models.symbolic.chords import parse_symbol
from models.symbolic.drum_classes import DRUM_OF_PITCH
from models.symbolic.step_grid import STEPS_PER_BEAT, StepGrid, empty, voice_from_notes

LONGEST_BEATS = 20_000
"""Three hours at 110 bpm; a file that says more is broken, and would fill the memory."""
_FEWEST_BARS = 4  # of a stretch of steady metre that is worth learning from
_BASS_TOP = 52  # E3: a piano's left hand above it is no bass line
_BASS_LOW = 28  # E1, a bass guitar's lowest string
_RIGHT_HAND = 48  # C3: two piano notes struck together above it are the accompaniment's rhythm
_ABC_BPM, _ABC_EIGHTH_BPM = 112.0, 165.0  # of tunes that name none: a reel's half note, a slow jig's eighth


def read_pop909_grids(archive: Path, number: int, split: str) -> list[StepGrid]:
    """Read one song of POP909: lead (MELODY), bass and the chords' rhythm (PIANO), chords and key as annotated.

    Bars are those of `beat_midi.txt`; six-beat bars with a second accent on their fourth beat are two of three.

    Args:
        archive: the dataset's zip.
        number: 1 to 909.
        split: written into the grids.

    Raises:
        KeyError: no such song. ValueError: its annotations cannot be read.
    """
    with zipfile.ZipFile(archive) as files:
        folder = f"pop909/{number:03d}"
        table = np.loadtxt(io.BytesIO(files.read(f"{folder}/beat_midi.txt")), ndmin=2)
        chord_lines = files.read(f"{folder}/chord_midi.txt").decode().splitlines()
        key_lines = files.read(f"{folder}/key_audio.txt").decode().splitlines()
    if len(table) < 8 or not (np.isfinite(table).all() and (np.diff(table[:, 0]) > 0.0).all()):
        raise ValueError("its beats do not run forwards")
    notes = read_pop909(archive, number).notes
    beat_s = table[:, 0]
    tempo = np.repeat(60.0 / np.append(np.diff(beat_s), beat_s[-1] - beat_s[-2]), STEPS_PER_BEAT)
    whole = empty(len(beat_s) * STEPS_PER_BEAT, tempo, 4, 0, "", "pop909", split, known=(False, True, True, True))
    piano = notes[notes["channel"] == 2]
    lead, lead_velocity = _melody(notes[notes["channel"] == 0], whole.steps)
    bass, bass_velocity = _lowest_line(piano, whole.steps)
    chord, chord_velocity = _chords(_chord_rows(chord_lines, beat_s), piano, whole.steps)
    whole = replace(
        whole,
        lead=lead,
        lead_velocity=lead_velocity,
        bass=bass,
        bass_velocity=bass_velocity,
        chord=chord,
        chord_velocity=chord_velocity,
    )
    keys = [(float(f[0]), float(f[1]), _key(f[2])) for f in (line.split() for line in key_lines) if len(f) == 3]
    grids = []
    for first, last, per_bar in _steady_stretches(table[:, 1] > 0.5, table[:, 2] > 0.5):
        part = whole.cut(first * STEPS_PER_BEAT, last * STEPS_PER_BEAT)
        overlap = [min(b, beat_s[last - 1]) - max(a, beat_s[first]) for a, b, _ in keys]
        key = keys[int(np.argmax(overlap))][2] if keys else None
        grids.append(replace(part, beats_per_bar=per_bar, bar_step=0, key=key, name=f"pop909/{number:03d}@{first}"))
    return grids


def read_groove_grid(archive: Path, midi_filename: str, split: str) -> StepGrid:
    """Read one performance of the Groove MIDI Dataset, each stroke on the step nearest to it.

    In compound metres a beat is the eighth, in bars of three.

    Raises:
        KeyError: no such performance. ValueError: it has no drums that we know.
    """
    score = read_groove(archive, midi_filename)
    if midi_filename.endswith(("_6-8.mid", "_9-8.mid", "_12-8.mid")):
        score = _eighths_as_beats(score)
    _check_length(score)
    steps = max(1, int(score.length_beats)) * STEPS_PER_BEAT
    drums = drums_from_notes(score.notes, steps)
    if not drums.any():
        raise ValueError("no drums in it")
    name = f"groove/{Path(midi_filename).with_suffix('')}"
    grid = empty(
        steps, score.tempo_bpm, score.beats_per_bar, 0, name, "groove", split, known=(True, False, False, False)
    )
    return replace(grid, drums=drums)


def read_abc_grid(text: str, name: str, split: str) -> StepGrid:
    """Read one abc tune: its melody as the lead. In compound metres a beat is the eighth, in bars of three.

    Raises:
        ValueError: it cannot be read.
    """
    compound = _is_compound(text)
    score = _eighths_as_beats(parse_abc(text)) if compound else parse_abc(text)
    _check_length(score)
    steps = max(1, score.length_beats) * STEPS_PER_BEAT
    lead, lead_velocity = _melody(score.notes, steps)
    tempo = _ABC_EIGHTH_BPM if compound else _ABC_BPM
    grid = empty(steps, tempo, score.beats_per_bar, 0, name, "abc", split, known=(False, False, False, True))
    return replace(grid, lead=lead, lead_velocity=lead_velocity, key=_abc_key(text))


def drums_from_notes(notes: Notes, steps: int) -> NDArray[np.float32]:
    """Return the drums (S, 9) of a score's percussion channel, strokes on the nearest step, the loudest of a class."""
    drums = np.zeros((steps, len(DRUMS)), dtype=np.float32)
    for note in notes[notes["channel"] == DRUM_CHANNEL]:
        drum = DRUM_OF_PITCH.get(int(note["pitch"]))
        step = round(float(note["start"]) * STEPS_PER_BEAT)
        if drum is not None and 0 <= step < steps:
            drums[step, drum] = max(drums[step, drum], note["velocity"] / 127.0)
    return drums


def _check_length(score: Score) -> None:
    ends = score.notes["end"]
    if not len(ends) or not np.isfinite(ends).all() or ends.max() > LONGEST_BEATS or score.length_beats > LONGEST_BEATS:
        raise ValueError("no notes, or of no plausible length")
    if not 1.0 <= score.tempo_bpm <= 1000.0:
        raise ValueError(f"its tempo is {score.tempo_bpm:g} bpm")


def _steps_of(notes: Notes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first step (N,) of notes and the step (N,) after their last."""
    starts = np.rint(notes["start"] * STEPS_PER_BEAT).astype(np.int64)
    return starts, np.maximum(np.rint(notes["end"] * STEPS_PER_BEAT).astype(np.int64), starts + 1)


def _melody(notes: Notes, steps: int) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Return the upper line (S,) and its velocities."""
    ordered = notes[np.argsort(notes["pitch"], kind="stable")]  # the highest of a step comes last and wins
    return voice_from_notes(steps, *_steps_of(ordered), ordered["pitch"], _velocity(ordered))


def _lowest_line(piano: Notes, steps: int) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Return the left hand's lowest line (S,) and its velocities: low notes under which nothing sounds on."""
    starts, ends = _steps_of(piano)
    pitch = piano["pitch"].astype(np.int64)
    low = np.flatnonzero(pitch <= _BASS_TOP)
    keep = [i for i in low if not ((starts[low] < starts[i]) & (ends[low] > starts[i]) & (pitch[low] < pitch[i])).any()]
    keep = sorted(keep, key=lambda i: -pitch[i])  # the lowest of a step comes last and wins
    folded = np.where(pitch < _BASS_LOW, pitch + 12, pitch)
    return voice_from_notes(steps, starts[keep], ends[keep], folded[keep], _velocity(piano[keep]))


def _velocity(notes: Notes) -> NDArray[np.float32]:
    return np.asarray(np.maximum(notes["velocity"], 1) / 127.0, dtype=np.float32)


def _chord_rows(lines: Sequence[str], beat_s: NDArray[np.float64]) -> list[tuple[int, int, int]]:
    """Return (first step, step after the last, class) of each chord of `chord_midi.txt`."""
    rows = []
    for line in lines:
        fields = line.split()
        if len(fields) != 3:
            continue
        chord = parse_symbol(fields[2])
        if chord is not None:
            # Chords change on beats: numbers beyond the last one are cut off there.
            at = np.interp([float(fields[0]), float(fields[1])], beat_s, np.arange(len(beat_s)))
            start, end = (round(float(beat) * STEPS_PER_BEAT) for beat in at)
            rows.append((start, end, chord))
    return rows


def _chords(
    rows: list[tuple[int, int, int]], piano: Notes, steps: int
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Return the chord voice (S,): each chord begins where it changes and where the right hand strikes it again."""
    starts, _ = _steps_of(piano)
    upper = piano["pitch"] >= _RIGHT_HAND
    inside = upper & (starts >= 0) & (starts < steps)
    struck = np.bincount(starts[inside], minlength=steps)
    force = np.bincount(starts[inside], weights=piano["velocity"][inside], minlength=steps)
    usual = float(np.median(piano["velocity"])) / 127.0 if len(piano) else 0.5
    begin, end, value, velocity = [], [], [], []
    for first, last, chord in rows:
        again = [step for step in range(first + 1, last) if step < steps and struck[step] >= 2]
        for step, stop in zip([first, *again], [*again, last], strict=True):
            begin.append(step)
            end.append(stop)
            value.append(chord)
            hit = 0 <= step < steps and struck[step] > 0
            velocity.append(max(1, round(force[step] / struck[step])) / 127.0 if hit else max(usual, 1 / 127.0))
    return voice_from_notes(steps, begin, end, value, velocity)


def _steady_stretches(accents: NDArray[np.bool_], downbeats: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Yield (first beat, beat after the last, beats a bar) of each run of equal bars."""
    starts = np.flatnonzero(downbeats).tolist()
    bars: list[tuple[int, int]] = []  # (first beat, length)
    for start, stop in zip(starts, [*starts[1:], len(downbeats)], strict=True):
        length = stop - start
        if length == 6 and accents[start + 3] and not (accents[start + 2] or accents[start + 4]):
            bars += [(start, 3), (start + 3, 3)]
        elif length == 8:  # a bar line that was not marked
            bars += [(start, 4), (start + 4, 4)]
        else:
            bars.append((start, length))
    first = 0
    for number in range(1, len(bars) + 1):
        if number == len(bars) or bars[number][1] != bars[first][1]:
            if number - first >= _FEWEST_BARS and 2 <= bars[first][1] <= 7:
                yield bars[first][0], bars[number - 1][0] + bars[number - 1][1], bars[first][1]
            first = number


def _key(name: str) -> Key:
    """Return the key of a name like "Gb:maj" or "F#:min". Raises ValueError."""
    chord = parse_symbol(name)
    if chord is None:
        raise ValueError(f"not a key: {name!r}")
    return Key(chord // 8, name.endswith("min"))


def _is_compound(text: str) -> bool:
    match = re.search(r"^M:\s*(\d+)/8\s*$", text, re.MULTILINE)
    return match is not None and int(match[1]) > 3 and int(match[1]) % 3 == 0


def _eighths_as_beats(score: Score) -> Score:
    """Return a score counted in dotted quarters as one counted in eighths, three to a bar."""
    notes = score.notes.copy()
    notes["start"] *= 3.0
    notes["end"] *= 3.0
    return replace(
        score, notes=notes, length_beats=score.length_beats * 3, beats_per_bar=3, tempo_bpm=score.tempo_bpm * 3.0
    )


def _abc_key(text: str) -> Key | None:
    """Return the key of an abc tune, None if its mode is neither major nor minor."""
    match = re.search(r"^K:\s*([A-G])([#b]?)\s*([A-Za-z]*)", text, re.MULTILINE)
    if match is None:
        return None
    tonic = (_key(f"{match[1]}:maj").tonic + {"#": 1, "b": -1, "": 0}[match[2]]) % 12
    mode = match[3].lower()[:3] if match[3] != "m" else "min"
    if mode in ("", "maj", "ion"):
        return Key(tonic)
    return Key(tonic, True) if mode in ("min", "aeo") else None
