"""A live show on a Standard MIDI File, also if it ends badly."""

from __future__ import annotations

import errno
import itertools
import subprocess
import sys
import textwrap
from pathlib import Path

import mido
import pytest

from bridges import midi_file
from bridges.midi_file import MidiRecorder
from engine.clock import VirtualClock
from engine.errors import Trouble, UserError
from engine.metrics import Metrics
from engine.scheduler import OutputScheduler, Timing
from engine.types import ClockEvent, ControlEvent, NoteEvent
from tests.waiting import wait_until

pretty_midi = pytest.importorskip("pretty_midi", reason="pretty_midi is not installed: no independent reader")
MS = 1_000_000
PROJECT = Path(__file__).parents[2]


def play(recorder: MidiRecorder, seconds: float) -> list[float]:
    """Let a clock of 60 fps at 100 bpm and a bass note a beat pass; return when the notes began [s]."""
    begun = []
    for frame in range(round(seconds * 60)):
        time_ns = 2_000 * MS + frame * 16_666_667
        beat = frame / 36.0
        recorder.send(ClockEvent(time_ns, 0, beat, beat % 1.0, 100.0, 1.0))
        if frame % 36 == 0:
            recorder.send(NoteEvent(time_ns, 0, 0, 40, 90, 700 * MS))
            begun.append(time_ns / 1e9)
    return begun


def test_a_show_becomes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "show.mid"
    recorder = MidiRecorder(path, {"bass": 33})
    recorder.open(lambda control: None)
    begun = play(recorder, 30.0)
    assert not path.exists()
    recorder.close()
    recorder.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["show.mid"]
    bass = {i.name: i for i in pretty_midi.PrettyMIDI(str(path)).instruments}["bass"]
    assert bass.program == 33
    assert [note.start for note in bass.notes] == pytest.approx(begun, abs=1e-3)
    assert all(a.end <= b.start + 1e-6 for a, b in zip(bass.notes, bass.notes[1:], strict=False))
    tempos = [m.tempo for m in mido.MidiFile(str(path)).tracks[0] if m.type == "set_tempo"]
    assert all(abs(60e6 / tempo - 100.0) < 0.1 for tempo in tempos[1:])


def test_panic_cuts_what_sounds_and_blackout_is_silent(tmp_path: Path) -> None:
    recorder = MidiRecorder(tmp_path / "show.mid")
    recorder.open(lambda control: None)
    recorder.send(NoteEvent(1000 * MS, 0, 2, 70, 90, 5000 * MS))
    recorder.send(ControlEvent(1500 * MS, "panic"))
    recorder.send(NoteEvent(2000 * MS, 0, 2, 71, 90, 200 * MS))
    recorder.send(ControlEvent(2500 * MS, "blackout", 1.0))
    recorder.send(NoteEvent(3000 * MS, 0, 2, 72, 90, 200 * MS))
    recorder.send(ControlEvent(3500 * MS, "blackout", 0.0))
    recorder.send(NoteEvent(4000 * MS, 0, 2, 73, 90, 200 * MS))
    recorder.close()
    (lead,) = pretty_midi.PrettyMIDI(str(tmp_path / "show.mid")).instruments
    heard = [(note.pitch, round(note.start, 2), round(note.end, 2)) for note in lead.notes]
    assert heard == [(70, 1.0, 1.5), (71, 2.0, 2.2), (73, 4.0, 4.2)]


