"""Symbolic music counted in beats, so that any tempo map can be laid under it."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError

DRUM_CHANNEL = 9
"""Channel 10 of General MIDI, counted from 0."""

NOTE_DTYPE = np.dtype(
    [("start", "f8"), ("end", "f8"), ("channel", "i2"), ("pitch", "i2"), ("velocity", "i2")],
)
Notes = NDArray[np.void]

# Roland TD-11 pads of the Groove set that General MIDI has no sound for -> the nearest that it has.
_GROOVE_TO_GM = {22: 42, 26: 46, 58: 43}


@dataclass(frozen=True, slots=True)
class Score:
    """Notes on a beat grid.

    Attributes:
        notes: (N,) of `NOTE_DTYPE`, sorted by start; start and end [beats] from the score's own beat 0.
        length_beats: whole number of beats it lasts.
        beats_per_bar: 2, 3, 4, ...
        first_downbeat: beat number of one downbeat.
        tempo_bpm: as it was written or played.
        programs: General MIDI program (0 to 127) per channel; 0 where missing.
        volumes: controller 7 (0 to 127) per channel; 100 where missing.
        pans: controller 10 (0 to 127) per channel; 64 where missing.
    """

    notes: Notes
    length_beats: int
    beats_per_bar: int = 4
    first_downbeat: int = 0
    tempo_bpm: float = 120.0
    programs: Mapping[int, int] = field(default_factory=dict)
    volumes: Mapping[int, int] = field(default_factory=dict)
    pans: Mapping[int, int] = field(default_factory=dict)

    def downbeats(self) -> NDArray[np.int64]:
        """Return the beat numbers in [0, length_beats) that start a bar."""
        beats = np.arange(self.length_beats)
        return np.asarray(beats[(beats - self.first_downbeat) % self.beats_per_bar == 0])


def make_notes(rows: Iterable[tuple[float, float, int, int, int]]) -> Notes:
    """Return rows (start, end, channel, pitch, velocity) as a sorted note array."""
    notes = np.array(list(rows), dtype=NOTE_DTYPE)
    return notes[np.lexsort((notes["pitch"], notes["channel"], notes["start"]))]


def merge(first: Score, *others: Score) -> Score:
    """Return all parts sounding together; metre and length are the first score's, its settings win."""
    notes = np.concatenate([first.notes, *(o.notes for o in others)])
    notes = notes[notes["start"] < first.length_beats]
    programs: dict[int, int] = {}
    volumes: dict[int, int] = {}
    pans: dict[int, int] = {}
    for score in (*reversed(others), first):
        programs.update(score.programs)
        volumes.update(score.volumes)
        pans.update(score.pans)
    notes = notes[np.lexsort((notes["pitch"], notes["channel"], notes["start"]))]
    return replace(first, notes=notes, programs=programs, volumes=volumes, pans=pans)


def excerpt(score: Score, start_beat: int, length_beats: int) -> Score:
    """Cut out [start_beat, start_beat + length_beats), renumbered from 0; notes that began earlier are left out."""
    notes = score.notes[(score.notes["start"] >= start_beat - 0.05)].copy()
    notes = notes[notes["start"] < start_beat + length_beats - 0.05]
    notes["start"] = np.maximum(notes["start"] - start_beat, 0.0)
    notes["end"] = np.clip(notes["end"] - start_beat, notes["start"] + 0.02, length_beats)
    first = (score.first_downbeat - start_beat) % score.beats_per_bar
    return replace(score, notes=notes, length_beats=length_beats, first_downbeat=first)


def loop(score: Score, length_beats: int) -> Score:
    """Repeat a score until it lasts `length_beats`."""
    copies = []
    for offset in range(0, length_beats, score.length_beats):
        notes = score.notes.copy()
        notes["start"] += offset
        notes["end"] += offset
        copies.append(notes[notes["start"] < length_beats])
    return replace(score, notes=np.concatenate(copies), length_beats=length_beats)


def only(score: Score, channels: Iterable[int]) -> Score:
    """Keep the notes of some channels."""
    return replace(score, notes=score.notes[np.isin(score.notes["channel"], list(channels))])


def without_drums(score: Score) -> Score:
    """Leave the drum channel out."""
    return replace(score, notes=score.notes[score.notes["channel"] != DRUM_CHANNEL])


def transpose(score: Score, semitones: int) -> Score:
    """Shift every pitched note."""
    notes = score.notes.copy()
    pitched = notes["channel"] != DRUM_CHANNEL
    notes["pitch"][pitched] = np.clip(notes["pitch"][pitched] + semitones, 0, 127)
    return replace(score, notes=notes)


