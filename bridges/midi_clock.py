"""MIDI clock in: another program's 24 pulses a beat as the leader of the show."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from typing import Any

import numpy as np

from bridges.midi_ports import input_names, open_input, stable_name
from bridges.midi_pulses import PULSES_PER_BEAT
from engine.clock import Clock
from engine.errors import UserError
from engine.protocols import Deliver, Report
from engine.types import NS_PER_S, StatusEvent, TempoReference

_log = logging.getLogger(__name__)

SOURCE = "midi-clock"
_VIRTUAL = "virtual:Pas de Deux"
_PULSES_PER_SIXTEENTH = 6
# Four beats: jitter of 1 ms then leaves a hundredth of a bpm. A change of tempo cuts the memory (see below).
_MEMORY = 4 * PULSES_PER_BEAT
_LEAST = 7
# Half a beat that is later or earlier by this much than the line through what came before is another tempo.
_BEND_PULSES, _BEND_NS = 12, 3_000_000
# Pulses come late, never early; what is later than this many typical errors says nothing.
_OUTLIER = 3.0
_GAP_NS = NS_PER_S
_SLOWEST_BPM, _FASTEST_BPM = 20.0, 400.0
_LOOK_S, _LOOK_MAX_S = 1.0, 8.0


class ClockReader:
    """From the unsteady arrival of pulses to a steady statement of tempo and phase, by robust regression.

    Beats count from the last start, or from song position; before either is heard, from the first pulse. No clock and
    no thread of its own.

    Threads: one at a time.
    """

    def __init__(self) -> None:
        self._pulses: deque[tuple[int, int]] = deque(maxlen=_MEMORY)
        """(number since the beginning, arrival [ns])."""
        self._count = 0
        self._pulse_ns = 0.0
        """Time between two pulses, as last told; 0: none was."""
        self._told_where = False
        """Whether a start or a continue says where the next pulse is."""
        self._zero = 0
        """Number of the pulse that is beat 0."""
        self._playing = True
        self._stopped: int | None = None
        """Number of the pulse that the stop came before."""
        self._position: int | None = None

    def start(self) -> None:
        """Take a start: the next pulse is beat 0."""
        self._playing, self._zero, self._stopped, self._position = True, self._count, None, None
        self._told_where = True

    def stop(self) -> None:
        """Take a stop. Most programs send pulses all the same: the tempo goes on."""
        self._playing = False
        self._position = None
        # Some programs say it twice: where they stand is where the first has been.
        if self._stopped is None:
            self._stopped = self._count

    def locate(self, sixteenths: int) -> None:
        """Take a song position [sixteenths]."""
        self._position = sixteenths

    def resume(self) -> None:
        """Take a continue: the next pulse is where the song position, or the stop, has been."""
        self._playing = True
        if self._position is not None:
            self._zero = self._count - _PULSES_PER_SIXTEENTH * self._position
        elif self._stopped is not None:
            self._zero += self._count - self._stopped
        self._stopped = self._position = None
        self._told_where = True

    def pulse(self, time_ns: int) -> TempoReference | None:
        """Take a pulse; return where the music is now, every sixteenth, once that is known."""
        if self._pulses and not 0 <= (away_ns := time_ns - self._pulses[-1][1]) <= _GAP_NS:
            self._pulses.clear()
            if self._pulse_ns > 0.0 and not self._told_where:
                # A line was cut, and whoever plays has played on: what nobody heard counts.
                self._count += max(round(away_ns / self._pulse_ns) - 1, 0)
        self._told_where = False
        self._pulses.append((self._count, time_ns))
        self._count += 1
        if len(self._pulses) < _LEAST or (self._count - 1 - self._zero) % _PULSES_PER_SIXTEENTH:
            return None
        number, at_ns, pulse_ns = self._fit()
        tempo_bpm = 60e9 / (pulse_ns * PULSES_PER_BEAT) if pulse_ns > 0.0 else 0.0
        if not _SLOWEST_BPM <= tempo_bpm <= _FASTEST_BPM:
            return None
        self._pulse_ns = pulse_ns
        return TempoReference(
            round(at_ns), (number - self._zero) / PULSES_PER_BEAT, tempo_bpm, SOURCE, playing=self._playing
        )

    def _fit(self) -> tuple[int, float, float]:
        """Return the newest pulse's number, its time [ns] and the time between two, by the line through them."""
        numbers = np.array([number for number, _ in self._pulses], dtype=np.float64)
        times = np.array([time_ns - self._pulses[0][1] for _, time_ns in self._pulses], dtype=np.float64)
        if len(numbers) >= 2 * _BEND_PULSES:
            slope, offset = _line(numbers[:-_BEND_PULSES], times[:-_BEND_PULSES])
            bend = times[-_BEND_PULSES:] - (offset + slope * numbers[-_BEND_PULSES:])
            if abs(np.median(bend)) > _BEND_NS:
                for _ in range(len(numbers) - _BEND_PULSES):
                    self._pulses.popleft()
                return self._fit()
        slope, offset = _line(numbers, times)
        newest = int(numbers[-1])
        return newest, self._pulses[0][1] + offset + slope * newest, slope


