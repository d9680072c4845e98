"""What a show or a measurement leaves in files: whether the place for it will do, and figures as JSON."""

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


def check_rendering(folder: Path | None, record: Path | None = None, report: Path | None = None) -> None:
    """Raise `UserError` if nothing can be rendered there (None: nothing is to be): better before the work than after.

    Args:
        folder: for the files; made later, with those above it.
        record: of a live show only.
        report: of a live show only.
    """
    if folder is None:
        return
    for option, path in (("--record", record), ("--report", report)):
        if path is not None:
            raise UserError(f"{option} is of a live show, which --render is not", f"leave {option} or --render out")
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(f"cannot write into {folder}", error.strerror or str(error)) from error


def write_figures(path: Path, figures: Mapping[str, object]) -> None:
    """Write them. Raises `UserError` if that fails."""
    try:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}", error.strerror or str(error)) from error
