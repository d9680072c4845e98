"""Runs of music to learn from, put together from pieces whose voices are known apart.

A song (bass, chords, lead) is given a drummer of the same metre and a fitting tempo, who may change at a bar line or
lay out for some bars: so that the network learns four voices together, and that energy can change within a piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.dance_to_music.phrases import MusicPhraseSpace, step_statistics
from models.dance_to_music.tokens import FIRST_VALUE, HOLD_TOKEN, LEVELS, REST_TOKEN, TokenGrid
from models.symbolic.step_grid import STEPS_PER_BEAT

Floats = NDArray[np.float32]
Rows = dict[str, NDArray[np.int16]]

ROWS = ("drums", "voices", "levels", "sounding", "ages")
"""Arrays of a `TokenGrid`."""
TAIL_STEPS = 64
"""What follows a sequence is heard too, so that its last phrase and energies are whole."""
_VOICE_WEIGHTS = (1.0, 0.8, 0.8, 0.8)
"""What a full-velocity note of each voice adds to the energy."""
_TEMPO_RATIO = 1.3
"""A drummer plays along at up to this much faster or slower than they were recorded."""


@dataclass(frozen=True)
class MusicPiece:
    """A piece in the home key (`models.dance_to_music.tokens`) whose step 0 lies on a beat.

    Attributes:
        name: of the piece.
        tokens: S steps.
        tempo_bpm: (S,).
        beats_per_bar: of the music.
        bar_step: a step that begins a bar, None where that is not known.
        minor: None while unknown.
        poses: (3 S, P) pose features, row k of tick k; None without a dance.
    """

    name: str
    tokens: TokenGrid
    tempo_bpm: NDArray[np.float64]
    beats_per_bar: int
    bar_step: int | None
    minor: bool | None
    poses: Floats | None = None


@dataclass(frozen=True)
class Part:
    """A piece with what each of its steps adds to energy, density and phrase; (S,), (S,), (S, STATISTICS)."""

    piece: MusicPiece
    loudness: Floats
    onsets: Floats
    statistics: Floats
    tempo_bpm: float

    @staticmethod
    def of(piece: MusicPiece, phrases: MusicPhraseSpace) -> Part:
        """Measure a piece."""
        tokens = piece.tokens
        statistics, known = step_statistics(tokens)
        begins = tokens.voices >= FIRST_VALUE
        loud = np.where(begins, (tokens.levels + 1.0) / LEVELS, 0.0) @ np.array(_VOICE_WEIGHTS[1:])
        loud = loud + _VOICE_WEIGHTS[0] * (tokens.drums / LEVELS).sum(axis=1)
        onsets = begins.sum(axis=1) + (tokens.drums > 0).sum(axis=1)
        centred = ((statistics - phrases.mean) * known).astype(np.float32)
        tempo = float(np.median(piece.tempo_bpm))
        return Part(piece, loud.astype(np.float32), onsets.astype(np.float32), centred, tempo)


@dataclass
class Run:
    """Consecutive steps of one or two parts together: a sequence and its tail, or less at the end of a piece.

    Attributes:
        piece: whose metre, mode and dance it has.
        start: its first step in that piece.
        rows: arrays named as in `ROWS`.
        known: (4,) voices.
        loudness, onsets, statistics: as in `Part`, of all its parts together.
        tempo_bpm: of each step.
        cuts: steps at which the drummer changes.
        before: rows of the step before it, None: silence.
    """

    piece: MusicPiece
    start: int
    rows: Rows
    known: NDArray[np.bool_]
    loudness: Floats
    onsets: Floats
    statistics: Floats
    tempo_bpm: NDArray[np.float64]
    cuts: list[int] = field(default_factory=list)
    before: Rows | None = None

    @property
    def steps(self) -> int:
        """Steps with the tail."""
        return len(self.loudness)

    def begin(self) -> None:
        """Let there be silence before: what goes on from before is left out."""
        self.before = None
        voices = self.rows["voices"]
        for voice in range(voices.shape[1]):
            others = np.flatnonzero(voices[:, voice] != HOLD_TOKEN)
            lead_in = int(others[0]) if len(others) else len(voices)
            voices[:lead_in, voice] = REST_TOKEN
            self.rows["sounding"][:lead_in, voice] = -1
            self.rows["ages"][:lead_in, voice] = np.arange(lead_in)


def first_step(piece: MusicPiece) -> int:
    """Return the step from which runs are cut: before a dance's, poses have to be there."""
    return STEPS_PER_BEAT if piece.poses is not None else 0


