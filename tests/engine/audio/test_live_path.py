"""The whole live path on real components: player, PulseAudio, PortAudio, engine, UDP, an independent OSC listener."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

import numpy as np
import soundfile
from pythonosc.osc_packet import OscPacket
from pythonosc.udp_client import SimpleUDPClient

from engine.body.skeleton import JOINT_NAMES
from tests.engine.audio.conftest import PROJECT, PulseServer
from tests.ports import unshared_port
from tests.waiting import PATIENCE_S, wait_until

DEMO = PROJECT / "config" / "demo" / "demo.ogg"


class Listener:
    """Everything that arrives, by address. Taken at once and read when asked for, so that nothing overflows."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (33, socket.SO_RCVBUF):  # SO_RCVBUFFORCE of Linux, for who may; else what is granted
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, 16 << 20)
                break
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._got: dict[str, list[tuple[object, ...]]] = {}
        self._datagrams: deque[bytes] = deque()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while datagram := self._socket.recv(65_536):
            self._datagrams.append(datagram)

    def got(self) -> dict[str, list[tuple[object, ...]]]:
        """Return what has come so far, as python-osc reads it."""
        while self._datagrams:
            for timed in OscPacket(self._datagrams.popleft()).messages:
                self._got.setdefault(timed.message.address, []).append(tuple(timed.message.params))
        return self._got

    def stop(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


def test_a_song_played_is_danced_and_received(pulse: PulseServer, tmp_path: Path) -> None:
    samples, rate = soundfile.read(DEMO)
    repeats = 1 + round(2 * PATIENCE_S * rate / len(samples))
    soundfile.write(tmp_path / "song.wav", np.tile(samples, (repeats, 1)), rate)
    listener, control = Listener(), unshared_port()
    command = [sys.executable, "-m", "engine", "dance", "pulse", "--web", "off"]
    command += ["--osc", f"127.0.0.1:{listener.port}", "--set", f"osc.listen=127.0.0.1:{control}"]
    player = subprocess.Popen(["paplay", str(tmp_path / "song.wav")], env=pulse.environment)
    show = subprocess.Popen(command, cwd=PROJECT, env=pulse.environment, stderr=subprocess.PIPE, text=True)
    client = SimpleUDPClient("127.0.0.1", control)

    def all_is_so() -> bool:
        """Whether the song's tempo was found, is danced to, and a control was heard: in eight seconds or so."""
        assert show.poll() is None, show.communicate()[1]
        client.send_message("/pdd/energy", 0.8)
        got = listener.got()
        tempos = np.array([values[2] for values in got.get("/pdd/clock", [])[-60:]], dtype=float)
        hands = np.array([values[:3] for values in got.get("/pdd/joint/left_hand", [])[-240:]], dtype=float)
        return (
            len(hands) == 240
            and np.abs(np.diff(hands, axis=0)).sum() > 0.5
            and abs(np.median(tempos) - 118.0) < 3.0
            and len(got.get("/pdd/beat", [])) >= 6
            and "/pdd/control/energy" in got
        )

    try:
        wait_until(all_is_so, lambda: {address: len(values) for address, values in listener.got().items()}, each_s=0.1)
        show.send_signal(signal.SIGINT)
        _, said = show.communicate(timeout=PATIENCE_S)
    finally:
        for process in (player, show):
            process.kill()
            process.wait()
        listener.stop()
    assert show.returncode == 0, said
    got = listener.got()
    frames = np.array([values[0] for values in got["/pdd/frame"]])
    assert (np.diff(frames) == 1).all(), "none lost, none twice"
    for name in JOINT_NAMES:
        assert len(got[f"/pdd/joint/{name}"]) == len(frames)
    hands = np.array([values[:3] for values in got["/pdd/joint/left_hand"]], dtype=float)
    assert np.isfinite(hands).all()
    assert np.allclose(got["/pdd/control/energy"], 0.8), "a control went in and its echo came out"
