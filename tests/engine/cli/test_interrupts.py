"""Who is told to end, at whatever moment, ends in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from engine.session import Session
from tests.engine.cli.typed import ROOT

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PULSE_SERVER": "unix:/nonexistent", "TERM": "dumb"}

IDLE = ("--set", "dancer.model=idle")
SONG = ROOT / "config" / "demo" / "demo.ogg"
SIGNALS = [
    "SIGINT",
    "SIGTERM",
    pytest.param("SIGHUP", marks=pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminals to close")),
]


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
    done = run(code, "dance", SONG, "--duration", 1, "--render", tmp_path / "out")
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("name", SIGNALS)
def test_who_ends_a_show_that_is_starting_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    code = f"""
        import signal
        from engine.cli import live

        live.warm_up = lambda *arguments, **named: signal.raise_signal(signal.{name})
    """
    done = run(code, "dance", SONG, "--duration", 1, "--web", "off", *IDLE, "--record", tmp_path / "night")
    assert (done.returncode, done.stderr) == (130, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SIGNALS)
def test_who_ends_a_show_in_its_middle_has_all_of_it(tmp_path: Path, name: str) -> None:
    code = f"""
        import signal
        from engine.cli import live

        class Told(live.StatusLine):
            def refresh(self, *arguments):
                for _ in range(3):
                    signal.raise_signal(signal.{name})

        live.StatusLine = Told
        stop = live.LiveRunner.stop
        live.LiveRunner.stop = lambda runner: (signal.raise_signal(signal.{name}), stop(runner))
        write = live.write_figures
        live.write_figures = lambda *arguments: (signal.raise_signal(signal.{name}), write(*arguments))
    """
    night, report = tmp_path / "night", tmp_path / "report.json"
    done = run(code, "dance", SONG, "--loop", "--web", "off", *IDLE, "--record", night, "--report", report)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not Session(night).cut_off
    assert "sections" in json.loads(report.read_text())


def test_ctrl_c_once_all_is_done_changes_nothing() -> None:
    done = run("import atexit, signal; atexit.register(signal.raise_signal, signal.SIGINT)", "--version")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_recording_that_stops_is_told_and_said_to_be_incomplete_at_the_end(tmp_path: Path) -> None:
    code = """
        from engine import session

        def full(recorder):
            raise OSError(28, "No space left on device")

        session.SessionRecorder._save = full
    """
    done = run(code, "dance", SONG, "--duration", 3, "--web", "off", *IDLE, "--record", tmp_path / "night")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "recorder: recording stopped: No space left on device; the show goes on" in done.stderr.splitlines()
    last = f"error: the recording in {tmp_path / 'night'} is incomplete: No space left on device"
    assert done.stderr.splitlines()[-1] == last
