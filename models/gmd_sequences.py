"""Training sequences of the music -> dance model: random runs of chunks with their conditions.

A clip is held as tick vectors and music rows; what is drawn at random for each sequence is where it begins, how it is
cut into phrases, what is left out (music, bar, style, energy, phrase) and how the music is disturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.skeleton import MIRROR_CONTACTS, forward_kinematics, mirror
from engine.types import TICKS_PER_BEAT
from models.conditioning import STYLES, ChunkConditions, normalise_music
from models.motion_representation import CONTACTS, MotionRepresentation, motion_from_ticks, ticks_from_motion
from models.phrases import PhraseSpace, PhraseTable, PoseTable

Floats = NDArray[np.float32]

ENERGY_WINDOW_TICKS = 24
"""Movement energy is averaged over two beats: slower than a step, faster than a phrase."""
PHRASE_TICKS = 96
"""Phrases of the table are eight beats long."""


@dataclass(frozen=True)
class DanceClip:
    """One dance with its music, once per tick.

    Attributes:
        name: of the recording.
        ticks: (T, 152) tick vectors.
        music: (T, F) features, row k ending at tick k; None for a dance without its music.
        tempo_bpm: (T,).
        first_tick: tick index of row 0; a multiple of 12 is a beat.
        beats_per_bar: of the music, None while unknown.
        bar_tick: tick index of a bar's start, None where it is not known.
        style: index in `models.conditioning.STYLES`.
        weight: how often sequences are drawn from it, relative to its length and style.
    """

    name: str
    ticks: Floats
    music: Floats | None
    tempo_bpm: NDArray[np.float64]
    first_tick: int
    beats_per_bar: int | None
    bar_tick: int | None
    style: int
    weight: float = 1.0

    def mirrored(self) -> DanceClip:
        """Return the same dance, left to right."""
        rotations, translation = mirror(*motion_from_ticks(self.ticks))
        contacts = self.ticks[:, CONTACTS][:, MIRROR_CONTACTS]
        return replace(self, name=f"{self.name} mirrored", ticks=ticks_from_motion(rotations, translation, contacts))

    def movement_energy(self) -> Floats:
        """Return (T,) mean joint speed [m/s] over the next two beats."""
        rotations, translation = motion_from_ticks(self.ticks)
        positions, _ = forward_kinematics(rotations, translation)
        speed = np.linalg.norm(np.diff(positions, axis=0), axis=-1).mean(axis=-1)
        speed = np.concatenate([speed[:1], speed]) * self.tempo_bpm * (TICKS_PER_BEAT / 60.0)
        sums = np.concatenate([[0.0], np.cumsum(speed)])
        start = np.arange(len(speed))
        stop = np.minimum(start + ENERGY_WINDOW_TICKS, len(speed))
        return ((sums[stop] - sums[start]) / (stop - start)).astype(np.float32)


@dataclass(frozen=True)
class SequenceSettings:
    """What is random about a sequence.

    Attributes:
        chunks: N, chunks per sequence.
        lookahead_ticks: the newest music row ends this many ticks before a chunk's first tick.
        history_noise: largest deviation of the noise on the history.
        clean_share: share of the sequences whose history is clean.
        drop_music, drop_bar, drop_style, drop_energy, drop_phrase: shares of sequences without them.
        music_noise: largest deviation of the noise on the normalised features.
        tempo_jitter: largest relative error of the stated tempo.
        balance: styles are drawn with probability ~ (their length) ** balance.
    """

    chunks: int = 72
    lookahead_ticks: int = 2
    history_noise: float = 0.45
    clean_share: float = 0.25
    drop_music: float = 0.15
    drop_bar: float = 0.35
    drop_style: float = 0.15
    drop_energy: float = 0.15
    drop_phrase: float = 0.15
    music_noise: float = 0.6
    tempo_jitter: float = 0.06
    balance: float = 0.6


@dataclass(frozen=True)
class Batch:
    """B sequences of N chunks: music (B, N, C F), condition (B, N, K), history and target (B, N, L), real tick
    vectors with the tick before the chunk (B, N, 1 + C, 152), and the deviation of each history's noise (B,)."""

    music: Floats
    condition: Floats
    history: Floats
    target: Floats
    ticks: Floats


