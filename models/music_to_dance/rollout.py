"""Dances of a model in training (torch, several at once), and the figures by which checkpoints are chosen.

The stage runs the exported model (`models.music_to_dance.generator`); this is the same loop over a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from engine.body.skeleton import (
    axis_angle_to_quaternion,
    contact_points,
    forward_kinematics,
    quaternion_to_axis_angle,
    slerp,
)
from engine.types import TICKS_PER_BEAT
from models import metrics
from models.motion.representation import CONTACTS, motion_from_ticks
from models.music_to_dance.conditioning import ChunkConditions, normalise_music
from models.music_to_dance.network import Gmd, GmdState
from models.music_to_dance.phrases import PhrasePlanner
from models.music_to_dance.sequences import OTHER_STYLE, DanceClip, SequenceSampler

Floats = NDArray[np.float32]

RATE_HZ = 60.0


@dataclass(frozen=True)
class Piece:
    """Music to dance to: rows per tick, and what is known of the beat."""

    music: Floats
    tempo_bpm: float
    beats_per_bar: int | None
    bar_tick: int
    style: int | None
    energy: float = 0.5


def piece_of(clip: DanceClip, beats: int) -> Piece:
    """Return the first `beats` beats of a clip's music, repeated by whole bars if it is too short."""
    if clip.music is None:
        raise ValueError(f"{clip.name}: a dance without music is no piece")
    bar = TICKS_PER_BEAT * (clip.beats_per_bar or 4)
    skip = -clip.first_tick % TICKS_PER_BEAT
    music = clip.music[skip : skip + (len(clip.music) - skip) // bar * bar]
    music = np.tile(music, (-(-beats * TICKS_PER_BEAT // len(music)), 1))[: beats * TICKS_PER_BEAT]
    bar_tick = ((clip.bar_tick or 0) - clip.first_tick - skip) % bar
    style = None if clip.style == OTHER_STYLE else clip.style
    return Piece(music, float(np.median(clip.tempo_bpm)), clip.beats_per_bar, bar_tick, style)


@torch.no_grad()
def roll_out(
    model: Gmd,
    sampler: SequenceSampler,
    pieces: Sequence[Piece],
    seeds: Sequence[int],
    history_noise: float = 0.0,
    temperature: float = 1.0,
) -> list[Floats]:
    """Dance to pieces (of one length), each with its own seed; return tick vectors (T, 152) a piece."""
    chunk, look = sampler.representation.chunk_ticks, sampler.settings.lookahead_ticks
    table, starts = sampler.table(), sampler.starts()
    randoms = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
    planners = [PhrasePlanner(table, random) for random in randoms]
    history = torch.from_numpy(np.stack([starts.draw(r, p.style) for r, p in zip(randoms, pieces, strict=True)]))
    state = GmdState.empty(model.config, len(pieces))
    musics = [normalise_music(p.music, sampler.music_mean, sampler.music_scale) for p in pieces]
    # Before the music begins there is the average of all music.
    musics = [np.concatenate([np.zeros((chunk + look, m.shape[1]), np.float32), m]) for m in musics]
    latents = []
    for tick in range(0, len(pieces[0].music) // chunk * chunk, chunk):
        # Row 0 of the padded music is tick -(chunk + look); the newest is that of tick - look.
        rows = np.stack([m[tick + 1 : tick + 1 + chunk].reshape(-1) for m in musics])
        conditions = []
        for p, planner in zip(pieces, planners, strict=True):
            phrase, energy = planner.phrase(tick, p.beats_per_bar, p.bar_tick, p.style, p.energy)
            chunk_conditions = ChunkConditions(
                first_tick=tick,
                tempo_bpm=p.tempo_bpm,
                beats_per_bar=p.beats_per_bar,
                bar_tick=p.bar_tick,
                style=p.style,
                energy=energy,
                phrase=phrase,
                history_noise=history_noise,
            )
            conditions.append(chunk_conditions.vectors())
        noise = np.stack([r.standard_normal(history.shape[1], np.float32) for r in randoms])
        condition = torch.from_numpy(np.concatenate(conditions))
        context, state = model.step(torch.from_numpy(rows), condition, history, state)
        history = model.sample(context, history, torch.from_numpy(noise), temperature)
        latents.append(history.numpy())
    return [sampler.representation.decode(np.stack([step[i] for step in latents])) for i in range(len(pieces))]


@dataclass(frozen=True)
class ShownMotion:
    """A motion at 60 frames a second: rotations (T, 24, 3), translation (T, 3), joints (T, 24, 3), soles (T, 4, 3),
    contacts (T, 4), and the times of its beats [s]."""

    rotations: NDArray[np.float64]
    translation: NDArray[np.float64]
    joints: NDArray[np.float64]
    soles: NDArray[np.float64]
    contacts: NDArray[np.float64]
    beats_s: NDArray[np.float64]


def show(ticks: Floats, tempo_bpm: float | NDArray[np.float64], first_tick: int = 0) -> ShownMotion:
    """Play tick vectors at a tempo (a number, or one per tick), at 60 frames a second."""
    rotations, translation = motion_from_ticks(ticks)
    tick_s = np.concatenate([[0.0], np.cumsum(60.0 / TICKS_PER_BEAT / np.broadcast_to(tempo_bpm, len(ticks))[:-1])])
    time_s = np.arange(0.0, tick_s[-1], 1.0 / RATE_HZ)
    index = np.clip(np.searchsorted(tick_s, time_s, side="right") - 1, 0, len(ticks) - 2)
    fraction = (time_s - tick_s[index]) / (tick_s[index + 1] - tick_s[index])
    quaternions = axis_angle_to_quaternion(rotations)
    between = slerp(quaternions[index], quaternions[index + 1], np.repeat(fraction[:, None], 24, axis=1))
    shown = np.asarray(quaternion_to_axis_angle(between), np.float64)
    path = CubicSpline(tick_s, translation)(time_s)
    joints, world = forward_kinematics(shown, path)
    contacts = ticks[index][:, CONTACTS].astype(np.float64)
    beats = tick_s[-first_tick % TICKS_PER_BEAT :: TICKS_PER_BEAT]
    soles = np.asarray(contact_points(joints, world), np.float64)
    return ShownMotion(shown, path, np.asarray(joints, np.float64), soles, contacts, beats)


@dataclass(frozen=True)
class DanceFigures:
    """Figures of a set of dances against real ones; see `models.metrics` for each."""

    frechet: float
    diversity_pooled: float
    diversity_within: float
    alignment: float
    alignment_by_chance: float
    planted: float
    sliding: float
    floating: float
    speed_m_s: float
    speed_ratio: float

    def __str__(self) -> str:
        return (
            f"frechet {self.frechet:.1f} diversity {self.diversity_pooled:.2f}/{self.diversity_within:.2f} "
            f"beats {self.alignment:.3f} (chance {self.alignment_by_chance:.3f}) planted {self.planted:.2f} "
            f"sliding {self.sliding:.2f} floating {self.floating:.3f} "
            f"speed {self.speed_m_s:.2f} m/s, worst minute {self.speed_ratio:.2f}"
        )


def judge(dances: Sequence[ShownMotion], real_features: NDArray[np.float64], real_diversity: float) -> DanceFigures:
    """Measure dances against the kinetic features (n, 72) of real 4-second clips; diversities are relative to it."""
    features = [metrics.clip_features(d.joints, RATE_HZ) for d in dances]
    beats = [metrics.foot_beats(d.joints, RATE_HZ) for d in dances]

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    return DanceFigures(
        frechet=metrics.frechet_distance(np.concatenate(features), real_features),
        diversity_pooled=metrics.diversity(np.concatenate(features), real_features) / real_diversity,
        diversity_within=metrics.within_diversity(features, real_features) / real_diversity,
        alignment=mean([metrics.beat_alignment(k, d.beats_s) for k, d in zip(beats, dances, strict=True)]),
        alignment_by_chance=mean(
            [metrics.alignment_by_chance(k, d.beats_s) for k, d in zip(beats, dances, strict=True)]
        ),
        planted=mean([metrics.planted_share(d.soles, RATE_HZ) for d in dances]),
        sliding=mean([metrics.foot_sliding(d.soles, d.contacts, RATE_HZ) for d in dances]),
        floating=mean([metrics.both_feet_off_share(d.soles) for d in dances]),
        speed_m_s=mean([float(np.linalg.norm(np.diff(d.joints, axis=0), axis=-1).mean() * RATE_HZ) for d in dances]),
        # What is shorter than a minute cannot tire over minutes.
        speed_ratio=min(
            (metrics.speed_ratio(d.joints, RATE_HZ) for d in dances if len(d.joints) > 60.0 * RATE_HZ), default=1.0
        ),
    )


@dataclass(frozen=True)
class RealDance:
    """What generated dances are compared with: kinetic features (n, 72) of real training clips, their diversity."""

    features: NDArray[np.float64]
    diversity: float

    @staticmethod
    def of(clips: Sequence[DanceClip]) -> RealDance:
        """Measure real dances."""
        shown = [show(clip.ticks, clip.tempo_bpm, clip.first_tick) for clip in clips]
        features = np.concatenate([metrics.clip_features(d.joints, RATE_HZ) for d in shown])
        return RealDance(features, metrics.diversity(features, features))

    def judge(self, dances: Sequence[ShownMotion]) -> DanceFigures:
        """Measure dances against these."""
        return judge(dances, self.features, self.diversity)
