"""Speaker over an invented driver: what is played, and when each sample is heard."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from engine.audio.speaker import Speaker
from engine.clock import VirtualClock
from engine.errors import UserError
from engine.types import NS_PER_S
from tests.engine.audio.fake_portaudio import FakePortAudio

RATE, BLOCK = 48_000, 480
LATENCY_NS = 20_000_000  # of the fake


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    fake = FakePortAudio()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NS_PER_S)


def ask(fake: FakePortAudio, clock: VirtualClock) -> np.ndarray:
    """Let the device ask for one block, in time."""
    played = fake.streams[-1].play(BLOCK)
    clock.advance(BLOCK * NS_PER_S // RATE)
    return played


def test_samples_are_played_in_order_and_heard_after_the_latency(fake: FakePortAudio, clock: VirtualClock) -> None:
    speaker = Speaker(None, clock, RATE)
    sound = np.arange(2000, dtype=np.float32)[:, None] / 2000
    speaker.write(sound[:700])
    speaker.write(sound[700:])
    assert speaker.audible_ns(1) is None
    assert speaker.queued_s == 2000 / RATE
    played = np.concatenate([ask(fake, clock) for _ in range(4)])
    assert np.array_equal(played, np.repeat(sound[:1920], 2, axis=1))  # mono on both sides
    assert speaker.audible_ns(BLOCK) == NS_PER_S + BLOCK * NS_PER_S // RATE + LATENCY_NS
    assert speaker.audible_ns(2000) == NS_PER_S + round(2000 * NS_PER_S / RATE) + LATENCY_NS
    assert speaker.underruns == 0
    speaker.close()
    assert fake.streams[0].closed


def test_an_underrun_delays_what_follows_and_nothing_before(fake: FakePortAudio, clock: VirtualClock) -> None:
    speaker = Speaker(None, clock, RATE)
    ask(fake, clock)  # silence before the first sample is written
    speaker.write(np.ones((700, 2), np.float32))
    for _ in range(3):
        played = ask(fake, clock)
    assert not played.any()
    speaker.write(np.ones((BLOCK, 2), np.float32))
    ask(fake, clock)
    start_ns = NS_PER_S + LATENCY_NS
    assert speaker.underruns == 2
    assert speaker.audible_ns(700) == start_ns + (BLOCK + 700) * NS_PER_S // RATE
    assert speaker.audible_ns(701) == pytest.approx(start_ns + (4 * BLOCK + 1) * NS_PER_S // RATE, abs=2)


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
def test_another_rate_is_converted_and_the_end_is_heard(fake: FakePortAudio, clock: VirtualClock, rate: int) -> None:
    speaker = Speaker(None, clock, rate)
    t = np.arange(rate) / rate
    speaker.write((0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[:, None])
    speaker.drain()
    played = np.concatenate([ask(fake, clock) for _ in range(150)])[:, 0]
    crossings = np.flatnonzero((played[:-1] <= 0) & (played[1:] > 0))
    assert len(crossings) == pytest.approx(440, abs=1)
    assert speaker.underruns == 0
    end_ns = speaker.audible_ns(rate)
    assert end_ns == pytest.approx(2 * NS_PER_S + LATENCY_NS, abs=1e6)
    assert clock.now_ns() > end_ns + NS_PER_S // 4  # the silence after the end does not push it away


def test_a_device_that_asks_no_more_is_gone(fake: FakePortAudio, clock: VirtualClock) -> None:
    speaker = Speaker(None, clock, RATE)
    clock.advance(3 * NS_PER_S)
    assert not speaker.gone  # still waking up
    clock.advance(3 * NS_PER_S)
    assert speaker.gone
    ask(fake, clock)
    speaker.audible_ns(1)
    assert not speaker.gone
    clock.advance(2 * NS_PER_S)
    assert speaker.gone
    ask(fake, clock)
    assert not speaker.gone
    fake.streams[0].settings["finished_callback"]()
    assert speaker.gone


def test_what_cannot_be_opened_is_one_clear_line(fake: FakePortAudio, clock: VirtualClock) -> None:
    fake.refuse = True
    with pytest.raises(UserError, match="the sound output 'Mixer USB' cannot be opened"):
        Speaker(None, clock, RATE)
    with pytest.raises(UserError, match="no sound output is called 'Hall'"):
        Speaker("Hall", clock, RATE)
