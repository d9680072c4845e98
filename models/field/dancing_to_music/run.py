"""`pasdedeux train` and `export` of Dancing to Music: prepared data in, one folder with both stages out.

`units/` of a run's folder holds the first stage (units and the style of music); the folder itself holds the second
(composition) with the weights of both. Each is a run of its own: killed at any moment, it goes on from its checkpoint.
The test split is never read here.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from engine.errors import UserError
from models.field.dancing_to_music.data import UnitData
from models.field.dancing_to_music.export import export
from models.field.dancing_to_music.lessons import CompositionLesson, DecompositionLesson
from models.field.dancing_to_music.network import Decomposition
from models.field.dancing_to_music.settings import UNITS_FOLDER, DancingToMusicSettings
from models.learning.checkpoint import is_run
from models.learning.finished import FinishedRun
from models.learning.launch import open_fabric
from models.learning.loop import Learning
from models.music_to_dance.rollout import RealDance

__all__ = ["export", "train"]

log = logging.getLogger(__name__)

_WATCH_UNITS = "val_unit"
"""What tells the best step of the first stage; the recipe's own `watch` is of the second."""


def train(
    settings: DancingToMusicSettings, prepared: Path, out: Path, *, resume: bool = False, minutes: float | None = None
) -> Path:
    """Train both stages; return the folder of the run.

    Args:
        settings: of the run.
        prepared: folder made by `pasdedeux prepare`.
        out: folder of the run.
        resume: go on from the checkpoints in `out`.
        minutes: stop after this time, whichever stage it is (the schedules go by steps all the same).

    Raises:
        UserError: the data cannot be used, or there is nothing to go on from, or a run is there that is not to go on.
    """
    if not resume and is_run(out / UNITS_FOLDER):
        raise UserError(f"{out} holds a run already", "go on with --resume, or give another folder")
    if resume and not is_run(out / UNITS_FOLDER):
        raise UserError(f"{out} holds no run", "start one without --resume")
    began = time.monotonic()
    data = UnitData.load(settings, prepared)
    log.info("%d units of %d dances, mirrored ones too", sum(map(len, data.bank.all_units())), len(data.bank.dances))
    if not _learn_units(settings, data, out / UNITS_FOLDER, resume, minutes):
        return out
    _, weights = FinishedRun.find(out / UNITS_FOLDER).weights(settings.decomposition.steps)
    decomposition = Decomposition(settings, data.bank.tables.music_size)
    decomposition.load_state_dict(weights)
    lesson = CompositionLesson(data.bank, settings, decomposition, data.dances.val, RealDance.of(data.dances.train))
    learning = Learning(lesson, settings, open_fabric(settings.device, bfloat16=settings.bfloat16))
    if resume and is_run(out):
        learning.resume(out)
    left = None if minutes is None else max(minutes - (time.monotonic() - began) / 60.0, 0.0)
    learning.run(out, left)
    return out


def _learn_units(
    settings: DancingToMusicSettings, data: UnitData, folder: Path, resume: bool, minutes: float | None
) -> bool:
    """Learn the first stage; return whether it is complete."""
    first = replace(
        settings, optimiser=settings.decomposition, run=replace(settings.run, watch=_WATCH_UNITS, patience=0)
    )
    lesson = DecompositionLesson(data.bank, first, data.held_out(settings))
    learning = Learning(lesson, first, open_fabric(settings.device, bfloat16=settings.bfloat16))
    if resume:
        learning.resume(folder)
    learning.run(folder, minutes)
    return learning.step >= first.optimiser.steps
