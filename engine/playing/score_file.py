"""Notes as a Standard MIDI File and a table: what `play --render` and a recorded show leave behind.

The file's tempo map follows the timeline's: a whole beat lies on a whole quarter note, and every note sounds at its
real time when the file is played, however the tempo drifted.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mido

from engine.errors import UserError
from engine.types import TRIGGER_CHANNEL, VOICE_CHANNELS, VOICES, ClockEvent, NoteEvent

PULSES_PER_QUARTER = 960
"""0.26 ms of rounding at 120 bpm, 0.8 ms at 40. A finer grid would make readers refuse shows beyond 45 minutes, which
take ten million pulses for damage."""
# A MIDI tempo has 24 bits of microseconds a quarter: about 3.6 bpm.
_MAX_QUARTER_US = (1 << 24) - 1
_NS_PER_US = 1000
_DEFAULT_BPM = 120.0
_SLOWEST_BPM = 1.0
"""Slower is no tempo, but a clock that is not known."""
# Between two whole beats the tempo may be bent by this much before steps get tempos of their own: half of what is heard
# as unsteady.
_BENT_NS = 2_000_000
_STEPS = 4


@dataclass(frozen=True, slots=True)
class TempoPoint:
    """Where the timeline was: beat number (fractional) and tempo at a session time."""

    time_ns: int
    beat: float
    tempo_bpm: float


def tempo_points(clocks: Iterable[ClockEvent]) -> list[TempoPoint]:
    """Return the points of a show's clocks."""
    return [TempoPoint(clock.time_ns, clock.beat, clock.tempo_bpm) for clock in clocks]


def write_music(
    folder: Path, notes: Iterable[NoteEvent], tempo: Sequence[TempoPoint], programs: Mapping[str, int]
) -> list[NoteEvent]:
    """Write `music.mid` and `notes.csv` into a folder; return the notes as written.

    Args:
        folder: exists.
        notes: in any order; session time 0 is the start of the file.
        tempo: where the timeline was, in order of time; may be empty (then 120 bpm).
        programs: General MIDI program (from 0) by voice.

    Raises:
        UserError: a file cannot be written.
    """
    written = without_overlaps(notes)
    try:
        write_midi(folder / "music.mid", written, tempo, programs)
        write_table(folder / "notes.csv", written)
    except OSError as error:
        raise UserError(f"cannot write music into {folder}", error.strerror or str(error)) from error
    return written


def without_overlaps(notes: Iterable[NoteEvent]) -> list[NoteEvent]:
    """Return the notes in order of time, none sounding while the same pitch of its channel sounds already.

    A note is cut where the next of its pitch begins; of those that begin together the loudest stays. A velocity of 0,
    which MIDI takes for an end, is no note, but ends what began before it; what would begin before session time 0
    begins there.
    """
    kept: list[NoteEvent] = []
    last: dict[tuple[int, int], int] = {}
    for note in sorted(notes, key=lambda n: (n.time_ns, n.channel, n.pitch, -n.velocity, -n.duration_ns, n.source_ns)):
        if note.velocity < 1:
            index = last.get((note.channel, note.pitch))
            if index is not None and 0 < note.time_ns - kept[index].time_ns < kept[index].duration_ns:
                kept[index] = replace(kept[index], duration_ns=note.time_ns - kept[index].time_ns)
            continue
        fresh = replace(note, time_ns=max(note.time_ns, 0), duration_ns=max(note.duration_ns, 1))
        index = last.get((note.channel, note.pitch))
        if index is not None:
            before = kept[index]
            if fresh.time_ns == before.time_ns:
                if (fresh.velocity, fresh.duration_ns) > (before.velocity, before.duration_ns):
                    kept[index] = fresh
                continue
            if before.time_ns + before.duration_ns > fresh.time_ns:
                kept[index] = replace(before, duration_ns=fresh.time_ns - before.time_ns)
        last[note.channel, note.pitch] = len(kept)
        kept.append(fresh)
    return kept


