"""What a show says goes to whoever reads; that nobody does must not end it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from engine.cli.console import show_console
from engine.cli.inspect import Findings
from engine.cli.show import render_file
from engine.cli.sources import DEMO_SONG
from engine.cli.status import StatusLine
from engine.metrics import Metrics
from engine.runner import live_values
from engine.settings import load_show
from engine.types import NS_PER_S, StatusEvent
from tests.engine.cli.typed import ROOT


def _pipe_without_reader() -> IO[str]:
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


class _FullDisk:
    """A text file on a full disk; the terminal that it may be has closed."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("opened", [_pipe_without_reader, lambda: _FullDisk(False), lambda: _FullDisk(True)])
def test_a_show_goes_on_though_nothing_can_be_written(opened: Callable[[], IO[str]]) -> None:
    console = show_console(opened())
    with StatusLine(console) as status:
        for second in range(30):
            status.see([StatusEvent(second * NS_PER_S, "dancer", "error", "the model failed")])
            status.refresh(second * NS_PER_S, lambda: live_values(Metrics()))
    console.print("143 poses, 0 late")


def test_what_can_be_written_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as file:
        show_console(file).print("[bold]Pas de Deux[/] dances to a song")
    assert path.read_text() == "Pas de Deux dances to a song\n"


def test_a_rendering_is_done_though_nobody_reads_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _pipe_without_reader())
    settings = load_show(None, ["dancer.model=idle", "beats.tracker=flux"])
    render_file(settings, DEMO_SONG, tmp_path, duration_s=0.5)
    assert (tmp_path / "dance.npz").exists()


def test_a_name_may_look_like_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "night [/b]" / "[b]"
    render_file(load_show(None, ["dancer.model=idle", "beats.tracker=flux"]), DEMO_SONG, folder, duration_s=0.5)
    report = Findings()
    for say in (report.good, report.note, report.bad):
        say("input", "Mixer [/b] [usb]")
    said = capsys.readouterr()
    assert "[/b]/[b] (" in said.err.replace("\n", "")
    assert said.out.count("input: Mixer [/b] [usb]") == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk here that is always full")
def test_what_a_command_cannot_say_is_one_line_and_no_defect() -> None:
    line = "error: cannot write what there is to say: No space left on device\n"
    for command, out_full, said in (("--version", True, line), ("check --help", True, line), ("--nosuch", False, None)):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "engine", *command.split()],
                cwd=ROOT,
                stdout=full if out_full else subprocess.PIPE,
                stderr=subprocess.PIPE if out_full else full,
                text=True,
                timeout=60.0,
                check=False,
            )
        assert (done.returncode, done.stderr) == (2, said), command
