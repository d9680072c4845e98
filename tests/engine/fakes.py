"""Small deterministic stand-ins for the parts around the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from engine.features import FeatureExtractor, FeatureSpec
from engine.metrics import Metrics
from engine.pipeline import Pipeline
from engine.protocols import Deliver, Report
from engine.settings import ShowSettings
from engine.types import (
    NS_PER_S,
    AudioBlock,
    BeatEstimate,
    ControlEvent,
    GeneratorInfo,
    MotionChunk,
    MotionRequest,
    OutputEvent,
)


class SteadyTracker:
    """Believes in one tempo, from the start of the session on."""

    sample_rate_hz = 48_000
    hop_samples = 480

    def __init__(self, tempo_bpm: float = 120.0, beats_per_bar: int | None = 4) -> None:
        self.period_ns = round(60 * NS_PER_S / tempo_bpm)
        self.beats_per_bar = beats_per_bar

    def process(self, hop: NDArray[np.float32], end_ns: int) -> BeatEstimate | None:
        if not hop.any():
            return None
        beat_ns = end_ns // self.period_ns * self.period_ns
        return BeatEstimate(beat_ns, self.period_ns, 0.9, self.beats_per_bar, 0 if self.beats_per_bar else None)

    def reset(self) -> None: ...


class Walker:
    """A generator that walks in a straight line and swings its arms on the beat; fails on demand."""

    def __init__(self, chunk_ticks: int = 4, lookahead_ticks: int = 4) -> None:
        self.info = GeneratorInfo(
            "walker", chunk_ticks, lookahead_ticks, FeatureSpec().digest, FeatureSpec().count, ("waltz", "chacha")
        )
        self.requests: list[MotionRequest] = []
        self.fail: Exception | None = None
        self.poison = False
        self.seed = 0

    def reset(self, seed: int) -> None:
        self.seed = seed

    def step(self, request: MotionRequest) -> MotionChunk:
        if self.fail is not None:
            raise self.fail
        self.requests.append(request)
        count = self.info.chunk_ticks
        ticks = request.first_tick + np.arange(count)
        rotations = np.zeros((count, 24, 3), np.float32)
        swing = np.sin(2.0 * np.pi * ticks / 12.0 + self.seed)
        rotations[:, 16, 2], rotations[:, 17, 2] = -1.2 + 0.3 * swing, 1.2 + 0.3 * swing
        if self.poison:
            rotations[2, 5, 1] = np.nan
        return MotionChunk(
            rotations,
            np.zeros(count),
            np.tile([0.0, 0.03], (count, 1)),
            np.full(count, 0.976),
            np.zeros((count, 4)),
        )


class Source:
    """A sensor that a test drives by hand."""

    name = "test source"

    def __init__(self) -> None:
        self.deliver: Deliver = lambda observation: None
        self.report: Report = lambda event: None
        self.stopped = False

    def start(self, deliver: Deliver, report: Report) -> None:
        self.deliver, self.report = deliver, report

    def stop(self) -> None:
        self.stopped = True


class Drain:
    """A bridge that keeps everything."""

    name = "drain"

    def __init__(self) -> None:
        self.events: list[OutputEvent] = []

    def open(self, on_control: Callable[[ControlEvent], None]) -> None: ...

    def send(self, event: OutputEvent) -> None:
        self.events.append(event)

    def close(self) -> None: ...


def make_pipeline(
    generator: Walker | None = None, tracker: SteadyTracker | None = None, settings: ShowSettings | None = None
) -> Pipeline:
    """Return a core around the stand-ins."""
    return Pipeline(
        settings or ShowSettings(), tracker or SteadyTracker(), generator or Walker(), FeatureExtractor(), Metrics()
    )


def music(seconds: float, rate: int = 48_000, seed: int = 0) -> NDArray[np.float32]:
    """Return (n, 1) samples of noise with a click on every half second."""
    count = round(seconds * rate)
    time_s = np.arange(count) / rate
    noise = np.random.default_rng(seed).normal(0.0, 0.05, count)
    clicks = np.exp(-40.0 * (time_s % 0.5)) * np.sin(2 * np.pi * 200.0 * time_s)
    return (noise + 0.5 * clicks).astype(np.float32)[:, None]


def blocks(
    samples: NDArray[np.float32], size: int = 480, rate: int = 48_000, start_ns: int = 0
) -> Iterator[AudioBlock]:
    """Cut samples into blocks in virtual time."""
    for index in range(0, len(samples), size):
        part = samples[index : index + size]
        yield AudioBlock(index, start_ns + (index + len(part)) * NS_PER_S // rate, part, rate)