def write_table(path: Path, notes: Sequence[NoteEvent]) -> None:
    """Write the notes as `time_s,channel,pitch,velocity,duration_s`."""
    lines = ["time_s,channel,pitch,velocity,duration_s"]
    lines += [
        f"{note.time_ns / 1e9:.6f},{note.channel},{note.pitch},{note.velocity},{note.duration_ns / 1e9:.6f}"
        for note in notes
    ]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_midi(
    path: Path, notes: Sequence[NoteEvent], tempo: Sequence[TempoPoint], programs: Mapping[str, int]
) -> None:
    """Write a type 1 file: the tempo, then one track a voice, the triggers, and any further channel in use.

    Args:
        path: the file.
        notes: as from `without_overlaps`.
        tempo: where the timeline was, in order of time.
        programs: General MIDI program (from 0) by voice.

    Raises:
        OSError: it cannot be written.
    """
    tempo_map = _TempoMap(tempo)
    file = mido.MidiFile(type=1, ticks_per_beat=PULSES_PER_QUARTER, charset="utf-8")
    file.tracks.append(tempo_map.track("Pas de Deux"))
    names = {VOICE_CHANNELS[voice]: voice for voice in VOICES} | {TRIGGER_CHANNEL: "triggers"}
    names |= {note.channel: f"channel {note.channel + 1}" for note in notes if note.channel not in names}
    for channel, name in names.items():
        played = [note for note in notes if note.channel == channel]
        file.tracks.append(_voice_track(name, channel, played, tempo_map, programs.get(name)))
    file.save(str(path))


def _voice_track(
    name: str, channel: int, notes: Sequence[NoteEvent], tempo_map: _TempoMap, program: int | None
) -> mido.MidiTrack:
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("track_name", name=name, time=0))
    if program is not None:
        track.append(mido.Message("program_change", channel=channel, program=program, time=0))
    # (pulse, 0 for an end and 1 for a beginning, pitch, velocity): ends come before what begins on the same pulse.
    events: list[tuple[int, int, int, int]] = []
    sounding: dict[int, tuple[int, int]] = {}
    for note in notes:
        begin = tempo_map.pulse_at(note.time_ns)
        end = max(tempo_map.pulse_at(note.time_ns + note.duration_ns), begin + 1)
        before = sounding.get(note.pitch)
        # Two that rounding has put on one pulse: the later takes the next.
        if before is not None and begin <= before[0]:
            begin, end = before[0] + 1, max(end, before[0] + 2)
        if before is not None:
            events.append((min(before[1], begin), 0, note.pitch, 0))
        sounding[note.pitch] = (begin, end)
        events.append((begin, 1, note.pitch, note.velocity))
    events += [(end, 0, pitch, 0) for pitch, (_, end) in sounding.items()]
    at = 0
    for pulse, begins, pitch, velocity in sorted(events):
        kind = "note_on" if begins else "note_off"
        track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=pulse - at))
        at = pulse
    track.append(mido.MetaMessage("end_of_track", time=0))
    return track


