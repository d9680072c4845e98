"""Training sequences of the dance -> music model: random runs of steps with their conditions.

What is left out (dance, bar, mode, energy, density, phrase) is drawn at random for each sequence.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.types import TICKS_PER_STEP
from models.dance_to_music.bands import ROWS, MusicPiece, Part, Run, cut, fitting, join_drummers
from models.dance_to_music.conditioning import StepConditions, metre_of
from models.dance_to_music.phrases import MusicPhraseSpace
from models.dance_to_music.tokens import HISTORY_SIZE, history_vectors
from models.music_to_dance.conditioning import normalise_music
from models.music_to_dance.phrases import PhraseTable
from models.symbolic.step_grid import STEPS_PER_BEAT

Floats = NDArray[np.float32]

PHRASE_STEPS = 32
"""Phrases of the table are eight beats long, as the dancer's."""
_ENERGY_STEPS = 8
_DENSITY_STEPS = 16
"""Energy is averaged over two beats, faster than a phrase; density over a bar."""
_RANK_SEQUENCES = 400
"""Sequences from which the quantiles of energy and density are taken."""
_ENERGY_BINS = 10

KINDS = ("band", "drums", "song", "melody", "dance")
"""Song with drummer; drummer alone; song alone; a tune alone; music with the dance that was danced to it."""


@dataclass(frozen=True)
class MusicSequenceSettings:
    """What is random about a sequence.

    Attributes:
        steps: N, steps per sequence.
        lookahead_ticks: the newest pose row ends this many ticks before a step.
        lookahead_jitter: largest deviation from it.
        band, drums, song, melody, dance: how often each of `KINDS` is drawn, relative to each other.
        drop_dance, drop_bar, drop_mode, drop_energy, drop_density, drop_phrase: shares of sequences without them.
        begin: share of the sequences before which there was silence.
        change: mean number of changes of drummer in a sequence.
        lay_out: share of a drummer's stretches in which they do not play.
        pose_noise: largest deviation of the noise on the normalised pose features.
        tempo_jitter: largest relative error of the stated tempo.
    """

    steps: int = 160
    lookahead_ticks: int = 3
    lookahead_jitter: int = 1
    band: float = 0.68
    drums: float = 0.1
    song: float = 0.07
    melody: float = 0.15
    dance: float = 0.0
    drop_dance: float = 0.15
    drop_bar: float = 0.15
    drop_mode: float = 0.1
    drop_energy: float = 0.1
    drop_density: float = 0.3
    drop_phrase: float = 0.3
    begin: float = 0.15
    change: float = 1.0
    lay_out: float = 0.15
    pose_noise: float = 0.3
    tempo_jitter: float = 0.06


@dataclass(frozen=True)
class MusicBatch:
    """B sequences of N steps.

    Attributes:
        dance: (B, N, 3 P), None if no sequence has one.
        dance_known: (B,).
        condition: (B, N, K).
        history: (B, N, HISTORY_SIZE).
        drums, voices, levels: (B, N, 9), (B, N, 3), (B, N, 3) int64 as in `TokenGrid`.
        known: (B, 4).
    """

    dance: Floats | None
    dance_known: Floats
    condition: Floats
    history: Floats
    drums: NDArray[np.int64]
    voices: NDArray[np.int64]
    levels: NDArray[np.int64]
    known: Floats


