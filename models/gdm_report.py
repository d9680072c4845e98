"""Play to the dances of a split, measure, and write what was played: figures, a table, MIDI files and piano rolls."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engine.protocols import Composer
from engine.types import DRUMS
from models.composed import DanceToPlay
from models.dataset import PreparedData
from models.gdm_data import SCORES, pose_rows
from models.gdm_evaluation import EnergyScale, PlayedFigures, dance_to_play, measure, play_and_measure, summary
from models.gmd_data import load_dances
from models.symbolic.chords import pitch_classes, symbol_of
from models.symbolic.music_metrics import Range
from models.symbolic.step_grid import StepGrid, notes_of
from models.symbolic.to_midi import to_midi

log = logging.getLogger(__name__)

_CHORD_OCTAVE = 48
_DRAWN_S = 60.0


def report(
    composer: Composer,
    prepared: Path,
    split: str,
    out: Path,
    *,
    seeds: Sequence[int] = (0, 1),
    ranges: dict[str, Range] | None = None,
) -> list[PlayedFigures]:
    """Play to every dance of a split; write `figures.json`, `table.md`, `<dance>.mid` and `<dance>.png` (first seed).

    Args:
        composer: plays.
        prepared: folder made by `pasdedeux prepare`; with its scores, the real music is measured beside.
        split: "val", or once, at the end, "test".
        out: folder.
        seeds: pieces per dance.
        ranges: of the corpora, for the table.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = PreparedData.load(prepared)
    scale = EnergyScale.of([pose_rows(clip)[0] for clip in data.split("train")])
    dances = load_dances(data.clips)
    bars = {d.name: d.bar_tick or 0 for d in (*dances.train, *dances.val, *dances.test)}
    ahead = composer.info.lookahead_ticks
    clips = data.split(split)
    asked = {c.name: (dance_to_play(c, scale, bars[c.name], ahead), c.style, split) for c in clips}
    played = play_and_measure(composer, asked, seeds)
    figures = [found for _, found in played]
    for grid, found in played:
        if found.seed == seeds[0]:
            energy = np.asarray(asked[grid.name][0].energy, np.float64)
            (out / f"{grid.name}.mid").write_bytes(to_midi(grid))
            draw(grid, energy, out / f"{grid.name}.png", f"{grid.name}, {found.style}")
    real = [
        measure(*_real(StepGrid.load(prepared / SCORES / f"{c.name}.npz"), asked[c.name][0]), c.style, 0)
        for c in clips
        if c.has_audio and (prepared / SCORES / f"{c.name}.npz").is_file()
    ]
    tables = [f"## played to {len(clips)} dances ({split}), {len(seeds)} seeds\n\n" + summary(figures, ranges)]
    if real:
        tables.append("## the music they were danced to, transcribed\n\n" + summary(real, ranges))
    (out / "table.md").write_text("\n".join(tables))
    content = {"played": [asdict(f) for f in figures], "transcribed": [asdict(f) for f in real]}
    (out / "figures.json").write_text(json.dumps(content, indent=1))
    return figures


def _real(score: StepGrid, dance: DanceToPlay) -> tuple[StepGrid, NDArray[np.float64]]:
    """Return the transcribed music and the movement's energy over the steps that both have, from the first beat on."""
    start = score.bar_step % 4
    part = score.cut(start, min(score.steps, start + len(dance.energy)))
    return part, np.asarray(dance.energy, np.float64)[: part.steps]


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