@dataclass
class _Prepared:
    clip: DanceClip
    ticks: Floats
    music: Floats | None
    latents: Floats
    energy: Floats
    sums: NDArray[np.float64]
    first_tick: int = 0
    tempo_bpm: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


class SequenceSampler:
    """Draws batches from clips; deterministic for its generator.

    Energies are quantiles within a style: half of a tango's ticks are over 0.5, and half of a waltz's.
    """

    def __init__(
        self,
        clips: Sequence[DanceClip],
        representation: MotionRepresentation,
        phrases: PhraseSpace,
        music_mean: Floats,
        music_scale: Floats,
        settings: SequenceSettings,
    ) -> None:
        self.settings, self.representation, self.phrases = settings, representation, phrases
        self.music_mean, self.music_scale = music_mean, music_scale
        energies = [clip.movement_energy() for clip in clips]
        self.ranked = [
            np.sort(np.concatenate([e for c, e in zip(clips, energies, strict=True) if c.style == style] or [[0.0]]))
            for style in range(len(STYLES))
        ]
        self.clips = [self._prepare(clip, energy) for clip, energy in zip(clips, energies, strict=True)]
        lengths = np.array([max(len(p.latents) - settings.chunks - 1, 1) for p in self.clips], float)
        per_style = {s: sum(n for n, p in zip(lengths, self.clips, strict=True) if p.clip.style == s) for s in range(4)}
        share = np.array(
            [
                n * p.clip.weight * per_style[p.clip.style] ** (settings.balance - 1.0)
                for n, p in zip(lengths, self.clips, strict=True)
            ]
        )
        self._share = share / share.sum()

    def _prepare(self, clip: DanceClip, energy: Floats) -> _Prepared:
        chunk = self.representation.chunk_ticks
        skip = -clip.first_tick % chunk
        # A margin so that the first chunk has a tick and its music before it.
        skip += chunk * -(-(chunk + self.settings.lookahead_ticks) // chunk)
        count = (len(clip.ticks) - skip) // chunk
        ticks = clip.ticks[skip - 1 : skip + count * chunk]
        music = None
        if clip.music is not None:
            normal = normalise_music(clip.music, self.music_mean, self.music_scale)
            newest = skip - self.settings.lookahead_ticks
            music = normal[newest - chunk + 1 : newest - chunk + 1 + count * chunk]
            music = music.reshape(count, -1)
        ranks = np.searchsorted(self.ranked[clip.style], energy[skip : skip + count * chunk])
        return _Prepared(
            clip,
            ticks,
            music,
            self.representation.encode(ticks[1:]),
            (ranks / len(self.ranked[clip.style])).astype(np.float32),
            self.phrases.cumulative(ticks[1:]),
            clip.first_tick + skip,
            clip.tempo_bpm[skip : skip + count * chunk],
        )

    def table(self) -> PhraseTable:
        """Return the descriptors of every eight-beat phrase, two beats apart."""
        rows, styles, energies = [], [], []
        for prepared in self.clips:
            start = np.arange(0, len(prepared.ticks) - 1 - PHRASE_TICKS, 2 * TICKS_PER_BEAT)
            rows.append(self.phrases.describe(prepared.sums, start, start + PHRASE_TICKS))
            styles.append(np.full(len(start), prepared.clip.style))
            energies.append([prepared.energy[s : s + PHRASE_TICKS].mean() for s in start])
        return PhraseTable(
            np.concatenate(rows), np.concatenate(styles).astype(np.int32), np.concatenate(energies).astype(np.float32)
        )

    def starts(self, per_style: int = 8) -> PoseTable:
        """Return calm chunks to begin a dance from, for each style the calmest of its clips."""
        picks: list[tuple[int, float, int, int]] = []
        chunk = self.representation.chunk_ticks
        for index, prepared in enumerate(self.clips):
            energy = prepared.energy[::chunk][: len(prepared.latents)]
            best = int(np.argmin(energy))
            picks.append((prepared.clip.style, float(energy[best]), index, best))
        picks.sort()
        chosen = [p for i, p in enumerate(picks) if sum(q[0] == p[0] for q in picks[:i]) < per_style]
        return PoseTable(
            np.stack([self.clips[index].latents[best] for _, _, index, best in chosen]),
            np.array([style for style, _, _, _ in chosen], np.int32),
        )

    def batch(self, random: np.random.Generator, size: int) -> Batch:
        """Draw a batch."""
        n, chunk = self.settings.chunks, self.representation.chunk_ticks
        sequences = [self._sequence(random) for _ in range(size)]
        music, condition, history, target, ticks = (np.stack(column) for column in zip(*sequences, strict=True))
        return Batch(music, condition, history, target, ticks.reshape(size, n, chunk + 1, -1))

    def _sequence(self, random: np.random.Generator) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        s, chunk = self.settings, self.representation.chunk_ticks
        prepared = self.clips[int(random.choice(len(self.clips), p=self._share))]
        start = int(random.integers(1, max(len(prepared.latents) - s.chunks, 2)))
        stop = start + s.chunks
        rows = np.arange(start, stop) * chunk
        level = 0.0 if random.random() < s.clean_share else s.history_noise * random.random()
        history = prepared.latents[start - 1 : stop - 1]
        history = history + level * random.standard_normal(history.shape, np.float32)

        music = np.zeros((s.chunks, len(self.music_mean) * chunk), np.float32)
        music_known = prepared.music is not None and random.random() >= s.drop_music
        if music_known and prepared.music is not None:
            noise = s.music_noise * random.random()
            # One offset per feature and sequence (another room, another mix), and jitter per row.
            offset = np.tile(random.standard_normal(len(self.music_mean), np.float32), chunk)
            jitter = random.standard_normal(music.shape, np.float32)
            music = prepared.music[start:stop] + noise * (0.7 * offset + 0.5 * jitter)

        clip = prepared.clip
        bar_known = clip.beats_per_bar is not None and clip.bar_tick is not None and random.random() >= s.drop_bar
        conditions = ChunkConditions(
            first_tick=prepared.first_tick + rows,
            tempo_bpm=prepared.tempo_bpm[rows] * (1.0 + s.tempo_jitter * (2.0 * random.random() - 1.0)),
            beats_per_bar=clip.beats_per_bar if bar_known else None,
            bar_tick=clip.bar_tick if bar_known and clip.bar_tick is not None else 0,
            style=None if random.random() < s.drop_style else clip.style,
            energy=None if random.random() < s.drop_energy else prepared.energy[rows],
            phrase=None if random.random() < s.drop_phrase else self._plan(random, prepared, start, stop),
            history_noise=level,
            music_known=music_known,
        )
        # Rows shift by one: ticks[0] is the tick before the first chunk.
        runs = np.lib.stride_tricks.sliding_window_view(prepared.ticks, chunk + 1, axis=0)[rows].transpose(0, 2, 1)
        return music.astype(np.float32), conditions.vectors(), history, prepared.latents[start:stop], runs

    def _plan(self, random: np.random.Generator, prepared: _Prepared, start: int, stop: int) -> Floats:
        """Cut the sequence into phrases of 4 to 16 beats and describe each, a little disturbed."""
        chunk = self.representation.chunk_ticks
        plan = np.empty((stop - start, self.phrases.whitening.shape[1]), np.float32)
        # The first phrase began before the sequence did.
        begin = max(0, start - int(random.integers(0, 24)))
        while begin < stop:
            end = min(begin + int(random.integers(12, 49)), len(prepared.latents))
            window = self.phrases.describe(prepared.sums, np.array([begin * chunk]), np.array([end * chunk]))[0]
            plan[max(begin, start) - start : min(end, stop) - start] = window + 0.15 * random.standard_normal(
                len(window), np.float32
            )
            begin = end
        return plan
