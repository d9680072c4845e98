"""From step grids and prepared dances to what the dance -> music model learns from: pieces in the home key.

A piece whose key nobody wrote down is given the key its notes fit best (`models.symbolic.keys`). Relative keys share
one home, so confusing them costs little.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.body.pose_features import PoseFeatureExtractor, PoseFeatureSpec
from engine.errors import UserError
from engine.types import TICKS_PER_BEAT, TICKS_PER_STEP, Key
from models.dance_to_music.bands import MusicPiece
from models.dance_to_music.phrases import MusicPhraseSpace
from models.dance_to_music.sequences import MusicSampler, MusicSequenceSettings
from models.dance_to_music.tokens import TokenGrid
from models.data.dataset import PreparedClip, PreparedData
from models.symbolic.corpora import load_corpora
from models.symbolic.keys import estimate_key, pitch_class_weights
from models.symbolic.step_grid import STEPS_PER_BEAT, StepGrid

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
_WRONG_KEY_SHARE = 0.1
"""A written key that leaves this much more of the notes outside its scale than the estimate does is not believed."""
_KINDS = {"pop909": "song", "groove": "drums", "abc": "melody"}
SCORES = "scores"
"""Folder of the prepared data in which the step grids of its music lie, one .npz a clip."""
_MOST_STRUCK = 0.75
"""Where a transcription hears drums in more of its steps than this it hears the whole band: they are not known."""
_FEWEST_STEPS = 8
_PHRASE_WINDOW_STEPS = 32


@dataclass(frozen=True)
class MusicData:
    """Pieces by kind (`models.dance_to_music.sequences.KINDS`), for each split."""

    train: dict[str, list[MusicPiece]]
    val: dict[str, list[MusicPiece]]


def believable_key(grid: StepGrid) -> Key | None:
    """Return the written key of a grid, or the estimate if there is none or the notes speak against it."""
    histogram = pitch_class_weights(grid)
    estimate = estimate_key(histogram)
    if grid.key is None or estimate is None:
        return grid.key or estimate
    gain = scale_share(histogram, estimate) - scale_share(histogram, grid.key)
    return estimate if gain > _WRONG_KEY_SHARE else grid.key


def scale_share(histogram: NDArray[np.float64], key: Key) -> float:
    """Return the share of a histogram (12,) that lies in the (natural) scale of a key."""
    tonic = key.tonic + (3 if key.minor else 0)
    return float(histogram[[(tonic + step) % 12 for step in _MAJOR_SCALE]].sum() / max(histogram.sum(), 1e-9))


def piece_of(grid: StepGrid) -> MusicPiece | None:
    """Convert a grid; None if it is too short. Its first step is moved to a beat."""
    start = grid.bar_step % STEPS_PER_BEAT
    if grid.steps - start < max(_FEWEST_STEPS, STEPS_PER_BEAT * grid.beats_per_bar):
        return None
    grid = grid.cut(start, grid.steps) if start else grid
    key = believable_key(grid)
    return MusicPiece(
        name=grid.name,
        tokens=TokenGrid.of(grid, key),
        tempo_bpm=np.asarray(grid.tempo_bpm, np.float64),
        beats_per_bar=grid.beats_per_bar,
        bar_step=grid.bar_step % grid.steps_per_bar,
        minor=None if key is None else key.minor,
    )


def load_music(midi_folder: Path, cache: Path | None) -> MusicData:
    """Read the MIDI corpora, train and val. Raises UserError if there are none."""
    return MusicData(*(_by_kind(load_corpora(midi_folder, split, cache)) for split in ("train", "val")))


def _by_kind(grids: Iterable[StepGrid]) -> dict[str, list[MusicPiece]]:
    kinds: dict[str, list[MusicPiece]] = {kind: [] for kind in ("drums", "song", "melody", "dance")}
    for grid in grids:
        piece = piece_of(grid)
        if piece is not None:
            kinds[_KINDS[grid.source]].append(piece)
    return kinds


def pose_rows(clip: PreparedClip) -> tuple[Floats, Floats]:
    """Return the pose features (T, P) of a dance, tick by tick as on the stage, and of its mirror image."""
    extractor = PoseFeatureExtractor()
    poses = zip(clip.rotations, clip.translation_m, clip.contacts, clip.tempo_bpm, strict=True)
    rows = np.stack([extractor.process(r, t, c, 60.0 / (TICKS_PER_BEAT * float(bpm))) for r, t, c, bpm in poses])
    return rows, PoseFeatureSpec().mirrored(rows)


def paired_pieces(clip: PreparedClip, grid: StepGrid, grid_tick: int, mirrored: bool) -> list[MusicPiece]:
    """Join a dance and its music; mirrored too if asked for.

    Args:
        clip: the dance.
        grid: its music; step 0 lies at tick `grid_tick` of the dance's timeline.
        grid_tick: a multiple of three.
        mirrored: whether the mirror image is added.

    Returns:
        Pieces that begin on a beat; none if they hardly overlap.
    """
    first = -(-max(clip.first_tick, grid_tick) // TICKS_PER_BEAT) * TICKS_PER_BEAT
    begin = (first - grid_tick) // TICKS_PER_STEP
    steps = min(grid.steps - begin, (clip.ticks - (first - clip.first_tick)) // TICKS_PER_STEP)
    if steps < _FEWEST_STEPS:
        return []
    part = _without_heard_in(grid.cut(begin, begin + steps))
    piece = piece_of(replace(part, bar_step=0))
    if piece is None:
        return []
    bar = part.bar_step if part.bar_step % STEPS_PER_BEAT == 0 else None
    ticks = slice(first - clip.first_tick, first - clip.first_tick + TICKS_PER_STEP * steps)
    sides = pose_rows(clip)[: 2 if mirrored else 1]
    return [replace(piece, bar_step=bar, poses=rows[ticks]) for rows in sides]


def first_step_row(clip: PreparedClip) -> int:
    """Return the row of a clip at which its score begins: the first tick that begins a step."""
    return -clip.first_tick % TICKS_PER_STEP


def load_dances(prepared: Path) -> MusicData:
    """Read the prepared dances, train and val, whose music has a step grid in `scores/`.

    Raises:
        UserError: the folder cannot be used, or none of its music has a grid.
    """
    data = PreparedData.load(prepared)
    kinds: dict[str, list[MusicPiece]] = {"train": [], "val": []}
    for split, pieces in kinds.items():
        for clip in data.split(split):
            path = prepared / SCORES / f"{clip.name}.npz"
            if path.is_file():
                grid = StepGrid.load(path)
                grid_tick = clip.first_tick + first_step_row(clip)
                pieces += paired_pieces(clip, grid, grid_tick, mirrored=split == "train")
    if not kinds["train"]:
        raise UserError(f"{prepared} holds no transcribed music", "make step grids of its music first")
    return MusicData({"dance": kinds["train"]}, {"dance": kinds["val"]})


def _without_heard_in(grid: StepGrid) -> StepGrid:
    """Return a transcription without drums that are struck all the time."""
    if (grid.drums > 0.0).any(axis=1).mean() <= _MOST_STRUCK:
        return grid
    return replace(grid, drums=np.zeros_like(grid.drums), known=grid.known & (np.arange(4) > 0))


def fit_phrases(pieces: dict[str, list[MusicPiece]]) -> MusicPhraseSpace:
    """Fit phrase descriptors to training pieces of every kind."""
    tokens = [p.tokens for group in pieces.values() for p in group if p.tokens.steps >= _PHRASE_WINDOW_STEPS]
    return MusicPhraseSpace.fit(tokens, _PHRASE_WINDOW_STEPS)


def music_sampler(
    pieces: dict[str, list[MusicPiece]],
    phrases: MusicPhraseSpace,
    settings: MusicSequenceSettings,
    poses: Sequence[Floats],
) -> MusicSampler:
    """Return a sampler; `poses` (T, P) are those of the training dances, for normalisation (none: unit)."""
    count = PoseFeatureSpec().size
    if not poses:
        return MusicSampler(pieces, phrases, settings, np.zeros(count, np.float32), np.ones(count, np.float32))
    rows = np.concatenate(list(poses))
    scale = 1.0 / np.maximum(rows.std(axis=0, dtype=np.float64), 1e-2)
    mean = rows.mean(axis=0, dtype=np.float64)
    return MusicSampler(pieces, phrases, settings, mean.astype(np.float32), scale.astype(np.float32))
