"""Where the operator of a show reads: a terminal that may close, a pipe that may break, a file on a disk that fills."""

from __future__ import annotations

import contextlib
import sys
from typing import IO, Any, cast

from rich.console import Console


class _Unfailing:
    """A text file, of which what cannot be written is left out.

    `rich` turns a broken pipe into the end of the program, and hands on whatever else a disk says.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write, or do not; either way all of it is dealt with."""
        with contextlib.suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Bring what waits to its reader, if there is one."""
        with contextlib.suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def show_console(file: IO[str] | None = None) -> Console:
    """Return a console that never fails, so that a show goes on unread; by default on standard error."""
    file = file or sys.stderr
    # Started without one (a service, a window without a terminal), there is nothing that could fail.
    return Console(stderr=True) if file is None else Console(file=cast(IO[str], _Unfailing(file)))
