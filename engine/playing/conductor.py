"""The one timeline of a show that a dancer leads, or a sound, taps or another program: whoever leads, only one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from engine.beats.follower import BeatFollower
from engine.beats.give_and_take import GiveAndTake
from engine.types import (
    NS_PER_S,
    BeatEstimate,
    BeatState,
    BeatTimeline,
    ControlEvent,
    PoseFrame,
    TempoReference,
)

Report = Callable[[str, str, str], None]
"""Tells the operator: component, level, message."""

# What was believed of the beat is believed this long without a new camera frame (a dropped frame or two), then not.
_FRESH_NS = NS_PER_S // 2
# Another program's clock that has said nothing for so long is lost (Link speaks every few ms, MIDI clock 24 times a
# beat, so 60 ms apart at 40 bpm).
_LOST_NS = 2 * NS_PER_S
_BEATS_PER_BAR = 4.0
# From this confidence on a beat that is heard is one to play to.
_CONFIDENT = 0.3
# What another program that leads says itself: with every word of it a performer's would be undone.
_LEADERS_OWN = frozenset({"tap", "tempo", "double", "half", "downbeat"})
_SOURCES = {"link": "Ableton Link", "midi-clock": "MIDI clock"}


class MovementTracker(Protocol):
    """Turns poses into beat estimates: `engine.beats.kinematic_tracker`. Deterministic; core thread only."""

    def process(self, frame: PoseFrame) -> BeatEstimate | None:
        """Take one pose; return the belief now, or None."""
        ...

    def reset(self) -> None:
        """Forget everything seen."""
        ...


class Conductor:
    """Feeds the beat follower from the one who leads, and from nobody else. Deterministic; reads no clock.

    Args:
        leader: "dancer", "audio", "tap", "link" or "midi-clock".
        start_bpm: the tempo until one is known.
        tracker: of the dancer's movement; only asked when the dancer leads.
        report: for what the operator should know.
    """

    def __init__(self, leader: str, start_bpm: float, tracker: MovementTracker | None, report: Report) -> None:
        self.leader = leader
        self._tracker = tracker if leader == "dancer" else None
        self._report = report
        self._follower = BeatFollower(start_bpm)
        self._give_and_take = GiveAndTake()
        self._estimate: BeatEstimate | None = None
        self._estimate_ns = 0
        self._active = False
        self._referred_ns: int | None = None
        self._playing = True
        self._heard_beat = False
        self._state = self._follower.state

    @property
    def state(self) -> BeatState:
        """The newest belief about the beat."""
        return self._state

    @property
    def playing(self) -> bool:
        """False while the leading program's transport is stopped, and until a leading sound has a beat.

        A band that began to play by itself would be heard as the sound that leads.
        """
        return self._playing and (self.leader != "audio" or self._heard_beat)

    def see(self, frame: PoseFrame | None, time_ns: int) -> None:
        """Take what a camera frame showed; None: nobody."""
        if self._tracker is None:
            return
        if frame is None:
            self._active = False
            return
        estimate = self._tracker.process(frame)
        if estimate is not None:
            # The dancer may be following the music that follows them.
            estimate = self._give_and_take.process(estimate, frame.time_ns)
        self._estimate, self._estimate_ns, self._active = estimate, time_ns, True

    def hear(self, end_ns: int, estimate: BeatEstimate | None, active: bool) -> None:
        """Take what the sound tracker believes after one hop; heeded only when the sound leads."""
        if self.leader == "audio":
            self._estimate, self._estimate_ns, self._active = estimate, end_ns, active

    def refer(self, reference: TempoReference) -> None:
        """Take where another program's clock stands; heeded only when that program leads."""
        if reference.source != self.leader:
            return
        if self._referred_ns is None:
            self._report("tempo", "info", f"{_SOURCES[self.leader]} leads")
        self._referred_ns = reference.time_ns
        self._playing = reference.playing
        timeline = BeatTimeline(reference.tempo_bpm, reference.beat, reference.time_ns)
        self._follower.set_external(timeline)
        # Its bar is ours: four beats, from its beat 0, as far as the performer has nudged it.
        downbeat = round(reference.beat / _BEATS_PER_BAR) * _BEATS_PER_BAR
        downbeat_ns = timeline.time_of(downbeat + self._follower.offset_beats)
        if self._state.bar_beat(round(self._state.timeline.beat_at(downbeat_ns))) != 1:
            self._follower.control(ControlEvent(downbeat_ns, "downbeat"))

    def control(self, event: ControlEvent) -> None:
        """Take a performer's wish about the beat.

        Raises:
            ValueError: another program leads, and says that itself.
        """
        if self._referred_ns is not None and event.name in _LEADERS_OWN:
            raise ValueError(f"control '{event.name}' is {_SOURCES[self.leader]}'s, which leads; nudge shifts the beat")
        self._follower.control(event)

    def advance(self, now_ns: int) -> BeatState:
        """Move time on; return the belief about the beat."""
        fresh = now_ns - self._estimate_ns <= _FRESH_NS
        if self._referred_ns is not None and now_ns - self._referred_ns > _LOST_NS:
            # If its transport was stopped, so are we: it may be gone because it has nothing to say.
            self._referred_ns = None
            self._follower.set_external(None)
            self._report("tempo", "warning", f"{_SOURCES[self.leader]} is gone; its tempo is kept")
        state = self._follower.update(now_ns, self._estimate if fresh else None, fresh and self._active)
        self._heard_beat |= state.confidence >= _CONFIDENT
        # What the performer taps is certain, however long ago it was.
        self._state = replace(state, confidence=1.0) if self.leader == "tap" else state
        return self._state
