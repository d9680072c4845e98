"""Notes and clock to a MIDI port, through a process of its own (`bridges.midi_worker`) that ends what it begins."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bridges.midi_notes import Hush
from bridges.midi_worker import CLOCK, NOTE, RECORD, SILENCE
from engine.clock import Clock
from engine.errors import UserError
from engine.types import VOICE_CHANNELS, ClockEvent, ControlEvent, NoteEvent, OutputEvent

_log = logging.getLogger(__name__)

_PROJECT = Path(__file__).parents[1]
# Starting Python and opening the port takes a third of a second; a machine that is kept busy a hundred times that.
_OPEN_TIMEOUT_S = 60.0
# Whoever is killed for being slow leaves notes that hang.
_CLOSE_TIMEOUT_S = 10.0
_RESTART_S, _RESTART_MAX_S = 0.5, 8.0
# How much a latency that was overestimated is taken back with every clock, so that drift is followed.
_LEAD_DECAY_NS = 1_000
# The engine's threads hold each other up by a few milliseconds; a loaded machine by ten.
_NOTE_LEAD_NS = 20_000_000


class MidiBridge:
    """Sounds NoteEvents on a MIDI port.

    All notes end on panic, during a blackout, on close, and when this process ends in any way. A port that vanishes is
    reported once, by an OSError of `send`, and used again when it is back.

    Args:
        target: a port by name or a part of it; "virtual:NAME" makes one; "tcp:HOST:PORT" is mido's socket server.
        clock: session time.
        programs: General MIDI program (from 0) by voice, sent when the port is opened.
        pulses: also send MIDI clock, start, continue and stop.
        open_timeout_s: how long `open` waits for the port.

    Attributes:
        note_lead_ns: notes are handed over this long before they leave: the process keeps time beside a busy engine.
        dropped: notes that could not be handed over.

    Threads: `open`, `send` and `close` on one; one of its own listens to the process and starts it again if it dies.
    """

    def __init__(
        self,
        target: str,
        *,
        clock: Clock,
        programs: Mapping[str, int] | None = None,
        pulses: bool = False,
        open_timeout_s: float = _OPEN_TIMEOUT_S,
    ) -> None:
        self.name = f"midi {target}"
        self.note_lead_ns = _NOTE_LEAD_NS
        self.dropped = 0
        self._clock = clock
        channels = {VOICE_CHANNELS[voice]: program for voice, program in (programs or {}).items()}
        module = [sys.executable, "-m", "bridges.midi_worker"]
        self._command = [*module, target, json.dumps(channels), "1" if pulses else "0"]
        self._pulses = pulses
        self._open_timeout_s = open_timeout_s
        self._hush = Hush()
        self._lead_ns: int | None = None
        self._origin_ns = -(2**62)
        """When the session began, in the time of the process."""
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._closing = threading.Event()
        self._failure: UserError | None = None
        self._trouble: str | None = None
        """What is wrong and has not been reported yet."""

    def open(self, on_control: Callable[[ControlEvent], None]) -> None:
        """Start the process and wait until it has the port; nothing comes back from it.

        Raises:
            UserError: there is no such port, it cannot be had, or this system has no MIDI.
        """
        if self._thread is not None:
            raise RuntimeError("the MIDI bridge is already open")
        self._ready.clear()
        self._closing.clear()
        self._failure, self._trouble, self._hush = None, None, Hush()
        self._process = self._start()
        self._thread = threading.Thread(target=self._supervise, name="midi-status", daemon=True)
        self._thread.start()
        ready = self._ready.wait(self._open_timeout_s)
        if self._failure is not None or not ready:
            failure = self._failure or UserError(f"{self.name} does not open", "try again, or take another one")
            self.close()
            raise failure

    def send(self, event: OutputEvent) -> None:
        """Hand one event over now.

        Raises:
            OSError: once when the port has vanished; or all notes must end, and the process cannot be told.
        """
        if self._process is None:
            return
        if isinstance(event, NoteEvent):
            self._play(event, 0)
        elif isinstance(event, ClockEvent):
            if self._pulses:
                self._tell_time(event)
        elif isinstance(event, ControlEvent) and self._hush.hear(event) and not self._write(SILENCE):
            raise OSError("the MIDI process does not take that it must be silent")
        self._complain()

    def send_ahead(self, event: NoteEvent, at_ns: int) -> None:
        """Hand a note over that is to leave at session time `at_ns`. Raises as `send`."""
        if self._process is not None:
            # Between the two looks this thread may be held up, so the largest difference is the true one. What is to
            # leave at one time, the end of a note and the next of its pitch, so stays in its order.
            self._origin_ns = max(self._origin_ns, time.perf_counter_ns() - self._clock.now_ns())
            self._play(event, self._origin_ns + at_ns)
            self._complain()

    def _play(self, event: NoteEvent, at_ns: int) -> None:
        if not self._hush.dark:
            duration_ns = event.duration_ns
            self._write(NOTE, event.channel, event.pitch, event.velocity, time_ns=at_ns, duration_ns=duration_ns)

    def _complain(self) -> None:
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise OSError(trouble)

    def close(self) -> None:
        """End all notes and give the port back; idempotent."""
        process, thread = self._process, self._thread
        self._closing.set()
        if process is not None and process.stdin is not None:
            _close_quietly(process)
            try:
                process.wait(_CLOSE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if thread is not None:
            thread.join(_CLOSE_TIMEOUT_S)
        self._process, self._thread = None, None

    def _tell_time(self, event: ClockEvent) -> None:
        """Pass on where the music is when this event should have left: ahead of its presentation by the latency that
        the scheduler takes off. Events leave late or in time, so the largest lead is the true one."""
        now_ns = self._clock.now_ns()
        lead_ns = event.time_ns - now_ns
        if self._lead_ns is None or abs(lead_ns - self._lead_ns) > 1_000_000_000:
            self._lead_ns = lead_ns
        self._lead_ns = max(lead_ns, self._lead_ns - _LEAD_DECAY_NS)
        at_ns = time.perf_counter_ns() + lead_ns - self._lead_ns
        self._write(CLOCK, time_ns=at_ns, beat=event.beat, tempo_bpm=event.tempo_bpm)

    def _write(
        self,
        kind: int,
        channel: int = 0,
        pitch: int = 0,
        velocity: int = 0,
        *,
        time_ns: int = 0,
        duration_ns: int = 0,
        beat: float = 0.0,
        tempo_bpm: float = 0.0,
    ) -> bool:
        """Hand a record over; return whether the process has got it."""
        process = self._process
        if process is None or process.stdin is None:
            return False
        record = RECORD.pack(kind, channel, pitch, velocity, time_ns, duration_ns, beat, tempo_bpm)
        try:
            os.write(process.stdin.fileno(), record)
        except (OSError, ValueError):  # the process is gone (and will be back), or does not read
            self.dropped += kind == NOTE
            return False
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, (str(_PROJECT), os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdin is not None
        if os.name == "posix":
            # A process that hangs must not hold up the output thread. (On Windows pipes cannot be told so.)
            os.set_blocking(process.stdin.fileno(), False)
        return process

    # Below here: the bridge's own thread.

    def _supervise(self) -> None:
        patience_s = _RESTART_S
        while True:
            process = self._process
            assert process is not None
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    word, _, text = line.decode(errors="replace").rstrip("\n").partition(" ")
                    self._hear(word, text)
                    if word == "ready":
                        patience_s = _RESTART_S
            if not self._ready.is_set():
                self._failure = self._failure or UserError(
                    "the MIDI process ended", "see the log, or go without --midi"
                )
                self._ready.set()
                return
            if self._closing.is_set():
                return
            _close_quietly(process)
            process.wait()
            if patience_s == _RESTART_S:
                self._trouble = "the MIDI process ended; it is started again"
            started: subprocess.Popen[bytes] | None = None
            while started is None:
                if self._closing.wait(patience_s):
                    return
                patience_s = min(2 * patience_s, _RESTART_MAX_S)
                try:
                    started = self._process = self._start()
                except OSError as error:  # no memory, no descriptor: that may pass
                    _log.error("the MIDI process cannot be started: %s", error)
            if self._closing.is_set():  # in this very moment: nobody else will end it
                _close_quietly(started)
                started.wait()

    def _hear(self, word: str, text: str) -> None:
        if word == "ready":
            _log.info("notes go to %s", text)
            self._ready.set()
        elif word == "fail":
            problem, _, remedy = text.partition("\t")
            self._failure = UserError(problem, remedy)
            self._ready.set()
        elif word == "lost":
            self._trouble = f"{text}; it is used again when it is back"
        elif word == "found":
            _log.info("%s is back", text)


def _close_quietly(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            _log.debug("the MIDI process had ended")
