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
