"""Who is told to end, at whatever moment, ends in order."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.engine.cli.typed import ROOT

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PULSE_SERVER": "unix:/nonexistent", "TERM": "dumb"}


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a Python of its own, in which something has been prepared."""
    program = f"{textwrap.dedent(code)}\nfrom engine.cli import main\nmain()\n"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600.0,
        check=False,
    )


@pytest.mark.parametrize("library", ["typer", "numpy", "models.artifacts"])
@pytest.mark.parametrize("becomes", ["raise", "raise ImportError('initialization failed')"])
def test_ctrl_c_while_libraries_load_is_no_defect(tmp_path: Path, library: str, becomes: str) -> None:
    code = f"""
        import importlib.abc, signal, sys

        class Impatience(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == {library!r}:
                    try:
                        signal.raise_signal(signal.SIGINT)
                    except KeyboardInterrupt:
                        {becomes}

        sys.meta_path.insert(0, Impatience())
    """
    song = ROOT / "config" / "demo" / "demo.ogg"
    done = run(code, "dance", song, "--duration", 1, "--render", tmp_path / "out")
    assert (done.returncode, done.stderr) == (130, "")
