"""Training sequences of the music -> dance model: random runs of chunks with their conditions.

A clip is held as tick vectors and music rows; what is drawn at random for each sequence is where it begins, how it is
cut into phrases, what is left out (music, bar, style, energy, phrase) and how the music is disturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import MIRROR_CONTACTS, forward_kinematics, mirror
from engine.types import TICKS_PER_BEAT
from models.motion.representation import CONTACTS, MotionRepresentation, motion_from_ticks, ticks_from_motion
from models.music_to_dance.conditioning import STYLES, ChunkConditions, normalise_music
from models.music_to_dance.joining import Phrase, join
from models.music_to_dance.medley import Part, bar_of, draw_medley
from models.music_to_dance.phrases import PhraseSpace, PhraseTable, PoseTable

Floats = NDArray[np.float32]

OTHER_STYLE = len(STYLES)
"""Dances of a style the network is not told by name: learnt from, without a style."""

ENERGY_WINDOW_TICKS = 24
"""Movement energy is averaged over two beats: slower than a step, faster than a phrase."""
PHRASE_TICKS = 96
"""Phrases of the table are eight beats long."""
_MARGIN_CHUNKS = 4
"""Of a clip, in no sequence: up to where chunks begin, the music before them, and the chunk before the first."""


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
        style: index in `models.music_to_dance.conditioning.STYLES`, or `OTHER_STYLE`.
        weight: how often sequences are drawn from it, relative to its length and style.
        is_mirrored: left to right.
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
    is_mirrored: bool = False

    def mirrored(self) -> DanceClip:
        """Return the same dance, left to right."""
        rotations, translation = mirror(*motion_from_ticks(self.ticks))
        contacts = self.ticks[:, CONTACTS][:, MIRROR_CONTACTS]
        return replace(
            self,
            name=f"{self.name} mirrored",
            ticks=ticks_from_motion(rotations, translation, contacts),
            is_mirrored=not self.is_mirrored,
        )

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
        medley: share of sequences that go over to other dances (`models.music_to_dance.medley`).
        medley_chunks: longest part of such a sequence.
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
    medley: float = 0.0
    medley_chunks: int = 36


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
    first_tick: int
    tempo_bpm: NDArray[np.float64]
    bar_tick: int
    bar_ticks: int

    @property
    def group(self) -> tuple[object, ...]:
        """Dances that can be mixed into one medley have the same."""
        return self.clip.style, self.bar_ticks, self.clip.is_mirrored, self.music is None


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
        ranked: Sequence[Floats] | None = None,
    ) -> None:
        self.settings, self.representation, self.phrases = settings, representation, phrases
        self.music_mean, self.music_scale = music_mean, music_scale
        energies = [clip.movement_energy() for clip in clips]
        self.ranked = ranked or [
            np.sort(np.concatenate([e for c, e in zip(clips, energies, strict=True) if c.style == style] or [[0.0]]))
            for style in range(len(STYLES) + 1)
        ]
        self.clips = [self._prepare(clip, energy) for clip, energy in zip(clips, energies, strict=True)]
        # A sequence begins at chunk 1 or later; a clip that holds none is never drawn from.
        places = [len(p.latents) - settings.chunks for p in self.clips]
        lengths = np.array([max(n - 1, 1) if n > 0 else 0 for n in places], float)
        per_style = {
            s: sum(n for n, p in zip(lengths, self.clips, strict=True) if p.clip.style == s)
            for s in range(len(STYLES) + 1)
        }
        share = np.array(
            [
                n * p.clip.weight * max(per_style[p.clip.style], 1.0) ** (settings.balance - 1.0)
                for n, p in zip(lengths, self.clips, strict=True)
            ]
        )
        # With nothing to draw, tables can still be made.
        self._share = share / (share.sum() or 1.0)

    @property
    def fitted(self) -> dict[str, Floats]:
        """Return what was fitted to the training data and weights depend on."""
        return {
            "motion mean": self.representation.mean,
            "motion decoder": self.representation.decoder,
            "motion phrases": self.phrases.whitening,
            "music mean": self.music_mean,
            "music scale": self.music_scale,
        }

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
            *bar_of(clip.beats_per_bar, clip.bar_tick),
        )

    def table(self) -> PhraseTable:
        """Return the descriptors of every eight-beat phrase, two beats apart.

        Mirrored dances are left out, if there are others of the style: to mirror is the performer's choice.
        """
        rows, styles, energies = [], [], []
        for _, prepared in self._as_danced():
            start = np.arange(0, len(prepared.ticks) - 1 - PHRASE_TICKS, 2 * TICKS_PER_BEAT)
            rows.append(self.phrases.describe(prepared.sums, start, start + PHRASE_TICKS))
            styles.append(np.full(len(start), prepared.clip.style))
            energies.append([prepared.energy[s : s + PHRASE_TICKS].mean() for s in start])
        return PhraseTable(
            np.concatenate(rows), np.concatenate(styles).astype(np.int32), np.concatenate(energies).astype(np.float32)
        )

    def starts(self, per_style: int = 8) -> PoseTable:
        """Return chunks to begin a dance from: for each style calm ones out of its dance, just before a bar.

        A dance goes on as it began, whatever style it is asked for. So what is calmest of all will not do: that is the
        bow before and after the dance, the same for every style, and what followed it was never the waltz that was
        asked for (measured: style accuracy 0.33; 0.99 from these). A start is from the middle four fifths of a
        dance, nearer to the style's usual pose than half of its chunks are, and not mirrored: a mirrored hold is a
        hold that no dancer of the style has.
        """
        picks: list[tuple[int, int, int]] = []
        for style in sorted({p.clip.style for p in self.clips}):
            mates = [(i, p) for i, p in self._as_danced() if p.clip.style == style]
            danced = np.concatenate([p.latents[_inner(len(p.latents))] for _, p in mates])
            usual = np.median(danced, axis=0)
            near = float(np.median(np.linalg.norm(danced - usual, axis=1)))
            ranked = sorted((*self._calmest(p, usual, near), index) for index, p in mates)
            picks += [(style, index, chunk) for _, chunk, index in ranked[:per_style]]
        return PoseTable(
            np.stack([self.clips[index].latents[chunk] for _, index, chunk in picks]),
            np.array([style for style, _, _ in picks], np.int32),
        )

    def _as_danced(self) -> list[tuple[int, _Prepared]]:
        """Return the numbers and dances that are not mirrored; of a style that is mirrored only, all."""
        danced = {p.clip.style for p in self.clips if not p.clip.is_mirrored}
        return [(i, p) for i, p in enumerate(self.clips) if not (p.clip.is_mirrored and p.clip.style in danced)]

    def _calmest(self, prepared: _Prepared, usual: Floats, near: float) -> tuple[float, int]:
        """Return the movement energy and the number of the calmest usual chunk that ends where a bar begins."""
        chunk, clip = self.representation.chunk_ticks, prepared.clip
        energy = prepared.energy[::chunk][: len(prepared.latents)]
        inner = np.zeros(len(prepared.latents), bool)
        inner[_inner(len(inner))] = True
        next_tick = prepared.first_tick + chunk * (np.arange(len(inner)) + 1)
        on_bar = (next_tick - (clip.bar_tick or 0)) % (TICKS_PER_BEAT * (clip.beats_per_bar or 4)) < chunk
        usual_pose = np.linalg.norm(prepared.latents - usual, axis=1) <= near
        # A clip that has no such chunk gives the calmest of the next best.
        wishes = (inner & on_bar & usual_pose, inner & usual_pose, inner, np.ones(len(inner), bool))
        rows = next(np.flatnonzero(wish) for wish in wishes if wish.any())
        best = int(rows[np.argmin(energy[rows])])
        return float(energy[best]), best

    def holds(self, clip: DanceClip) -> bool:
        """Return whether a clip is long enough for a sequence."""
        return len(clip.ticks) >= shortest_clip(self.settings, self.representation.chunk_ticks)

    def over(self, clips: Sequence[DanceClip]) -> SequenceSampler:
        """Return a sampler over other clips, in the terms (representation, energies, scales) of these."""
        return SequenceSampler(
            clips, self.representation, self.phrases, self.music_mean, self.music_scale, self.settings, self.ranked
        )

    def batch(self, random: np.random.Generator, size: int) -> Batch:
        """Draw a batch, one sequence after the other from one generator."""
        return self.sequences([random] * size)

    def sequences(self, randoms: Sequence[np.random.Generator]) -> Batch:
        """Draw one sequence from each generator."""
        n, chunk = self.settings.chunks, self.representation.chunk_ticks
        sequences = [self._sequence(random) for random in randoms]
        music, condition, history, target, ticks = (np.stack(column) for column in zip(*sequences, strict=True))
        return Batch(music, condition, history, target, ticks.reshape(len(randoms), n, chunk + 1, -1))

    def _sequence(self, random: np.random.Generator) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        index = int(random.choice(len(self.clips), p=self._share))
        start = int(random.integers(1, max(len(self.clips[index].latents) - self.settings.chunks, 2)))
        if random.random() >= self.settings.medley:
            return self.sequence_at(random, index, start)
        s, chunk = self.settings, self.representation.chunk_ticks
        return self._of(random, draw_medley(random, self.clips, (index, start), s.chunks, s.medley_chunks, chunk))

    def sequence_at(
        self, random: np.random.Generator, index: int, start: int
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return the sequence of a clip from chunk `start` on: the rows of a `Batch`, the ticks not yet cut."""
        return self._of(random, [Part(index, start, start + self.settings.chunks)])

    def _of(self, random: np.random.Generator, parts: Sequence[Part]) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return the sequence that parts of dances make, one after the other."""
        s, chunk = self.settings, self.representation.chunk_ticks
        dances = [self.clips[part.index] for part in parts]
        ticks, latents = self._joined(parts)
        level = 0.0 if random.random() < s.clean_share else s.history_noise * random.random()
        history = latents[:-1] + level * random.standard_normal(latents[:-1].shape, np.float32)

        music = np.zeros((s.chunks, len(self.music_mean) * chunk), np.float32)
        heard = [d.music[p.start : p.stop] for d, p in zip(dances, parts, strict=True) if d.music is not None]
        music_known = len(heard) == len(parts) and random.random() >= s.drop_music
        if music_known:
            noise = s.music_noise * random.random()
            # One offset per feature and sequence (another room, another mix), and jitter per row.
            offset = np.tile(random.standard_normal(len(self.music_mean), np.float32), chunk)
            jitter = random.standard_normal(music.shape, np.float32)
            music = np.concatenate(heard) + noise * (0.7 * offset + 0.5 * jitter)

        bar_told, jitter_bpm = random.random() >= s.drop_bar, s.tempo_jitter * (2.0 * random.random() - 1.0)
        style_told, energy_told = random.random() >= s.drop_style, random.random() >= s.drop_energy
        phrase_told = random.random() >= s.drop_phrase
        conditions = []
        for number, (dance, part) in enumerate(zip(dances, parts, strict=True)):
            clip, rows = dance.clip, np.arange(part.start, part.stop) * chunk
            bar_known = bar_told and clip.beats_per_bar is not None and clip.bar_tick is not None
            conditions.append(
                ChunkConditions(
                    first_tick=dance.first_tick + rows,
                    tempo_bpm=dance.tempo_bpm[rows] * (1.0 + jitter_bpm),
                    beats_per_bar=clip.beats_per_bar if bar_known else None,
                    bar_tick=clip.bar_tick if bar_known and clip.bar_tick is not None else 0,
                    style=clip.style if style_told and clip.style != OTHER_STYLE else None,
                    energy=dance.energy[rows] if energy_told else None,
                    phrase=self._plan(random, dance, part, begun=number == 0) if phrase_told else None,
                    history_noise=level,
                    music_known=music_known,
                ).vectors()
            )
        # Rows shift by one: ticks[0] is the tick before the first chunk.
        first = chunk * np.arange(s.chunks)
        runs = np.lib.stride_tricks.sliding_window_view(ticks, chunk + 1, axis=0)[first].transpose(0, 2, 1)
        return music.astype(np.float32), np.concatenate(conditions), history, latents[1:], runs

    def _joined(self, parts: Sequence[Part]) -> tuple[Floats, Floats]:
        """Return the ticks (1 + N C, 152) of parts from the tick before them on, and the latents (1 + N, L) from the
        chunk before them on."""
        chunk, first = self.representation.chunk_ticks, parts[0]
        before = self.clips[first.index]
        if len(parts) == 1:
            ticks = before.ticks[first.start * chunk : first.stop * chunk + 1]
            return ticks, before.latents[first.start - 1 : first.stop]
        # Row 0 of the ticks is the one before chunk 0.
        phrases = [Phrase(self.clips[p.index].ticks, 1 + p.start * chunk, 1 + p.stop * chunk) for p in parts]
        joined = join(phrases)
        latents = np.concatenate([before.latents[first.start - 1 : first.start], self.representation.encode(joined)])
        return np.concatenate([before.ticks[first.start * chunk : first.start * chunk + 1], joined]), latents

    def _plan(self, random: np.random.Generator, prepared: _Prepared, part: Part, *, begun: bool) -> Floats:
        """Cut a part into phrases of 4 to 16 beats and describe each, a little disturbed.

        Args:
            random: source of chance.
            prepared: the dance it is of.
            part: of it.
            begun: whether its first phrase began before it did.
        """
        chunk, start, stop = self.representation.chunk_ticks, part.start, part.stop
        plan = np.empty((part.chunks, self.phrases.whitening.shape[1]), np.float32)
        begin = max(0, start - int(random.integers(0, 24))) if begun else start
        while begin < stop:
            end = min(begin + int(random.integers(12, 49)), len(prepared.latents))
            window = self.phrases.describe(prepared.sums, np.array([begin * chunk]), np.array([end * chunk]))[0]
            plan[max(begin, start) - start : min(end, stop) - start] = window + 0.15 * random.standard_normal(
                len(window), np.float32
            )
            begin = end
        return plan


def shortest_clip(settings: SequenceSettings, chunk_ticks: int) -> int:
    """Return the ticks of the shortest dance that holds a sequence, with the margin before it."""
    return (settings.chunks + _MARGIN_CHUNKS) * chunk_ticks + settings.lookahead_ticks


def most_chunks(ticks: int, settings: SequenceSettings, chunk_ticks: int) -> int:
    """Return the chunks of the longest sequence that a dance of so many ticks holds; 0 or fewer if it holds none."""
    return (ticks - settings.lookahead_ticks) // chunk_ticks - _MARGIN_CHUNKS


def _inner(count: int) -> slice:
    """Return the middle four fifths: dances begin and end with a bow."""
    return slice(count // 10, count - count // 10)
