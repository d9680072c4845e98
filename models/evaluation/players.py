"""`pasdedeux evaluate --direction dance-to-music`: what plays to a dance, measured side by side on held-out dances.

Every composer plays to the same dances, causally, from silence, with the same seeds, the beat given; the same code
measures all of them (`models.dance_to_music.measure`), and the transcribed music that was really danced to. Intervals
are by the bootstrap over songs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from engine.errors import UserError
from engine.playing.rule_composer import RuleComposer
from engine.protocols import Composer
from models.artifacts import GDM_FOLDER
from models.dance_to_music.composed import DanceToPlay, compose
from models.dance_to_music.composer import OnnxComposer
from models.dance_to_music.data import SCORES, load_dances, pose_rows
from models.dance_to_music.measure import EnergyScale, PlayedFigures, dance_to_play, measure
from models.data.dataset import PreparedClip, PreparedData
from models.evaluation.piano_roll import draw
from models.evaluation.players_report import PlayersReport
from models.metrics import RESAMPLES
from models.music_to_dance.dances import load_dances as load_movement
from models.players.phrase_retrieval import MusicPhraseBank, PhraseRetrieval
from models.players.unconditional import Withheld
from models.symbolic.corpora import load_corpora
from models.symbolic.music_metrics import corpus_ranges
from models.symbolic.step_grid import STEPS_PER_BEAT, StepGrid
from models.symbolic.to_midi import to_midi

REAL = "real music, transcribed"
_RANGE_CORPUS = ("pop909",)
"""The one whose pieces have all voices but drums."""
_LOOKAHEAD_TICKS = 3
"""What every composer here has; the movement's energy is told so long before a step."""


@dataclass(frozen=True)
class PlayersPlan:
    """What is to be evaluated.

    Attributes:
        split: "val" while developing; "test" for reporting only.
        seeds: pieces a dance.
        systems: names, or parts of them, that are wanted; all if empty.
        resamples: of the bootstrap.
    """

    split: str = "val"
    seeds: int = 3
    systems: tuple[str, ...] = ()
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        if self.split not in ("val", "test"):
            raise UserError(f"no split {self.split}", "give val or test")
        if self.seeds < 1:
            raise UserError("too little to measure", "give at least one seed")


@dataclass(frozen=True)
class _Stage:
    """One held-out dance, as composers see it, and the music it was really danced to."""

    name: str
    style: str
    dance: DanceToPlay
    score: StepGrid | None


def evaluate_players(
    prepared: Path,
    music: Path | None,
    out: Path,
    plan: PlayersPlan,
    composers: Sequence[Path] = (),
    rivals: Sequence[Path] = (),
    quiet: bool = False,
) -> Path:
    """Play, measure, and write `players.json`, `players.md` and the music (MIDI, pictures); return the table.

    Args:
        prepared: folder made by `pasdedeux prepare --transcribe`.
        music: folder of the MIDI corpora, whose range is shown beside; None: not shown.
        out: folder of the evaluation.
        plan: what to evaluate.
        composers: folders of exported models that are also played with the dance withheld; the first is what the
            others are compared with. The shipped one if none is given.
        rivals: folders of other exported players.
        quiet: no progress bar.

    Raises:
        UserError: the data, a model or the plan cannot be used.
    """
    stages = _stages(prepared, plan.split)
    players = _players(prepared, composers or [GDM_FOLDER], rivals, plan)
    figures: dict[str, list[PlayedFigures]] = {}
    console = Console(quiet=quiet)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(players) * len(stages))
        for player in players:
            progress.update(task, description=player.info.name)
            for stage in stages:
                figures.setdefault(player.info.name, []).extend(_play(player, stage, plan, out))
                progress.advance(task)
    real = [_measure_real(stage) for stage in stages if stage.score is not None]
    if real:
        figures[REAL] = real
    ranges = corpus_ranges(load_corpora(music, "val", out / "grids", _RANGE_CORPUS)) if music else {}
    report = PlayersReport.of(plan.split, plan.seeds, [s.name for s in stages], figures, ranges, plan.resamples)
    report.save(out)
    console.print(report.markdown(), markup=False, highlight=False, soft_wrap=True)
    return out / PlayersReport.TABLE_FILE


def _stages(prepared: Path, split: str) -> list[_Stage]:
    data = PreparedData.load(prepared)
    clips = data.split(split)
    if not clips:
        raise UserError(f"{prepared} has no {split} clips", "prepare data whose index has that split")
    scale = EnergyScale.of([pose_rows(clip)[0] for clip in data.split("train")])
    movement = load_movement(data.clips)
    bars = {d.name: d.bar_tick or 0 for d in (*movement.train, *movement.val, *movement.test)}

    def stage(clip: PreparedClip) -> _Stage:
        path = prepared / SCORES / f"{clip.name}.npz"
        score = StepGrid.load(path) if clip.has_audio and path.is_file() else None
        dance = dance_to_play(clip, scale, bars[clip.name], _LOOKAHEAD_TICKS)
        return _Stage(clip.name, clip.style, dance, score)

    return [stage(clip) for clip in clips]


def _players(prepared: Path, ours: Sequence[Path], rivals: Sequence[Path], plan: PlayersPlan) -> list[Composer]:
    bank = MusicPhraseBank(load_dances(prepared).train["dance"])
    players: list[Composer] = []
    for folder in ours:
        players += [
            OnnxComposer(folder),
            Withheld(OnnxComposer(folder), energy=True),
            Withheld(OnnxComposer(folder)),
        ]
    players += [OnnxComposer(folder) for folder in rivals]
    players += [PhraseRetrieval(bank), PhraseRetrieval(bank, by_movement=False), RuleComposer()]
    names = [player.info.name for player in players]
    if len(set(names)) < len(names):
        raise UserError("two models have one name", "export them under names of their own")
    late = [player.info.name for player in players if player.info.lookahead_ticks != _LOOKAHEAD_TICKS]
    if late:
        raise UserError(f"{late[0]} is not asked {_LOOKAHEAD_TICKS} ticks ahead", "measure it by itself")
    chosen = [p for p in players if not plan.systems or any(part in p.info.name for part in plan.systems)]
    if not chosen:
        raise UserError(f"nobody is called {' or '.join(plan.systems)}", f"there are: {', '.join(names)}")
    return chosen


def _play(player: Composer, stage: _Stage, plan: PlayersPlan, out: Path) -> list[PlayedFigures]:
    """Play to a dance with each seed; keep the first as MIDI and as a picture."""
    energy, found = np.asarray(stage.dance.energy, np.float64), []
    for seed in range(plan.seeds):
        grid = compose(player, stage.dance, seed, stage.name, plan.split)
        found.append(measure(grid, energy, stage.style, seed))
        if seed == 0:
            folder = out / "music" / player.info.name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{stage.name}.mid").write_bytes(to_midi(grid))
            draw(grid, energy, folder / f"{stage.name}.png", f"{player.info.name}: {stage.name}, {stage.style}")
    return found


def _measure_real(stage: _Stage) -> PlayedFigures:
    """Measure the transcribed music over the steps that it and the dance have, from the first beat on."""
    assert stage.score is not None
    start = stage.score.bar_step % STEPS_PER_BEAT
    part = stage.score.cut(start, min(stage.score.steps, start + len(stage.dance.energy)))
    return measure(part, np.asarray(stage.dance.energy, np.float64)[: part.steps], stage.style, 0)
