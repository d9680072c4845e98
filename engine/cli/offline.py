"""`prepare`, `train`, `export`: learning, offline. Needs the extra `train`; nothing of it is loaded on stage."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from engine.errors import UserError


def load(module: str, name: str) -> Any:
    """Return a function of the offline half. Raises `UserError` if the extra `train` is not installed."""
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserError(f"learning needs {error.name or 'more packages'}", 'pip install -e ".[train]"') from error


def prepare_data(data: Path, out: Path, workers: int, sheets: bool) -> None:
    """Turn dances and their music into what the networks learn from. Raises `UserError` if nothing can be used."""
    load("models.prepare", "prepare")(data, out, workers=workers, sheets=sheets)


def train_model(settings: Path, data: Path, out: Path, resume: bool, minutes: float | None) -> None:
    """Train the music -> dance model. Raises `UserError` for wrong settings or data."""
    load("models.gmd_run", "train")(settings, data, out, resume=resume, minutes=minutes)


def export_model(run: Path, data: Path, out: Path, step: int | None) -> None:
    """Export a run's weights for the stage. Raises `UserError` if the run has none."""
    load("models.gmd_run", "export")(run, data, out, step=step)
