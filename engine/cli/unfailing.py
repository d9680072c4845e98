"""Text that is written wherever it goes: a terminal may close, a pipe break, a disk fill."""

from __future__ import annotations

from typing import IO, Any


class Unfailing:
    """A text file, of which what cannot be written is left out.

    `rich` turns a broken pipe into the end of the program, and hands on whatever else a disk says.

    Args:
        file: what is written to.

    Attributes:
        failure: why something was left out; None: nothing was, or by a reader who has gone away.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or do not; either way all of it is dealt with."""
        try:
            self._file.write(text)
        except OSError as error:
            self._note(error)
        return len(text)

    def flush(self) -> None:
        """Bring what waits to its reader, if there is one."""
        try:
            self._file.flush()
        except OSError as error:
            self._note(error)

    def _note(self, error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            self.failure = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
