"""A piece as a picture: who plays what when, over the bars, and how wildly was danced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engine.types import DRUMS
from models.symbolic.chords import pitch_classes, symbol_of
from models.symbolic.step_grid import StepGrid, notes_of

_CHORD_OCTAVE = 48
_DRAWN_S = 60.0


def draw(grid: StepGrid, energy: NDArray[np.float64], path: Path, title: str) -> None:
    """Draw the first minute of a piece: drums, bass, chords and lead over the bars, and the energy (S,) under them."""
    steps = min(grid.steps, int(np.searchsorted(np.cumsum(15.0 / grid.tempo_bpm), _DRAWN_S)) + 1)
    grid = grid.cut(0, steps)
    figure = Figure(figsize=(22.0, 11.0), layout="constrained")
    drums, bass, pitched, below = figure.subplots(4, 1, sharex=True, height_ratios=[2.0, 1.2, 3.0, 0.8])
    hits = np.argwhere(grid.drums > 0.0)
    drums.scatter(hits[:, 0], hits[:, 1], c=grid.drums[hits[:, 0], hits[:, 1]], s=14.0, vmin=0.0, vmax=1.0)
    drums.set_yticks(range(len(DRUMS)), DRUMS)
    for begin, end, pitch in notes_of(grid.bass).tolist():
        bass.plot([begin, end - 0.2], [pitch, pitch], color="black", linewidth=3.0)
    for begin, end, chord in notes_of(grid.chord).tolist():
        pitched.text(begin, 92.0, symbol_of(chord), fontsize=6.0, rotation=60.0)
        for pitch_class in pitch_classes(chord):
            height = _CHORD_OCTAVE + pitch_class
            pitched.plot([begin, end - 0.2], [height, height], color="tab:orange", linewidth=3.0, alpha=0.6)
    for begin, end, pitch in notes_of(grid.lead).tolist():
        pitched.plot([begin, end - 0.2], [pitch, pitch], color="tab:blue", linewidth=3.0)
    below.plot(energy[:steps], color="tab:red")
    below.set_ylim(0.0, 1.0)
    for axes, name in ((bass, "bass"), (pitched, "chords, lead"), (below, "energy")):
        axes.set_ylabel(name)
    for axes in (drums, bass, pitched, below):
        for line in range(grid.bar_step % grid.steps_per_bar, steps, grid.steps_per_bar):
            axes.axvline(line, color="gray", linewidth=0.4)
    drums.set_title(title)
    figure.savefig(path, dpi=60)
