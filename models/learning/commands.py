"""`pasdedeux train` and `export`: which task a settings file or a run is about, and whose it is."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.whole_files import all_or_nothing
from models.dance_to_music.settings import GdmTrainingSettings
from models.dual.settings import DualSettings
from models.field.dancing_to_music.settings import DancingToMusicSettings
from models.field.registry import RECIPES, SYSTEMS, entry
from models.field.settings import FieldTrainingSettings
from models.learning.checkpoint import is_run
from models.learning.finished import FinishedRun
from models.learning.settings import build, load_recipe
from models.music_to_dance.settings import TrainingSettings
from models.players.recurrent_training import RecurrentTrainingSettings

log = logging.getLogger(__name__)

FieldSettings = FieldTrainingSettings | DancingToMusicSettings
Settings = TrainingSettings | GdmTrainingSettings | DualSettings | FieldSettings | RecurrentTrainingSettings

TASKS = ("gmd", "gdm", "dual", "field", "recurrent_player")
_OUR_RECIPES = RECIPES.parent
_OURS = ("gmd", "gdm", "dual")
_RIVALS = (*SYSTEMS, "recurrent_player")


def recipe_of(name: str) -> Path:
    """Return the recipe of a model: one of ours, or a system of the field. Raises UserError for an unknown name."""
    if name not in (*_OURS, *_RIVALS):
        known = (*_OURS, *sorted(_RIVALS))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'? There are: " if near else "there are: "
        raise UserError(f"no model '{name}' to train", hint + ", ".join(known))
    return _OUR_RECIPES / f"{name}.toml" if name in _OURS else RECIPES / f"{name}.toml"


def settings_of(path: Path) -> Settings:
    """Read a training run; `task` says of what (the music -> dance model if it says nothing).

    Raises:
        UserError: the file cannot be read, or a name or value in it is wrong.
    """
    return settings_from(load_recipe(path), path.name)


def settings_from(content: Mapping[str, Any], where: str) -> Settings:
    """Build a training run from nested tables, as a recipe or a checkpoint has them. Errors as of `settings_of`."""
    task = content.get("task", "gmd")
    if task not in TASKS:
        raise UserError(f"{where}: unknown task '{task}'", f"known: {', '.join(TASKS)}")
    if task == "dual":
        return DualSettings.of(content, where)
    if task == "gdm":
        return build(GdmTrainingSettings, content, where)
    if task == "field":
        found = SYSTEMS.get(str(content.get("model")))
        of_frames = found is None or found.is_frame_model
        field: Settings = (FieldTrainingSettings if of_frames else found.settings_class()).of(content, where)
        return field
    if task == "recurrent_player":
        return RecurrentTrainingSettings.of(dict(content), where)
    return build(TrainingSettings, content, where)


def train(
    settings_file: Path | None,
    prepared: Path | None,
    music: Path | None,
    out: Path,
    *,
    resume: bool = False,
    minutes: float | None = None,
    model: str | None = None,
) -> Path:
    """Train what a TOML file describes; return the folder of the run.

    Args:
        settings_file: see `settings_of`; None: those of the run that goes on, or the recipe of `model`.
        prepared: folder made by `pasdedeux prepare`, where the task needs dances.
        music: folder of the MIDI corpora, where the task needs music.
        out: folder of the run.
        resume: go on from the checkpoint in `out`.
        minutes: stop after this time.
        model: name of a model with a recipe ("gmd" if neither is given); beside settings, what they must be of.

    Raises:
        UserError: settings or data are missing or cannot be used, or are of another model.
    """
    if int(os.environ.get("RANK", 0)):
        logging.getLogger().setLevel(logging.ERROR)  # one process speaks
    recipe = recipe_of(model or "gmd")
    goes_on = resume and settings_file is None and is_run(out)
    if goes_on:
        settings = settings_from(FinishedRun.find(out).settings, str(out))
        log.info("%s goes on with the settings it began with", out)
    else:
        settings = settings_of(settings_file or recipe)
    learnt = settings.model if isinstance(settings, FieldSettings) else settings.task
    if model is not None and learnt != model:
        given = out if goes_on else settings_file
        raise UserError(f"{given} trains {learnt}, not {model}", "leave out --model, or give other --settings")
    if not resume and is_run(out):
        raise UserError(f"{out} holds a run already", "go on with --resume, or give another folder")
    if isinstance(settings, TrainingSettings):
        from models.music_to_dance import run as gmd_run

        return gmd_run.train(settings, _given(prepared, "data"), out, resume=resume, minutes=minutes)
    if isinstance(settings, DualSettings):
        from models.dual import run

        return run.train(
            settings, _given(prepared, "data"), _given(music, "music"), out, resume=resume, minutes=minutes
        )
    if isinstance(settings, FieldSettings):
        field_run = importlib.import_module(entry(settings.model).run)
        folder: Path = field_run.train(settings, _given(prepared, "data"), out, resume=resume, minutes=minutes)
        return folder
    if isinstance(settings, RecurrentTrainingSettings):
        from models.players import recurrent_training

        return recurrent_training.train(settings, prepared, _given(music, "music"), out, resume=resume, minutes=minutes)
    from models.dance_to_music import run as gdm_run

    return gdm_run.train(settings, prepared, _given(music, "music"), out, resume=resume, minutes=minutes)


def export(
    run: Path, prepared: Path | None, music: Path | None, folder: Path, *, step: int | None = None, name: str = ""
) -> None:
    """Export the weights of a run at a step (the newest if None) for the stage, given the data it was trained on.

    Our own two models take another name than the run's. An export that fails leaves the one that was there.

    Raises:
        UserError: there is no such run, or its data is missing.
    """
    finished = FinishedRun.find(run)
    with all_or_nothing(folder) as place:
        _export(finished, run, prepared, music, place, step=step, name=name)


def _export(
    finished: FinishedRun,
    run: Path,
    prepared: Path | None,
    music: Path | None,
    folder: Path,
    *,
    step: int | None,
    name: str,
) -> None:
    task = finished.task
    if task == "gmd":
        from models.music_to_dance import run as gmd_run

        gmd_run.export(run, _given(prepared, "data"), folder, step=step, name=name)
    elif task == "gdm":
        from models.dance_to_music import run as gdm_run

        gdm_run.export(run, prepared, _given(music, "music"), folder, step=step, name=name)
    elif name and task in ("field", "recurrent_player"):
        raise UserError(f"a {task} keeps its name", "leave out --name")
    elif task == "field":
        field_run = importlib.import_module(entry(str(finished.settings.get("model"))).run)
        field_run.export(run, _given(prepared, "data"), folder, step=step)
    elif task == "recurrent_player":
        from models.players import recurrent_training

        recurrent_training.export(run, prepared, _given(music, "music"), folder, step=step)
    else:
        raise UserError(f"training run {run} learnt '{task}'", "give its gmd/ or its gdm/")


def _given(folder: Path | None, option: str) -> Path:
    if folder is None:
        raise UserError("this task learns from more than it was given", f"say where with --{option} DIR")
    return folder
