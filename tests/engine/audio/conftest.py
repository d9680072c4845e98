"""A private PulseAudio server with one null sink: real audio streams where there is no sound card."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.waiting import PATIENCE_S, wait_until

PROJECT = Path(__file__).parents[3]


class PulseServer:
    """A PulseAudio daemon of our own; what is played to it can be captured from it.

    Attributes:
        environment: for programs that shall use it. PortAudio looks at it when it is initialised, so a test that
            captures does so in a process of its own.
    """

    def __init__(self, folder: Path) -> None:
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        client = folder / "client.conf"
        client.write_text("autospawn = no\n")
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(runtime),
            "PULSE_RUNTIME_PATH": str(runtime / "pulse"),
            "PULSE_CLIENTCONFIG": str(client),
            "OMP_NUM_THREADS": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        sink = "module-null-sink sink_name=vsink rate=48000 channels=2"
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--log-level=error"]
        command += ["--load=module-native-protocol-unix", f"--load={sink}"]
        self._process = subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "PulseAudio does not start", each_s=0.05)

    def _answers(self) -> bool:
        asked = subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False)
        return asked.returncode == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Child:
    """A Python process that hears the server: module `name` of this folder, which saves what came in `output`."""

    def __init__(self, pulse: PulseServer, name: str, argument: str, output: Path) -> None:
        self.output = output
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.engine.audio.{name}", argument, str(output)],
            env=pulse.environment,
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def expect(self, text: str) -> None:
        """Wait for a line that contains `text`."""
        # A process that hangs is ended, so that the test fails instead of hanging too.
        watchdog = threading.Timer(2 * PATIENCE_S, self._process.kill)
        watchdog.start()
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if text in line:
                watchdog.cancel()
                return
        watchdog.cancel()
        pytest.fail(f"the process ended without saying {text!r}, only {lines}")

    def finish(self) -> dict[str, np.ndarray]:
        """Close its standard input, wait for its end and return what it saved."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=PATIENCE_S) == 0
        return dict(np.load(self.output))

    def kill(self) -> None:
        """End it whatever it does; idempotent."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[PulseServer]:
    """A running server; the test is skipped where PulseAudio is not installed."""
    if not all(shutil.which(tool) for tool in ("pulseaudio", "pactl", "paplay")):
        pytest.skip("pulseaudio not installed")
    server = PulseServer(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()
