"""The native synthesiser on a real output: notes sound when they should, and silence is silence."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from bridges.synth import SynthBridge
from engine.clock import SessionClock
from engine.errors import UserError
from engine.types import ControlEvent, NoteEvent
from tests.engine.audio.conftest import PulseServer, pulse
from tests.waiting import PATIENCE_S, wait_until

__all__ = ["pulse"]
pytest.importorskip("tinysoundfont", reason="tinysoundfont is not installed: no native synthesiser")
pretty_midi = pytest.importorskip("pretty_midi", reason="pretty_midi is not installed: no small soundfont")
SOUNDFONT = Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"
RATE = 48_000
MS = 1_000_000


class Recording:
    """What is played to the server's sink."""

    def __init__(self, pulse: PulseServer, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        command = ["parec", "--device=vsink.monitor", "--format=float32le", "--latency-msec=20"]
        command += [f"--rate={RATE}", "--channels=2", "--raw"]
        self._process = subprocess.Popen(command, env=pulse.environment, stdout=self._file)
        wait_until(lambda: path.stat().st_size >= 4096, "nothing is recorded")

    def sound(self) -> np.ndarray:
        """Return the samples so far (n,)."""
        data = self._path.read_bytes()
        return np.frombuffer(data[: len(data) // 8 * 8], dtype=np.float32).reshape(-1, 2).mean(axis=1)

    def stop(self) -> np.ndarray:
        """Return the samples (n,)."""
        time.sleep(0.3)
        self._process.terminate()
        self._process.wait()
        self._file.close()
        return self.sound()


@pytest.fixture
def on_pulse(pulse: PulseServer, monkeypatch: pytest.MonkeyPatch) -> PulseServer:
    """The server, for this process's children too."""
    if not SOUNDFONT.exists():
        pytest.skip("pretty_midi brings no soundfont")
    for name, value in pulse.environment.items():
        monkeypatch.setenv(name, value)
    return pulse


def onsets_s(sound: np.ndarray) -> np.ndarray:
    """Return where sound begins after silence [s]."""
    loud = np.flatnonzero(np.abs(sound) > 0.02)
    return loud[np.diff(loud, prepend=-RATE) > RATE // 10] / RATE


def loudest(recording: Recording, count: int) -> np.ndarray:
    """Return the largest sample in each of the last tenths of a second, more than a short note lasts."""
    last = recording.sound()[-count * RATE // 10 :]
    return np.abs(last[: len(last) // count * count].reshape(count, -1)).max(axis=1)


def test_notes_sound_when_they_should_and_panic_silences(on_pulse: PulseServer, tmp_path: Path) -> None:
    clock = SessionClock()
    bridge = SynthBridge(str(SOUNDFONT), clock=clock, device="pulse", gain_db=0.0, programs={"lead": 80})
    bridge.open(lambda control: None)
    try:
        recording = Recording(on_pulse, tmp_path / "sound.raw")
        ended = time.monotonic() + PATIENCE_S
        while np.abs(recording.sound()).max() < 0.02:  # the device wakes up; what came too early is dropped
            assert time.monotonic() < ended, "nothing sounds"
            with contextlib.suppress(OSError):  # a device that is not up yet is complained of, and tried again
                bridge.send(NoteEvent(0, 0, 2, 72, 110, 20 * MS))
            time.sleep(0.05)
        time.sleep(1.0)
        first = len(recording.sound())
        sent: list[float] = []
        # Short notes of an organ-like lead: they end when they are told to. A busy machine may stall its sound for a
        # second, and what comes too late is not played: as many as it takes until enough are heard.
        while len(onsets_s(recording.sound()[first:])) < 6:
            assert time.monotonic() < ended, "too few notes are heard"
            sent.append(time.perf_counter())
            bridge.send(NoteEvent(0, 0, 2, 72, 110, 60 * MS))
            time.sleep(0.35)
        sent.append(time.perf_counter())
        for pitch in (60, 64, 67):
            bridge.send(NoteEvent(0, 0, 2, pitch, 110, 60_000 * MS))
        wait_until(lambda: loudest(recording, 4).min() > 0.05, "the chord is not heard, or ends")
        bridge.send(ControlEvent(0, "panic"))
        wait_until(lambda: loudest(recording, 8).max() < 1e-3, "not silent after panic")
        sound = recording.stop()[first:]
    finally:
        bridge.close()
    assert np.abs(sound).max() > 0.05
    begun = onsets_s(sound)
    # Each that is heard comes as long after the one before as it should: where the sound stalls, all that follows is
    # later. A block's length is 5 ms, the server's own 20.
    asked = np.subtract.outer(sent, sent)
    assert np.median(_distances(np.diff(begun), asked[asked > 0.0])) < 0.03
    spectrum = np.abs(np.fft.rfft(sound[round(begun[0] * RATE) : round((begun[0] + 0.05) * RATE)], RATE))
    assert abs(int(spectrum[300:800].argmax()) + 300 - 523) < 25, "the pitch asked for (72 is 523 Hz)"


def _distances(heard_s: np.ndarray, sent_s: np.ndarray) -> np.ndarray:
    """Return how far each time heard is from the nearest of those sent [s]."""
    return np.abs(heard_s[:, None] - sent_s).min(axis=1)


def test_without_a_device_the_show_goes_on_with_one_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not SOUNDFONT.exists():
        pytest.skip("pretty_midi brings no soundfont")
    bridge = SynthBridge(str(SOUNDFONT), clock=SessionClock(), device="no such loudspeaker")
    bridge.open(lambda control: None)
    complaints = []

    def complained() -> bool:
        try:
            bridge.send(NoteEvent(0, 0, 2, 72, 110, 60 * MS))
        except OSError as error:
            complaints.append(str(error))
        return bool(complaints)

    wait_until(complained, each_s=0.02)
    for _ in range(30):
        complained()
        time.sleep(0.02)
    bridge.close()
    assert len(complaints) == 1
    assert complaints[0].endswith("it is used again when it is back")


def test_a_lost_server_is_reported_once(on_pulse: PulseServer) -> None:
    bridge = SynthBridge(str(SOUNDFONT), clock=SessionClock(), device="pulse")
    bridge.open(lambda control: None)
    time.sleep(0.5)
    on_pulse.kill()
    complaints = []
    ended = time.monotonic() + PATIENCE_S
    while not complaints and time.monotonic() < ended:
        try:
            bridge.send(NoteEvent(0, 0, 2, 72, 110, 60 * MS))
        except OSError as error:
            complaints.append(str(error))
        time.sleep(0.02)
    bridge.close()
    assert len(complaints) == 1


@pytest.mark.parametrize("content", [None, b"RIFF but no soundfont"])
def test_a_wrong_soundfont_is_the_users_to_mend(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "band.sf2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"band\.sf2") as caught:
        SynthBridge(str(path), clock=SessionClock()).open(lambda control: None)
    assert "synth.soundfont" in caught.value.remedy
    assert os.path.basename(str(path)) in caught.value.problem  # noqa: PTH119


def test_a_soundfont_that_no_file_can_be_is_named() -> None:
    with pytest.raises(UserError, match="xxx"):
        SynthBridge("x" * 300 + ".sf2", clock=SessionClock()).open(lambda control: None)
