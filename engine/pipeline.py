"""The pure core: observations in, output events out. Same observations, weights and seed: same bytes.

No clock, no thread, no device, no random state that is not seeded. Live, replay, rendering, tests and benchmarks all
run this code; they differ in where observations come from and where events go.
"""

from __future__ import annotations

import time

from engine import controls
from engine.announcer import BeatAnnouncer, FrameTimes, clock_at
from engine.beats.follower import BeatFollower
from engine.crowds.process import Hop, Troupe, Wish
from engine.dancing.dancer import Dancer
from engine.dancing.guards import PoseGuard
from engine.ears import Ears, Heard
from engine.features import FeatureExtractor
from engine.metrics import Metrics
from engine.protocols import BeatTracker, Generator
from engine.scenes import find_scene
from engine.settings import ShowSettings
from engine.types import (
    AudioBlock,
    BeatState,
    ControlEvent,
    Observation,
    OutputEvent,
    StatusEvent,
)

_FOLLOWER_CONTROLS = frozenset({"tap", "nudge", "tempo", "double", "half", "downbeat"})


class Pipeline:
    """Music -> dance, one observation at a time.

    Poses are emitted `output.lookahead_ms` ahead of what has been heard, and earlier by the delays before and after us,
    on a fixed grid of presentation times; beats are announced `beats.lead_ms` ahead of sounding.

    Threads: one (the core thread).
    """

    def __init__(
        self,
        settings: ShowSettings,
        tracker: BeatTracker,
        generator: Generator,
        extractor: FeatureExtractor,
        metrics: Metrics | None = None,
        troupe: Troupe | None = None,
    ) -> None:
        self.settings = settings
        self._troupe = troupe
        self.metrics = metrics or Metrics()
        self._ears = Ears(tracker, extractor, self.metrics, self._report_audio)
        self._follower = BeatFollower()
        self._events: list[OutputEvent] = []
        self._now_ns = 0
        guard = PoseGuard(stage_radius_m=settings.dancer.stage_radius_m)
        self.dancer = Dancer(generator, guard, extractor.spec, settings.dancer, self.metrics, self._report_dancer)
        self._beat: BeatState | None = None
        self._refusals = controls.Refusals()
        self._beats = BeatAnnouncer(settings)
        self._frames = FrameTimes(settings)
        self._vision_ns = round(settings.output.vision_lead_ms * 1e6)

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
            for heard in self._ears.hear(observation):
                self._follow(heard)
            self.metrics.histogram("push").add(time.perf_counter_ns() - start)
        elif isinstance(observation, ControlEvent):
            self._control(observation)
        return self._events

    def _follow(self, heard: Heard) -> None:
        """Run everything that follows from one hop of 10 ms."""
        end_ns = self._now_ns = heard.end_ns
        self._beat = beat = self._follower.update(end_ns, heard.estimate, heard.active)
        self.dancer.update(end_ns, beat, heard.row, heard.active)
        self._events += self._beats.announce(end_ns, beat)
        self._emit_frames(end_ns, beat)
        if self._troupe is not None:
            self._events += self._troupe.hear(Hop(end_ns, beat, heard.row, heard.active))

    def _emit_frames(self, now_ns: int, beat: BeatState) -> None:
        """Emit the poses whose presentation time has come into the look-ahead."""
        for time_ns in self._frames.due(now_ns):
            self._events.append(clock_at(time_ns, now_ns, beat))
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
            if self._refusals.is_news(str(error), event.time_ns):
                self._report("controls", "warning", str(error), event.time_ns)
            return
        self._echo(event.time_ns, event.name, value)

    def _echo(self, time_ns: int, name: str, value: controls.ControlValue) -> None:
        """Say what took effect, to the crowd too."""
        if self._troupe is not None:
            self._troupe.wish(Wish(name, value))
        self._events.append(ControlEvent(time_ns, name, value))

    def _control_dancer(self, name: str, value: controls.ControlValue) -> controls.ControlValue:
        """Carry out one of the dancer's controls; return the value that took effect."""
        dancer = self.dancer
        if name in controls.BAND_CONTROLS:
            raise ValueError(f"control '{name}' is a band's; there is none in this show")
        if name == "panic":
            if dancer.held:
                self._echo(self._now_ns, "hold", 0.0)
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
        name, scene = find_scene(self.settings.scenes, wished)
        self.dancer.apply_scene(scene)
        for control, value in (
            ("style", self.dancer.style),
            ("energy", self.dancer.energy),
            ("mirror", float(self.dancer.mirror)),
        ):
            self._echo(self._now_ns, control, value)
        return name

    def report_model(self, level: str, message: str) -> None:
        """Say something about the model, from within a step."""
        self._report("model", level, message, self._now_ns)

    def _report_audio(self, message: str, time_ns: int) -> None:
        self._report("audio", "error", message, time_ns)

    def _report_dancer(self, level: str, message: str) -> None:
        self._report("dancer", level, message, self._now_ns)

    def _report(self, component: str, level: str, message: str, time_ns: int) -> None:
        self._events.append(StatusEvent(time_ns, component, level, message))
