"""Notes with their ends: what sounds, and when it must stop. No clock and no thread of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from engine.types import ControlEvent

Send = Callable[[bytes], None]

_NOTE_OFF, _NOTE_ON, _CONTROL_CHANGE = 0x80, 0x90, 0xB0
_SUSTAIN, _ALL_SOUND_OFF, _ALL_NOTES_OFF = 64, 120, 123
_CHANNELS = 16


class NotePlayer:
    """Begins notes at their times, and ends each exactly once: at its time, when its pitch is struck again, or at
    silence.

    Args:
        send: takes one MIDI message; may raise OSError, after which nothing is taken to sound.

    Threads: one at a time.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begins: list[tuple[int, int, tuple[int, int, int], int]] = []
        self._ends: list[tuple[int, int, int, int]] = []
        self._sounding: dict[tuple[int, int], int] = {}
        self._serial = 0

    def note(self, channel: int, pitch: int, velocity: int, now_ns: int, duration_ns: int) -> None:
        """Begin a note now; of a pitch that sounds already the old note is ended first. Velocity 0 only ends that."""
        channel, pitch, velocity = channel & 0x0F, pitch & 0x7F, min(velocity, 127)
        if self._sounding.pop((channel, pitch), None) is not None:
            self._send(bytes((_NOTE_OFF | channel, pitch, 0)))
        if velocity < 1:
            return
        self._send(bytes((_NOTE_ON | channel, pitch, velocity)))
        self._serial += 1
        self._sounding[channel, pitch] = self._serial
        heapq.heappush(self._ends, (now_ns + max(duration_ns, 0), self._serial, channel, pitch))

    def note_at(self, channel: int, pitch: int, velocity: int, at_ns: int, duration_ns: int) -> None:
        """Begin a note at a time to come."""
        self._serial += 1
        heapq.heappush(self._begins, (at_ns, self._serial, (channel, pitch, velocity), duration_ns))

    def due_ns(self) -> int | None:
        """Return when the next note begins or ends; None: nothing sounds or will."""
        end_ns = self._end_ns()
        if not self._begins:
            return end_ns
        return self._begins[0][0] if end_ns is None else min(end_ns, self._begins[0][0])

    def _end_ns(self) -> int | None:
        while self._ends and self._sounding.get(self._ends[0][2:]) != self._ends[0][1]:
            heapq.heappop(self._ends)  # was ended before its time
        return self._ends[0][0] if self._ends else None

    def run(self, now_ns: int) -> None:
        """Begin and end what is due, in order; what ends when another begins, ends first."""
        while (due_ns := self.due_ns()) is not None and due_ns <= now_ns:
            if self._end_ns() == due_ns:
                _, _, channel, pitch = heapq.heappop(self._ends)
                del self._sounding[channel, pitch]
                self._send(bytes((_NOTE_OFF | channel, pitch, 0)))
            else:
                at_ns, _, (channel, pitch, velocity), duration_ns = heapq.heappop(self._begins)
                self.note(channel, pitch, velocity, at_ns, duration_ns)

    def silence(self) -> None:
        """End everything now, also what is to come: note by note for plain synthesisers, and by the messages made for
        it."""
        sounding = list(self._sounding)
        self.forget()
        for channel, pitch in sounding:
            self._send(bytes((_NOTE_OFF | channel, pitch, 0)))
        for channel in range(_CHANNELS):
            for controller in (_SUSTAIN, _ALL_NOTES_OFF, _ALL_SOUND_OFF):
                self._send(bytes((_CONTROL_CHANGE | channel, controller, 0)))

    def forget(self) -> None:
        """Take nothing to sound any more: the port is gone, and the notes with it."""
        self._begins.clear()
        self._ends.clear()
        self._sounding.clear()


class Hush:
    """Follows the controls that silence a band: panic ends all notes, blackout until it is taken back."""

    def __init__(self) -> None:
        self.dark = False
        """Whether nothing may sound."""

    def hear(self, event: ControlEvent) -> bool:
        """Take an echoed control; return whether all notes must end now."""
        if event.name == "blackout":
            self.dark = isinstance(event.value, int | float) and event.value >= 0.5
            return self.dark
        return event.name == "panic"