def test_what_was_sent_ahead_of_the_audience_is_cut_where_they_hear_it_end(tmp_path: Path) -> None:
    recorder = MidiRecorder(tmp_path / "show.mid")
    recorder.open(lambda control: None)
    clock, latency_ns = VirtualClock(), 300 * MS
    scheduler = OutputScheduler(clock, [recorder], Metrics(), Timing(16 * MS, latency_ns, 0))
    scheduler.put(NoteEvent(time_ms * MS, 0, 2, time_ms // 100, 90, 800 * MS) for time_ms in (1000, 2000, 2200, 3100))
    scheduler.put(ClockEvent(frame * 10 * MS, 0, frame / 50, 0.0, 120.0, 1.0) for frame in range(400))
    while clock.now_ns() < 3600 * MS:
        clock.advance(5 * MS)
        if clock.now_ns() == 2000 * MS:  # the audience is about to hear the second note, the third has been sent
            scheduler.put([ControlEvent(clock.now_ns(), "blackout", 1.0)])
        if clock.now_ns() == 2500 * MS:
            scheduler.put([ControlEvent(clock.now_ns(), "blackout", 0.0)])
        scheduler.run_due()
    recorder.close()
    (lead,) = pretty_midi.PrettyMIDI(str(tmp_path / "show.mid")).instruments
    assert [note.pitch for note in lead.notes] == [10, 20, 22, 31]
    assert [note.end for note in lead.notes] == pytest.approx([1.8, 2.3, 2.3, 3.9], abs=0.011), "to a frame"


def test_a_killed_show_is_made_into_a_file_by_the_next(tmp_path: Path) -> None:
    code = f"""
        import time
        from pathlib import Path
        from bridges import midi_file
        from tests.bridges.test_midi_file import play
        midi_file._SAVE_EVERY_S = 0.05
        recorder = midi_file.MidiRecorder(Path({str(tmp_path / "show.mid")!r}))
        recorder.open(lambda control: None)
        play(recorder, 5.0)
        time.sleep(600)
    """
    partial = tmp_path / "show.mid.partial"

    def saved() -> int:
        assert show.poll() is None, "it ended by itself"
        return partial.read_text().count("note") if partial.exists() else 0

    show = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=PROJECT)
    try:
        wait_until(lambda: saved() == 9, "what was played is not saved", each_s=0.05)
    finally:
        show.kill()
        show.wait()
    with partial.open("a") as file:
        file.write("note 4000000000 1000000")  # killed while it wrote
    next_show = MidiRecorder(tmp_path / "show.mid", {"bass": 33})
    next_show.open(lambda control: None)
    next_show.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["show-recovered.mid"]
    instruments = pretty_midi.PrettyMIDI(str(tmp_path / "show-recovered.mid")).instruments
    assert [(i.program, len(i.notes)) for i in instruments if i.notes] == [(33, 9)]
    assert instruments[0].notes[-1].start == pytest.approx(6.8, abs=1e-3)


def test_two_killed_shows_leave_two_files(tmp_path: Path) -> None:
    for pitch in (60, 61):
        killed = MidiRecorder(tmp_path / "show.mid")
        killed.open(lambda control: None)
        killed.send(NoteEvent(1000 * MS, 0, 2, pitch, 90, 100 * MS))
        killed._save()
    last = MidiRecorder(tmp_path / "show.mid")
    last.open(lambda control: None)
    last.close()
    pitches = [
        [note.pitch for i in pretty_midi.PrettyMIDI(str(tmp_path / name)).instruments for note in i.notes]
        for name in ("show-recovered.mid", "show-recovered-2.mid")
    ]
    assert pitches == [[60], [61]]


def test_a_show_in_which_nothing_is_heard_leaves_the_last_ones_file(tmp_path: Path) -> None:
    path = tmp_path / "show.mid"
    path.write_bytes(b"last night's")
    recorder = MidiRecorder(path)
    recorder.open(lambda control: None)
    recorder.close()
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("show.mid", b"last night's")]


def test_a_save_costs_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(midi_file, "write_midi", lambda path, *rest: (made.append(path), path.touch()))
    partial = tmp_path / "show.mid.partial"
    recorder = MidiRecorder(tmp_path / "show.mid")
    recorder.open(lambda control: None)
    sizes = [0]
    for _ in range(10):
        before = partial.read_bytes()
        play(recorder, 10.0)
        recorder._save()
        assert partial.read_bytes().startswith(before)
        sizes.append(partial.stat().st_size)
        assert recorder._lines == [], "what is saved is kept nowhere else"
    added = [after - before for before, after in itertools.pairwise(sizes)]
    assert max(added) < 1.1 * min(added)
    assert made == [], "the file is made at the end"
    recorder.close()
    assert len(made) == 1


