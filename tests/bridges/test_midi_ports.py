"""MIDI on real ports: the system's sequencer where it has one, else a JACK server of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridges.midi import MidiBridge
from engine.clock import SessionClock
from engine.types import NoteEvent
from tests.waiting import wait_until

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
        wait_until(lambda: server.poll() is not None or lists_ports(own), "JACK does not answer", each_s=0.1)
        if server.poll() is not None:
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

    def wait(self, condition: Callable[[list[str]], bool]) -> None:
        wait_until(lambda: condition(list(self.lines)), lambda: self.lines[-20:])

    def heard(self, beginning: str) -> bool:
        return any(line.startswith(beginning) for line in list(self.lines))

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

    def programs_and_notes_are_heard() -> bool:
        # JACK loses what is sent before its next cycle, which on a starved machine may be late: then once more.
        bridge = MidiBridge(NAME.lower(), clock=SessionClock(), programs={"bass": 33})
        bridge.open(lambda control: None)
        try:
            play_until(bridge, lambda: listener.heard("note_on channel=0 note=60 velocity=100"))
            listener.wait(lambda lines: any(line.startswith("note_off channel=0 note=60") for line in lines))
        finally:
            bridge.close()
        return listener.heard("program_change channel=0 program=33")

    try:
        wait_until(programs_and_notes_are_heard, lambda: listener.lines[:20])
    finally:
        listener.unplug()


def play_until(bridge: MidiBridge, done: Callable[[], bool]) -> list[str]:
    """Play notes until something is so; return what was complained of meanwhile."""
    complaints: list[str] = []

    def played() -> bool:
        try:
            bridge.send(NoteEvent(0, 0, 0, 60, 100, 10 * MS))
        except OSError as error:
            complaints.append(str(error))
        return done() or bool(complaints)

    wait_until(played, lambda: complaints, each_s=0.02)
    return complaints


def test_a_synthesiser_may_be_unplugged_and_plugged_in_again(in_environment: dict[str, str]) -> None:
    listener = Listener(in_environment)
    bridge = MidiBridge(NAME, clock=SessionClock())
    bridge.open(lambda control: None)
    again: Listener | None = None
    try:
        assert play_until(bridge, lambda: listener.heard("note_on")) == []
        listener.unplug()
        (complaint,) = play_until(bridge, lambda: False)
        assert "vanished" in complaint
        again = Listener(in_environment)
        # It was said once that it vanished; that it is back, is not complained of.
        assert play_until(bridge, lambda: again.heard("note_on")) == []
    finally:
        bridge.close()
        for each in (listener, again):
            if each is not None:
                each.unplug()
