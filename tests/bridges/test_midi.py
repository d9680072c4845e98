"""MIDI out: notes that end, a clock that follows, a port that vanishes, a process that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges import midi, midi_ports, midi_worker
from bridges.midi import MidiBridge
from bridges.midi_notes import NotePlayer
from bridges.midi_ports import find_name, stable_name
from bridges.midi_pulses import PulseTrain
from bridges.midi_worker import NOTE, RECORD, Worker
from engine.clock import SessionClock, VirtualClock
from engine.errors import UserError
from engine.metrics import Metrics
from engine.scheduler import OutputScheduler, Timing
from engine.types import ClockEvent, ControlEvent, NoteEvent, StatusEvent
from tests.bridges.midi_receiver import SocketReceiver, sounding
from tests.ports import unshared_port
from tests.waiting import wait_until

MS = 1_000_000
PROJECT = Path(__file__).parents[2]
TRANSPORT = ("start", "continue", "clock", "stop")
PROGRAMS = {"bass": 33, "chord": 4, "lead": 11}


def note(pitch: int, duration_ms: float, channel: int = 0, velocity: int = 100) -> NoteEvent:
    return NoteEvent(0, 0, channel, pitch, velocity, round(duration_ms * MS))


class Tape:
    """Takes messages with the time that a test says it is."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.entries: list[tuple[int, mido.Message]] = []

    def send(self, message: bytes) -> None:
        self.entries.append((self.now_ns, mido.Message.from_bytes(message)))

    def pass_time(self, train: PulseTrain, span_ms: int) -> None:
        for _ in range(span_ms):
            train.run(self.now_ns)
            self.now_ns += MS

    @property
    def messages(self) -> list[mido.Message]:
        return [message for _, message in self.entries]

    def times(self, kind: str) -> list[int]:
        return [at_ns for at_ns, message in self.entries if message.type == kind]


@pytest.fixture
def receiver() -> Iterator[SocketReceiver]:
    receiver = SocketReceiver()
    yield receiver
    receiver.hang_up()


@pytest.fixture
def bridge_to() -> Iterator[Callable[..., MidiBridge]]:
    opened: list[MidiBridge] = []

    def make(target: str, pulses: bool = False) -> MidiBridge:
        bridge = MidiBridge(target, clock=SessionClock(), programs=PROGRAMS, pulses=pulses)
        opened.append(bridge)
        bridge.open(lambda control: None)
        return bridge

    yield make
    for bridge in opened:
        bridge.close()


# Notes


def test_a_note_ends_at_its_time_and_a_retrigger_ends_it_before() -> None:
    tape = Tape()
    player = NotePlayer(tape.send)
    player.note(0, 60, 80, 0, 500)
    player.note(0, 64, 80, 0, 300)
    tape.now_ns = 200
    player.note(0, 60, 90, 200, 500)
    for tape.now_ns in range(200, 1000, 10):
        player.run(tape.now_ns)
    ends = [(at_ns, m.note) for at_ns, m in tape.entries if m.type == "note_off"]
    assert ends == [(200, 60), (300, 64), (700, 60)]
    assert player.due_ns() is None
    assert sounding(tape.messages) == {}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50), st.integers(0, 20), st.integers(0, 3), st.integers(0, 127), st.integers(-5, 200),
            st.sampled_from(["note"] * 9 + ["silence"]),
        )
    )
)  # fmt: skip
def test_no_note_hangs_or_is_struck_twice(events: list[tuple[int, int, int, int, int, str]]) -> None:
    tape = Tape()
    player = NotePlayer(tape.send)
    now = 0
    for wait, channel, pitch, velocity, duration, kind in events:
        now += wait
        player.run(now)
        if kind == "note":
            player.note(channel, pitch, velocity, now, duration)
        else:
            player.silence()
            assert sounding(tape.messages) == {}
    player.run(now + 1000)
    assert sounding(tape.messages) == {}
    assert player.due_ns() is None
    struck = sum(m.type == "note_on" for m in tape.messages)
    assert sum(m.type == "note_off" for m in tape.messages) == struck


