"""A private PulseAudio server with one null sink: real audio streams where there is no sound card."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


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
        for _ in range(100):
            asked = subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False)
            if asked.returncode == 0:
                return
            time.sleep(0.05)
        self.kill()
        pytest.fail("PulseAudio does not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[PulseServer]:
    """A running server; the test is skipped where PulseAudio is not installed."""
    if not all(shutil.which(tool) for tool in ("pulseaudio", "pactl", "paplay")):
        pytest.skip("pulseaudio not installed")
    server = PulseServer(tmp_path)
    server.start()
    yield server
    server.kill()
