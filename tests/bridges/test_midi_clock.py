"""Another program's clock as the leader: tempo and phase from jittery pulses, under a virtual clock."""

from __future__ import annotations

from collections.abc import Callable

import mido
import numpy as np
import pytest

from bridges import midi_clock, midi_ports
from bridges.midi_clock import ClockReader, MidiClockSensor
from engine.clock import VirtualClock
from engine.errors import UserError
from engine.types import Observation, StatusEvent, TempoReference
from tests.waiting import wait_until

MS = 1_000_000


class Sequencer:
    """A program that sends pulses whose tempo it knows, over a line that delays them."""

    def __init__(self, reader: ClockReader, jitter_ms: float = 0.0, seed: int = 0) -> None:
        self.reader = reader
        self.jitter_ms = jitter_ms
        self.random = np.random.default_rng(seed)
        self.time_ns = 1_000 * MS
        self.beat = 0.0
        self.told: list[tuple[TempoReference, float, float]] = []
        """What was concluded, beside the true beat at that time and the true tempo."""

    def play(self, beats: float, tempo_at: Callable[[float], float]) -> None:
        last_ns = 0
        for _ in range(round(beats * 24)):
            tempo = tempo_at(self.beat)
            # Mostly a little late, now and then very: a thread that waits for its turn.
            late_ms = self.random.exponential(self.jitter_ms) + 8.0 * self.jitter_ms * (self.random.random() < 0.02)
            last_ns = max(last_ns, self.time_ns + round(late_ms * MS))
            reference = self.reader.pulse(last_ns)
            if reference is not None:
                true_beat = self.beat + (reference.time_ns - self.time_ns) * tempo / 60e9
                self.told.append((reference, true_beat, tempo))
            self.time_ns += round(60e9 / tempo / 24)
            self.beat += 1 / 24

    def errors(self, after: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the errors of phase [ms] and tempo [%]."""
        phase = [(r.beat - beat) * 60e3 / tempo for r, beat, tempo in self.told[after:]]
        return np.array(phase), np.array([100 * (r.tempo_bpm / tempo - 1) for r, _, tempo in self.told[after:]])


def test_a_steady_clock_is_read_exactly() -> None:
    sequencer = Sequencer(ClockReader())
    sequencer.play(16, lambda beat: 127.0)
    phase_ms, tempo_percent = sequencer.errors()
    assert len(phase_ms) == 16 * 4 - 1
    assert np.abs(phase_ms).max() < 0.01
    assert np.abs(tempo_percent).max() < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_jitter_is_evened_out(seed: int) -> None:
    sequencer = Sequencer(ClockReader(), jitter_ms=1.0, seed=seed)
    sequencer.play(60, lambda beat: 120.0)
    phase_ms, tempo_percent = sequencer.errors(after=16)
    # Pulses come 1 ms late on average; around that, a fraction of it is left.
    assert abs(np.mean(phase_ms) + 1.0) < 0.5
    assert np.std(phase_ms) < 0.4
    assert np.abs(tempo_percent).max() < 0.5


def test_a_drifting_tempo_is_followed() -> None:
    sequencer = Sequencer(ClockReader(), jitter_ms=0.3)
    sequencer.play(80, lambda beat: 110.0 + 15.0 * np.sin(beat / 8.0))
    phase_ms, tempo_percent = sequencer.errors(after=8)
    assert np.abs(phase_ms).max() < 8.0
    assert np.abs(tempo_percent).max() < 5.0


def test_a_jump_of_tempo_is_followed_within_a_beat() -> None:
    sequencer = Sequencer(ClockReader(), jitter_ms=0.3)
    sequencer.play(16, lambda beat: 100.0)
    told = len(sequencer.told)
    sequencer.play(16, lambda beat: 140.0)
    phase_ms, tempo_percent = sequencer.errors(after=told + 4)
    assert np.abs(phase_ms).max() < 3.0
    assert np.abs(tempo_percent).max() < 2.0


def test_start_stop_song_position_and_continue() -> None:
    reader = ClockReader()
    sequencer = Sequencer(reader)
    sequencer.play(3.5, lambda beat: 120.0)  # joined somewhere: counted from there, and playing
    assert sequencer.told[-1][0].playing
    reader.start()
    sequencer.play(2, lambda beat: 120.0)
    reference = sequencer.told[-1][0]
    assert reference.beat == pytest.approx(1.75, abs=1e-3)
    reader.stop()
    sequencer.play(1, lambda beat: 120.0)
    assert not sequencer.told[-1][0].playing
    reader.locate(4 * 32 + 2)
    reader.resume()
    sequencer.play(1, lambda beat: 120.0)
    reference = sequencer.told[-1][0]
    assert reference.playing
    assert reference.beat == pytest.approx(32.5 + 0.75, abs=1e-3)


@pytest.mark.parametrize("beats_stopped", [0.0, 13 / 24, 1.0, 1.5])
def test_pulses_while_it_is_stopped_do_not_count(beats_stopped: float) -> None:
    reader = ClockReader()
    sequencer = Sequencer(reader)
    reader.start()
    sequencer.play(4, lambda beat: 120.0)
    reader.stop()
    sequencer.play(beats_stopped / 2, lambda beat: 120.0)
    reader.stop()  # said twice
    sequencer.play(beats_stopped - beats_stopped / 2, lambda beat: 120.0)
    reader.resume()
    sequencer.beat = 4.0
    told = len(sequencer.told)
    sequencer.play(2, lambda beat: 120.0)
    assert len(sequencer.told) == told + 8
    phase_ms, _ = sequencer.errors(after=told)
    assert np.abs(phase_ms).max() < 0.01


@pytest.mark.parametrize("away_s", [1.23, 7.0, 60.1])
def test_after_a_line_was_cut_the_beat_is_where_it_would_have_been(away_s: float) -> None:
    """Whoever plays does not know that nobody hears their pulses."""
    sequencer = Sequencer(ClockReader(), jitter_ms=0.3)
    sequencer.reader.start()
    sequencer.play(16, lambda beat: 123.0)
    told = len(sequencer.told)
    missed = round(away_s * 123.0 / 60.0 * 24)
    sequencer.time_ns += round(missed * 60e9 / 123.0 / 24)
    sequencer.beat += missed / 24
    sequencer.play(4, lambda beat: 123.0)
    phase_ms, _ = sequencer.errors(after=told)
    assert len(phase_ms) > 10
    # To the pulse, or two after a minute: the tempo is known to a few thousandths.
    assert np.abs(phase_ms).max() < (1.0 if away_s < 10.0 else 45.0)


def test_a_pause_without_pulses_does_not_count() -> None:
    sequencer = Sequencer(ClockReader())
    sequencer.reader.start()
    sequencer.play(4, lambda beat: 120.0)
    sequencer.reader.stop()
    sequencer.time_ns += 10_000 * MS
    sequencer.reader.resume()
    told = len(sequencer.told)
    sequencer.play(2, lambda beat: 120.0)
    phase_ms, _ = sequencer.errors(after=told)
    assert np.abs(phase_ms).max() < 0.01


def test_silence_and_nonsense_say_nothing() -> None:
    reader = ClockReader()
    assert [reader.pulse(0) for _ in range(200)] == [None] * 200, "no time passes"
    sequencer = Sequencer(reader)
    sequencer.time_ns += 5_000 * MS
    sequencer.play(4, lambda beat: 5000.0)
    assert not sequencer.told
    sequencer.time_ns += 5_000 * MS
    sequencer.play(4, lambda beat: 90.0)
    phase_ms, tempo_percent = sequencer.errors()
    assert len(phase_ms) > 10
    assert np.abs(tempo_percent).max() < 0.1, "what came before the silence is forgotten"


def test_the_sensor_delivers_what_a_port_says(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Callable[[mido.Message], None]] = []

    class Port:
        def close(self) -> None:
            opened.clear()

    def open_input(target: str, on_message: Callable[[mido.Message], None]) -> tuple[Port, str]:
        opened.append(on_message)
        return Port(), target

    monkeypatch.setattr(midi_clock, "open_input", open_input)
    clock, delivered, reports = VirtualClock(), list[Observation](), list[StatusEvent]()
    sensor = MidiClockSensor("some sequencer", clock)
    sensor.start(delivered.append, reports.append)
    opened[0](mido.Message("start"))
    for _ in range(24 * 4):
        opened[0](mido.Message("clock"))
        opened[0](mido.Message("note_on", note=60, velocity=100))
        clock.advance(round(60e9 / 96 / 24))
    opened[0](mido.Message("stop"))
    sensor.stop()
    sensor.stop()
    references = [reference for reference in delivered if isinstance(reference, TempoReference)]
    assert len(references) == 16
    assert [reference.playing for reference in references] == [True] * 15 + [False], "a stop is said at once"
    assert references[-1].beat == pytest.approx(4.0, abs=1e-3)
    references.pop()
    assert references[-1].tempo_bpm == pytest.approx(96.0, rel=1e-4)
    assert references[-1].beat == pytest.approx(3.75, abs=1e-3)
    assert references[-1].source == "midi-clock"
    assert not opened


class Box:
    """A sequencer at a port of the system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names = ["Box:Box MIDI 1 24:0"]
        self.opened: list[str] = []
        self.failures: list[Exception] = []
        self.reports: list[StatusEvent] = []
        monkeypatch.setattr(mido, "get_input_names", lambda: list(self.names))
        monkeypatch.setattr(mido, "open_input", self._open)
        monkeypatch.setattr(midi_ports, "_SETTLE_S", 0.0)
        monkeypatch.setattr(midi_clock, "_LOOK_S", 0.001)

    def _open(self, name: str, virtual: bool, callback: Callable[[mido.Message], None]) -> Box:
        if self.failures:
            raise self.failures.pop()
        self.opened.append(name)
        return self

    def close(self) -> None: ...

    def said(self) -> list[str]:
        return [report.message.split(";")[0] for report in self.reports]


def test_a_clock_that_was_plugged_in_again_meanwhile_is_listened_to_again(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch)
    sensor = MidiClockSensor("box", VirtualClock())
    sensor.start(lambda observation: None, box.reports.append)
    box.names[0] = "Box:Box MIDI 1 28:0"
    try:
        wait_until(lambda: len(box.said()) == 2, box.said)
    finally:
        sensor.stop()
    assert box.opened == ["Box:Box MIDI 1 24:0", "Box:Box MIDI 1 28:0"]
    assert box.said() == ["Box:Box MIDI 1 vanished", "Box:Box MIDI 1 is back"]


def test_a_port_that_vanishes_while_it_is_opened_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch)
    sensor = MidiClockSensor("box", VirtualClock())
    sensor.start(lambda observation: None, box.reports.append)
    box.failures += [ValueError("invalid port number"), RuntimeError("a driver's own")]
    box.names[0] = "Box:Box MIDI 1 28:0"
    try:
        wait_until(lambda: len(box.said()) == 2, box.said)
    finally:
        sensor.stop()
    assert box.opened[-1] == "Box:Box MIDI 1 28:0"


def test_a_port_that_is_not_there_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match=r"no MIDI input 'no such sequencer'|this system has no MIDI") as caught:
        MidiClockSensor("no such sequencer", VirtualClock()).start(lambda o: None, lambda e: None)
    assert caught.value.remedy
