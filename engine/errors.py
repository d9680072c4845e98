"""Errors that are the user's to mend: one clear line that says what to do; and what the operator of a show is told."""

from __future__ import annotations


class UserError(Exception):
    """A wrong setting, file or device. The command line prints it as one line and exits with code 2.

    Args:
        problem: what is wrong, naming the thing ("no such file: song.wav").
        remedy: what to do about it ("give a WAV, FLAC, OGG or MP3 file").
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        """Say how it is made again, so that it comes through from another process."""
        return UserError, (self.problem, self.remedy)


class Trouble(OSError):
    """What a bridge that goes on has to tell the operator: it has taken the event, and is to be sent the next."""