def _line(x: np.ndarray[Any, np.dtype[np.float64]], y: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """Return (slope, offset) by least squares, once more without what lies far above."""
    slope, offset = np.polyfit(x, y, 1)
    errors = y - (offset + slope * x)
    typical = np.median(np.abs(errors)) + 1.0
    kept = errors <= _OUTLIER * typical
    if 3 <= kept.sum() < len(x):
        slope, offset = np.polyfit(x[kept], y[kept], 1)
    return float(slope), float(offset)


class MidiClockSensor:
    """Listens to a port's MIDI clock.

    A port that vanishes is reported once and looked for again.

    Args:
        target: an input by name or a part of it, "virtual:NAME" to make one; None: "virtual:Pas de Deux".
        clock: session time.

    Threads: the back end's delivers; one of its own looks after the port.
    """

    def __init__(self, target: str | None, clock: Clock) -> None:
        self._target = target or _VIRTUAL
        self.name = f"midi-clock {self._target}"
        self._clock = clock
        self._reader = ClockReader()
        self._newest: TempoReference | None = None
        self._deliver: Deliver | None = None
        self._report: Report | None = None
        self._port: Any = None
        self._port_name = ""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, deliver: Deliver, report: Report) -> None:
        """Open the port. Raises `UserError` if it is not there, or this system has no MIDI."""
        self._deliver, self._report = deliver, report
        self._stopping.clear()
        self._port, self._port_name = open_input(self._target, self._hear)
        self._thread = threading.Thread(target=self._look_after, name="midi-clock", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port; idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10.0)
            self._thread = None
        self._close()
        self._deliver = None

    def _hear(self, message: Any) -> None:
        """Take one message of mido's. Threads: the back end's."""
        now_ns, deliver = self._clock.now_ns(), self._deliver
        if deliver is None:
            return
        if message.type == "clock":
            reference = self._reader.pulse(now_ns)
            if reference is not None:
                self._newest = reference
                deliver(reference)
        elif message.type == "start":
            self._reader.start()
        elif message.type == "stop":
            self._reader.stop()
            if self._newest is not None:
                # Some programs send no pulse after it: that they have stopped must be said now.
                last = self._newest
                beat = last.beat + (now_ns - last.time_ns) * last.tempo_bpm / 60e9
                deliver(TempoReference(now_ns, beat, last.tempo_bpm, SOURCE, playing=False))
        elif message.type == "continue":
            self._reader.resume()
        elif message.type == "songpos":
            self._reader.locate(message.pos)

    def _look_after(self) -> None:
        patience_s = _LOOK_S
        while not self._stopping.wait(patience_s):
            if self._target.startswith("virtual:"):
                continue
            try:
                if self._port is not None:
                    # With its numbers: one that was plugged in again meanwhile is another.
                    if self._port_name not in input_names():
                        self._close()
                        name = stable_name(self._port_name)
                        self._say("warning", f"{name} vanished; it is listened to again when it is back")
                    continue
                self._port, self._port_name = open_input(self._target, self._hear)
                patience_s = _LOOK_S
                self._say("info", f"{stable_name(self._port_name)} is back")
            except UserError as error:
                _log.debug("midi clock: %s", error)
                patience_s = min(2 * patience_s, _LOOK_MAX_S)

    def _say(self, level: str, message: str) -> None:
        if self._report is not None:
            self._report(StatusEvent(self._clock.now_ns(), "midi-clock", level, message))

    def _close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(OSError):
                port.close()
