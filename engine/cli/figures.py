"""Figures of a show or a measurement, as JSON in a file that the user has named."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path

from engine.errors import UserError


def check_place(path: Path | None) -> None:
    """Raise `UserError` if no file can be written there (None: none is to be): better before a show than after it."""
    if path is None:
        return
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such folder")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(f"cannot write {path}", error.strerror or str(error)) from error


def write_figures(path: Path, figures: Mapping[str, object]) -> None:
    """Write them. Raises `UserError` if that fails."""
    try:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}", error.strerror or str(error)) from error
