"""What every core says of the beat: beats ahead of their time, and the clock at every presentation time."""

from __future__ import annotations

import math

from engine.features import HOP_NS
from engine.settings import ShowSettings
from engine.types import NS_PER_S, BeatEvent, BeatState, ClockEvent

_LATE_NS = 50_000_000
"""So late a beat is still told. One that is found again after a rest, or a leap in time, may be further back: light
beside the beat is worse than none."""


class BeatAnnouncer:
    """Announces each beat once, ahead of its sounding. Deterministic."""

    def __init__(self, settings: ShowSettings) -> None:
        beats = settings.beats
        # Sent with the poses of its moment, or earlier if so much lead is wished.
        self._ahead_ns = round(max(settings.output.lookahead_ms, beats.lead_ms) * 1e6) + settings.delays_ns
        self._delays_ns = settings.delays_ns
        self._min_confidence = beats.min_confidence
        self._next_beat: int | None = None

    def announce(self, now_ns: int, beat: BeatState) -> list[BeatEvent]:
        """Return the beats that have come into the lead; none while the beat is too uncertain."""
        newest = math.floor(beat.timeline.beat_at(now_ns + self._ahead_ns))
        if self._next_beat is None:
            self._next_beat = newest + 1
        passed = math.floor(beat.timeline.beat_at(now_ns + self._delays_ns - _LATE_NS))
        indices = range(max(self._next_beat, passed + 1), newest + 1)
        self._next_beat = max(self._next_beat, newest + 1)
        if beat.confidence < self._min_confidence:
            return []
        return [
            BeatEvent(
                time_ns=beat.timeline.time_of(index),
                source_ns=now_ns,
                beat_index=index,
                bar_beat=beat.bar_beat(index),
                tempo_bpm=beat.timeline.tempo_bpm,
                confidence=beat.confidence,
            )
            for index in indices
        ]


class FrameTimes:
    """The fixed grid of presentation times. Deterministic."""

    def __init__(self, settings: ShowSettings) -> None:
        self._frame_ns = NS_PER_S / settings.output.fps
        self._ahead_ns = round(settings.output.lookahead_ms * 1e6) + settings.delays_ns
        self._next: int | None = None

    def due(self, now_ns: int) -> list[int]:
        """Return the presentation times [ns] that have come into the look-ahead, oldest first."""
        until_ns = now_ns + self._ahead_ns
        if self._next is None or until_ns - self._next * self._frame_ns > NS_PER_S:
            # The start, or time leapt by a second: frames that nobody will see are not made.
            first = math.ceil((now_ns - HOP_NS) / self._frame_ns)
            self._next = first if self._next is None else max(first, self._next)
        times: list[int] = []
        while self._next * self._frame_ns <= until_ns:
            times.append(round(self._next * self._frame_ns))
            self._next += 1
        return times


def clock_at(time_ns: int, now_ns: int, beat: BeatState) -> ClockEvent:
    """Return where the music will be at a presentation time, as is known now."""
    position = beat.timeline.beat_at(time_ns)
    return ClockEvent(time_ns, now_ns, position, position % 1.0, beat.timeline.tempo_bpm, beat.confidence)
