"""The whole live path on real components: player, PulseAudio, PortAudio, engine, UDP, an independent OSC listener."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import soundfile
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer
from pythonosc.udp_client import SimpleUDPClient

from engine.skeleton import JOINT_NAMES
from tests.engine.audio.conftest import PROJECT, PulseServer

DEMO = PROJECT / "config" / "demo" / "demo.ogg"
SECONDS = 9.0


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Listener:
    """Everything that arrives, by address."""

    def __init__(self) -> None:
        self.got: dict[str, list[tuple[object, ...]]] = {}
        dispatcher = Dispatcher()
        dispatcher.set_default_handler(lambda address, *values: self.got.setdefault(address, []).append(values))
        self.server = BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_a_song_played_is_danced_and_received(pulse: PulseServer, tmp_path: Path) -> None:
    samples, rate = soundfile.read(DEMO, frames=round((SECONDS + 8.0) * 48_000))
    soundfile.write(tmp_path / "song.wav", samples, rate)
    listener, control = Listener(), free_port()
    command = [sys.executable, "-m", "engine", "dance", "pulse", "--web", "off", "--duration", str(SECONDS)]
    command += ["--osc", f"127.0.0.1:{listener.port}", "--set", f"osc.listen=127.0.0.1:{control}"]
    player = subprocess.Popen(["paplay", str(tmp_path / "song.wav")], env=pulse.environment)
    try:
        show = subprocess.Popen(command, cwd=PROJECT, env=pulse.environment, stderr=subprocess.PIPE, text=True)
        client = SimpleUDPClient("127.0.0.1", control)
        timer = threading.Timer(7.0, client.send_message, ("/pdd/energy", 0.8))
        timer.start()
        _, said = show.communicate(timeout=60)
    finally:
        player.kill()
        player.wait()
        listener.stop()
    assert show.returncode == 0, said
    got = listener.got
    frames = np.array([values[0] for values in got["/pdd/frame"]])
    assert len(frames) > 0.9 * 60 * (SECONDS - 1.0)
    assert (np.diff(frames) == 1).all(), "none lost, none twice"
    for name in JOINT_NAMES:
        assert len(got[f"/pdd/joint/{name}"]) == len(frames)
    hands = np.array([values[:3] for values in got["/pdd/joint/left_hand"]], dtype=float)
    assert np.isfinite(hands).all()
    assert np.abs(np.diff(hands[-240:], axis=0)).sum() > 0.5, "it dances"
    tempos = np.array([values[2] for values in got["/pdd/clock"]], dtype=float)
    assert abs(np.median(tempos[-60:]) - 118.0) < 3.0
    assert len(got["/pdd/beat"]) >= 6
    assert np.allclose(got["/pdd/control/energy"], [[0.8]]), "a control went in and its echo came out"
