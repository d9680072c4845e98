"""Where the operator of a show reads: a terminal that may close, a pipe that may break, a file on a disk that fills."""

from __future__ import annotations

import sys
from typing import IO, cast

from rich.console import Console

from engine.cli.unfailing import Unfailing


def show_console(file: IO[str] | None = None) -> Console:
    """Return a console that never fails, so that a show goes on unread; by default on standard error."""
    file = file or sys.stderr
    # Started without one (a service, a window without a terminal), there is nothing that could fail.
    return Console(stderr=True) if file is None else Console(file=cast(IO[str], Unfailing(file)))
