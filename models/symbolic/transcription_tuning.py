"""How boldly to decode: thresholds that give the best agreement on validation songs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.types import DRUMS
from models.symbolic.score_agreement import Counts
from models.symbolic.transcription_decoding import Chances, Decoding, chord_path, notes_path

_FEWEST = 20  # strokes in the validation songs below which a drum's threshold cannot be told
_CHANCES = np.arange(0.3, 0.75, 0.05)  # below it a stroke is a guess, and a band without drums is given some
_BIASES = np.arange(-1.5, 1.75, 0.25)
_COSTS = (1.0, 2.0, 4.0, 6.0, 9.0, 13.0)


def tune(heard: Sequence[Chances], truths: Sequence[dict[str, NDArray[Any]]]) -> Decoding:
    """Return the thresholds with the best F1, chords by the share of steps that are right.

    Args:
        heard: of each validation song.
        truths: of each song: `drums` (S, 9), `bass`, `chord`, `lead` (S,) as in `StepGrid`, `labels` (S,) chord in
            force, `downbeats` (S,).
    """
    pairs = list(zip(heard, truths, strict=True))

    def counts(said: Callable[[Chances], NDArray[np.bool_]], there: Callable[..., NDArray[np.bool_]]) -> float:
        total = Counts()
        for chances, truth in pairs:
            total.add(said(chances), there(truth))
        return total.f1 if total.there else 0.0

    drums = []
    for drum in range(len(DRUMS)):
        enough = sum([int((truth["drums"][:, drum] > 0).sum()) for truth in truths]) >= _FEWEST
        scores = [
            counts(lambda c, d=drum, x=x: c.drums[:, d] > _logit(x), lambda t, d=drum: t["drums"][:, d] > 0)  # type: ignore[misc]
            for x in _CHANCES
        ]
        drums.append(round(float(_CHANCES[int(np.argmax(scores))]), 2) if enough else 0.5)
    strokes = [
        counts(lambda c, x=x: c.chord_begins[:, 0] > _logit(x), lambda t: t["chord"] >= 0)  # type: ignore[misc]
        for x in _CHANCES
    ]
    how = Decoding(
        drums=tuple(drums),
        bass_begin=_best_bias([(c.bass_state, c.bass_pitch, c.bass_lowest, t["bass"]) for c, t in pairs]),
        lead_begin=_best_bias([(c.lead_state, c.lead_pitch, c.lead_lowest, t["lead"]) for c, t in pairs]),
        chord_begins=round(float(_CHANCES[int(np.argmax(strokes))]), 2),
    )
    right = []
    for cost in _COSTS:
        share = []
        for chances, truth in pairs:
            downbeats = np.flatnonzero(truth["downbeats"])
            per_bar = int(np.diff(downbeats)[0]) // 4 if len(downbeats) > 1 else 4
            path = chord_path(chances.chord, per_bar, int(downbeats[0]), cost)
            share.append(float((path == truth["labels"]).mean()))
        right.append(float(np.mean(share)))
    return replace(how, change_cost=_COSTS[int(np.argmax(right))])


def _best_bias(songs: Sequence[tuple[NDArray[np.floating], NDArray[np.floating], int, NDArray[Any]]]) -> float:
    """Return the bias that finds most notes, step and pitch."""
    scores = []
    for bias in _BIASES.tolist():
        total = Counts()
        for state, pitch, lowest, truth in songs:
            said = notes_path(state, pitch, lowest, bias)
            both = (said >= 0) & (said == truth)
            total.hits += int(both.sum())
            total.said += int((said >= 0).sum())
            total.there += int((truth >= 0).sum())
        scores.append(total.f1)
    return float(_BIASES[int(np.argmax(scores))])


def _logit(chance: float) -> float:
    return float(np.log(chance / (1.0 - chance)))