def test_notes_to_come_begin_at_their_times_and_silence_takes_them_back() -> None:
    tape = Tape()
    player = NotePlayer(tape.send)
    player.note_at(0, 64, 80, 300, 100)
    player.note_at(0, 60, 80, 100, 200)
    player.note_at(0, 60, 90, 300, 50)
    player.note_at(1, 70, 90, 900, 50)
    for tape.now_ns in range(0, 600, 10):
        player.run(tape.now_ns)
    heard = [(at_ns, m.type, m.note) for at_ns, m in tape.entries]
    assert heard == [
        (100, "note_on", 60), (300, "note_off", 60), (300, "note_on", 64), (300, "note_on", 60),
        (350, "note_off", 60), (400, "note_off", 64),
    ]  # fmt: skip
    player.silence()
    player.run(2000)
    assert sum(m.type == "note_on" for m in tape.messages) == 3


# Clock


def timeline(tape: Tape, train: PulseTrain, tempo_at: Callable[[float], float], seconds: float) -> list[float]:
    """Run a pulse train on a timeline told 60 times a second; return the beat at each pulse."""
    beat, frame_ns, step_ns = 0.2, 16_666_667, MS // 4
    start, beats, seen = tape.now_ns, [], len(tape.times("clock"))
    next_ns = start
    for tape.now_ns in range(start, start + round(seconds * 1e9), step_ns):
        tempo = tempo_at((tape.now_ns - start) / 1e9)
        if tape.now_ns >= next_ns:
            next_ns += frame_ns
            train.hear(beat, tape.now_ns, tempo)
        train.run(tape.now_ns)
        pulses = len(tape.times("clock"))
        beats += [beat] * (pulses - seen)
        seen = pulses
        beat += tempo * step_ns / 60e9
    return beats


def test_the_clock_follows_a_drifting_tempo() -> None:
    tape = Tape()
    beats = timeline(tape, PulseTrain(tape.send), lambda t: 100.0 + 30.0 * np.sin(t / 3.0), 20.0)
    kinds = [m.type for m in tape.messages]
    assert kinds[:2] == ["start", "clock"]
    assert kinds.count("start") == 1
    assert kinds.count("stop") == 0
    # It starts on a whole beat, and 24 pulses are one beat, wherever the tempo goes.
    expected = 1.0 + np.arange(len(beats)) / 24
    assert len(beats) > 600
    assert np.abs(np.array(beats) - expected).max() < 0.005


def test_the_clock_stops_with_the_music_and_continues_at_its_place() -> None:
    tape = Tape()
    train = PulseTrain(tape.send)
    timeline(tape, train, lambda t: 120.0, 4.0)
    tape.pass_time(train, 3000)
    assert [m.type for m in tape.messages][-1] == "stop"
    pulses = len(tape.times("clock"))
    assert pulses < 24 * 10, "no pulse for what nobody has heard"
    train.hear(24.9, tape.now_ns, 120.0)
    tape.pass_time(train, 500)
    after = [m for m in tape.messages if m.type not in ("clock",)]
    assert [m.type for m in after] == ["start", "stop", "songpos", "continue"]
    assert after[2].pos == (25 - 1) * 4
    train.stop()
    assert tape.messages[-1].type == "stop"


def test_a_jump_is_no_burst() -> None:
    tape = Tape()
    train = PulseTrain(tape.send)
    for frame in range(600):
        tape.now_ns = frame * 16 * MS
        beat = frame * 0.032 + (0.4 if frame > 200 else 0.0) + (40.0 if frame > 400 else 0.0)
        train.hear(beat, tape.now_ns, 120.0)
        tape.pass_time(train, 16)
    gaps = np.diff(tape.times("clock"))
    assert gaps.min() >= 10 * MS, "what was missed comes at twice the tempo at most"
    assert [m.type for m in tape.messages if m.type != "clock"] == ["start", "stop", "songpos", "continue"]


# The bridge, with its process and a receiver of its own