class _TempoMap:
    """Session time <-> pulses of the file. Tempos are whole microseconds a quarter, so the file's own time is reckoned
    along, and each stretch is given the tempo that ends it where it should: rounding does not add up."""

    def __init__(self, points: Sequence[TempoPoint]) -> None:
        self._pulses = [0]
        self._times_us = [0.0]
        self._quarters_us: list[int] = []
        anchors = _anchors(points)
        for (beat, time_ns), (next_beat, next_time_ns) in itertools.pairwise(anchors):
            self._stretch(next_beat - beat, (next_time_ns - time_ns) / _NS_PER_US, next_time_ns / _NS_PER_US)
        last_bpm = next(
            (point.tempo_bpm for point in reversed(points) if point.tempo_bpm >= _SLOWEST_BPM), _DEFAULT_BPM
        )
        self._quarters_us.append(min(max(round(60e6 / last_bpm), 1), _MAX_QUARTER_US))

    def _stretch(self, beats: float, length_us: float, end_us: float) -> None:
        pulses = max(round(beats * PULSES_PER_QUARTER), 1)
        # Beats that stood still longer than a MIDI tempo can say get more pulses than they have.
        pulses = max(pulses, int(length_us * PULSES_PER_QUARTER / _MAX_QUARTER_US) + 1)
        left_us = max(end_us - self._times_us[-1], 0.0)
        quarter_us = min(max(round(left_us * PULSES_PER_QUARTER / pulses), 1), _MAX_QUARTER_US)
        self._quarters_us.append(quarter_us)
        self._pulses.append(self._pulses[-1] + pulses)
        self._times_us.append(self._times_us[-1] + pulses * quarter_us / PULSES_PER_QUARTER)

    def pulse_at(self, time_ns: int) -> int:
        """Return the pulse nearest to a session time."""
        time_us = time_ns / _NS_PER_US
        index = max(bisect.bisect_right(self._times_us, time_us) - 1, 0)
        into_us = time_us - self._times_us[index]
        return self._pulses[index] + round(into_us * PULSES_PER_QUARTER / self._quarters_us[index])

    def track(self, name: str) -> mido.MidiTrack:
        """Return the track of tempos."""
        track = mido.MidiTrack()
        track.append(mido.MetaMessage("track_name", name=name, time=0))
        at, before = 0, -1
        for pulse, quarter_us in zip(self._pulses, self._quarters_us, strict=True):
            if quarter_us == before:
                continue
            track.append(mido.MetaMessage("set_tempo", tempo=quarter_us, time=pulse - at))
            at, before = pulse, quarter_us
        track.append(mido.MetaMessage("end_of_track", time=0))
        return track


def _anchors(points: Sequence[TempoPoint]) -> list[tuple[float, int]]:
    """Return (beat, time [ns]) of session time 0 and of every whole beat passed since, both rising.

    The stretch before the first whole beat is given as many whole beats as fit best.
    """
    rising = _rising(points)
    if not rising:
        return [(0.0, 0)]
    beats = [beat for beat, _ in rising]
    first, last = -int(-beats[0] // 1), int(beats[-1] // 1)

    def time_of(beat: float) -> int:
        index = min(max(bisect.bisect_right(beats, beat), 1), len(beats) - 1)
        (from_beat, from_ns), (to_beat, to_ns) = rising[index - 1], rising[index]
        return from_ns + round((beat - from_beat) * (to_ns - from_ns) / (to_beat - from_beat))

    if len(rising) == 1 or last < first:
        return [(0.0, 0)]
    anchors: list[tuple[float, int]] = []
    start_ns = time_of(first)
    if start_ns > 0:
        anchors.append((first - max(round(start_ns * points[0].tempo_bpm / 60e9), 1), 0))
    for beat in range(first, last + 1):
        if anchors and beat > first:
            middle_ns = (anchors[-1][1] + time_of(beat)) // 2
            if abs(time_of(beat - 0.5) - middle_ns) > _BENT_NS:
                steps = [beat - 1 + step / _STEPS for step in range(1, _STEPS)]
                anchors += [(step, time_of(step)) for step in steps]
        anchors.append((float(beat), time_of(beat)))
    return [anchors[0], *(late for early, late in itertools.pairwise(anchors) if late[1] > early[1])]


def _rising(points: Sequence[TempoPoint]) -> list[tuple[float, int]]:
    """Return (beat, time) of the points that go on, in both, from the one before; times from session time 0."""
    rising: list[tuple[float, int]] = []
    for point in points:
        if point.time_ns < 0 or not point.tempo_bpm >= _SLOWEST_BPM:
            continue
        if not rising or (point.time_ns > rising[-1][1] and point.beat > rising[-1][0]):
            rising.append((point.beat, point.time_ns))
    return rising
