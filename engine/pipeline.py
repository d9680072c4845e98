"""The pure core: observations in, output events out. Same observations, weights and seed: same bytes.

No clock, no thread, no device, no random state that is not seeded. Live, replay, rendering, tests and benchmarks all
run this code; they differ in where observations come from and where events go.
"""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from engine import controls
from engine.audio.resample import Hop, HopStream
from engine.beats.follower import BeatFollower
from engine.dancer import Dancer
from engine.features import HOP_NS, FeatureExtractor
from engine.guards import PoseGuard
from engine.metrics import Metrics
from engine.protocols import BeatTracker, Generator
from engine.settings import ShowSettings
from engine.types import (
    NS_PER_S,
    AudioBlock,
    BeatEvent,
    BeatState,
    ClockEvent,
    ControlEvent,
    Observation,
    OutputEvent,
    StatusEvent,
)

_FOLLOWER_CONTROLS = frozenset({"tap", "nudge", "tempo", "double", "half", "downbeat"})


class Pipeline:
    """Music -> dance, one observation at a time.

    Poses are emitted `output.lookahead_ms` ahead of what has been heard, on a fixed grid of presentation times;
    beats are announced `beats.lead_ms` ahead of sounding.

    Threads: one (the core thread).
    """

    def __init__(
        self,
        settings: ShowSettings,
        tracker: BeatTracker,
        generator: Generator,
        extractor: FeatureExtractor,
        metrics: Metrics | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        self._tracker = tracker
        self._extractor = extractor
        self._follower = BeatFollower()
        self._hops = HopStream()
        self._events: list[OutputEvent] = []
        self._now_ns = 0
        guard = PoseGuard(stage_radius_m=settings.dancer.stage_radius_m)
        self.dancer = Dancer(generator, guard, extractor.spec, settings.dancer, self.metrics, self._report_dancer)
        self._beat: BeatState | None = None
        self._next_beat: int | None = None
        self._next_frame: int | None = None
        output = settings.output
        self._frame_ns = NS_PER_S / output.fps
        self._lookahead_ns = round(output.lookahead_ms * 1e6)
        self._vision_ns = round(output.vision_lead_ms * 1e6)

    @property
    def beat(self) -> BeatState | None:
        """The present belief about the beat; None before the first hop."""
        return self._beat

    def push(self, observation: Observation) -> list[OutputEvent]:
        """Take one observation; return the events it gives rise to, in order of emission.

        Never raises for what an observation contains: what cannot be used is counted and reported.
        """
        self._events = []
        if isinstance(observation, AudioBlock):
            start = time.perf_counter_ns()
            for hop in self._hear_block(observation):
                if hop.restarted:
                    self._extractor.reset()
                    self._tracker.reset()
                self._hear(hop.samples, hop.end_ns)
            self.metrics.histogram("push").add(time.perf_counter_ns() - start)
        elif isinstance(observation, ControlEvent):
            self._control(observation)
        return self._events

    def _hear_block(self, block: AudioBlock) -> list[Hop]:
        """Return the hops that a block completes."""
        try:
            return self._hops.push(block)
        except ValueError as error:
            self.metrics.count("blocks_refused")
            if self.metrics.counter("blocks_refused") == 1:
                self._report("audio", "error", str(error), block.time_ns)
            return []

    def _hear(self, hop: NDArray[np.float32], end_ns: int) -> None:
        """Run everything that follows from one hop of 10 ms."""
        metrics = self.metrics
        self._now_ns = end_ns
        with metrics.timed("features"):
            row = self._extractor.process(hop)
        with metrics.timed("beats"):
            estimate = self._tracker.process(hop, end_ns)
            self._beat = beat = self._follower.update(end_ns, estimate, self._extractor.active)
        self.dancer.update(end_ns, beat, row, self._extractor.active)
        self._announce_beats(end_ns, beat)
        self._emit_frames(end_ns, beat)

    def _announce_beats(self, now_ns: int, beat: BeatState) -> None:
        """Emit the beats that sound within the lead (or, if the lead is short, within the look-ahead)."""
        until_ns = now_ns + max(self._lookahead_ns, round(self.settings.beats.lead_ms * 1e6))
        newest = math.floor(beat.timeline.beat_at(until_ns))
        if self._next_beat is None:
            self._next_beat = newest + 1
        while self._next_beat <= newest:
            index = self._next_beat
            self._next_beat += 1
            if beat.confidence >= self.settings.beats.min_confidence:
                self._events.append(
                    BeatEvent(
                        time_ns=beat.timeline.time_of(index),
                        source_ns=now_ns,
                        beat_index=index,
                        bar_beat=beat.bar_beat(index),
                        tempo_bpm=beat.timeline.tempo_bpm,
                        confidence=beat.confidence,
                    )
                )

    def _emit_frames(self, now_ns: int, beat: BeatState) -> None:
        """Emit the poses whose presentation time has come into the look-ahead."""
        until_ns = now_ns + self._lookahead_ns
        if self._next_frame is None or until_ns - self._next_frame * self._frame_ns > NS_PER_S:
            # The start, or the audio leapt by a second: frames that nobody will see are not made.
            self._next_frame = math.ceil((now_ns - HOP_NS) / self._frame_ns)
        while self._next_frame * self._frame_ns <= until_ns:
            time_ns = round(self._next_frame * self._frame_ns)
            self._next_frame += 1
            position = beat.timeline.beat_at(time_ns)
            self._events.append(
                ClockEvent(time_ns, now_ns, position, position % 1.0, beat.timeline.tempo_bpm, beat.confidence)
            )
            with self.metrics.timed("frame"):
                self._events.append(self.dancer.frame(time_ns, now_ns, time_ns + self._vision_ns))

    # -- controls -------------------------------------------------------------------------------------------------

    def _control(self, event: ControlEvent) -> None:
        """Carry out a control and echo what took effect."""
        try:
            value = controls.coerce(event.name, event.value)
            if event.name in _FOLLOWER_CONTROLS:
                self._follower.control(ControlEvent(event.time_ns, event.name, value))
            else:
                value = self._control_dancer(event.name, value)
        except ValueError as error:
            self.metrics.count("controls_refused")
            self._report("controls", "warning", str(error), event.time_ns)
            return
        self._events.append(ControlEvent(event.time_ns, event.name, value))

    def _control_dancer(self, name: str, value: controls.ControlValue) -> controls.ControlValue:
        """Carry out one of the dancer's controls; return the value that took effect."""
        dancer = self.dancer
        if name == "panic":
            dancer.panic()
        elif name == "hold":
            dancer.hold(value == 1.0)
        elif name == "style" and value is not None:
            return dancer.set_style(value)
        elif name == "energy" and isinstance(value, float):
            dancer.energy = value
        elif name == "mirror":
            dancer.set_mirror(value == 1.0)
        elif name == "scene" and value is not None:
            return self._scene(value)
        return value

    def _scene(self, wished: float | str) -> str:
        """Apply a scene by name or index; return its name."""
        scenes = self.settings.scenes
        names = list(scenes)
        if not isinstance(wished, str):
            if not 0 <= int(wished) < len(names):
                raise ValueError(f"no scene {int(wished)}; the show file has {len(names)}")
            wished = names[int(wished)]
        if wished not in scenes:
            raise ValueError(f"unknown scene '{wished}'; known: {', '.join(names) or 'none'}")
        self.dancer.apply_scene(scenes[wished])
        for name, value in (
            ("style", self.dancer.style),
            ("energy", self.dancer.energy),
            ("mirror", float(self.dancer.mirror)),
        ):
            self._events.append(ControlEvent(self._now_ns, name, value))
        return wished

    def _report_dancer(self, level: str, message: str) -> None:
        self._report("dancer", level, message, self._now_ns)

    def _report(self, component: str, level: str, message: str, time_ns: int) -> None:
        self._events.append(StatusEvent(time_ns, component, level, message))
