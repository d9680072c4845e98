"""Our own model as a system: as the network gives it, and as the audience sees it.

Both run the exported model (`models.music_to_dance.generator`). The song's beat is given to them: what is measured is
the dancer, not the beat tracker.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.body.skeleton import axis_angle_to_matrix, matrix_to_six_d
from engine.dancing.dancer import Dancer
from engine.dancing.guards import PoseGuard
from engine.features import HOP_SAMPLES, SAMPLE_RATE_HZ, FeatureSpec
from engine.metrics import Metrics
from engine.protocols import Generator
from engine.settings import DancerSettings
from engine.types import NS_PER_S, TICKS_PER_BEAT, BeatState, BeatTimeline, MotionChunk, MotionRequest, PoseFrame
from models.artifacts import GMD_FOLDER, GmdManifest, files_key
from models.evaluation.facts import SystemFacts
from models.motion.representation import CONTACTS, DISPLACEMENT, HEADING, HEIGHT, ROTATIONS, TICK_SIZE
from models.music_to_dance.generator import OnnxGenerator
from models.rivals.song import COURSES, RATE_HZ, Dance, Song

_HOP_NS = HOP_SAMPLES * NS_PER_S // SAMPLE_RATE_HZ
_LOOKAHEAD_NS = 60_000_000
"""As the show's default (`output.lookahead_ms`)."""


@dataclass(frozen=True)
class Sampling:
    """How a trained model is asked to dance.

    Attributes:
        energy: wished, 0 to 1.
    """

    energy: float = 0.5

    def key(self, manifest: GmdManifest) -> str:
        """Return what a model's dances depend on: its files, how it samples, what it is asked for."""
        how = (manifest.temperature, manifest.history_noise, manifest.energy_middle, self.energy)
        return f"{files_key(manifest.files)}-" + "-".join(f"{value:g}" for value in how)


class GmdDancer:
    """The model's motion, tick by tick, played as it is.

    Args:
        folder: of the exported model.
        sampling: how it is asked.
    """

    seeded, endless, courses = True, True, COURSES

    def __init__(self, folder: Path = GMD_FOLDER, sampling: Sampling | None = None) -> None:
        self._sampling = sampling or Sampling()
        self._generator = OnnxGenerator(folder)
        self.name = f"{self._generator.manifest.name} raw"
        self.key = self._sampling.key(self._generator.manifest)
        self.facts = model_facts(self._generator.manifest)

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the whole dance."""
        generator, info = self._generator, self._generator.info
        generator.reset(seed)
        chunk, look = info.chunk_ticks, info.lookahead_ticks
        # Before the music begins nothing was heard: rows that are not finite count as average music.
        music = np.concatenate([np.full((chunk + look, song.music.shape[1]), np.nan, np.float32), song.music])
        chunks = []
        for tick in range(0, len(song.music) // chunk * chunk, chunk):
            request = MotionRequest(
                first_tick=tick,
                # Row 0 of the padded music is tick -(chunk + look); the newest is that of tick - look.
                music=music[tick + 1 : tick + 1 + chunk],
                tempo_bpm=float(song.tempo_bpm[tick]),
                beats_per_bar=song.beats_per_bar,
                bar_tick=song.bar_tick,
                style=song.style_name,
                energy=self._sampling.energy,
            )
            chunks.append(ticks_of(generator.step(request)))
        return Dance.of_ticks(np.concatenate(chunks), song.tick_s, song.beats_s)


class ShownDancer:
    """A generator as the audience sees it: through the engine's dancer, with phase servo, steering, guards and foot
    lock.

    Args:
        generator: that dances.
        name: in the table.
        key: changes when its dances do.
        facts: of the system.
        energy: that it is asked for.
    """

    seeded, endless, courses = True, True, COURSES

    def __init__(self, generator: Generator, name: str, key: str, facts: SystemFacts, energy: float = 0.5) -> None:
        self._generator, self._energy = generator, energy
        self.name, self.key, self.facts = name, key, facts

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the whole dance."""
        settings = DancerSettings(style=song.style_name or "auto", seed=seed, energy=self._energy)
        dancer = Dancer(
            self._generator,
            PoseGuard(settings.stage_radius_m),
            FeatureSpec(),
            settings,
            Metrics(),
            lambda level, message: None,
        )
        tick_s = song.tick_s
        frames: list[PoseFrame] = []
        frame_ns = NS_PER_S / RATE_HZ
        hops = int(tick_s[-2] * NS_PER_S) // _HOP_NS
        for hop in range(1, hops + 1):
            now_ns = hop * _HOP_NS
            tick = float(np.interp(now_ns / NS_PER_S, tick_s, np.arange(len(tick_s))))
            timeline = BeatTimeline(float(song.tempo_bpm[int(tick)]), tick / TICKS_PER_BEAT, now_ns)
            state = BeatState(timeline, 1.0, song.beats_per_bar, song.bar_tick // TICKS_PER_BEAT)
            # The hop belongs to the tick it comes before; pooling equal rows gives the tick's own row back.
            dancer.update(now_ns, state, song.music[min(int(np.ceil(tick)), len(song.music) - 1)], True)
            # Half a frame in: the dance begins at tick 0, and what is before it cannot be shown.
            while (len(frames) + 0.5) * frame_ns <= now_ns + _LOOKAHEAD_NS:
                time_ns = round((len(frames) + 0.5) * frame_ns)
                frames.append(dancer.frame(time_ns, now_ns, time_ns))
        return Dance(
            np.array([f.time_ns - round(0.5 * frame_ns) for f in frames]) / NS_PER_S,
            np.stack([f.rotations for f in frames]).astype(np.float64),
            np.stack([f.translation_m for f in frames]).astype(np.float64),
            np.stack([f.contacts for f in frames]).astype(np.float64),
            song.beats_s - 0.5 / RATE_HZ,
        )


class ShownGmd(ShownDancer):
    """Our own model as the audience sees it.

    Args:
        folder: of the exported model.
        sampling: how it is asked.
    """

    def __init__(self, folder: Path = GMD_FOLDER, sampling: Sampling | None = None) -> None:
        sampling, generator = sampling or Sampling(), OnnxGenerator(folder)
        manifest = generator.manifest
        name = f"{manifest.name} as shown"
        super().__init__(generator, name, sampling.key(manifest), model_facts(manifest), sampling.energy)


def model_facts(manifest: GmdManifest) -> SystemFacts:
    """Return what an exported model says of itself."""
    chunk, ahead = manifest.chunk_ticks, manifest.lookahead_ticks
    causal = f"none: {chunk} ticks of 1/{manifest.ticks_per_beat} beat at a time, asked for {ahead} ticks before"
    return SystemFacts(parameters=manifest.parameters, lookahead=causal)


def ticks_of(chunk: MotionChunk) -> np.ndarray:
    """Return the tick vectors (C, 152) of a chunk."""
    ticks = np.empty((len(chunk.rotations), TICK_SIZE), np.float32)
    ticks[:, ROTATIONS] = matrix_to_six_d(axis_angle_to_matrix(chunk.rotations)).reshape(len(ticks), -1)
    ticks[:, HEIGHT] = chunk.root_height_m
    ticks[:, HEADING] = chunk.heading_delta_rad
    ticks[:, DISPLACEMENT] = chunk.root_delta_m
    ticks[:, CONTACTS] = chunk.contacts
    return ticks