def test_notes_arrive_end_and_programs_come_first(
    receiver: SocketReceiver, bridge_to: Callable[..., MidiBridge]
) -> None:
    bridge = bridge_to(receiver.target)
    receiver.wait(lambda ms: sum(m.type == "program_change" for m in ms) == 3)
    assert {m.channel: m.program for m in (e.message for e in receiver.of("program_change"))} == {0: 33, 1: 4, 2: 11}
    sent_ns = time.perf_counter_ns()
    for event in (note(60, 150), note(64, 80), note(36, 50, channel=9), note(50, 100, velocity=0)):
        bridge.send(event)
    receiver.wait(lambda ms: sum(m.type == "note_off" for m in ms) == 3)
    ended = {e.message.note: e.at_ns for e in receiver.of("note_off")}
    assert {e.message.note for e in receiver.of("note_on")} == {60, 64, 36}
    # Never too early; how late, is the machine's affair (and below, where time is the test's, none is).
    for pitch, wanted_ms in ((60, 150), (64, 80), (36, 50)):
        assert (ended[pitch] - sent_ns) / MS >= wanted_ms


class Interrupted(SessionClock):
    """A clock at every other look at which the thread is held up for a while, as in a busy engine."""

    def __init__(self) -> None:
        super().__init__()
        self._looks = 0

    def now_ns(self) -> int:
        self._looks += 1
        return super().now_ns() + 5 * MS * (self._looks % 2)


def test_a_note_struck_again_outlives_the_end_of_the_one_before(receiver: SocketReceiver) -> None:
    clock = Interrupted()
    bridge = MidiBridge(receiver.target, clock=clock)
    bridge.open(lambda control: None)
    try:
        begin_ns = clock.now_ns() + 20 * MS
        # As the band sends them: the end and the next beginning of a pitch, at one time.
        for k in range(4):
            bridge.send_ahead(note(40, 0, velocity=0), begin_ns + 10 * k * MS)
            bridge.send_ahead(note(40, 60_000), begin_ns + 10 * k * MS)
        bridge.send_ahead(note(50, 60_000), begin_ns + 50 * MS)
        messages = receiver.wait(lambda ms: (0, 50) in sounding(ms))
        assert (0, 40) in sounding(messages)
    finally:
        bridge.close()


def test_a_note_that_comes_too_late_does_not_overtake_the_end_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tape = Tape()
    port = SimpleNamespace(name="port", send=tape.send, gone=lambda: False, close=lambda: None)
    monkeypatch.setattr(midi_worker, "open_output", lambda target: port)
    worker = Worker("port", {}, clock=False)
    due_ns = time.perf_counter_ns() + MS
    worker.take(RECORD.pack(NOTE, 0, 40, 0, due_ns, 0, 0.0, 0.0))
    wait_until(lambda: time.perf_counter_ns() >= due_ns, each_s=0.0)
    worker.take(RECORD.pack(NOTE, 0, 40, 100, due_ns, 60_000 * MS, 0.0, 0.0))
    with worker.wake:
        worker.step()
    assert (0, 40) in sounding(tape.messages)


