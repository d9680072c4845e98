"""Commands as a user types them, many at the price of one: a process each, but Python is started for the first only.

Run as a program it is that first process: it takes lists of arguments as JSON on standard input, and forks for each.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def run_each(commands: Mapping[str, Sequence[object]], environment: Mapping[str, str]) -> dict[str, Done]:
    """Run commands one after the other, each in a process of its own; return by name how they ended."""
    typed = {name: [str(argument) for argument in arguments] for name, arguments in commands.items()}
    if not hasattr(os, "fork"):
        return {name: _start(["-m", "engine", *arguments], environment) for name, arguments in typed.items()}
    done = _start(["-m", "tests.engine.cli.typed"], environment, json.dumps(typed))
    assert done.returncode == 0, done.stderr
    return {name: Done(**facts) for name, facts in json.loads(done.stdout).items()}


def _start(arguments: list[str], environment: Mapping[str, str], given: str = "") -> Done:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=dict(environment),
        input=given,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _fork_each(typed: Mapping[str, list[str]], folder: Path) -> dict[str, Done] | None:
    """Fork for each command. Returns None in a forked process, which is to be that command."""
    ended = {}
    for name, arguments in typed.items():
        streams = [(folder / stream).open("w+") for stream in ("stdout", "stderr")]
        process = os.fork()
        if process == 0:
            for number, stream in enumerate(streams, 1):
                os.dup2(stream.fileno(), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.argv = ["pasdedeux", *arguments]
            return None
        _, status = os.waitpid(process, 0)
        said = []
        for stream in streams:
            stream.seek(0)
            said.append(stream.read())
            stream.close()
        ended[name] = Done(os.waitstatus_to_exitcode(status), *said)
    return ended


def _program() -> None:
    # What every command loads; nothing of it begins a thread, which would not outlive a fork.
    for module in ("engine.cli.live", "engine.cli.offline", "engine.playing.render"):
        importlib.import_module(module)
    from engine.cli import main

    typed = json.load(sys.stdin)
    folder = tempfile.mkdtemp()
    ended = _fork_each(typed, Path(folder))
    if ended is None:
        main()  # and then the process ends as it does when it was started for this
        return
    for name in ("stdout", "stderr"):
        (Path(folder) / name).unlink(missing_ok=True)
    Path(folder).rmdir()
    json.dump({name: asdict(done) for name, done in ended.items()}, sys.stdout)


if __name__ == "__main__":
    _program()
