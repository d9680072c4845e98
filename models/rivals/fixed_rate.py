"""The fixed-frame-rate variant of our own model: the same network and training, 25 frames a second for ticks.

What a row of the data is, is all that differs: a frame of 1/25 s in place of a tick of 1/12 beat. Nothing tells the
model where the beat is but the music it hears, as with the models of the field. In the terms of the rest of the code a
frame is a tick of a metronome at 125 beats a minute, so that training, export and the generator are the same code.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.types import TICKS_PER_BEAT, MotionRequest
from models.evaluation.facts import SystemFacts
from models.motion.representation import CONTACTS, motion_from_ticks, ticks_from_motion
from models.motion.resampling import resample_motion
from models.music_to_dance.dances import DanceData
from models.music_to_dance.generator import OnnxGenerator
from models.music_to_dance.sequences import DanceClip
from models.rivals.gmd_dancer import Sampling, ticks_of
from models.rivals.song import COURSES, Dance, Song

FRAME_RATE_HZ = 25.0
"""Of the capture: no motion is invented, none is lost."""
METRONOME_BPM = FRAME_RATE_HZ * 60.0 / TICKS_PER_BEAT
"""At this tempo a tick is a frame."""


def dances_in_seconds(dances: DanceData) -> DanceData:
    """Return all dances at 25 frames a second; see `in_seconds`."""
    return DanceData(*(tuple(map(in_seconds, split)) for split in (dances.train, dances.val, dances.test)))


def in_seconds(clip: DanceClip, rate_hz: float = FRAME_RATE_HZ) -> DanceClip:
    """Return a dance, and its music, at so many frames a second of its own time; beat and bar are not told."""
    tick_s = np.concatenate([[0.0], np.cumsum(60.0 / TICKS_PER_BEAT / clip.tempo_bpm[:-1])])
    frames_s = np.arange(0.0, tick_s[-1], 1.0 / rate_hz)
    at = np.interp(frames_s, tick_s, np.arange(len(tick_s)))
    rotations, translation = resample_motion(*motion_from_ticks(clip.ticks), 1.0, at)
    contacts = np.stack([np.interp(at, np.arange(len(tick_s)), c) for c in clip.ticks[:, CONTACTS].T], axis=1)
    return replace(
        clip,
        ticks=ticks_from_motion(rotations, translation, contacts),
        music=None if clip.music is None else music_in_seconds(clip.music, tick_s, frames_s),
        tempo_bpm=np.full(len(frames_s), rate_hz * 60.0 / TICKS_PER_BEAT),
        first_tick=0,
        beats_per_bar=None,
        bar_tick=None,
    )


def music_in_seconds(
    music: NDArray[np.float32], tick_s: NDArray[np.float64], frames_s: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the music (n, F) of frames at (n,): that of the newest tick that has ended, never a later one."""
    return music[np.maximum(np.searchsorted(tick_s, frames_s + 1e-9, side="right") - 1, 0)]


class FixedRateGmd:
    """The variant as a system.

    Args:
        folder: exported from a run on `dances_in_seconds`.
        sampling: how it is asked.
    """

    seeded, endless, courses = True, True, COURSES

    def __init__(self, folder: Path, sampling: Sampling | None = None) -> None:
        self._sampling = sampling or Sampling()
        self._generator = OnnxGenerator(folder)
        self.name = f"{self._generator.manifest.name} at {FRAME_RATE_HZ:g} frames a second"
        self.key = "seconds-" + self._sampling.key(self._generator.manifest)
        manifest = self._generator.manifest
        chunk, ahead = manifest.chunk_ticks, manifest.lookahead_ticks
        self.facts = SystemFacts(
            parameters=manifest.parameters,
            lookahead=f"none: {chunk} frames of 1/{FRAME_RATE_HZ:g} s at a time, asked for {ahead} frames before",
        )

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the whole dance."""
        generator, info = self._generator, self._generator.info
        generator.reset(seed)
        tick_s = song.tick_s
        frames_s = np.arange(0.0, tick_s[-1], 1.0 / FRAME_RATE_HZ)
        chunk, look = info.chunk_ticks, info.lookahead_ticks
        music = music_in_seconds(song.music, tick_s, frames_s)
        music = np.concatenate([np.full((chunk + look, music.shape[1]), np.nan, np.float32), music])
        chunks = []
        for frame in range(0, len(frames_s) // chunk * chunk, chunk):
            request = MotionRequest(
                first_tick=frame,
                music=music[frame + 1 : frame + 1 + chunk],
                tempo_bpm=METRONOME_BPM,
                beats_per_bar=None,
                bar_tick=0,
                style=song.style_name,
                energy=self._sampling.energy,
            )
            chunks.append(ticks_of(generator.step(request)))
        return Dance.of_ticks(np.concatenate(chunks), frames_s, song.beats_s)
