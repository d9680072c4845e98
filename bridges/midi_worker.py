"""The process that owns a MIDI output: notes and their ends, programs, clock.

A process of its own, because a clock beside the engine's busy threads would be late, and because it outlives the
engine: when its input ends, however the engine has ended, it ends all notes. It takes records (`RECORD`) on standard
input and says on standard output, a line each: `ready NAME`, `fail PROBLEM<TAB>REMEDY`, `lost NAME`, `found NAME`.
"""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import BinaryIO

from bridges.midi_notes import NotePlayer
from bridges.midi_ports import OutputPort, Unavailable, open_output
from bridges.midi_pulses import PulseTrain
from engine.errors import UserError
from engine.priority import ask_for_real_time
from engine.signals import leave_to_parent

RECORD = struct.Struct("<4B4xqqdd")
"""kind, channel, pitch, velocity; time [ns of time.perf_counter_ns, which all processes share], duration [ns], beat,
tempo [bpm]."""
NOTE, CLOCK, SILENCE = 1, 2, 3
SOUNDFONT = "soundfont:"
"""Begins a target that is not a port but a `SoundfontTarget`."""

# A port is missed after this long at most, and looked for again with growing patience.
_LOOK_NS = 1_500_000_000
_RETRY_NS, _RETRY_MAX_NS = 500_000_000, 8_000_000_000
# Looking takes a millisecond; only where no pulse and no end is near.
_QUIET_NS = 6_000_000
# Ahead of everything that computes: this process sleeps nearly always, and a millisecond late is heard.
_REAL_TIME_LEVEL = 10


class Worker:
    """Plays records on a port, and finds the port again when it vanishes.

    Threads: `take` by the reader, `step` by the main thread; a lock holds them apart.
    """

    def __init__(self, target: str, programs: Mapping[int, int], clock: bool) -> None:
        self._open = _opener(target)
        self._programs = programs
        self._lock = threading.Lock()
        self.wake = threading.Condition(self._lock)
        self._port: OutputPort | None = None
        self.name = ""
        missing: Unavailable | None = None
        try:
            self._port = self._open()
            self.name = self._port.name
        except Unavailable as error:
            missing = error
        self._player = NotePlayer(self._send)
        self._pulses = PulseTrain(self._send) if clock else None
        self._look_ns = time.perf_counter_ns() + _LOOK_NS
        self._retry_ns = _RETRY_NS
        say("ready", self.name)
        if missing is not None:
            say("lost", str(missing))
        self._greet()

    def take(self, record: bytes) -> None:
        """Act on one record."""
        kind, channel, pitch, velocity, time_ns, duration_ns, beat, tempo_bpm = RECORD.unpack(record)
        with self.wake:
            if self._port is None:
                return
            if kind == NOTE:
                now_ns = time.perf_counter_ns()
                if time_ns > now_ns:
                    self._player.note_at(channel, pitch, velocity, time_ns, duration_ns)
                else:
                    self._player.run(now_ns)  # what was to come before it does
                    self._player.note(channel, pitch, velocity, now_ns, duration_ns)
            elif kind == SILENCE:
                self._player.silence()
            elif kind == CLOCK and self._pulses is not None:
                self._pulses.hear(beat, time_ns, tempo_bpm)
            self.wake.notify()

    def step(self) -> float:
        """Do what is due (with `wake` held); return how long there is to wait at most [s]."""
        now_ns = time.perf_counter_ns()
        if self._port is None:
            self._find(now_ns)
            return max(self._look_ns - time.perf_counter_ns(), 0) / 1e9
        self._player.run(now_ns)
        if self._pulses is not None:
            self._pulses.run(now_ns)
        due_ns = min(self._player.due_ns() or 2**62, (self._pulses and self._pulses.due_ns()) or 2**62)
        if now_ns >= self._look_ns:
            if due_ns - now_ns <= _QUIET_NS:
                return max(due_ns - time.perf_counter_ns(), 0) / 1e9  # it is looked after that
            self._look_ns = now_ns + _LOOK_NS
            if self._port is not None and _is_gone(self._port):
                self._lose()
        return max(min(due_ns, self._look_ns) - time.perf_counter_ns(), 0) / 1e9

    def end(self) -> None:
        """Leave the receiver silent and stopped."""
        with self._lock:
            if self._pulses is not None:
                self._pulses.stop()
            self._player.silence()
            if self._port is not None:
                self._port.close()
                self._port = None

    def _send(self, message: bytes) -> None:
        if self._port is None:
            return
        try:
            self._port.send(message)
        except OSError:
            self._lose()

    def _greet(self) -> None:
        """Bring whoever listens to a known state: silent, with the right programs."""
        self._player.silence()
        for channel, program in self._programs.items():
            self._send(bytes((0xC0 | channel, program)))

    def _lose(self) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        port.close()
        self._player.forget()
        if self._pulses is not None:
            self._pulses.forget()
        self._retry_ns = _RETRY_NS
        self._look_ns = time.perf_counter_ns() + _RETRY_NS
        say("lost", f"{self.name} vanished")

    def _find(self, now_ns: int) -> None:
        if now_ns < self._look_ns:
            return
        try:
            self._port = self._open()
        except UserError:
            self._retry_ns = min(2 * self._retry_ns, _RETRY_MAX_NS)
            self._look_ns = time.perf_counter_ns() + self._retry_ns
            return
        self.name = self._port.name
        self._look_ns = time.perf_counter_ns() + _LOOK_NS
        self._greet()
        if self._port is not None:
            say("found", self.name)


