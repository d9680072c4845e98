"""The command line: `pasdedeux`, and how it fails: one clear line, exit code 2."""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType
from typing import IO, cast

from engine.cli.unfailing import Unfailing
from engine.errors import UserError


def main() -> None:
    """Run the command line; exit code 2 with one line for whatever is the user's to mend, 130 for ctrl-c."""
    # One thread each: the engine's threads are its own, and BLAS pools would fight them for the cores.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    interrupted = False
    # A command whose output goes nowhere does its work all the same.
    output = _spare_streams()

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        try:
            _refuse_empty(sys.argv[1:])
            # Libraries take seconds to load, in which one may change one's mind.
            from engine.cli.commands import app

            app()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # from here on one would hit the farewell only
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code and output is not None:
            output.flush()
            if output.failure is not None:
                error = UserError("cannot write what there is to say", output.failure.strerror or str(output.failure))
        # A library that is interrupted while it loads may say that it is broken.
        if interrupted or isinstance(error, KeyboardInterrupt):
            sys.exit(130)
        # Whoever only asks whether a file is there does not expect this: a song, a model, a folder, from anywhere.
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            error = UserError(f"no file can be called {error.filename}", "give a shorter name")
        if not isinstance(error, UserError):
            raise
        _say(error)
        sys.exit(2)


def _refuse_empty(arguments: list[str]) -> None:
    """Raise `UserError` for an argument of nothing: what a shell makes of a variable that is not set."""
    for before, argument in zip(["pasdedeux", *arguments], arguments, strict=False):
        if not argument or (argument.startswith("--") and argument.endswith("=")):
            place = argument.rstrip("=") or before
            raise UserError(f"there is nothing after {place}", "is a variable of the shell not set?")


def _spare_streams() -> Unfailing | None:
    """Let nothing fail because what is said cannot be written; return the output (None: there is none)."""
    if sys.stderr is not None:
        sys.stderr = cast(IO[str], Unfailing(sys.stderr))
    if sys.stdout is None:
        return None
    output = Unfailing(sys.stdout)
    sys.stdout = cast(IO[str], output)
    return output


def _say(error: UserError) -> None:
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)


__all__ = ["main"]
