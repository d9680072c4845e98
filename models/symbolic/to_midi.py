"""Step grids <-> Standard MIDI Files: type 1, a track a voice, tempo map, metre, key, and chord symbols as markers."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.types import DRUM_PITCHES, DRUMS, VOICE_CHANNELS, VOICES, Key
from models.symbolic.chords import match_pitches, parse_symbol, symbol_of, voicing
from models.symbolic.drum_classes import DRUM_OF_PITCH
from models.symbolic.step_grid import STEPS_PER_BEAT, StepGrid, empty, notes_of, voice_from_notes

_TICKS_PER_BEAT = 480
_TICKS_PER_STEP = _TICKS_PER_BEAT // STEPS_PER_BEAT
_PROGRAMS = {"drums": 0, "bass": 33, "chord": 4, "lead": 73}
"""General MIDI: standard kit, fingered bass, electric piano, flute: four colours that keep apart."""
_MAJOR = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_MINOR = ("Cm", "C#m", "Dm", "Ebm", "Em", "Fm", "F#m", "Gm", "G#m", "Am", "Bbm", "Bm")
_LONGEST_STEPS = 80_000  # three hours; a file that says more is broken

_Event = tuple[int, int, Any]  # tick, order within the tick, message


def to_midi(grid: StepGrid) -> bytes:
    """Return a Standard MIDI File of a grid; unknown voices get no track.

    Velocities are rounded to 127ths and tempos to microseconds a beat; what comes before the first bar line is written
    as a bar of its own. `from_midi` reads the rest back as it was.

    Raises:
        UserError: mido is missing.
    """
    mido = _mido()
    midi = mido.MidiFile(type=1, ticks_per_beat=_TICKS_PER_BEAT)
    midi.tracks.append(_track(_conductor(grid, mido), grid.name, grid.steps, mido))
    for voice, known in zip(VOICES, grid.known, strict=True):
        if known:
            channel = VOICE_CHANNELS[voice]
            program = mido.Message("program_change", channel=channel, program=_PROGRAMS[voice])
            events = _drum_events(grid, mido) if voice == "drums" else _voice_events(grid, voice, mido)
            midi.tracks.append(_track([(0, -1, program), *events], voice, grid.steps, mido))
    out = io.BytesIO()
    midi.save(file=out)
    return out.getvalue()


def from_midi(content: bytes, name: str, source: str, split: str) -> StepGrid:
    """Read a four-voice MIDI file: one that `to_midi` wrote, or one with the same channels; notes on the nearest step.

    Raises:
        UserError: mido is missing.
        ValueError: it is not a MIDI file, has none of the four channels, or is broken.
    """
    mido = _mido()
    try:
        midi = mido.MidiFile(file=io.BytesIO(content), clip=True)
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, mido.KeySignatureError) as error:
        raise ValueError(f"not a MIDI file ({error})") from error
    if midi.ticks_per_beat < 1:
        raise ValueError("it counts in frames, not in beats")
    messages: list[tuple[int, Any]] = []
    last = 0
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            messages.append((tick, message))
        last = max(last, tick)
    per_step = midi.ticks_per_beat / STEPS_PER_BEAT
    steps = round(last / per_step)
    if not 1 <= steps <= _LONGEST_STEPS:
        raise ValueError(f"it lasts {steps} steps")
    messages.sort(key=lambda pair: pair[0])
    known = [any(not m.is_meta and getattr(m, "channel", -1) == VOICE_CHANNELS[v] for _, m in messages) for v in VOICES]
    if not any(known):
        raise ValueError("none of the four voices is in it")
    tempo, per_bar, bar_step, key = _map(messages, per_step, steps)
    grid = empty(steps, tempo, per_bar, bar_step, name, source, split, known, key)
    drums = np.zeros((steps, len(DRUMS)), dtype=np.float32)
    for start, _, pitch, velocity in _notes(messages, VOICE_CHANNELS["drums"], per_step):
        if pitch in DRUM_OF_PITCH and start < steps:
            drums[start, DRUM_OF_PITCH[pitch]] = max(drums[start, DRUM_OF_PITCH[pitch]], velocity / 127.0)
    lines: dict[str, Any] = {"drums": drums}
    for voice in ("bass", "lead"):
        rows = _notes(messages, VOICE_CHANNELS[voice], per_step)
        rows.sort(key=lambda row: row[2] if voice == "lead" else -row[2])
        lines[voice], lines[f"{voice}_velocity"] = _line(rows, steps)
    lines["chord"], lines["chord_velocity"] = _line(_chord_rows(messages, per_step), steps)
    return replace(grid, **lines)


def _mido() -> Any:  # mido is not typed
    try:
        import mido
    except ImportError as error:
        raise UserError("mido is not installed", 'pip install "pasdedeux[train]"') from error
    return mido


def _track(events: Iterable[_Event], name: str, steps: int, mido: Any) -> Any:
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name.encode("latin-1", "replace").decode("latin-1"))])
    at = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - at))
        at = tick
    track.append(mido.MetaMessage("end_of_track", time=steps * _TICKS_PER_STEP - at))
    return track


def _conductor(grid: StepGrid, mido: Any) -> list[_Event]:
    events: list[_Event] = []
    pickup = grid.bar_step % grid.steps_per_bar
    if pickup:
        events.append((0, 0, mido.MetaMessage("time_signature", numerator=pickup, denominator=16)))
    if pickup < grid.steps:
        metre = mido.MetaMessage("time_signature", numerator=grid.beats_per_bar, denominator=4)
        events.append((pickup * _TICKS_PER_STEP, 0, metre))
    if grid.key is not None:
        name = (_MINOR if grid.key.minor else _MAJOR)[grid.key.tonic]
        events.append((0, 1, mido.MetaMessage("key_signature", key=name)))
    changes = np.flatnonzero(np.diff(grid.tempo_bpm, prepend=-1.0) != 0.0)
    for step in changes.tolist():
        micros = round(60e6 / float(grid.tempo_bpm[step]))
        events.append((step * _TICKS_PER_STEP, 2, mido.MetaMessage("set_tempo", tempo=min(micros, 2**24 - 1))))
    return events


def _velocity(value: float) -> int:
    return max(1, round(value * 127.0))


def _drum_events(grid: StepGrid, mido: Any) -> list[_Event]:
    channel = VOICE_CHANNELS["drums"]
    events: list[_Event] = []
    for step, drum in np.argwhere(grid.drums > 0.0).tolist():
        tick, pitch = step * _TICKS_PER_STEP, DRUM_PITCHES[drum]
        loud = _velocity(float(grid.drums[step, drum]))
        events.append((tick, 1, mido.Message("note_on", channel=channel, note=pitch, velocity=loud)))
        events.append((tick + _TICKS_PER_STEP // 2, 0, mido.Message("note_off", channel=channel, note=pitch)))
    return events


def _voice_events(grid: StepGrid, voice: str, mido: Any) -> list[_Event]:
    channel = VOICE_CHANNELS[voice]
    loudness: NDArray[np.float32] = getattr(grid, f"{voice}_velocity")
    events: list[_Event] = []
    sounding: tuple[int, ...] = ()
    for start, end, value in notes_of(getattr(grid, voice)).tolist():
        tick = start * _TICKS_PER_STEP
        if voice == "chord":
            sounding = voicing(value, sounding)
            events.append((tick, 1, mido.MetaMessage("marker", text=symbol_of(value))))
        else:
            sounding = (value,)
        loud = _velocity(float(loudness[start]))
        for pitch in sounding:
            events.append((tick, 2, mido.Message("note_on", channel=channel, note=pitch, velocity=loud)))
            stop = end * _TICKS_PER_STEP
            events.append((stop, 0, mido.Message("note_off", channel=channel, note=pitch)))
    return events


def _notes(messages: list[tuple[int, Any]], channel: int, per_step: float) -> list[tuple[int, int, int, int]]:
    """Return (first step, step after the last, pitch, velocity) of a channel's notes."""
    rows = []
    sounding: dict[int, tuple[int, int]] = {}
    for tick, message in messages:
        if message.type not in ("note_on", "note_off") or message.channel != channel:
            continue
        if message.note in sounding:
            start, velocity = sounding.pop(message.note)
            first = round(start / per_step)
            rows.append((first, max(first + 1, round(tick / per_step)), message.note, velocity))
        if message.type == "note_on" and message.velocity > 0:
            sounding[message.note] = (tick, message.velocity)
    for pitch, (start, velocity) in sounding.items():
        first = round(start / per_step)
        rows.append((first, first + 1, pitch, velocity))
    rows.sort(key=lambda row: row[0])
    return rows


