"""A long show on real components: `python -m tests.bench.live_run SONG --minutes 10`.

Plays SONG, over and over, into a private PulseAudio null sink; `pasdedeux dance` captures it through PortAudio and
sends OSC; an independent listener (python-osc's parser) receives. Prints the engine's own figures, the listener's, and
memory, threads and descriptors of the engine over time.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage

from tests.engine.audio.conftest import PROJECT, PulseServer


class Receiver:
    """Counts poses and notes when each came."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.arrived_s: list[float] = []
        self.beats = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.5)
        self.port = self._socket.getsockname()[1]
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            try:
                packet = self._socket.recv(4096)
            except TimeoutError:
                continue
            now = time.perf_counter()
            if b"/pdd/frame" in packet:
                message = OscBundle(packet).content(0)
                assert isinstance(message, OscMessage)
                self.frames.append(int(message.params[0]))
                self.arrived_s.append(now)
            elif b"/pdd/beat" in packet:
                self.beats += 1

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()


def watch(pid: int) -> tuple[float, int, int]:
    """Return resident memory [MB], threads and open descriptors of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return (
        int(fields["VmRSS"].split()[0]) / 1024,
        int(fields["Threads"]),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("song", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--web", default="off")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pulse = PulseServer(Path(folder))
        pulse.start()
        receiver = Receiver()
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "engine", "dance", "pulse", "--web", arguments.web]
        command += ["--osc", f"127.0.0.1:{receiver.port}", "--duration", str(60 * arguments.minutes)]
        command += ["--report", str(report)]
        for override in arguments.overrides:
            command += ["--set", override]
        stop = threading.Event()

        def play() -> None:
            while not stop.is_set():
                subprocess.run(["paplay", str(arguments.song)], env=pulse.environment, check=False)

        player = threading.Thread(target=play, daemon=True)
        player.start()
        show = subprocess.Popen(command, cwd=PROJECT, env=pulse.environment, stderr=subprocess.PIPE, text=True)
        seen = []
        while show.poll() is None:
            time.sleep(5.0)
            if show.poll() is None:
                seen.append(watch(show.pid))
        stop.set()
        pulse.kill()
        receiver.stop()
        assert show.stderr is not None
        print(show.stderr.read())
        if report.exists():
            figures = json.loads(report.read_text(encoding="utf-8"))
            for name, section in figures["sections"].items():
                print(name, {key: round(value, 3) for key, value in section.items()})
            print(figures["counters"])
    if len(receiver.frames) < 200:
        sys.exit("too few poses came")
    intervals = np.diff(receiver.arrived_s[120:]) * 1e3
    steps = np.diff(receiver.frames)
    wrong = int((steps != 1).sum())
    print(f"received {len(receiver.frames)} poses, {wrong} numbers out of order, {receiver.beats} beats")
    p50, p99, worst = np.percentile(intervals, [50, 99, 100])
    print(f"intervals: median {p50:.2f}, p99 {p99:.2f}, max {worst:.2f} ms")
    if len(seen) > 4:
        memory = np.array([entry[0] for entry in seen[2:]])
        slope = np.polyfit(np.arange(len(memory)) * 5.0 / 3600.0, memory, 1)[0]
        print(
            f"memory {memory[0]:.1f} -> {memory[-1]:.1f} MB, slope {slope:+.2f} MB/h; threads {seen[2][1]} -> "
            f"{seen[-1][1]}; descriptors {seen[2][2]} -> {seen[-1][2]}"
        )


if __name__ == "__main__":
    main()
