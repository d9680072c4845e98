"""Ableton Link on loopback, with another program in a process of its own."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from bridges.link import LinkSensor, _listen
from engine.clock import SessionClock
from engine.types import Observation, StatusEvent, TempoReference
from tests.waiting import wait_until

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
        took = 1 << 62
        while took > 1_000_000:  # read at once, whoever else has the processor
            before = time.perf_counter_ns()
            now = peer.clock().micros()
            took = time.perf_counter_ns() - before
        print(peer.numPeers(), state.tempo(), state.beatAtTime(now, 4.0), before + took // 2, flush=True)
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


@pytest.fixture(scope="module")
def multicast() -> None:
    """Skip where Link programs cannot find each other: nothing comes back that is sent to their group."""
    group, token = ("224.76.78.75", 20808), os.urandom(16)
    try:
        with _listen() as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            ended = time.monotonic() + 10.0
            while time.monotonic() < ended:
                sender.sendto(token, group)
                while select.select([listener], [], [], 0.1)[0]:
                    if listener.recv(2048) == token:
                        return
    except OSError:
        pass
    pytest.skip("no multicast on this machine: Link programs do not find each other")


@pytest.fixture
def follower(multicast: None) -> Iterator[Follower]:
    follower = Follower()
    yield follower
    follower.sensor.stop()


def test_a_session_is_followed_and_its_end_reported(follower: Follower) -> None:
    other = Other(97.0)
    try:
        wait_until(lambda: len(follower.references) > 3)
        wait_until(lambda: abs(follower.references[-1].tempo_bpm - 97.0) < 0.01)
        _, _, beat, at_ns = other.ask()
        wait_until(lambda: follower.references[-1].time_ns + follower.offset_ns > at_ns)
        last = follower.references[-1]
        carried = beat + (last.time_ns + follower.offset_ns - at_ns) * 97.0 / 60e9
        assert last.beat == pytest.approx(carried, abs=0.02)
        assert last.playing, "who shares no transport always plays"
        other.ask("tempo 133")
        wait_until(lambda: abs(follower.references[-1].tempo_bpm - 133.0) < 0.01)

        def stopped() -> bool:
            # Who is late may miss that it played, and then takes it for a program without transport: once more.
            for command in ("play 1", "play 0"):
                other.ask(command)
                time.sleep(0.3)
            return not follower.references[-1].playing

        wait_until(stopped)
    finally:
        other.close()
    wait_until(lambda: follower.reports[-1].level == "warning")
    assert [report.level for report in follower.reports] == ["info", "warning"]


def test_who_comes_later_keeps_their_tempo(follower: Follower) -> None:
    """The rule of Link is that the older session wins; ours, which leads nobody, must never be that."""
    time.sleep(2.0)  # we have been alone for a while
    other = Other(88.0)
    try:
        wait_until(lambda: other.ask()[0] > 0, each_s=0.05)
        time.sleep(1.0)
        assert other.ask()[1] == pytest.approx(88.0, abs=1e-3)
        wait_until(lambda: bool(follower.references))
        assert follower.references[-1].tempo_bpm == pytest.approx(88.0, abs=0.01)
    finally:
        other.close()
