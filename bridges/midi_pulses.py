"""MIDI clock out: 24 pulses a beat that follow a timeline, with start, continue and stop. No thread of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

Send = Callable[[bytes], None]

PULSES_PER_BEAT = 24
_CLOCK, _START, _CONTINUE, _STOP, _SONG_POSITION = 0xF8, 0xFA, 0xFB, 0xFC, 0xF2
_PULSES_PER_SIXTEENTH = 6
_MAX_POSITION = 1 << 14
# A timeline that is not heard of for this long has stopped: the engine states it 60 times a second.
_SILENCE_NS = 1_000_000_000
# Pulses behind the timeline by more than a beat are not made up for: a burst would throw receivers off.
_MAX_BEHIND = PULSES_PER_BEAT
# Pulses that are made up for come at most twice as fast as those of the tempo.
_CATCH_UP = 0.5


class PulseTrain:
    """Derives clock messages from statements of where the music is.

    It starts on the first whole beat it hears of, and goes on with song position and continue after a stop.

    Args:
        send: takes one MIDI message.

    Threads: one at a time.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._beat = self._tempo_bpm = 0.0
        self._at_ns = 0
        self._next: int | None = None
        """Number of the next pulse on the timeline; None: no timeline."""
        self._running = False
        self._origin: int | None = None
        """Number of the pulse at which the song began."""
        self._last_ns = -(2**62)

    def hear(self, beat: float, at_ns: int, tempo_bpm: float) -> None:
        """Take where the music is at `at_ns` (in the time of `run`)."""
        if not tempo_bpm > 0.0 or not math.isfinite(beat + tempo_bpm):
            return
        self._beat, self._at_ns, self._tempo_bpm = beat, at_ns, tempo_bpm
        here = math.floor(beat * PULSES_PER_BEAT) + 1
        if self._next is None or abs(here - self._next) > _MAX_BEHIND:
            if self._running:
                self._halt()
            # On a whole beat, so that its first pulse is one.
            self._next = -(-here // PULSES_PER_BEAT) * PULSES_PER_BEAT

    def due_ns(self) -> int | None:
        """Return when the next pulse, or the end of the music, is due; None: never."""
        if self._next is None:
            return None
        return min(self._pulse_ns(), self._at_ns + _SILENCE_NS)

    def run(self, now_ns: int) -> None:
        """Send what is due."""
        while self._next is not None and self._pulse_ns() <= now_ns:
            pulse = self._next
            self._next, self._last_ns = pulse + 1, now_ns  # before sending, which may find the port gone and forget
            if not self._running:
                self._begin(pulse)
            self._send(bytes((_CLOCK,)))
        if self._next is not None and now_ns - self._at_ns >= _SILENCE_NS:
            self.stop()

    def stop(self) -> None:
        """Say that the music has stopped; it goes on when the timeline is heard again."""
        self._halt()
        self._next = None

    def forget(self) -> None:
        """Begin anew: whoever listens now has heard nothing."""
        self._running = False
        self._next = self._origin = None

    def _pulse_ns(self) -> int:
        assert self._next is not None
        pulse_ns = 60e9 / (self._tempo_bpm * PULSES_PER_BEAT)
        wanted_ns = self._at_ns + round((self._next - self._beat * PULSES_PER_BEAT) * pulse_ns)
        return max(wanted_ns, self._last_ns + round(_CATCH_UP * pulse_ns))

    def _begin(self, pulse: int) -> None:
        self._running = True
        if self._origin is None:
            self._origin = pulse
            self._send(bytes((_START,)))
            return
        sixteenths = max((pulse - self._origin) // _PULSES_PER_SIXTEENTH, 0) % _MAX_POSITION
        self._send(bytes((_SONG_POSITION, sixteenths & 0x7F, sixteenths >> 7)))
        self._send(bytes((_CONTINUE,)))

    def _halt(self) -> None:
        if self._running:
            self._running = False
            self._send(bytes((_STOP,)))
