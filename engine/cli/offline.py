"""`prepare`, `train`, `export`: learning, offline. Needs the extra `train`; nothing of it is loaded on stage."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from engine.errors import UserError

_OF_THE_DISK = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
    *(errno.EEXIST, errno.ELOOP),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
)
"""What the disk says that its owner can mend; anything else is a defect, and shows where."""
_IN_WEIGHTS = re.compile(r"\(os error (\d+)\)")
"""How safetensors, which is written in Rust, tells what the disk said."""


def load(module: str, name: str) -> Any:
    """Return a function of the offline half. Raises `UserError` if the extra `train` is not installed."""
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserError(f"learning needs {error.name or 'more packages'}", 'pip install -e ".[train]"') from error


@contextlib.contextmanager
def disk() -> Iterator[None]:
    """Raise `UserError` where the disk refuses what is asked of it: it is full, read-only, or a file is in the way."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        where = "a file" if error.filename is None else str(error.filename)
        raise UserError(f"cannot read or write {where}", os.strerror(error.errno)) from error
    except SafetensorError as error:
        said = _IN_WEIGHTS.search(str(error))
        if said is None or int(said[1]) not in _OF_THE_DISK:
            raise
        raise UserError("cannot read or write a file of weights", os.strerror(int(said[1]))) from error


@disk()
def prepare_data(data: Path, out: Path, workers: int, sheets: bool, transcribe: bool) -> None:
    """Turn dances and their music into what the networks learn from. Raises `UserError` if nothing can be used."""
    load("models.data.prepare", "prepare")(data, out, workers=workers, sheets=sheets, transcribe=transcribe)


@disk()
def train_model(
    model: str | None,
    settings: Path | None,
    data: Path | None,
    music: Path | None,
    out: Path,
    resume: bool,
    minutes: float | None,
) -> None:
    """Train a model by its recipe, or by the settings given. Raises `UserError` for wrong settings or data."""
    train = load("models.learning.commands", "train")
    train(settings, data, music, out, resume=resume, minutes=minutes, model=model)


@disk()
def export_model(run: Path, data: Path | None, music: Path | None, out: Path, step: int | None, name: str) -> None:
    """Export a run's weights for the stage. Raises `UserError` if the run has none."""
    load("models.learning.commands", "export")(run, data, music, out, step=step, name=name)


@disk()
def evaluate_models(
    data: Path,
    models: list[Path],
    fixed_rate: list[Path],
    out: Path,
    split: str,
    protocol: str,
    seeds: int,
    seconds: float,
    courses: list[str],
    long_songs: int,
    systems: list[str],
    energy: float,
    rivals: list[Path],
    shown: bool,
) -> None:
    """Measure dancers side by side on held-out songs. Raises `UserError` if something cannot be used."""
    plan = load("models.evaluation.dancers", "EvaluationPlan")(
        split, protocol, seeds, seconds, tuple(courses), long_songs, tuple(systems), energy
    )
    load("models.evaluation.dancers", "evaluate")(data, out, plan, models, fixed_rate, rivals, shown=shown)


@disk()
def evaluate_composers(
    data: Path,
    music: Path | None,
    out: Path,
    composers: list[Path],
    rivals: list[Path],
    split: str,
    seeds: int,
    systems: list[str],
) -> None:
    """Measure players of music side by side on held-out dances. Raises `UserError` if something cannot be used."""
    plan = load("models.evaluation.players", "PlayersPlan")(split, seeds, tuple(systems))
    load("models.evaluation.players", "evaluate_players")(data, music, out, plan, composers, rivals)


@disk()
def write_page(evaluations: list[Path], out: Path, audio: Path | None, seconds: float, seeds: int) -> Path:
    """Write one page of evaluations; return its path. Raises `UserError` if one cannot be used."""
    settings = load("models.evaluation.html.page", "PageSettings")(audio, seconds, seeds)
    written: Path = load("models.evaluation.html.page", "write_page")(evaluations, out, settings)
    return written


@disk()
def field_table(
    data: Path,
    out: Path,
    settings: Path | None,
    split: str,
    seeds: int,
    seconds: float,
    jobs: int,
    audio: Path | None,
) -> Path:
    """Train and measure every system of the field; return the page. Raises `UserError` if nothing can be trained."""
    plan = load("models.evaluation.dancers", "EvaluationPlan")(split, "A", seeds, seconds)
    page = load("models.evaluation.html.page", "PageSettings")(audio)
    wanted = load("models.field.table", "TableSettings").load(settings or load("models.field.table", "TABLE"))
    written: Path = load("models.field.table", "make_table")(data, out, wanted, plan, page, jobs)
    return written
