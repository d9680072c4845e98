"""A synthetic dancer before the camera, and small deterministic stand-ins around the band."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from engine.body.pose_features import PoseFeatureSpec
from engine.metrics import Metrics
from engine.playing.pipeline import PlayingPipeline
from engine.playing.render import with_heartbeats
from engine.protocols import Composer, Generator
from engine.settings import ShowSettings, load_show
from engine.types import (
    NS_PER_S,
    BeatEstimate,
    ComposerInfo,
    MusicRequest,
    MusicStep,
    NoteEvent,
    Observation,
    OutputEvent,
    PoseFrame,
    PoseLandmarks,
    VoiceStep,
)

Energy = Callable[[float], float]


def dance_pose(beat: float, energy: float, time_ns: int) -> PoseFrame:
    """Return a figure that goes down on every beat and swings its arms on every second."""
    down = 0.5 * (1.0 + math.cos(2.0 * math.pi * beat))
    swing = math.sin(math.pi * beat)
    rotations = np.zeros((24, 3), np.float32)
    rotations[[1, 2], 0] = -0.5 * energy * down
    rotations[[4, 5], 0] = 1.0 * energy * down
    rotations[[7, 8], 0] = -0.5 * energy * down
    rotations[16, 2], rotations[17, 2] = -1.2 + 0.9 * energy * swing, 1.2 + 0.9 * energy * swing
    rotations[18, 1], rotations[19, 1] = -0.6 * energy * down, 0.6 * energy * down
    rotations[3, 1] = 0.15 * energy * swing
    height = 0.976 - 0.1 * energy * down
    return PoseFrame(time_ns, time_ns, rotations, np.array([0.0, height, 0.0], np.float32), np.ones(4), "camera")


def dance(
    seconds: float, bpm: float = 120.0, fps: float = 30.0, energy: Energy | float = 1.0, start_s: float = 0.0
) -> Iterator[PoseFrame]:
    """Yield camera frames of the figure; `energy` (a number, or a function of the time [s]) 0 stands still."""
    for index in range(round(seconds * fps)):
        time_s = start_s + index / fps
        share = energy(time_s) if callable(energy) else energy
        yield dance_pose(time_s * bpm / 60.0, share, round(time_s * NS_PER_S))


class SteadyMovement:
    """A movement tracker that believes in one tempo from the start of the session on."""

    def __init__(self, bpm: float = 120.0, beats_per_bar: int | None = 4) -> None:
        self.period_ns = round(60 * NS_PER_S / bpm)
        self.beats_per_bar = beats_per_bar

    def process(self, frame: PoseFrame) -> BeatEstimate | None:
        beat_ns = frame.time_ns // self.period_ns * self.period_ns
        return BeatEstimate(beat_ns, self.period_ns, 0.9, self.beats_per_bar, 0 if self.beats_per_bar else None)

    def reset(self) -> None: ...


class Nobody:
    """A retargeter that sees nobody."""

    def process(self, landmarks: PoseLandmarks) -> PoseFrame | None:
        return None


class Metronome:
    """A composer that strikes kick and hat on each beat, holds a chord for a bar, and fails on demand."""

    def __init__(self) -> None:
        spec = PoseFeatureSpec()
        self.info = ComposerInfo("metronome", 3, spec.digest, spec.size)
        self.requests: list[MusicRequest] = []
        self.seeds: list[int] = []
        self.fail: Exception | None = None
        self.poison: MusicStep | None = None

    def reset(self, seed: int) -> None:
        self.seeds.append(seed)

    def step(self, request: MusicRequest) -> MusicStep:
        if self.fail is not None:
            raise self.fail
        if self.poison is not None:
            return self.poison
        self.requests.append(request)
        drums = np.zeros(9, np.float32)
        since = request.step - request.bar_step
        drums[0] = drums[2] = 0.8 if since % 4 == 0 else 0.0
        chord = VoiceStep((61, 64, 68), 0.7) if since % 16 == 0 else VoiceStep(hold=True)
        bass = VoiceStep((40,), 0.8) if since % 8 == 0 else VoiceStep(hold=since % 8 < 4)
        lead = VoiceStep((72 + since % 5,), 0.6) if since % 2 == 0 else VoiceStep()
        return MusicStep(drums, bass, chord, lead)


def make_playing(
    composer: Composer | None = None,
    *settings: str,
    bpm: float = 120.0,
    beats_per_bar: int | None = 4,
    generators: Iterable[Generator] = (),
) -> PlayingPipeline:
    """Return a core around the stand-ins."""
    show: ShowSettings = load_show(None, settings)
    tracker = SteadyMovement(bpm, beats_per_bar) if show.band.leader == "dancer" else None
    return PlayingPipeline(
        show, Nobody(), composer or Metronome(), tracker, generators=tuple(generators), metrics=Metrics()
    )


def run(core: PlayingPipeline, observations: Iterable[Observation], pulse: bool = True) -> list[OutputEvent]:
    """Push observations, with heartbeats between them, and return everything emitted."""
    events: list[OutputEvent] = []
    for observation in with_heartbeats(observations) if pulse else observations:
        events += core.push(observation)
    return events


def notes_of(events: Iterable[OutputEvent]) -> list[NoteEvent]:
    """Return the notes among events, ends included."""
    return [event for event in events if isinstance(event, NoteEvent)]


def begun(events: Iterable[OutputEvent]) -> list[NoteEvent]:
    """Return the notes that begin."""
    return [note for note in notes_of(events) if note.velocity > 0]


def hanging(events: Iterable[OutputEvent]) -> set[tuple[int, int]]:
    """Return the (channel, pitch) of pitched notes that were begun and never ended."""
    sounding: set[tuple[int, int]] = set()
    for note in sorted(notes_of(events), key=lambda n: (n.time_ns, n.velocity > 0)):
        if note.channel == 9:
            continue
        (sounding.add if note.velocity > 0 else sounding.discard)((note.channel, note.pitch))
    return sounding
