"""Ableton Link on loopback, with another program in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest

from bridges.link import LinkSensor
from engine.clock import SessionClock
from engine.types import Observation, StatusEvent, TempoReference

pytest.importorskip("link", reason="LinkPython-extern is not installed: no Ableton Link")
OTHER = """
    import sys, time, link
    peer = link.Link({bpm})
    peer.startStopSyncEnabled = True
    peer.enabled = True
    for line in sys.stdin:
        command, _, value = line.strip().partition(" ")
        state = peer.captureSessionState()
        now = peer.clock().micros()
        if command == "tempo":
            state.setTempo(float(value), now)
            peer.commitSessionState(state)
        elif command == "play":
            state.setIsPlaying(value == "1", now)
            peer.commitSessionState(state)
        print(peer.numPeers(), state.tempo(), state.beatAtTime(now, 4.0), time.perf_counter_ns(), flush=True)
"""


class Other:
    """Another program on the Link network."""

    def __init__(self, bpm: float) -> None:
        code = textwrap.dedent(OTHER.format(bpm=bpm))
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)
        self.ask()

    def ask(self, command: str = "") -> tuple[int, float, float, int]:
        """Return (peers, tempo, beat, when [ns])."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        peers, tempo, beat, now = self.process.stdout.readline().split()
        return int(peers), float(tempo), float(beat), int(now)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Follower:
    def __init__(self) -> None:
        self.clock = SessionClock()
        self.offset_ns = time.perf_counter_ns() - self.clock.now_ns()
        self.references: list[TempoReference] = []
        self.reports: list[StatusEvent] = []
        self.sensor = LinkSensor(self.clock)
        self.sensor.start(self.take, self.reports.append)

    def take(self, observation: Observation) -> None:
        assert isinstance(observation, TempoReference)
        self.references.append(observation)

    def wait(self, condition: Callable[[], bool]) -> None:
        ended = time.monotonic() + 15
        while not condition():
            if time.monotonic() > ended:
                pytest.skip("no multicast on this machine: Link programs do not find each other")
            time.sleep(0.02)


@pytest.fixture
def follower() -> Iterator[Follower]:
    follower = Follower()
    yield follower
    follower.sensor.stop()


def test_a_session_is_followed_and_its_end_reported(follower: Follower) -> None:
    other = Other(97.0)
    try:
        follower.wait(lambda: len(follower.references) > 3)
        follower.wait(lambda: abs(follower.references[-1].tempo_bpm - 97.0) < 0.01)
        _, _, beat, at_ns = other.ask()
        follower.wait(lambda: follower.references[-1].time_ns + follower.offset_ns > at_ns)
        last = follower.references[-1]
        carried = beat + (last.time_ns + follower.offset_ns - at_ns) * 97.0 / 60e9
        assert last.beat == pytest.approx(carried, abs=0.02)
        assert last.playing, "who shares no transport always plays"
        other.ask("tempo 133")
        follower.wait(lambda: abs(follower.references[-1].tempo_bpm - 133.0) < 0.01)
        other.ask("play 1")
        time.sleep(0.3)
        other.ask("play 0")
        follower.wait(lambda: not follower.references[-1].playing)
    finally:
        other.close()
    follower.wait(lambda: follower.reports[-1].level == "warning")
    assert [report.level for report in follower.reports] == ["info", "warning"]


def test_who_comes_later_keeps_their_tempo(follower: Follower) -> None:
    """The rule of Link is that the older session wins; ours, which leads nobody, must never be that."""
    time.sleep(4.0)  # we have been alone for a while
    other = Other(88.0)
    try:
        time.sleep(1.5)
        follower.wait(lambda: other.ask()[0] > 0)
        time.sleep(1.0)
        assert other.ask()[1] == pytest.approx(88.0, abs=1e-3)
        follower.wait(lambda: bool(follower.references))
        assert follower.references[-1].tempo_bpm == pytest.approx(88.0, abs=0.01)
    finally:
        other.close()