class MusicSampler:
    """Draws batches from pieces; deterministic for its generator.

    Energies and densities are quantiles among sequences of the same kind; a density is one among music of the same
    energy, so that the two wishes do not contradict each other.

    Args:
        pieces: by kind: "drums", "song", "melody", "dance"; a kind that has none is never drawn.
        phrases: fitted to the training pieces.
        settings: of the sequences.
        pose_mean, pose_scale: (P,) of the training dances; empty without dances.
    """

    def __init__(
        self,
        pieces: Mapping[str, Sequence[MusicPiece]],
        phrases: MusicPhraseSpace,
        settings: MusicSequenceSettings,
        pose_mean: Floats,
        pose_scale: Floats,
    ) -> None:
        self.settings, self.phrases = settings, phrases
        self.pose_mean, self.pose_scale = pose_mean, pose_scale
        self._parts = {kind: [Part.of(p, phrases) for p in group] for kind, group in pieces.items()}
        self._lengths = {
            kind: _shares([max(p.piece.tokens.steps - settings.steps, STEPS_PER_BEAT) for p in parts])
            for kind, parts in self._parts.items()
            if parts
        }
        here = set(self._lengths) | ({"band"} if {"song", "drums"} <= self._lengths.keys() else set())
        self.kinds = tuple(kind for kind in KINDS if kind in here and getattr(settings, kind) > 0.0)
        """The kinds that are drawn."""
        if not self.kinds:
            raise ValueError("no pieces of a kind that is to be drawn")
        random = np.random.Generator(np.random.PCG64(0))
        self._ranks = {
            kind: self._quantiles([self._run(random, kind) for _ in range(_RANK_SEQUENCES)]) for kind in self.kinds
        }

    @property
    def fitted(self) -> dict[str, Floats]:
        """Return what was fitted to the training data and weights depend on."""
        return {
            "pose mean": self.pose_mean,
            "pose scale": self.pose_scale,
            "music phrases": self.phrases.whitening,
        }

    def sequences(self, randoms: Sequence[np.random.Generator], *, dances: bool) -> MusicBatch:
        """Draw a sequence with each generator; from dances too, if asked for (and if there are any)."""
        kinds = [k for k in self.kinds if dances or k != "dance"] or list(self.kinds)
        share = _shares([getattr(self.settings, kind) for kind in kinds])
        drawn = [self._sequence(random, kinds[int(random.choice(len(kinds), p=share))]) for random in randoms]
        danced = [dance for dance, _, _, _ in drawn]
        dance = None
        if any(d is not None for d in danced):
            shape = (self.settings.steps, TICKS_PER_STEP * len(self.pose_mean))
            dance = np.stack([np.zeros(shape, np.float32) if d is None else d for d in danced])
        n = self.settings.steps
        drums, voices, levels = (np.stack([run.rows[name][:n] for _, _, _, run in drawn]) for name in ROWS[:3])
        return MusicBatch(
            dance,
            np.array([d is not None for d in danced], np.float32),
            np.stack([condition for _, condition, _, _ in drawn]),
            np.stack([history for _, _, history, _ in drawn]),
            drums.astype(np.int64),
            voices.astype(np.int64),
            levels.astype(np.int64),
            np.stack([run.known for _, _, _, run in drawn]).astype(np.float32),
        )

    def _sequence(self, random: np.random.Generator, kind: str) -> tuple[Floats | None, Floats, Floats, Run]:
        s = self.settings
        run = self._run(random, kind)
        piece = run.piece
        energy, density = self._wishes(run, kind)
        dance = None
        if piece.poses is not None and random.random() >= s.drop_dance:
            dance = self._dance(random, piece.poses, run.start)
        bar_known = piece.bar_step is not None and random.random() >= s.drop_bar
        conditions = StepConditions(
            step=run.start + np.arange(s.steps),
            tempo_bpm=run.tempo_bpm[: s.steps] * (1.0 + s.tempo_jitter * (2.0 * random.random() - 1.0)),
            beats_per_bar=piece.beats_per_bar if bar_known else None,
            bar_step=piece.bar_step if bar_known and piece.bar_step is not None else 0,
            minor=None if random.random() < s.drop_mode else piece.minor,
            energy=None if random.random() < s.drop_energy else energy[: s.steps],
            density=None if random.random() < s.drop_density else density[: s.steps],
            voices=run.known,
            phrase=None if random.random() < s.drop_phrase else self._plan(random, run),
            dance_known=dance is not None,
        )
        if random.random() < s.begin:
            run.begin()
        history = np.zeros((s.steps, HISTORY_SIZE), np.float32)
        drums, voices, levels, sounding, ages = (run.rows[name][: s.steps - 1] for name in ROWS)
        history[1:] = history_vectors(drums, voices, levels, sounding, ages, run.known)
        if run.before is not None:
            drums, voices, levels, sounding, ages = (run.before[name] for name in ROWS)
            history[0] = history_vectors(drums, voices, levels, sounding, ages, run.known)[0]
        return dance, conditions.vectors(), history, run

    def _run(self, random: np.random.Generator, kind: str) -> Run:
        s, group = self.settings, "song" if kind == "band" else kind
        part = self._parts[group][int(random.choice(len(self._parts[group]), p=self._lengths[group]))]
        run = cut(random, part, s.steps)
        # A dance whose music has no drums that are known is given a drummer, too.
        if kind == "band" or (kind == "dance" and not run.known[0] and self._parts.get("drums")):
            join_drummers(random, run, fitting(part, self._parts["drums"]), s.steps, s.change, s.lay_out)
        return run

    def _quantiles(self, runs: list[Run]) -> tuple[Floats, list[Floats]]:
        """Return sorted energies, and sorted densities by bins of energy."""
        pairs = [self._means(run) for run in runs]
        energy, density = (np.concatenate(column) for column in zip(*pairs, strict=True))
        ranked = np.sort(energy)
        bins = np.minimum(np.searchsorted(ranked, energy) * _ENERGY_BINS // len(ranked), _ENERGY_BINS - 1)
        return ranked, [np.sort(density[bins == b]) for b in range(_ENERGY_BINS)]

    def _means(self, run: Run) -> tuple[Floats, Floats]:
        return _ahead(run.loudness, _ENERGY_STEPS), _ahead(run.onsets, _DENSITY_STEPS)

    def _wishes(self, run: Run, kind: str) -> tuple[Floats, Floats]:
        """Return energy and density quantiles of each step."""
        ranked, per_bin = self._ranks[kind]
        energy, density = self._means(run)
        # In the middle of equals, so that silence, however common, is one wish.
        place = (np.searchsorted(ranked, energy) + np.searchsorted(ranked, energy, side="right")) / 2.0
        rank = place / len(ranked)
        bins = np.minimum((rank * _ENERGY_BINS).astype(int), _ENERGY_BINS - 1)
        dense = np.full(len(rank), 0.5)
        for b in np.unique(bins):
            table = per_bin[b]
            if len(table):
                here = density[bins == b]
                both = np.searchsorted(table, here) + np.searchsorted(table, here, side="right")
                dense[bins == b] = both / (2.0 * len(table))
        return rank.astype(np.float32), dense.astype(np.float32)

    def _plan(self, random: np.random.Generator, run: Run) -> Floats:
        """Cut the sequence into phrases of 4 to 16 beats (and where the drummer changes) and describe each."""
        n, length = self.settings.steps, run.steps
        sums = np.concatenate([np.zeros((1, run.statistics.shape[1])), np.cumsum(run.statistics, axis=0)])
        plan = np.empty((n, self.phrases.whitening.shape[1]), np.float32)
        edges, at = [0], 0
        while at < n:
            following = [c for c in run.cuts if c > at]
            at = min([at + STEPS_PER_BEAT * int(random.integers(4, 17)), *following[:1]])
            edges.append(min(at, length))
        for begin, end in itertools.pairwise(edges):
            described = self.phrases.describe(sums, np.array([begin]), np.array([end]))[0]
            plan[begin : min(end, n)] = described + 0.15 * random.standard_normal(len(described), np.float32)
        return plan

    def _dance(self, random: np.random.Generator, poses: Floats, start: int) -> Floats:
        """Return (N, 3 P) normalised pose rows before each step, a little late or early and a little noisy."""
        s = self.settings
        ahead = s.lookahead_ticks + int(random.integers(-s.lookahead_jitter, s.lookahead_jitter + 1))
        newest = TICKS_PER_STEP * (start + np.arange(s.steps)) - ahead
        index = newest[:, None] + np.arange(1 - TICKS_PER_STEP, 1)
        rows = normalise_music(poses[np.clip(index, 0, len(poses) - 1)], self.pose_mean, self.pose_scale)
        noise = s.pose_noise * random.random()
        offset = random.standard_normal(len(self.pose_mean), np.float32)
        disturbed = rows + noise * (0.7 * offset + 0.5 * random.standard_normal(rows.shape, np.float32))
        return disturbed.reshape(s.steps, -1).astype(np.float32)

    def table(self, random: np.random.Generator, rows: int) -> PhraseTable:
        """Return descriptors of `rows` phrases of eight beats; their "style" is their metre.

        They are phrases of whole bands: of dances' music and of songs with drummers, as often as they are learnt from.
        """
        whole = [kind for kind in self.kinds if kind in ("band", "dance")]
        kinds = whole or list(self.kinds)
        share = _shares([getattr(self.settings, kind) for kind in kinds])
        descriptors: list[Floats] = []
        metres: list[int] = []
        energies: list[float] = []
        while len(descriptors) < rows:
            kind = kinds[int(random.choice(len(kinds), p=share))]
            run = self._run(random, kind)
            if run.steps < PHRASE_STEPS or any(0 < c < PHRASE_STEPS for c in run.cuts):
                continue
            sums = np.concatenate([np.zeros((1, run.statistics.shape[1])), np.cumsum(run.statistics, axis=0)])
            descriptors.append(self.phrases.describe(sums, np.array([0]), np.array([PHRASE_STEPS]))[0])
            metres.append(metre_of(run.piece.beats_per_bar))
            energies.append(float(self._wishes(run, kind)[0][:PHRASE_STEPS].mean()))
        return PhraseTable(np.stack(descriptors), np.array(metres, np.int32), np.array(energies, np.float32))


def _ahead(values: Floats, window: int) -> Floats:
    """Return the mean of each value and those that follow it, `window` in all (fewer at the end)."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    start = np.arange(len(values))
    stop = np.minimum(start + window, len(values))
    return np.asarray((sums[stop] - sums[start]) / (stop - start), np.float32)


def _shares(weights: Sequence[float]) -> NDArray[np.float64]:
    share = np.asarray(weights, np.float64)
    return np.asarray(share / share.sum())
