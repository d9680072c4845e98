"""MicrophoneSensor over an invented driver: loss, late readers, muted inputs, a device that goes and returns."""

from __future__ import annotations

import sys
from queue import Queue

import numpy as np
import pytest

from engine.audio import capture
from engine.audio.capture import MicrophoneSensor
from engine.clock import VirtualClock
from engine.errors import UserError
from engine.types import NS_PER_S, AudioBlock, StatusEvent
from tests.engine.audio.fake_portaudio import OVERFLOW, FakePortAudio, Stream
from tests.waiting import PATIENCE_S, wait_until

RATE, BLOCK = 48_000, 480


class Stage:
    """A sensor on a fake driver; the test lets time pass and samples arrive."""

    def __init__(self, fake: FakePortAudio, device: str | None = None, **options: float) -> None:
        self.fake = fake
        self.clock = VirtualClock(NS_PER_S)
        self.blocks: Queue[AudioBlock] = Queue()
        self.events: Queue[StatusEvent] = Queue()
        self.sensor = MicrophoneSensor(device, self.clock, channels=1, **options)  # type: ignore[arg-type]
        self.sensor.start(self.blocks.put, self.events.put)  # type: ignore[arg-type]

    @property
    def stream(self) -> Stream:
        return self.fake.streams[-1]

    def hear(self, value: float = 0.1, lost: int = 0, overflow: bool = False) -> AudioBlock:
        """Let one block arrive in time (`lost` samples before it did not) and return what is delivered."""
        self.clock.advance((BLOCK + lost) * NS_PER_S // RATE)
        samples = np.full((BLOCK, 1), value, np.float32)
        self.stream.capture(samples, *([OVERFLOW] if overflow else []))
        return self.blocks.get(timeout=PATIENCE_S)

    def event(self) -> StatusEvent:
        return self.events.get(timeout=PATIENCE_S)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    fake = FakePortAudio()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(capture, "_RETRY_S", (0.001,))
    return fake


def test_blocks_carry_samples_index_and_time(fake: FakePortAudio) -> None:
    stage = Stage(fake, latency_ms=5.0)
    blocks = [stage.hear(0.01 * k) for k in range(20)]
    stage.sensor.stop()
    stage.sensor.stop()
    assert fake.streams[0].closed
    assert fake.streams[0].settings["channels"] == 1
    assert [block.sample_index for block in blocks] == [BLOCK * k for k in range(20)]
    assert blocks[-1].time_ns == stage.clock.now_ns() - 5_000_000
    assert blocks[7].samples[0, 0] == np.float32(0.07)
    assert stage.sensor.device_name == "Mixer USB"
    assert stage.sensor.name == "sound input 'Mixer USB'", "who gave a part of it, or nothing, is told which it is"


def test_lost_samples_become_a_gap_and_one_report(fake: FakePortAudio) -> None:
    stage = Stage(fake)
    blocks = [stage.hear() for _ in range(50)]
    blocks.append(stage.hear(lost=4800, overflow=True))
    blocks += [stage.hear() for _ in range(50)]
    stage.sensor.stop()
    assert stage.sensor.overflows == 1
    assert stage.sensor.lost_samples == sum(block.gap_samples for block in blocks) == 4800
    assert blocks[-1].sample_index == 100 * BLOCK + 4800
    assert blocks[-1].time_ns == stage.clock.now_ns()
    assert "4800 samples lost" in stage.event().message
    assert stage.events.empty()


def test_a_reader_that_comes_too_late_gets_silence_and_a_count(
    fake: FakePortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(fake)
    stage.hear()
    monkeypatch.setattr(capture._Ring, "read", lambda ring, arrival: None)
    assert not stage.hear().samples.any()
    assert stage.sensor.lost_samples == BLOCK
    stage.sensor.stop()


def test_the_ring_wraps_and_knows_what_it_overwrote() -> None:
    ring = capture._Ring(1000, 2)
    for k in range(7):
        ring.write(np.full((300, 2), k, np.float32), k, False)
    arrivals = [ring.wait(0) for _ in range(7)]
    assert ring.wait(0) is None
    found = [None if a is None else ring.read(a) for a in arrivals]
    assert [samples is None for samples in found] == [True] * 5 + [False] * 2
    assert all(samples is None or np.all(samples == k) for k, samples in enumerate(found))


def test_digital_silence_is_reported_once_until_sound_returns(fake: FakePortAudio) -> None:
    stage = Stage(fake)
    for _ in range(600):
        stage.hear(0.0)
    event = stage.event()
    assert event.level == "warning"
    assert "mute" in event.message
    assert stage.events.empty()
    stage.hear(0.1)
    for _ in range(600):
        stage.hear(0.0)
    assert "mute" in stage.event().message
    stage.sensor.stop()


def test_a_vanished_device_is_found_again_by_name_at_another_index(fake: FakePortAudio) -> None:
    stage = Stage(fake, device="mixer")
    before = [stage.hear() for _ in range(3)][-1]
    fake.names = ("Built-in",)
    stage.stream.settings["finished_callback"]()
    gone = stage.event()
    assert (gone.level, "'Mixer USB' is gone" in gone.message) == ("warning", True)
    wait_until(lambda: fake.streams[0].closed)  # reported first, closed by another thread
    stage.clock.advance(3 * NS_PER_S)
    fake.names = ("Built-in", "Webcam", "Mixer USB")
    wait_until(lambda: len(fake.streams) == 2)
    after = stage.hear()
    assert "'Mixer USB' is back" in stage.event().message
    assert stage.stream.settings["device"] == 2
    assert fake.rescans >= 1
    assert after.gap_samples == 3 * RATE
    assert after.sample_index == before.sample_index + BLOCK + after.gap_samples
    assert after.time_ns - before.time_ns == 3 * NS_PER_S + BLOCK * NS_PER_S // RATE
    assert stage.sensor.reconnects == 1
    stage.sensor.stop()


def test_a_device_that_falls_silent_without_a_word_is_gone_too(fake: FakePortAudio) -> None:
    stage = Stage(fake)
    stage.hear()
    fake.refuse = True
    stage.clock.advance(2 * NS_PER_S)
    assert "is gone" in stage.event().message
    stage.sensor.stop()


def test_what_cannot_be_opened_is_one_clear_line(fake: FakePortAudio) -> None:
    fake.refuse = True
    with pytest.raises(UserError, match=r"'Mixer USB' cannot be opened \(Device unavailable\)"):
        Stage(fake)
    with pytest.raises(UserError, match="1 or 2 channels"):
        MicrophoneSensor(None, VirtualClock(), channels=5)
    with pytest.raises(UserError, match="audio block"):
        MicrophoneSensor(None, VirtualClock(), block_frames=10**6)
