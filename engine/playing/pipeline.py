"""The pure core of the other direction: a dancer before a camera plays a band, and may have virtual company.

Observations in, output events out; same observations, weights and seed: same bytes. No clock, no thread, no device.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from engine import controls
from engine.announcer import BeatAnnouncer, FrameTimes, clock_at
from engine.dancing.dancer import Dancer
from engine.ears import Ears, Heard
from engine.features import FeatureExtractor
from engine.metrics import Metrics
from engine.playing.band import Band
from engine.playing.conductor import Conductor, MovementTracker
from engine.playing.duet import Duo
from engine.playing.movement import PoseTrack
from engine.playing.triggers import Triggers
from engine.protocols import BeatTracker, Composer, Generator
from engine.scenes import find_scene
from engine.settings import ShowSettings
from engine.types import (
    NS_PER_S,
    VOICES,
    AudioBlock,
    BeatState,
    ControlEvent,
    Heartbeat,
    NoteEvent,
    Observation,
    OutputEvent,
    PoseFrame,
    PoseLandmarks,
    StatusEvent,
    TempoReference,
)

CAMERA = "camera"
_CONDUCTOR_CONTROLS = frozenset({"tap", "nudge", "tempo", "double", "half", "downbeat"})
_DUO_CONTROLS = frozenset({"hold", "style", "mirror"})
# Nobody seen for so long is worth a word; shorter is an arm before the face.
_MISSED_NS = 2 * NS_PER_S


class Retargeter(Protocol):
    """Turns landmarks into poses: `engine.seeing.retarget`. Deterministic; core thread only."""

    def process(self, landmarks: PoseLandmarks) -> PoseFrame | None:
        """Take one camera frame's landmarks; return the pose, or None if nobody is to be seen."""
        ...