def _line(rows: list[tuple[int, int, int, int]], steps: int) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return voice_from_notes(steps, columns[0], columns[1], columns[2], columns[3] / 127.0)


def _chord_rows(messages: list[tuple[int, Any]], per_step: float) -> list[tuple[int, int, int, int]]:
    """Return (first step, step after the last, class, velocity) of what the chord channel strikes together."""
    symbols: dict[int, int] = {}
    for tick, message in messages:
        if message.type == "marker":
            try:
                chord = parse_symbol(message.text)
            except ValueError:  # a marker that is about something else
                continue
            if chord is not None:
                symbols[round(tick / per_step)] = chord
    together: dict[int, list[tuple[int, int, int, int]]] = {}
    for row in _notes(messages, VOICE_CHANNELS["chord"], per_step):
        together.setdefault(row[0], []).append(row)
    rows = []
    for step, notes in together.items():
        named = symbols.get(step, match_pitches(note[2] for note in notes))
        assert named is not None
        rows.append((step, max(n[1] for n in notes), named, max(n[3] for n in notes)))
    return rows


def _map(
    messages: list[tuple[int, Any]], per_step: float, steps: int
) -> tuple[NDArray[np.float32], int, int, Key | None]:
    """Return the tempo (S,) of each step, beats per bar, a step that begins a bar, and the key."""
    tempo = np.full(steps, 120.0, dtype=np.float32)
    per_bar, bar_step, key = 4, 0, None
    for tick, message in messages:
        step = round(tick / per_step)
        if message.type == "set_tempo":
            tempo[step:] = 60e6 / max(1, message.tempo)
        elif message.type == "time_signature" and message.denominator == 4 and 1 <= message.numerator <= 16:
            per_bar, bar_step = message.numerator, step
        elif message.type == "time_signature" and not step:
            bar_step = message.numerator * 16 // message.denominator
        elif message.type == "key_signature" and step == 0:
            names = _MINOR if message.key.endswith("m") else _MAJOR
            key = Key(names.index(message.key), message.key.endswith("m")) if message.key in names else None
    return tempo, per_bar, bar_step, key
