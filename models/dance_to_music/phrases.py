"""Phrases of music: what a band is about to play for the next bars, as a few numbers; the dual of
`models.music_to_dance.phrases`.

While learning, each phrase of real music is described by statistics of its voices (which drums, on which sixteenths,
how dense, how high, how often the chords change); on the stage descriptors of real phrases are drawn by seed, metre
and energy. So the same dance gives another piece with another seed.

Pure NumPy: the stage uses it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.dance_to_music.tokens import FIRST_VALUE, LEVELS, TokenGrid
from models.music_to_dance.conditioning import PHRASE_SIZE
from models.symbolic.step_grid import STEPS_PER_BEAT

Floats = NDArray[np.float32]

_DRUMS = 9
STATISTICS = _DRUMS + STEPS_PER_BEAT + 1 + 3 * (STEPS_PER_BEAT + 3)
_SMALLEST_DEVIATION = 1e-4


def step_statistics(tokens: TokenGrid) -> tuple[Floats, NDArray[np.bool_]]:
    """Return what each step adds to its phrase (S, STATISTICS), beat-aligned, and which columns are known.

    The grid's step 0 has to lie on a beat.
    """
    steps = tokens.steps
    columns: list[NDArray[np.generic]] = []
    known: list[bool] = []
    inside = np.arange(steps) % STEPS_PER_BEAT == np.arange(STEPS_PER_BEAT)[:, None]
    loud = tokens.drums / LEVELS
    columns += [*loud.T, *(inside * (loud > 0.0).any(axis=1)), loud.max(axis=1)]
    known += [bool(tokens.known[0])] * (_DRUMS + STEPS_PER_BEAT + 1)
    for voice in range(3):
        begins = tokens.voices[:, voice] >= FIRST_VALUE
        sounding = tokens.sounding[:, voice]
        before = np.concatenate([sounding[:1], sounding[:-1]])
        changes = begins & (before >= 0) & (sounding != before)
        # A chord's class has no height; its quality (sevenths, suspensions) has.
        height = np.where(sounding % 8 >= 2, 1.0, 0.0) if voice == 1 else sounding / 24.0 - 0.75
        columns += [*(inside * begins), sounding < 0, changes, np.where(sounding >= 0, height, 0.0)]
        known += [bool(tokens.known[1 + voice])] * (STEPS_PER_BEAT + 3)
    return np.stack(columns, axis=1).astype(np.float32), np.array(known)


@dataclass(frozen=True)
class MusicPhraseSpace:
    """Maps windows of music to descriptors.

    Attributes:
        mean: (STATISTICS,) of window means.
        whitening: (STATISTICS, PHRASE_SIZE).
    """

    mean: Floats
    whitening: Floats

    @staticmethod
    def fit(pieces: Sequence[TokenGrid], window_steps: int) -> MusicPhraseSpace:
        """Fit to pieces, on windows of `window_steps`; voices that a piece lacks count as average."""
        windows, masks = [], []
        for piece in pieces:
            rows, known = step_statistics(piece)
            sums = _cumulative(rows)
            starts = np.arange(0, piece.steps - window_steps + 1, 2 * STEPS_PER_BEAT)
            windows.append((sums[starts + window_steps] - sums[starts]) / window_steps)
            masks.append(np.broadcast_to(known, windows[-1].shape))
        data, mask = np.concatenate(windows), np.concatenate(masks)
        count = np.maximum(mask.sum(axis=0), 1)
        mean = (data * mask).sum(axis=0) / count
        centred = (data - mean) * mask
        deviation = np.maximum(np.sqrt((centred**2).sum(axis=0) / count), _SMALLEST_DEVIATION)
        normal = centred / deviation
        # Only what is known together says how columns go together.
        together = np.maximum(mask.T.astype(np.float64) @ mask, 1.0)
        variance, axes = np.linalg.eigh(normal.T @ normal / together)
        variance, axes = variance[::-1][:PHRASE_SIZE], axes[:, ::-1][:, :PHRASE_SIZE]
        whitening = axes / np.sqrt(np.maximum(variance, _SMALLEST_DEVIATION)) / deviation[:, None]
        return MusicPhraseSpace(mean.astype(np.float32), whitening.astype(np.float32))

    def cumulative(self, tokens: TokenGrid) -> NDArray[np.float64]:
        """Return running sums (S + 1, STATISTICS), centred, from which any window's descriptor follows."""
        rows, known = step_statistics(tokens)
        return _cumulative((rows - self.mean) * known)

    def describe(self, cumulative: NDArray[np.float64], start: NDArray[np.intp], stop: NDArray[np.intp]) -> Floats:
        """Return descriptors (n, PHRASE_SIZE) of the windows [start, stop), each (n,)."""
        mean = (cumulative[stop] - cumulative[start]) / np.maximum(stop - start, 1)[:, None]
        return np.asarray(np.clip(mean @ self.whitening, -4.0, 4.0), np.float32)


def _cumulative(rows: Floats) -> NDArray[np.float64]:
    return np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])