def test_while_something_is_due_soon_the_process_sleeps_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes before all other programs: while it asks again and again whether to look for its port, they wait."""
    port = SimpleNamespace(name="port", send=lambda message: None, gone=lambda: True, close=lambda: None)
    monkeypatch.setattr(midi_worker, "open_output", lambda target: port)
    now_ns = 0
    monkeypatch.setattr(midi_worker, "time", SimpleNamespace(perf_counter_ns=lambda: now_ns))
    worker = Worker("port", {}, clock=False)
    now_ns = 1498 * MS
    worker.take(RECORD.pack(NOTE, 0, 40, 100, now_ns + 5 * MS, 60_000 * MS, 0.0, 0.0))
    with worker.wake:
        assert worker.step() == pytest.approx(0.002)
        now_ns += 2 * MS
        assert worker.step() == pytest.approx(0.003)
        assert worker._port is not None
        now_ns += 3 * MS
        worker.step()
        assert worker._port is None


@pytest.mark.parametrize("control", [ControlEvent(0, "panic"), ControlEvent(0, "blackout", 1.0)])
def test_panic_and_blackout_end_all_notes(
    control: ControlEvent, receiver: SocketReceiver, bridge_to: Callable[..., MidiBridge]
) -> None:
    bridge = bridge_to(receiver.target)
    for pitch in range(60, 70):
        bridge.send(note(pitch, 60_000))
    receiver.wait(lambda ms: len(sounding(ms)) == 10)
    bridge.send(control)
    receiver.wait(lambda ms: not sounding(ms))
    receiver.wait(lambda ms: sum(m.type == "control_change" and m.control == 123 for m in ms) >= 32)
    bridge.send(note(50, 60_000))
    if control.name == "blackout":
        bridge.send(ControlEvent(0, "blackout", 0.0))
    bridge.send(note(51, 60_000))
    messages = receiver.wait(lambda ms: (0, 51) in sounding(ms))
    assert ((0, 50) in sounding(messages)) == (control.name == "panic")


def test_close_ends_all_notes_and_the_clock(receiver: SocketReceiver, bridge_to: Callable[..., MidiBridge]) -> None:
    bridge = bridge_to(receiver.target, pulses=True)
    bridge.send(note(60, 60_000))
    start_ns = time.perf_counter_ns()

    def told_the_time() -> bool:
        elapsed_ns = time.perf_counter_ns() - start_ns
        bridge.send(ClockEvent(elapsed_ns, 0, elapsed_ns / 5e8, 0.0, 120.0, 1.0))
        return len(receiver.of("clock")) > 20

    wait_until(told_the_time, "no clock", each_s=1 / 60)
    bridge.close()
    messages = receiver.wait(
        lambda ms: not sounding(ms) and [m.type for m in ms if m.type in TRANSPORT][-1:] == ["stop"]
    )
    elapsed_s = (time.perf_counter_ns() - start_ns) / 1e9
    # 48 a second; what was missed comes at twice the tempo at most.
    assert sum(m.type == "clock" for m in messages) < 96 * elapsed_s + 2
    assert [m.type for m in messages].index("start") < [m.type for m in messages].index("clock")


def test_an_engine_that_is_killed_leaves_no_note_hanging(receiver: SocketReceiver) -> None:
    code = f"""
        import time
        from bridges.midi import MidiBridge
        from engine.clock import SessionClock
        from engine.types import NoteEvent
        bridge = MidiBridge({receiver.target!r}, clock=SessionClock())
        bridge.open(lambda control: None)
        bridge.send(NoteEvent(0, 0, 0, 60, 100, 10**12))
        time.sleep(600)
    """
    engine = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=PROJECT)
    try:
        receiver.wait(lambda ms: (0, 60) in sounding(ms))
    finally:
        engine.kill()
        engine.wait()
    receiver.wait(lambda ms: not sounding(ms))


def test_a_port_that_vanishes_is_reported_once_and_found_again(bridge_to: Callable[..., MidiBridge]) -> None:
    # Who looks for a port that may be handed to anybody may find anybody, or their own end of the line.
    first = SocketReceiver(unshared_port())
    bridge = bridge_to(first.target)
    first.hang_up()
    complaints: list[str] = []

    def play_until(done: Callable[[], bool]) -> None:
        def played() -> bool:
            try:
                bridge.send(note(60, 10))
            except OSError as error:
                complaints.append(str(error))
            return done()

        wait_until(played, lambda: complaints, each_s=0.02)

    play_until(lambda: bool(complaints))
    assert "vanished" in complaints[0]
    second = SocketReceiver(first.port)
    play_until(lambda: bool(second.of("note_on")))
    assert len(complaints) == 1
    kinds = [entry.message.type for entry in list(second.heard)]
    assert kinds.index("program_change") < kinds.index("note_on"), "whoever is back is told the programs"
    second.hang_up()


@pytest.mark.skipif(os.name != "posix", reason="kills a process by signal")
def test_a_process_that_dies_is_started_again(receiver: SocketReceiver, bridge_to: Callable[..., MidiBridge]) -> None:
    bridge = bridge_to(receiver.target)
    bridge.send(note(60, 60_000))
    receiver.wait(lambda ms: (0, 60) in sounding(ms))
    process = bridge._process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The new one begins by ending what the old one left.
    receiver.wait(lambda ms: not sounding(ms))
    with pytest.raises(OSError, match="started again"):
        bridge.send(note(61, 10))
    bridge.send(note(62, 10))
    receiver.wait(lambda ms: any(m.type == "note_on" and m.note == 62 for m in ms))


def test_a_process_that_cannot_be_started_again_at_once_is_tried_again(
    receiver: SocketReceiver, bridge_to: Callable[..., MidiBridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = bridge_to(receiver.target)
    process, start, refused = bridge._process, bridge._start, [0]
    assert process is not None

    def refusing() -> subprocess.Popen[bytes]:
        refused[0] += 1
        if refused[0] < 3:
            raise OSError("Too many open files")
        return start()

    monkeypatch.setattr(bridge, "_start", refusing)
    monkeypatch.setattr(midi, "_RESTART_MAX_S", 0.5)
    process.kill()
    wait_until(lambda: bridge._process is not process, each_s=0.05)
    with pytest.raises(OSError, match="started again"):
        bridge.send(note(61, 10))
    bridge.send(note(62, 10))
    receiver.wait(lambda ms: any(m.type == "note_on" and m.note == 62 for m in ms))


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_a_panic_that_a_hanging_process_cannot_take_is_not_lost(
    receiver: SocketReceiver, bridge_to: Callable[..., MidiBridge]
) -> None:
    bridge = bridge_to(receiver.target)
    clock = VirtualClock()
    scheduler = OutputScheduler(clock, [bridge], Metrics(), Timing(16 * MS, 0, 0))
    process = bridge._process
    assert process is not None
    bridge.send(note(60, 600_000))
    receiver.wait(lambda ms: (0, 60) in sounding(ms))
    process.send_signal(signal.SIGSTOP)
    while not bridge.dropped:
        bridge.send(note(61, 600_000))
    scheduler.put([ControlEvent(0, "panic")])
    scheduler.run_due()
    process.send_signal(signal.SIGCONT)

    def struck(messages: list[mido.Message]) -> bool:
        return any(m.type == "note_on" and m.note == 61 for m in messages)

    def silent() -> bool:
        clock.advance(250 * MS)
        scheduler.put([StatusEvent(0, "audio", "info", "time passes")])
        scheduler.run_due()
        return not sounding(receiver.wait(struck))

    wait_until(silent)


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_what_a_terminal_tells_all_its_processes_the_engine_decides(
    receiver: SocketReceiver, bridge_to: Callable[..., MidiBridge]
) -> None:
    bridge = bridge_to(receiver.target)
    process = bridge._process
    assert process is not None
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    bridge.send(note(60, 60_000))
    receiver.wait(lambda ms: (0, 60) in sounding(ms))
    assert process.poll() is None
    bridge.close()
    receiver.wait(lambda ms: not sounding(ms))


def test_a_receiver_that_is_not_there_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match=r"nobody takes MIDI at 127\.0\.0\.1"):
        MidiBridge(f"tcp:127.0.0.1:{unshared_port()}", clock=SessionClock()).open(lambda control: None)


def test_a_port_that_is_not_there_is_the_users_to_mend() -> None:
    """With a sequencer it is missing by name, without one there is no MIDI; either is one line with a remedy."""
    with pytest.raises(UserError, match=r"no MIDI output 'no such synthesiser'|this system has no MIDI") as caught:
        MidiBridge("no such synthesiser", clock=SessionClock()).open(lambda control: None)
    assert caught.value.remedy


def test_ports_are_found_by_a_part_of_their_name() -> None:
    names = ["Midi Through:Midi Through Port-0 14:0", "Synth B:Synth B MIDI 1 24:0", "My Synth:in 28:0"]
    assert find_name("synth b", names) == names[1]
    assert find_name("SYNTH", names) == names[1], "the beginning of a name before its middle"
    assert find_name("my synth:in", names) == names[2]
    assert find_name("through", names) == names[0]
    assert find_name("drum machine", names) is None
    assert stable_name(names[1]) == "Synth B:Synth B MIDI 1"


def test_a_port_that_was_plugged_in_again_meanwhile_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    class Port:
        closed = False

        def close(self) -> None: ...

    names = ["Synth B:Synth B MIDI 1 24:0", "Synth B:Synth B MIDI 1 32:0"]
    monkeypatch.setattr(midi_ports, "_SETTLE_S", 0.0)
    monkeypatch.setattr(midi_ports.mido, "get_output_names", lambda: list(names))
    monkeypatch.setattr(midi_ports.mido, "open_output", lambda name, virtual: Port())
    port = midi_ports.open_output("synth b")
    assert port.name == "Synth B:Synth B MIDI 1"
    names.insert(0, "Drums:Drums MIDI 1 20:0")
    assert not port.gone()
    names.remove("Synth B:Synth B MIDI 1 24:0")
    assert port.gone(), "the other of that name is not the one that is open"
    assert not midi_ports.open_output(port.name).gone()
