"""The Standard MIDI File, as an independent reader (pretty_midi) plays it."""

from __future__ import annotations

import csv
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UserError
from engine.playing.score_file import TempoPoint, tempo_points, without_overlaps, write_midi, write_music
from engine.types import ClockEvent, NoteEvent

pretty_midi = pytest.importorskip("pretty_midi", reason="pretty_midi is not installed: no independent reader")
MS = 1_000_000
PROGRAMS = {"bass": 33, "chord": 4, "lead": 11}
NAMES = ["drums", "bass", "chord", "lead", "triggers"]


def drifting(seconds: float, seed: int = 0, first_beat: float = 0.3) -> list[TempoPoint]:
    """Return a timeline at 60 points a second whose tempo wanders between 70 and 160 bpm, with jumps."""
    random = np.random.default_rng(seed)
    count = round(seconds * 60)
    wander = 112.0 + 30.0 * np.sin(np.arange(count) / 400.0 + seed) + np.cumsum(random.normal(0, 0.1, count))
    tempo = np.clip(wander + 15.0 * (np.arange(count) // 600 % 2), 70.0, 160.0)
    beats = first_beat + np.concatenate([[0.0], np.cumsum(tempo[:-1]) / 3600.0])
    return [TempoPoint(round(i * 1e9 / 60), float(beats[i]), float(tempo[i])) for i in range(count)]


def band(points: list[TempoPoint], seed: int = 0) -> list[NoteEvent]:
    """Return notes on the sixteenths of a timeline, and triggers anywhere."""
    random = np.random.default_rng(seed)
    beats, times = np.array([p.beat for p in points]), np.array([p.time_ns for p in points])
    notes = []
    for step in range(int(beats[0] * 4) + 1, int(beats[-1] * 4)):
        time_ns = round(float(np.interp(step / 4, beats, times)))
        for channel, pitch in ((9, 36 + 2 * int(random.integers(6))), (0, 40), (1, 60), (1, 64), (2, 72)):
            if random.random() < 0.5:
                notes.append(NoteEvent(time_ns, 0, channel, pitch, int(random.integers(1, 128)), int(3e8)))
    ends = points[-1].time_ns
    notes += [NoteEvent(int(random.integers(ends)), 0, 3, 38, 90, 200 * MS) for _ in range(200)]
    return notes


def played(path: Path) -> dict[str, list[tuple[float, float, int, int]]]:
    """Return (begin, end, pitch, velocity) [s] by track, as pretty_midi reckons."""
    return {
        instrument.name: sorted((n.start, n.end, n.pitch, n.velocity) for n in instrument.notes)
        for instrument in pretty_midi.PrettyMIDI(str(path)).instruments
    }


def assert_no_note_hangs_or_overlaps(path: Path) -> None:
    """Read the file event by event."""
    for track in mido.MidiFile(str(path)).tracks:
        sounding: set[tuple[int, int]] = set()
        for message in track:
            if message.type == "note_on":
                assert message.velocity > 0
                assert (message.channel, message.note) not in sounding
                sounding.add((message.channel, message.note))
            elif message.type == "note_off":
                sounding.remove((message.channel, message.note))
        assert not sounding


@pytest.mark.parametrize("seed", range(4))
def test_every_note_sounds_at_its_real_time_although_the_tempo_drifts(tmp_path: Path, seed: int) -> None:
    points = drifting(90.0, seed, first_beat=seed - 1.7)
    written = write_music(tmp_path, band(points, seed), points, PROGRAMS)
    assert len(written) > 1000
    heard = played(tmp_path / "music.mid")
    assert list(heard) == NAMES
    errors = []
    for channel, name in zip((9, 0, 1, 2, 3), NAMES, strict=True):
        expected = sorted((n.time_ns / 1e9, n.pitch) for n in written if n.channel == channel)
        found = sorted((begin, pitch) for begin, _, pitch, _ in heard[name])
        assert len(found) == len(expected) > 100
        # of each pitch in order, because rounding may swap two that begin nearly together
        for pitch in {pitch for _, pitch in expected}:
            times = np.array([t for t, p in expected if p == pitch]), np.array([t for t, p in found if p == pitch])
            errors.append(np.abs(times[0] - times[1]).max())
        ends = sorted((n.time_ns + n.duration_ns) / 1e9 for n in written if n.channel == channel)
        assert np.abs(np.array(ends) - sorted(end for _, end, _, _ in heard[name])).max() < 0.002
    assert max(errors) < 0.001
    assert_no_note_hangs_or_overlaps(tmp_path / "music.mid")


def test_whole_beats_are_whole_quarters_of_the_file(tmp_path: Path) -> None:
    points = drifting(60.0, 2, first_beat=5.4)
    beats, times = [p.beat for p in points], [p.time_ns for p in points]
    whole = [round(float(np.interp(beat, beats, times))) for beat in range(6, int(points[-1].beat))]
    clicks = [NoteEvent(time_ns, 0, 9, 42, 100, 50 * MS) for time_ns in whole]
    write_midi(tmp_path / "clicks.mid", clicks, points, {})
    file = mido.MidiFile(str(tmp_path / "clicks.mid"))
    at, on = 0, []
    for message in file.tracks[1]:
        at += message.time
        if message.type == "note_on":
            on.append(at)
    assert len(on) == len(clicks) > 80
    offsets = np.array(on) - np.round(np.array(on) / file.ticks_per_beat) * file.ticks_per_beat
    assert np.abs(offsets).max() <= 2
    assert set(np.round(np.diff(on) / file.ticks_per_beat)) == {1.0}


def test_what_is_in_the_file(tmp_path: Path) -> None:
    clocks = [ClockEvent(i * 10 * MS, 0, i / 50, 0.0, 120.0, 1.0) for i in range(500)]
    notes = [NoteEvent(500 * MS, 0, 0, 40, 80, 250 * MS), NoteEvent(750 * MS, 0, 7, 50, 81, 250 * MS)]
    write_music(tmp_path, notes, tempo_points(clocks), PROGRAMS)
    file = mido.MidiFile(str(tmp_path / "music.mid"))
    assert file.type == 1
    assert [track.name for track in file.tracks] == ["Pas de Deux", *NAMES, "channel 8"]
    assert [m.tempo for m in file.tracks[0] if m.type == "set_tempo"] == [500_000]
    programs = {m.channel: m.program for track in file.tracks for m in track if m.type == "program_change"}
    assert programs == {0: 33, 1: 4, 2: 11}
    with (tmp_path / "notes.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert rows[0] == {
        "time_s": "0.500000", "channel": "0", "pitch": "40", "velocity": "80", "duration_s": "0.250000",
    }  # fmt: skip
    assert len(rows) == 2


def test_the_same_notes_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    points, contents = drifting(30.0), []
    notes = band(points)
    for order in (notes, notes[::-1]):
        write_music(tmp_path, order, points, PROGRAMS)
        contents.append([(tmp_path / name).read_bytes() for name in ("music.mid", "notes.csv")])
    assert contents[0] == contents[1]


def test_a_retrigger_or_an_end_cuts_the_note_before() -> None:
    first, again = NoteEvent(0, 0, 0, 60, 80, 1000 * MS), NoteEvent(400 * MS, 0, 0, 60, 90, 100 * MS)
    other, louder = NoteEvent(0, 0, 0, 61, 80, 1000 * MS), NoteEvent(400 * MS, 0, 0, 60, 99, 50 * MS)
    silent = NoteEvent(100 * MS, 0, 0, 60, 0, 100 * MS)
    kept = without_overlaps([again, first, other, silent, louder])
    assert [(n.time_ns, n.pitch, n.velocity, n.duration_ns) for n in kept] == [
        (0, 60, 80, 100 * MS),
        (0, 61, 80, 1000 * MS),
        (400 * MS, 60, 99, 50 * MS),
    ]


def test_nothing_played_is_still_a_file(tmp_path: Path) -> None:
    write_music(tmp_path, [], [], {})
    assert played(tmp_path / "music.mid") == {} or not any(played(tmp_path / "music.mid").values())
    assert (tmp_path / "notes.csv").read_text() == "time_s,channel,pitch,velocity,duration_s\n"


def test_a_place_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write music"):
        write_music(tmp_path / "no such folder", [], [], {})


NOTES = st.builds(
    NoteEvent,
    st.integers(-10, 3000).map(lambda ms: ms * 20 * MS // 7),
    st.just(0),
    st.integers(0, 15),
    st.integers(0, 4),
    st.integers(0, 127),
    st.integers(0, 10**9),
)
POINTS = st.builds(
    TempoPoint,
    st.integers(-(10**9), 200 * 10**9),
    st.floats(-100, 1000, allow_nan=False),
    st.floats(0, 400, allow_nan=False),
)


@settings(max_examples=60, deadline=None)
@given(notes=st.lists(NOTES, max_size=40), points=st.lists(POINTS, max_size=12).map(lambda p: sorted(p, key=str)))
def test_whatever_comes_is_a_valid_file(
    tmp_path_factory: pytest.TempPathFactory, notes: list[NoteEvent], points: list[TempoPoint]
) -> None:
    folder = tmp_path_factory.mktemp("music")
    written = write_music(folder, notes, points, PROGRAMS)
    assert_no_note_hangs_or_overlaps(folder / "music.mid")
    if len({(n.channel, n.pitch, n.time_ns // (100 * MS)) for n in written}) == len(written):
        heard = played(folder / "music.mid")
        assert sum(len(notes) for notes in heard.values()) == len(written)


def test_a_velocity_of_0_ends_what_began_before_it() -> None:
    begun = NoteEvent(0, 0, 0, 40, 90, 2_000_000_000)
    end = NoteEvent(500_000_000, 0, 0, 40, 0, 0)
    again = NoteEvent(500_000_000, 0, 0, 40, 80, 2_000_000_000)
    assert [note.duration_ns for note in without_overlaps([begun, end])] == [500_000_000]
    assert [note.duration_ns for note in without_overlaps([begun, end, again])] == [500_000_000, 2_000_000_000]
