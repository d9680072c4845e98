"""MIDI on real ports: the system's sequencer where it has one, else a JACK server of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridges.midi import MidiBridge
from engine.clock import SessionClock
from engine.types import NoteEvent

PROJECT = Path(__file__).parents[2]
NAME = "PasDeDeuxTest"
MS = 1_000_000


def lists_ports(environment: dict[str, str]) -> bool:
    """Whether MIDI ports can be listed in this environment (in a process of its own: the answer is kept in one)."""
    code = "import mido; mido.get_output_names()"
    return (
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False).returncode == 0
    )


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Environment in which there is MIDI."""
    own = dict(os.environ)
    if lists_ports(own):
        yield own
        return
    if shutil.which("jackd") is None:
        pytest.skip("this system has neither an ALSA sequencer nor JACK: 2 tests with real MIDI ports are left out")
    own |= {"MIDO_BACKEND": "mido.backends.rtmidi/UNIX_JACK", "JACK_NO_AUDIO_RESERVATION": "1"}
    own |= {"JACK_DEFAULT_SERVER": f"pasdedeux{os.getpid()}"}
    server = subprocess.Popen(
        ["jackd", "-n", own["JACK_DEFAULT_SERVER"], "-r", "-d", "dummy", "-r", "48000", "-p", "256"],
        env=own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(50):
            if lists_ports(own):
                break
            time.sleep(0.1)
        else:
            pytest.skip("JACK does not start: 2 tests with real MIDI ports are left out")
        yield own
    finally:
        server.terminate()
        server.wait()


class Listener:
    """A synthesiser that is plugged in."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bridges.midi_listener_child", NAME],
            env=environment,
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.wait(lambda lines: "ready" in lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def wait(self, condition: Callable[[list[str]], bool]) -> list[str]:
        ended = time.monotonic() + 30
        while not condition(list(self.lines)):
            assert time.monotonic() < ended, f"heard only {self.lines[-20:]}"
            time.sleep(0.01)
        return list(self.lines)

    def unplug(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def in_environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


def test_notes_reach_a_port_found_by_a_part_of_its_name(in_environment: dict[str, str]) -> None:
    listener = Listener(in_environment)
    bridge = MidiBridge(NAME.lower(), clock=SessionClock(), programs={"bass": 33})
    bridge.open(lambda control: None)
    try:
        bridge.send(NoteEvent(0, 0, 0, 60, 100, 50 * MS))
        lines = listener.wait(lambda lines: any(line.startswith("note_off") for line in lines))
    finally:
        bridge.close()
        listener.unplug()
    assert any(line.startswith("program_change channel=0 program=33") for line in lines)
    assert any(line.startswith("note_on channel=0 note=60 velocity=100") for line in lines)


def test_a_synthesiser_may_be_unplugged_and_plugged_in_again(in_environment: dict[str, str]) -> None:
    listener = Listener(in_environment)
    bridge = MidiBridge(NAME, clock=SessionClock())
    bridge.open(lambda control: None)
    complaints: list[str] = []

    def play_until(done: Callable[[], bool]) -> None:
        ended = time.monotonic() + 30
        while not done():
            assert time.monotonic() < ended
            try:
                bridge.send(NoteEvent(0, 0, 0, 60, 100, 10 * MS))
            except OSError as error:
                complaints.append(str(error))
            time.sleep(0.02)

    try:
        play_until(lambda: any(line.startswith("note_on") for line in listener.lines))
        listener.unplug()
        play_until(lambda: bool(complaints))
        assert "vanished" in complaints[0]
        again = Listener(in_environment)
        play_until(lambda: any(line.startswith("note_on") for line in again.lines))
        again.unplug()
    finally:
        bridge.close()
        listener.unplug()
    assert len(complaints) <= 2, "once for each time it vanished"