def _opener(target: str) -> Callable[[], OutputPort]:
    if target.startswith(SOUNDFONT):
        from bridges.soundfont_port import SoundfontOpener, SoundfontTarget

        return SoundfontOpener(SoundfontTarget.from_text(target[len(SOUNDFONT) :]))
    return lambda: open_output(target)


def _is_gone(port: OutputPort) -> bool:
    try:
        return port.gone()
    except OSError:
        return True


def say(word: str, text: str) -> None:
    """Tell the engine; it may be gone."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"{word} {' '.join(text.split())}\n" if word != "fail" else f"{word} {text}\n")
        sys.stdout.flush()


def _read(stream: BinaryIO, worker: Worker, ended: threading.Event) -> None:
    waiting = b""
    with contextlib.suppress(OSError):
        while chunk := stream.read(RECORD.size - len(waiting)):
            waiting += chunk
            if len(waiting) == RECORD.size:
                worker.take(waiting)
                waiting = b""
    ended.set()
    with worker.wake:
        worker.wake.notify()


def main(target: str, programs: Mapping[int, int], clock: bool) -> int:
    """Play until the input ends; return the exit status."""
    ended = threading.Event()
    ask_for_real_time(_REAL_TIME_LEVEL, inherited=True)
    # Ctrl-C goes to every process of the terminal; the engine ends us when it has ended its own work.
    leave_to_parent()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    try:
        worker = Worker(target, programs, clock)
    except UserError as error:
        say("fail", f"{error.problem}\t{error.remedy}")
        return 2
    except OSError as error:  # a name that no file can have
        say("fail", f"cannot open {target}\t{error.strerror or error}")
        return 2
    # Unbuffered: a buffered reader's lock, held by a thread that waits, would spoil the end of the process.
    stream = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    reader = threading.Thread(target=_read, args=(stream, worker, ended), daemon=True)
    reader.start()
    try:
        while not ended.is_set():
            with worker.wake:
                wait_s = worker.step()
                if wait_s > 0.0 and not ended.is_set():
                    worker.wake.wait(min(wait_s, 1.0))
    finally:
        worker.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], {int(k): int(v) for k, v in json.loads(sys.argv[2]).items()}, sys.argv[3] == "1"))