def test_a_disk_that_was_full_costs_nothing(tmp_path: Path) -> None:
    recorder = MidiRecorder(tmp_path / "show.mid")
    recorder.open(lambda control: None)
    begun = play(recorder, 3.0)
    partial = tmp_path / "show.mid.partial"
    partial.unlink()
    with pytest.raises(OSError, match="partial"):
        recorder._save()
    partial.write_bytes(b"note 12 3")
    recorder.close()
    (bass,) = (i for i in pretty_midi.PrettyMIDI(str(tmp_path / "show.mid")).instruments if i.notes)
    assert len(bass.notes) == len(begun)


def test_a_disk_that_is_full_is_told_once_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves: list[None] = []

    def full(*arguments: object) -> None:
        saves.append(None)
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "show.mid"
    recorder = MidiRecorder(path)
    monkeypatch.setattr(midi_file, "_SAVE_EVERY_S", 0.001)
    with monkeypatch.context() as patched:
        patched.setattr(MidiRecorder, "_save", full)
        recorder.open(lambda control: None)
        wait_until(lambda: len(saves) > 3)
        with pytest.raises(Trouble, match=r"cannot be saved \(No space left on device\)"):
            recorder.send(NoteEvent(1000 * MS, 0, 2, 70, 90, 100 * MS))
        begun = play(recorder, 3.0)
    recorder.send(NoteEvent(9000 * MS, 0, 2, 71, 90, 100 * MS))
    wait_until(lambda: not recorder._lines, "it is not tried again")
    with monkeypatch.context() as patched:
        patched.setattr(midi_file, "write_midi", full)
        with pytest.raises(UserError, match=r"show\.mid cannot be written: No space left on device") as caught:
            recorder.close()
    assert "show.mid.partial" in caught.value.remedy
    assert [entry.name for entry in tmp_path.iterdir()] == ["show.mid.partial"]
    next_show = MidiRecorder(path)
    next_show.open(lambda control: None)
    next_show.close()
    notes = [n for i in pretty_midi.PrettyMIDI(str(tmp_path / "show-recovered.mid")).instruments for n in i.notes]
    assert len(notes) == len(begun) + 2, "what was told and what was kept is in it"


def test_a_place_that_cannot_be_written_is_known_before_the_show(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*show\.mid") as caught:
        MidiRecorder(tmp_path / "no" / "show.mid").open(lambda control: None)
    assert "midi.record" in caught.value.remedy
    with pytest.raises(UserError, match=r"cannot write .*: Is a directory; choose"):
        MidiRecorder(tmp_path).open(lambda control: None)
    assert not list(tmp_path.iterdir())


def test_an_evening_is_small(tmp_path: Path) -> None:
    recorder = MidiRecorder(tmp_path / "show.mid")
    recorder.open(lambda control: None)
    for index in range(60 * 60):
        recorder.send(ClockEvent(index * 16_666_667, 0, index / 36.0, 0.0, 100.0, 1.0))
    assert len(recorder._lines) <= 60 * 60 / 36 * 4 + 1
    recorder.close()
    assert midi_file._SAVE_EVERY_S >= 5.0


def test_what_still_sounds_ends_with_the_show(tmp_path: Path) -> None:
    recorder = MidiRecorder(tmp_path / "show.mid")
    recorder.open(lambda control: None)
    recorder.send(NoteEvent(1000 * MS, 0, 2, 70, 90, 20_000 * MS))
    recorder.send(NoteEvent(1500 * MS, 0, 0, 40, 90, 20_000 * MS))
    recorder.send(NoteEvent(2000 * MS, 0, 0, 40, 0, 0))
    recorder.send(ClockEvent(3000 * MS, 0, 4.0, 0.0, 120.0, 1.0))
    recorder.close()
    ends = {n.pitch: n.end for i in pretty_midi.PrettyMIDI(str(tmp_path / "show.mid")).instruments for n in i.notes}
    assert ends == pytest.approx({70: 3.0, 40: 2.0}, abs=2e-3)