def swing(score: Score, ratio: float = 2.0) -> Score:
    """Bend straight eighths into long-short pairs.

    Args:
        score: with straight eighth notes.
        ratio: length of the first eighth over the second; 1 leaves it straight, 2 is the triplet shuffle.
    """
    middle = ratio / (1.0 + ratio)

    def bend(beats: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.floor(beats)
        return whole + np.interp(beats - whole, [0.0, 0.5, 1.0], [0.0, middle, 1.0])

    notes = score.notes.copy()
    notes["start"] = bend(notes["start"])
    notes["end"] = np.maximum(bend(notes["end"]), notes["start"] + 0.02)
    return replace(score, notes=notes)


def humanise(
    score: Score, rng: np.random.Generator, timing_beats: float = 0.012, velocity: float = 6.0, lag_beats: float = 0.0
) -> Score:
    """Loosen a mechanical score.

    Args:
        score: what to loosen.
        rng: source of chance.
        timing_beats: standard deviation of each start.
        velocity: standard deviation of each velocity.
        lag_beats: constant lateness, the feel of a part that lies back.
    """
    notes = score.notes.copy()
    shift = rng.normal(lag_beats, timing_beats, len(notes))
    notes["start"] = np.maximum(notes["start"] + shift, 0.0)
    notes["end"] = np.maximum(notes["end"] + shift, notes["start"] + 0.02)
    notes["velocity"] = np.clip(np.round(notes["velocity"] + rng.normal(0.0, velocity, len(notes))), 1, 127)
    return replace(score, notes=notes[np.argsort(notes["start"], kind="stable")])


def read_midi(source: Path | bytes, groove: bool = False) -> Score:
    """Read a MIDI file on its own grid.

    A beat is the time signature's denominator, or the dotted quarter in 6/8, 9/8 and 12/8. Parts that share a channel
    in different tracks are given channels of their own.

    Args:
        source: a path, or the file's bytes.
        groove: map the pads of the Groove MIDI Dataset to General MIDI.

    Raises:
        UserError: `mido` is missing.
    """
    midi = _open_midi(source)
    rows: list[tuple[float, float, int, int, int]] = []
    programs: dict[int, int] = {}
    channels: dict[tuple[int, int], int] = {}
    numerator, denominator, signature_seen = 4, 4, False
    for track_number, track in enumerate(midi.tracks):
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "time_signature" and not signature_seen:
                numerator, denominator, signature_seen = message.numerator, message.denominator, True
            elif message.type == "program_change":
                programs[_channel_of(channels, track_number, message.channel)] = message.program
        rows += _track_notes(track, track_number, channels, groove)
    compound = denominator == 8 and numerator > 3 and numerator % 3 == 0
    quarters_per_beat = 1.5 if compound else 4.0 / denominator
    notes = make_notes(rows)
    for name in ("start", "end"):
        notes[name] /= midi.ticks_per_beat * quarters_per_beat
    length = int(np.ceil(notes["end"].max() - 0.05)) if len(notes) else 0
    tempos = [message.tempo for track in midi.tracks for message in track if message.type == "set_tempo"]
    bpm = 60e6 / (tempos[0] if tempos else 500_000) / quarters_per_beat
    return Score(notes, length, numerator // 3 if compound else numerator, 0, bpm, programs)


def read_pop909(archive: Path, number: int) -> Score:
    """Read one song of POP909 (zip of the dataset): channel 0 melody, 1 bridge, 2 piano.

    The human timing within each beat is kept; beats are those of `beat_midi.txt`. Bars are taken as 4/4 throughout,
    in the phase that most of its marked bar starts (third column) agree with.

    Args:
        archive: the dataset's zip.
        number: 1 to 909 as published.

    Raises:
        KeyError: the song is not in the archive.
    """
    with zipfile.ZipFile(archive) as files:
        folder = f"pop909/{number:03d}"
        midi = _open_midi(files.read(f"{folder}/{number:03d}.mid"))
        table = np.loadtxt(io.BytesIO(files.read(f"{folder}/beat_midi.txt")))
    beat_s = table[:, 0]
    ticks, seconds = _tempo_knots(midi)
    rows: list[tuple[float, float, int, int, int]] = []
    parts = {"MELODY": 0, "BRIDGE": 1, "PIANO": 2}
    for track_number, track in enumerate(midi.tracks):
        if track.name in parts:
            fixed = {(track_number, c): parts[track.name] for c in range(16)}
            rows += _track_notes(track, track_number, fixed, groove=False)
    notes = make_notes(rows)
    for name in ("start", "end"):
        at_s = np.interp(notes[name], ticks, seconds)
        notes[name] = _beats_at(at_s, beat_s)
    notes = notes[(notes["start"] >= 0) & (notes["start"] < len(beat_s))]
    notes["end"] = np.maximum(notes["end"], notes["start"] + 0.02)
    bars = np.flatnonzero(table[:, 2] > 0.5)
    first = int(np.bincount(bars % 4, minlength=4).argmax())
    bpm = 60.0 / float(np.median(np.diff(beat_s)))
    return Score(notes, len(beat_s), 4, first, bpm, {0: 0, 1: 0, 2: 0})


def read_pop909_chords(archive: Path, number: int) -> list[tuple[float, float, int]]:
    """Read the chord roots of one song of POP909: (start, end) [beats] on `read_pop909`'s grid, root 0 (C) to 11."""
    with zipfile.ZipFile(archive) as files:
        folder = f"pop909/{number:03d}"
        beat_s = np.loadtxt(io.BytesIO(files.read(f"{folder}/beat_midi.txt")))[:, 0]
        lines = files.read(f"{folder}/chord_midi.txt").decode().split("\n")
    roots = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
    chords = []
    for line in lines:
        fields = line.split()
        if len(fields) == 3 and fields[2] != "N":
            start, end = _beats_at(np.array([float(fields[0]), float(fields[1])]), beat_s).round(2).tolist()
            name = fields[2].split(":")[0]
            root = (roots[name[0]] + name.count("#") - name[1:].count("b")) % 12
            chords.append((start, end, root))
    return chords


def list_groove(archive: Path, split: str, kind: str = "beat") -> list[dict[str, str]]:
    """List performances of the Groove MIDI Dataset.

    Args:
        archive: the dataset's zip.
        split: 'train', 'validation' or 'test'.
        kind: 'beat' (grooves) or 'fill'.

    Returns:
        Rows of its `info.csv`: style, bpm, time_signature, midi_filename, duration, ...
    """
    with zipfile.ZipFile(archive) as files:
        rows = list(csv.DictReader(io.TextIOWrapper(files.open("groove/info.csv"), encoding="utf-8")))
    return [row for row in rows if row["split"] == split and row["beat_type"] == kind]


def read_groove(archive: Path, midi_filename: str) -> Score:
    """Read one performance of the Groove MIDI Dataset (zip), on its metronome's grid."""
    with zipfile.ZipFile(archive) as files:
        return read_midi(files.read(f"groove/{midi_filename}"), groove=True)


def _open_midi(source: Path | bytes) -> Any:  # mido is not typed
    try:
        import mido
    except ImportError as error:
        raise UserError("mido is not installed", 'pip install "pasdedeux[train]"') from error
    data = source if isinstance(source, bytes) else source.read_bytes()
    return mido.MidiFile(file=io.BytesIO(data), clip=True)


def _channel_of(channels: dict[tuple[int, int], int], track: int, channel: int) -> int:
    """Give every (track, channel) its own channel, drums keep theirs."""
    if channel == DRUM_CHANNEL:
        return channel
    key = (track, channel)
    if key not in channels:
        free = [c for c in range(16) if c != DRUM_CHANNEL and c not in channels.values()]
        channels[key] = channel if channel in free or not free else free[0]
    return channels[key]


def _track_notes(
    track: Any, track_number: int, channels: dict[tuple[int, int], int], groove: bool
) -> list[tuple[float, float, int, int, int]]:
    """Pair note-on and note-off messages; times in ticks."""
    rows = []
    sounding: dict[tuple[int, int], list[tuple[float, int]]] = {}
    tick = 0
    for message in track:
        tick += message.time
        if message.type not in ("note_on", "note_off"):
            continue
        channel = _channel_of(channels, track_number, message.channel)
        pitch = _GROOVE_TO_GM.get(message.note, message.note) if groove else message.note
        started = sounding.setdefault((channel, pitch), [])
        if message.type == "note_on" and message.velocity > 0:
            started.append((tick, message.velocity))
        elif started:
            start, velocity = started.pop(0)
            rows.append((float(start), float(max(tick, start + 1)), channel, pitch, velocity))
    return rows


def _tempo_knots(midi: Any) -> tuple[list[float], list[float]]:
    """Return knots (ticks, seconds) of a file's tempo map; the last lies far beyond its end."""
    changes = []
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                changes.append((tick, message.tempo))
    changes.sort()
    ticks, seconds, tempo = [0.0], [0.0], 500_000
    for tick, new_tempo in [*changes, (10**8, 500_000)]:
        elapsed = (tick - ticks[-1]) * tempo * 1e-6 / midi.ticks_per_beat
        if tick > ticks[-1]:
            ticks.append(float(tick))
            seconds.append(seconds[-1] + elapsed)
        tempo = new_tempo
    return ticks, seconds


def _beats_at(at_s: NDArray[np.float64], beat_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map seconds to beat numbers through a beat list, extrapolating at both ends."""
    index = np.clip(np.searchsorted(beat_s, at_s, side="right") - 1, 0, len(beat_s) - 2)
    return index + (at_s - beat_s[index]) / (beat_s[index + 1] - beat_s[index])
