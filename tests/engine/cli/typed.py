"""Commands as a user types them, many at the price of one: a process each, but Python is started for the first only.

Run as a program it is that first process: it takes the arguments of a command as a line of JSON on standard input,
forks, and answers with its exit code; what the command says is left in two files.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
_STREAMS = "stdout", "stderr"
_TIMEOUT_S = 600.0
# What most commands load; nothing of it begins a thread, which would not outlive a fork (ONNX Runtime does).
_LOADED = (
    "scipy.signal",
    "rich.progress",
    "engine.cli.live",
    "engine.cli.offline",
    "engine.cli.show",
    "engine.cli.sources",
    "engine.playing.render",
    "bridges.registry",
    "models.motion.representation",
)


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Typist:
    """Runs commands one after the other, each in a process of its own.

    Args:
        environment: of all of them.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._folder = tempfile.TemporaryDirectory()
        self._forking: subprocess.Popen[str] | None = None
        if hasattr(os, "fork"):
            self._forking = subprocess.Popen(
                [sys.executable, "-m", "tests.engine.cli.typed", self._folder.name],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )

    def __call__(self, *arguments: object) -> Done:
        """Run `pasdedeux` with some arguments."""
        typed = [str(argument) for argument in arguments]
        if self._forking is None:
            return self.afresh(*typed)
        assert self._forking.stdin is not None
        assert self._forking.stdout is not None
        # A command that hangs is ended, so that the test fails instead of hanging too.
        watchdog = threading.Timer(_TIMEOUT_S, self._kill)
        watchdog.start()
        self._forking.stdin.write(json.dumps(typed) + "\n")
        self._forking.stdin.flush()
        code = self._forking.stdout.readline()
        watchdog.cancel()
        assert code, f"{typed} did not end within {_TIMEOUT_S:.0f} s"
        return Done(int(code), *((Path(self._folder.name) / stream).read_text() for stream in _STREAMS))

    def afresh(self, *arguments: object) -> Done:
        """Run it in a Python that is started for it."""
        done = subprocess.run(
            [sys.executable, "-m", "engine", *map(str, arguments)],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def close(self) -> None:
        """End the first process, and a command that hangs."""
        if self._forking is not None:
            self._kill()
            self._forking.wait()
            for pipe in (self._forking.stdin, self._forking.stdout):
                if pipe is not None:
                    pipe.close()
        self._folder.cleanup()

    def _kill(self) -> None:
        assert self._forking is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._forking.pid, signal.SIGKILL)


@contextlib.contextmanager
def typist(environment: Mapping[str, str]) -> Iterator[Typist]:
    """Give a typist, and close it."""
    opened = Typist(environment)
    try:
        yield opened
    finally:
        opened.close()


def _fork(arguments: list[str], folder: Path) -> int | None:
    """Fork for a command; return how it ended. Returns None in the forked process, which is to be that command."""
    process = os.fork()
    if process > 0:
        _, status = os.waitpid(process, 0)
        return os.waitstatus_to_exitcode(status)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, stream in enumerate(_STREAMS, 1):
        os.dup2(os.open(folder / stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["pasdedeux", *arguments]
    return None


def _program(folder: Path) -> None:
    for module in _LOADED:
        importlib.import_module(module)
    from engine.cli import main

    # Else every collection, and the end of a process, would write to all that it shares with this one: copies.
    gc.freeze()
    for line in sys.stdin:
        code = _fork(json.loads(line), folder)
        if code is None:
            main()  # and then the process ends as it does when it was started for this
            return
        print(code, flush=True)


if __name__ == "__main__":
    _program(Path(sys.argv[1]))
