"""Dances with the written music they were danced to, drawn so that both networks see the same beats.

A sequence begins on a beat; G_MD's chunks and G_DM's steps of it cover the same ticks. Nothing is left out or disturbed
here as it is in the single tasks: a cycle compares what comes back with what went out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.types import TICKS_PER_BEAT, TICKS_PER_STEP
from models.dance_to_music.bands import TAIL_STEPS, MusicPiece, Run, run_at
from models.dance_to_music.data import SCORES, believable_key, first_step_row, paired_pieces
from models.dance_to_music.sequences import MusicBatch, MusicSampler
from models.dance_to_music.tokens import home_shift
from models.data.dataset import PreparedData
from models.music_to_dance.sequences import Batch, DanceClip, SequenceSampler
from models.music_to_dance.unseen_movement import whole_name
from models.symbolic.step_grid import StepGrid

Floats = NDArray[np.float32]

BEFORE_TICKS = 12
"""A beat of what really happened goes before each sequence, for whatever looks back."""


@dataclass(frozen=True)
class Pair:
    """A dance and its written music.

    Attributes:
        dance: with its music features.
        piece: its music in the home key, with the dance's pose features.
        tick: where on the dance's timeline the piece begins; a multiple of 12.
        shift: by how many semitones the music lies over the home key.
    """

    dance: DanceClip
    piece: MusicPiece
    tick: int
    shift: int


def find_pairs(data: PreparedData, dances: Sequence[DanceClip], split: str) -> list[Pair]:
    """Return the pairs of a split, those to train on mirrored too.

    Args:
        data: prepared, with step grids in `scores/`.
        dances: of the split, from `models.music_to_dance.dances.load_dances`, whole or in parts
            (`models.music_to_dance.unseen_movement`). Those at half speed are left out: their music goes round twice.
        split: "train" or "val".

    Raises:
        UserError: there are none.
    """
    clips = {clip.name: clip for clip in data.split(split) if clip.plausible}
    pairs = []
    for dance in dances:
        whole = clips.get(whole_name(dance))
        path = data.folder / SCORES / f"{whole_name(dance)}.npz"
        if whole is None or dance.music is None or not path.is_file():
            continue
        grid, grid_tick = StepGrid.load(path), whole.first_tick + first_step_row(whole)
        row = dance.first_tick - whole.first_tick
        clip = whole.cut(row, row + len(dance.ticks))
        tick = -(-max(clip.first_tick, grid_tick) // TICKS_PER_BEAT) * TICKS_PER_BEAT
        pieces = paired_pieces(clip, grid, grid_tick, mirrored=split == "train")
        begin = (tick - grid_tick) // TICKS_PER_STEP
        for side, piece in zip((dance, dance.mirrored()), pieces, strict=False):
            shift = home_shift(believable_key(grid.cut(begin, begin + piece.tokens.steps)))
            pairs.append(Pair(side, piece, tick, shift))
    if not pairs:
        raise UserError(
            f"{data.folder} holds no {split} dances with written music", "run `pasdedeux prepare --transcribe`"
        )
    return pairs


@dataclass(frozen=True)
class PairedSequences:
    """B sequences of T ticks, as both networks see them.

    Attributes:
        dance: N chunks for G_MD.
        music: S steps for G_DM.
        ticks_before: (B, 12, 152) what was danced before.
        interval_s: (B, 12 + T) of each tick since the one before.
        energies: (B, 2) the dancer's running energies at the first of all these.
        features: (B, 12 + T, F) music features, as they are.
        shift: (B,) int64, semitones over the home key.
    """

    dance: Batch
    music: MusicBatch
    ticks_before: Floats
    interval_s: Floats
    energies: Floats
    features: Floats
    shift: NDArray[np.int64]


class PairSampler:
    """Draws sequences from pairs; deterministic for its generators.

    Args:
        pairs: too short ones are never drawn.
        dances: sampler of the single task, whose representation, scales and settings are used.
        music: the same for the other task.

    Raises:
        UserError: no pair is long enough, or a sequence is not a whole number of beats.
    """

    def __init__(self, pairs: Sequence[Pair], dances: SequenceSampler, music: MusicSampler) -> None:
        s, chunk = dances.settings, dances.representation.chunk_ticks
        ticks = s.chunks * chunk
        if ticks % TICKS_PER_BEAT:
            raise UserError(f"{s.chunks} chunks of {chunk} ticks are no whole beats", "change [sequence] chunks")
        self.ticks, self.chunk_ticks, self.dance_lookahead = ticks, chunk, s.lookahead_ticks
        self.steps, self.music_lookahead = ticks // TICKS_PER_STEP, music.settings.lookahead_ticks
        whole = replace(
            s, drop_music=0.0, drop_bar=0.0, drop_style=0.0, drop_energy=0.0, drop_phrase=0.0, music_noise=0.0
        )
        self._dances = SequenceSampler(
            [pair.dance for pair in pairs],
            dances.representation,
            dances.phrases,
            dances.music_mean,
            dances.music_scale,
            whole,
            dances.ranked,
        )
        heard = replace(
            music.settings,
            steps=self.steps,
            dance=1.0,
            lookahead_jitter=0,
            drop_dance=0.0,
            drop_bar=0.0,
            drop_mode=0.0,
            drop_energy=0.0,
            drop_density=0.0,
            drop_phrase=0.0,
            begin=0.0,
            pose_noise=0.0,
            tempo_jitter=0.0,
        )
        self._music = _MusicAt(
            {"dance": [pair.piece for pair in pairs]}, music.phrases, heard, music.pose_mean, music.pose_scale
        )
        self._pairs = tuple(pairs)
        self._beats = [self._beats_of(index) for index in range(len(pairs))]
        lengths = np.array([len(beats) for beats in self._beats], float)
        if not lengths.any():
            raise UserError("no dance with written music is long enough", "shorten [sequence] chunks")
        self._share = lengths / lengths.sum()

    def _beats_of(self, index: int) -> range:
        """Return the beats on which a sequence of a pair may begin."""
        pair, prepared = self._pairs[index], self._dances.clips[index]
        begin = max(prepared.first_tick + self.chunk_ticks, pair.dance.first_tick) + BEFORE_TICKS
        begin = max(begin, pair.tick + BEFORE_TICKS)
        end = min(
            prepared.first_tick + len(prepared.latents) * self.chunk_ticks,
            pair.tick + pair.piece.tokens.steps * TICKS_PER_STEP,
            pair.dance.first_tick + len(pair.dance.ticks),
        )
        return range(-(-begin // TICKS_PER_BEAT), (end - self.ticks) // TICKS_PER_BEAT + 1)

    def sequences(self, randoms: Sequence[np.random.Generator]) -> PairedSequences:
        """Draw a sequence with each generator."""
        places = [self._place(random) for random in randoms]
        columns = zip(
            *(
                self._dances.sequence_at(
                    random, index, (tick - self._dances.clips[index].first_tick) // self.chunk_ticks
                )
                for random, (index, tick) in zip(randoms, places, strict=True)
            ),
            strict=True,
        )
        music, condition, history, target, runs = (np.stack(column) for column in columns)
        steps = [(index, (tick - self._pairs[index].tick) // TICKS_PER_STEP) for index, tick in places]
        before, interval, energies, features = (
            np.stack(column).astype(np.float32)
            for column in zip(*(self._around(*place) for place in places), strict=True)
        )
        return PairedSequences(
            Batch(music, condition, history, target, runs.reshape(*history.shape[:2], self.chunk_ticks + 1, -1)),
            self._music.sequences_at(randoms, steps),
            before,
            interval,
            energies,
            features,
            np.array([self._pairs[index].shift for index, _ in places], np.int64),
        )

    def _place(self, random: np.random.Generator) -> tuple[int, int]:
        """Return a pair and the tick of a beat of it."""
        index = int(random.choice(len(self._pairs), p=self._share))
        beats = self._beats[index]
        return index, TICKS_PER_BEAT * (beats.start + int(random.integers(len(beats))))

    def _around(self, index: int, tick: int) -> tuple[NDArray[np.floating], ...]:
        """Return what a sequence has beside what the networks are given; see `PairedSequences`."""
        pair = self._pairs[index]
        row = tick - pair.dance.first_tick
        rows = slice(row - BEFORE_TICKS, row + self.ticks)
        assert pair.dance.music is not None
        assert pair.piece.poses is not None
        poses = pair.piece.poses[tick - BEFORE_TICKS - pair.tick]
        return (
            pair.dance.ticks[row - BEFORE_TICKS : row],
            60.0 / (TICKS_PER_BEAT * pair.dance.tempo_bpm[rows]),
            poses[-2:],
            pair.dance.music[rows],
        )


class _MusicAt(MusicSampler):
    """A sampler whose sequences begin where they are told to."""

    _wanted: tuple[Run, ...] = ()

    def sequences_at(self, randoms: Sequence[np.random.Generator], places: Sequence[tuple[int, int]]) -> MusicBatch:
        """Return the sequences that begin in some pieces at some steps."""
        runs = []
        for index, start in places:
            part = self._parts["dance"][index]
            stop = min(start + self.settings.steps + TAIL_STEPS, part.piece.tokens.steps)
            runs.append(run_at(part, start, np.arange(start, stop)))
        self._wanted = tuple(runs)
        return self.sequences(randoms, dances=True)

    def _run(self, random: np.random.Generator, kind: str) -> Run:
        if not self._wanted:
            return super()._run(random, kind)
        run, *rest = self._wanted
        self._wanted = tuple(rest)
        return run
