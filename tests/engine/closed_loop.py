"""A closed loop in virtual time: somebody dances to the music that their dancing makes, and virtual dancers beside."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.playing.inner_ear import InnerEar
from engine.playing.pipeline import PlayingPipeline
from engine.types import (
    NS_PER_S,
    AudioBlock,
    BeatEvent,
    Heartbeat,
    NoteEvent,
    OutputEvent,
    PoseFrame,
    StatusEvent,
)
from tests.engine.dance_poses import dance_pose

_FRAME_NS = NS_PER_S // 30
_HOP_NS = NS_PER_S // 100


class Human:
    """Dances at a tempo of their own, and is drawn towards the beats they hear.

    Phase and period are corrected as people tapping to a metronome do (Repp 2005, "Sensorimotor synchronization",
    linear phase and period correction), with a reaction time and a little noise.

    Args:
        bpm: the tempo they begin with.
        follow: 0: their own tempo for ever, 1: as people follow.
    """

    def __init__(self, bpm: float, follow: float, seed: int = 0) -> None:
        self.bpm = bpm
        self._phase, self._period = 0.6 * follow, 0.15 * follow
        self._beat = 0.0
        self._heard: list[int] = []
        self._random = np.random.default_rng(seed)

    def hear(self, beats: list[BeatEvent]) -> None:
        self._heard += [beat.time_ns for beat in beats]

    def pose(self, time_ns: int, energy: float) -> PoseFrame:
        self._beat += self.bpm / 60.0 * _FRAME_NS / NS_PER_S
        due = [beat_ns for beat_ns in self._heard if beat_ns <= time_ns - 100_000_000]
        self._heard = self._heard[len(due) :]
        for beat_ns in due:
            then = self._beat - (time_ns - beat_ns) / NS_PER_S * self.bpm / 60.0
            error = round(then) - then + self._random.normal(0.0, 0.02)
            self._beat += self._phase * error
            self.bpm *= 1.0 + self._period * error
        return dance_pose(self._beat, energy, time_ns)


@dataclass
class Course:
    """What was observed once a second.

    Attributes:
        tempo_bpm, human_bpm, energy, notes, load, sounding, memory_kb: (T,) by second.
        apart_ns: largest difference between where the two directions put a beat, over all hops.
        problems: warnings and errors.
    """

    tempo_bpm: list[float] = field(default_factory=list)
    human_bpm: list[float] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    notes: list[int] = field(default_factory=list)
    load: list[int] = field(default_factory=list)
    sounding: list[int] = field(default_factory=list)
    memory_kb: list[float] = field(default_factory=list)
    apart_ns: float = 0.0
    problems: list[str] = field(default_factory=list)


class Room:
    """Sound in a room: clicks of a real band, and the composed music through a loudspeaker.

    Args:
        bpm: of the clicks.
        loudspeaker: gain with which the microphone hears the composed music.
        playing: whether the real band plays at a time [s].
    """

    def __init__(self, bpm: float, loudspeaker: float, until_s: float) -> None:
        from engine.features import FeatureExtractor

        self._speaker = InnerEar(FeatureExtractor())
        self._gain = loudspeaker
        self._period = 60.0 / bpm
        self._until_s = until_s
        self._index = 0
        self._random = np.random.default_rng(3)

    def take(self, notes: list[NoteEvent]) -> None:
        self._speaker.take(notes)

    def block(self) -> AudioBlock:
        """Return the next 10 ms."""
        first = self._index
        self._index += 480
        time_s = (first + np.arange(480)) / 48_000
        since = time_s % self._period
        clicks = 0.5 * np.exp(-40.0 * since) * np.sin(2.0 * np.pi * 200.0 * since) * (time_s < self._until_s)
        end_ns = self._index * NS_PER_S // 48_000
        self._speaker._begin(end_ns, first)
        music = self._gain * self._speaker._sound(first)
        samples: NDArray[np.float32] = (clicks + music + self._random.normal(0.0, 1e-3, 480)).astype(np.float32)
        return AudioBlock(first, end_ns, samples[:, None], 48_000)


def close_loop(
    core: PlayingPipeline, human: Human, seconds: float, room: Room | None = None, measure_memory: bool = False
) -> Course:
    """Run a loop of so many virtual seconds. Measuring the memory doubles the time it takes."""
    course = Course()
    if measure_memory:
        tracemalloc.start()
    next_frame_ns, second, count = 0, 0, 0
    for time_ns in range(0, round(seconds * NS_PER_S), _HOP_NS):
        events: list[OutputEvent] = []
        if time_ns >= next_frame_ns:
            next_frame_ns += _FRAME_NS
            events += core.push(human.pose(time_ns, 1.0))
        events += core.push(Heartbeat(time_ns) if room is None else room.block())
        human.hear([event for event in events if isinstance(event, BeatEvent)])
        notes = [event for event in events if isinstance(event, NoteEvent)]
        if room is not None:
            room.take(notes)
        count += sum(note.velocity > 0 for note in notes)
        course.problems += [e.message for e in events if isinstance(e, StatusEvent) and e.level != "info"]
        course.apart_ns = max([course.apart_ns, *_apart(core, time_ns)])
        if time_ns >= second * NS_PER_S:
            second += 1
            course.tempo_bpm.append(core.beat.timeline.tempo_bpm)
            course.human_bpm.append(human.bpm)
            course.energy.append(core.band._smooth_energy)
            course.notes.append(count)
            course.load.append(core.duo.load if core.duo is not None else 0)
            course.sounding.append(core.band.sounding)
            course.memory_kb.append(tracemalloc.get_traced_memory()[0] / 1024.0)
            count = 0
    tracemalloc.stop()
    return course


def _apart(core: PlayingPipeline, time_ns: int) -> Iterator[float]:
    """Yield by how much each virtual dancer's next beat differs in time from the band's grid of beats [ns]."""
    if core.duo is None:
        return
    band = core.band.timeline
    for dancer in core.duo.dancers:
        dance = dancer._time
        if dancer._source is None or dance._residual_ticks:
            continue  # not begun, or gliding after a change of level: late by design, for three beats
        tick = 12 * (int(dance.tick_at(time_ns) // 12) + 1)
        beat_ns = dance.time_of(tick)
        step = band.position(beat_ns)
        nearest_ns = band.time_of(4.0 * round(step / 4.0)) if band.factor <= 1.0 else band.time_of(round(step))
        period_ns = band.step_ns * 4
        off = abs(beat_ns - nearest_ns)
        # Where band and dancer fold the tempo differently, one's beat is the other's half.
        yield min(off, abs(off - period_ns / 2.0))