def holds(piece: MusicPiece, steps: int) -> bool:
    """Return whether a run of `steps` can be cut without going round."""
    return piece.tokens.steps >= steps + first_step(piece)


def cut(random: np.random.Generator, part: Part, steps: int) -> Run:
    """Cut a run of `steps` and its tail out of a piece; one that is too short goes round, by whole bars.

    Its poses do not: who learns from dances leaves out those that do not hold a run (`holds`).
    """
    piece, tokens = part.piece, part.piece.tokens
    first = first_step(piece)
    if holds(piece, steps):
        start = int(random.integers(first, tokens.steps - steps + 1))
        # Half of the sequences begin with a beat: so does most music on the stage.
        if random.random() < 0.5:
            start = max(start - start % STEPS_PER_BEAT, first)
        index = np.arange(start, min(start + steps + TAIL_STEPS, tokens.steps))
    else:
        bar = STEPS_PER_BEAT * piece.beats_per_bar
        whole = max(tokens.steps // bar * bar, min(tokens.steps, bar))
        start = STEPS_PER_BEAT * int(random.integers(0, max(whole // STEPS_PER_BEAT, 1)))
        index = (start + np.arange(steps + TAIL_STEPS)) % whole
    return run_at(part, start, index)


def run_at(part: Part, start: int, index: NDArray[np.intp]) -> Run:
    """Return the run of a piece's steps `index`, the first of which is `start`."""
    piece, tokens = part.piece, part.piece.tokens
    return Run(
        piece,
        start,
        {name: getattr(tokens, name)[index] for name in ROWS},
        tokens.known.copy(),
        part.loudness[index],
        part.onsets[index],
        part.statistics[index],
        np.asarray(piece.tempo_bpm)[index],
        before={name: getattr(tokens, name)[start - 1 : start] for name in ROWS} if start > 0 else None,
    )


def fitting(song: Part, drummers: Sequence[Part]) -> list[Part]:
    """Return the drummers who can play along with a song."""
    return [
        d
        for d in drummers
        if d.piece.beats_per_bar == song.piece.beats_per_bar
        and 1.0 / _TEMPO_RATIO < d.tempo_bpm / song.tempo_bpm < _TEMPO_RATIO
    ]


def join_drummers(
    random: np.random.Generator, run: Run, drummers: Sequence[Part], steps: int, changes: float, lay_out: float
) -> None:
    """Let drummers play along with a run of a song: another one, or none, from some bar lines on.

    Args:
        random: decides.
        run: is changed.
        drummers: who fit; if there are none, the drums lay out.
        steps: of the sequence proper, in which drummers change.
        changes: mean number of changes.
        lay_out: share of the stretches in which nobody drums.
    """
    bar = STEPS_PER_BEAT * run.piece.beats_per_bar
    position = run.start - (run.piece.bar_step or 0)
    lines = np.arange(-position % bar, steps, bar)
    count = min(int(random.poisson(changes)), len(lines))
    run.cuts = sorted(int(c) for c in random.choice(lines, size=count, replace=False)) if count else []
    run.known[0] = True
    for begin, end in itertools.pairwise([0, *run.cuts, run.steps]):
        if not drummers or end <= begin or random.random() < lay_out:
            continue
        drummer = drummers[int(random.integers(len(drummers)))]
        steps_of = drummer.piece.tokens.steps
        whole = max(steps_of // bar * bar, min(bar, steps_of))
        offset = bar * int(random.integers(max(whole // bar, 1))) + (drummer.piece.bar_step or 0)
        # The drummer's bar position is the song's.
        index = (offset + position + np.arange(begin, end)) % whole
        run.rows["drums"][begin:end] = drummer.piece.tokens.drums[index]
        run.loudness[begin:end] += drummer.loudness[index]
        run.onsets[begin:end] += drummer.onsets[index]
        run.statistics[begin:end] += drummer.statistics[index]