class PlayingPipeline:
    """Dance -> music, one observation at a time.

    Camera frames bring poses; time moves on with heartbeats or, where there is sound, with audio. Notes are emitted
    `band.lookahead_ms` ahead of their sounding, triggered ones at once; beats `beats.lead_ms` ahead.

    Threads: one (the core thread).

    Args:
        settings: of the show.
        retargeter: from landmarks to poses.
        composer: of the music.
        tracker: of the beat in the dancer's movement; None where somebody else leads.
        sound_tracker: of the beat in the room's sound; None where somebody else leads.
        generators: of the virtual dancers: none; one, who hears the band; or two, of whom the first hears the room and
            the second the band.
        metrics: shared with whoever shows it.
    """

    def __init__(
        self,
        settings: ShowSettings,
        retargeter: Retargeter,
        composer: Composer,
        tracker: MovementTracker | None = None,
        sound_tracker: BeatTracker | None = None,
        generators: Sequence[Generator] = (),
        metrics: Metrics | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        self.duo: Duo | None = None
        if generators:
            partner = generators[1] if len(generators) > 1 else None
            dancer_report = partial(self._say, "dancer")
            self.duo = Duo(settings, generators[0], partner, FeatureExtractor(), self.metrics, dancer_report)
        self._ears: Ears | None = None
        if sound_tracker is not None or len(generators) > 1:
            self._ears = Ears(sound_tracker, FeatureExtractor(), self.metrics, self._say_of_audio)
        self._retargeter = retargeter
        self._events: list[OutputEvent] = []
        self._now_ns = 0
        band = settings.band
        self._conductor = Conductor(band.leader, band.tempo_bpm, tracker, self._say)
        self._track = PoseTrack()
        self.band = Band(composer, self._track, band, self.metrics, partial(self._say, "band"), settings.delays_ns)
        self.triggers = Triggers(settings.triggers)
        self._beats = BeatAnnouncer(settings)
        self._frames = FrameTimes(settings)
        self._refusals = controls.Refusals()
        self._seen_ns: int | None = None
        self._missed = False

    @property
    def beat(self) -> BeatState:
        """The present belief about the beat."""
        return self._conductor.state

    @property
    def lead(self) -> Dancer | None:
        """The virtual dancer; None if there is none."""
        return None if self.duo is None else self.duo.lead

    @property
    def resting(self) -> bool:
        """Whether the band waits for the dancer to move."""
        return self.band.resting

    def push(self, observation: Observation) -> list[OutputEvent]:
        """Take one observation; return the events it gives rise to, in order of emission.

        Never raises for what an observation contains: what cannot be used is counted and reported.
        """
        self._events = []
        start = time.perf_counter_ns()
        if isinstance(observation, PoseLandmarks):
            self._look(observation)
        elif isinstance(observation, PoseFrame):
            self._see(observation, observation.time_ns)
        elif isinstance(observation, AudioBlock):
            self._listen(observation)
        elif isinstance(observation, Heartbeat):
            self._advance(observation.time_ns)
        elif isinstance(observation, TempoReference):
            self._conductor.refer(observation)
        elif isinstance(observation, ControlEvent):
            self._control(observation)
        self.metrics.histogram("push").add(time.perf_counter_ns() - start)
        return self._events

    # -- seeing ---------------------------------------------------------------------------------------------------

    def _look(self, landmarks: PoseLandmarks) -> None:
        """Make a pose of what the camera saw."""
        if not landmarks.finite:
            self.metrics.count("poses_refused")
        with self.metrics.timed("retarget"):
            frame = self._retargeter.process(landmarks)
        self._see(frame, landmarks.time_ns)

    def _see(self, frame: PoseFrame | None, time_ns: int) -> None:
        """Take a pose, or that nobody was seen at `time_ns`."""
        self._now_ns = max(self._now_ns, time_ns)
        self.metrics.count("camera_frames")
        if frame is None:
            self.metrics.count("frames_without_dancer")
            self._conductor.see(None, time_ns)
            self._miss(time_ns)
            return
        if frame.performer != CAMERA:
            frame = PoseFrame(
                frame.time_ns, frame.source_ns, frame.rotations, frame.translation_m, frame.contacts, CAMERA
            )
        if not self._track.add(frame):
            self.metrics.count("poses_refused")
            return
        self._seen_ns = time_ns
        if self._missed:
            self._missed = False
            self._say(CAMERA, "info", "the dancer is back")
        with self.metrics.timed("kinematic_beats"):
            self._conductor.see(frame, time_ns)
        self._events.append(frame)
        with self.metrics.timed("triggers"):
            fired = self.triggers.see(frame, self._now_ns, self.beat.timeline)
        if fired:
            self.metrics.count("triggers", len(fired))
            self._sound(fired)

    def _miss(self, time_ns: int) -> None:
        """Say once that nobody is in view."""
        if self._seen_ns is None:
            self._seen_ns = time_ns
        if not self._missed and time_ns - self._seen_ns > _MISSED_NS:
            self._missed = True
            self._say(CAMERA, "warning", "nobody is in view; the band rests until somebody is")

    # -- time -----------------------------------------------------------------------------------------------------

    def _listen(self, block: AudioBlock) -> None:
        """Hear a block; time moves on with it."""
        if self._ears is None:
            self._advance(block.time_ns)
            return
        for heard in self._ears.hear(block):
            self._conductor.hear(heard.end_ns, heard.estimate, heard.active)
            self._advance(heard.end_ns, heard)

    def _advance(self, time_ns: int, heard: Heard | None = None) -> None:
        """Run everything that follows from time having come to `time_ns`."""
        now_ns = self._now_ns = max(self._now_ns, time_ns)
        beat = self._conductor.advance(now_ns)
        self._events += self._beats.announce(now_ns, beat)
        source_ns = self._track.newest_ns
        with self.metrics.timed("band"):
            notes = self.band.advance(now_ns, now_ns if source_ns is None else source_ns, beat, self._conductor.playing)
        self._events += notes
        if self.duo is not None:
            if heard is not None:
                self.duo.hear_room(heard, beat)
            self.duo.hear_band(notes, now_ns, beat)
        for frame_ns in self._frames.due(now_ns):
            self._events.append(clock_at(frame_ns, now_ns, beat))
            if self.duo is not None:
                self._events += self.duo.frames(frame_ns, now_ns)

    def _sound(self, notes: list[NoteEvent]) -> None:
        """Emit notes that the band did not decide in `_advance`, so that a partner hears them too."""
        self._events += notes
        if self.duo is not None:
            self.duo.overhear(notes)

    # -- controls -------------------------------------------------------------------------------------------------

    def _control(self, event: ControlEvent) -> None:
        """Carry out a control and echo what took effect."""
        try:
            value = controls.coerce(event.name, event.value)
            if event.name in _CONDUCTOR_CONTROLS:
                self._conductor.control(ControlEvent(event.time_ns, event.name, value))
            else:
                value = self._control_players(event.name, value, max(self._now_ns, event.time_ns))
        except ValueError as error:
            self.metrics.count("controls_refused")
            if self._refusals.is_news(str(error), event.time_ns):
                self._events.append(StatusEvent(event.time_ns, "controls", "warning", str(error)))
            return
        self._events.append(ControlEvent(event.time_ns, event.name, value))

    def _control_players(self, name: str, value: controls.ControlValue, now_ns: int) -> controls.ControlValue:
        """Carry out a control of the band, the triggers or the duo; return the value that took effect."""
        band = self.band
        if name in _DUO_CONTROLS and self.duo is None:
            raise ValueError(f"control '{name}' is a virtual dancer's; there is none in this show")
        if name == "panic":
            self._sound(band.panic(now_ns))
        elif name == "key" and value is not None:
            value = band.set_key(value if isinstance(value, str) else str(int(value)))
        elif name == "density" and isinstance(value, float):
            band.density = value
        elif name == "energy" and isinstance(value, float):
            band.energy = value
        elif name == "register" and isinstance(value, float):
            value = band.set_octaves(value)
        elif name.startswith("mute_"):
            self._sound(band.mute(name.removeprefix("mute_"), value == 1.0, now_ns))
        elif name == "triggers" and value is not None:
            value = self.triggers.set_mode(value)
        elif name == "scene" and value is not None:
            value = self._set_scene(value, now_ns)
        if self.duo is not None:
            value, echoes = self.duo.control(name, value, now_ns)
            self._events += echoes
        return value

    def _set_scene(self, wished: float | str, now_ns: int) -> str:
        """Take over what a scene sets of the band and the triggers, and echo it; return its name."""
        name, scene = find_scene(self.settings.scenes, wished)
        changes: list[tuple[str, controls.ControlValue]] = []
        if scene.key is not None:
            changes.append(("key", scene.key))
        if scene.density is not None:
            changes.append(("density", scene.density))
        if scene.mutes is not None:
            changes += [(f"mute_{voice}", float(voice in scene.mutes)) for voice in VOICES]
        if scene.triggers is not None:
            changes.append(("triggers", scene.triggers))
        if scene.energy is not None:
            self.band.energy = scene.energy
            if self.duo is None:  # else it echoes that itself
                self._events.append(ControlEvent(now_ns, "energy", scene.energy))
        for control, value in changes:
            self._events.append(ControlEvent(now_ns, control, self._control_players(control, value, now_ns)))
        return name

    def report_model(self, level: str, message: str) -> None:
        """Say something about the model, from within a step."""
        self._say("model", level, message)

    def _say_of_audio(self, message: str, time_ns: int) -> None:
        self._events.append(StatusEvent(time_ns, "audio", "error", message))

    def _say(self, component: str, level: str, message: str) -> None:
        self._events.append(StatusEvent(self._now_ns, component, level, message))
