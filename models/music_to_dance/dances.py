"""From prepared clips to the dances the music -> dance model learns from: bars, mirroring, half speed.

Which beat is a bar's first is not known from the data, but dancers know it: a waltz step lands heavily on the one. The
bars of a style's clips are therefore laid over each other where their movement agrees best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, zoom

from engine.body.skeleton import forward_kinematics
from engine.types import TICKS_PER_BEAT
from models.data.dataset import PreparedClip
from models.motion.representation import (
    DISPLACEMENT,
    HEADING,
    HEIGHT,
    MotionRepresentation,
    motion_from_ticks,
    ticks_from_motion,
)
from models.motion.resampling import resample_motion
from models.music_to_dance.conditioning import STYLES
from models.music_to_dance.phrases import PhraseSpace
from models.music_to_dance.sequences import OTHER_STYLE, DanceClip, SequenceSampler, SequenceSettings

_ALIGNMENT_ROUNDS = 6
_PHRASE_WINDOW_TICKS = 96
_HALF_SPEED_WEIGHT = 0.2
"""A slowed dance glides; drawn as often as the others it becomes a pose that every style ends in (seen)."""


@dataclass(frozen=True)
class DanceData:
    """Dances by split, bars aligned; not mirrored."""

    train: tuple[DanceClip, ...]
    val: tuple[DanceClip, ...]
    test: tuple[DanceClip, ...]


def load_dances(clips: Sequence[PreparedClip]) -> DanceData:
    """Convert prepared clips. A clip that is too fast for a human is danced at half speed (two beats for one)."""
    dances = [(c.split, _dance(c) if c.plausible else _half_speed(c)) for c in clips]
    bars = align_bars([dance for _, dance in dances])
    placed = [
        (split, replace(d, bar_tick=None if d.style == OTHER_STYLE else bar))
        for (split, d), bar in zip(dances, bars, strict=True)
    ]
    return DanceData(*(tuple(d for s, d in placed if s == split) for split in ("train", "val", "test")))


def _dance(clip: PreparedClip) -> DanceClip:
    return DanceClip(
        name=clip.name,
        ticks=ticks_from_motion(clip.rotations, clip.translation_m, clip.contacts),
        music=clip.features if clip.has_audio else None,
        tempo_bpm=np.asarray(clip.tempo_bpm, np.float64),
        first_tick=clip.first_tick,
        beats_per_bar=clip.beats_per_bar,
        bar_tick=None,
        style=STYLES.index(clip.style) if clip.style in STYLES else OTHER_STYLE,
    )


def _half_speed(clip: PreparedClip) -> DanceClip:
    """Stretch the motion to twice as many ticks, over the same music played twice."""
    times = np.arange(2 * clip.ticks - 1) / 2.0
    rotations, translation = resample_motion(clip.rotations, clip.translation_m, 1.0, times)
    contacts = zoom(clip.contacts, (len(times) / clip.ticks, 1), order=1, grid_mode=False)
    bar = TICKS_PER_BEAT * clip.beats_per_bar
    whole = clip.ticks // bar * bar
    # Motion tick 2 k lies where k was: row n is tick 2 first + n. The music, whose row j is tick first + j, is only
    # moved by whole bars.
    rows = (clip.first_tick + np.arange(len(times))) % whole
    return replace(
        _dance(clip),
        ticks=ticks_from_motion(rotations, translation, contacts),
        music=clip.features[rows] if clip.has_audio else None,
        tempo_bpm=np.asarray(clip.tempo_bpm, np.float64)[rows],
        first_tick=2 * clip.first_tick,
        weight=_HALF_SPEED_WEIGHT,
    )


def align_bars(clips: Sequence[DanceClip]) -> list[int]:
    """Return, per clip, the tick of a bar's start, such that the bars of a style agree in movement.

    Each clip's movement is averaged over the bar; beat offsets are then changed one clip at a time towards the mean of
    the others. The bar begins on the beat with the most foot movement and travel.
    """
    bars = [0] * len(clips)
    for style in range(len(STYLES)):
        members = [i for i, c in enumerate(clips) if c.style == style]
        if not members:
            continue
        beats = clips[members[0]].beats_per_bar or 4
        templates = [_bar_template(clips[i], beats) for i in members]
        offsets = [0] * len(members)
        for _ in range(_ALIGNMENT_ROUNDS):
            for k, template in enumerate(templates):
                others = [np.roll(t, -TICKS_PER_BEAT * o, axis=0) for t, o in zip(templates, offsets, strict=True)]
                target = sum(others[:k] + others[k + 1 :], np.zeros_like(template))
                scores = [float((np.roll(template, -TICKS_PER_BEAT * o, axis=0) * target).sum()) for o in range(beats)]
                offsets[k] = int(np.argmax(scores))
        aligned = [np.roll(t, -TICKS_PER_BEAT * o, axis=0) for t, o in zip(templates, offsets, strict=True)]
        movement = np.mean(aligned, axis=0)[:, :2].sum(axis=1).reshape(beats, TICKS_PER_BEAT).mean(axis=1)
        first = int(np.argmax(movement))
        for i, offset in zip(members, offsets, strict=True):
            bars[i] = TICKS_PER_BEAT * ((offset + first) % beats)
    return bars


def _bar_template(clip: DanceClip, beats: int) -> NDArray[np.float64]:
    """Return the mean over bars (12 x beats, 5) of foot speed, travel, root height, hand height and turning."""
    positions, _ = forward_kinematics(*motion_from_ticks(clip.ticks))
    feet = np.linalg.norm(np.gradient(positions[:, [7, 8, 10, 11]], axis=0), axis=-1).mean(axis=1)
    travel = np.linalg.norm(clip.ticks[:, DISPLACEMENT], axis=1)
    hands = positions[:, [20, 21], 1].mean(axis=1)
    signals = np.stack([feet, travel, clip.ticks[:, HEIGHT], hands, np.abs(clip.ticks[:, HEADING])], axis=1)
    signals = signals - gaussian_filter1d(signals, 3.0 * TICKS_PER_BEAT, axis=0)
    signals /= np.maximum(signals.std(axis=0), 1e-9)
    position = (clip.first_tick + np.arange(len(signals))) % (TICKS_PER_BEAT * beats)
    rows = [signals[position == k] for k in range(TICKS_PER_BEAT * beats)]
    # A dance shorter than a bar says nothing of what it does not reach.
    return np.stack([row.mean(axis=0) if len(row) else np.zeros(signals.shape[1]) for row in rows])


def training_sampler(
    dances: DanceData, settings: SequenceSettings, chunk_ticks: int, latent_size: int
) -> SequenceSampler:
    """Fit normalisation, representation and phrases to the training dances, mirrored too; return their sampler."""
    heard = np.concatenate([d.music for d in dances.train if d.music is not None])
    clips = [*dances.train, *(dance.mirrored() for dance in dances.train)]
    motions = [clip.ticks for clip in clips]
    return SequenceSampler(
        clips,
        MotionRepresentation.fit(motions, chunk_ticks, latent_size),
        PhraseSpace.fit(motions, _PHRASE_WINDOW_TICKS),
        heard.mean(axis=0, dtype=np.float64).astype(np.float32),
        (1.0 / np.maximum(heard.std(axis=0, dtype=np.float64), 1e-3)).astype(np.float32),
        settings,
    )
