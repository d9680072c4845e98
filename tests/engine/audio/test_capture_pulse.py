"""MicrophoneSensor on a real stream: PortAudio, ALSA's Pulse plug-in, a PulseAudio null sink."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.engine.audio.conftest import PROJECT, Child, PulseServer

RATE = 48_000


def hear(pulse: PulseServer, folder: Path) -> dict[str, np.ndarray]:
    """Play noise.wav of a folder, and return what the sensor captured meanwhile."""
    child = Child(pulse, "capture_child", "pulse", folder / "captured.npz")
    try:
        child.expect("ready")
        subprocess.run(["paplay", str(folder / "noise.wav")], env=pulse.environment, check=True)
        return child.finish()
    finally:
        child.kill()


def without_pauses(sound: np.ndarray) -> np.ndarray:
    """Return samples without the silence that a server sends while a player is late with the next ones."""
    zero = np.concatenate([[0], (sound == 0.0).astype(int), [0]])
    begins, ends = np.flatnonzero(np.diff(zero) == 1), np.flatnonzero(np.diff(zero) == -1)
    kept = np.ones(len(sound), bool)
    for begin, end in zip(begins, ends, strict=True):
        kept[begin:end] = end - begin < 16
    return sound[kept]


def heard_of(sound: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return what of a sound was captured, from its beginning on, without pauses."""
    first = int(np.argmax(np.abs(samples) > 1e-3))
    lags = range(max(0, first - 2000), first + 1)
    start = max(lags, key=lambda lag: float(np.dot(samples[lag : lag + 2000], sound[:2000])))
    return without_pauses(samples[start:])[: len(sound)]


def test_no_sample_is_lost_and_the_times_are_right(pulse: PulseServer, tmp_path: Path) -> None:
    sound = (0.3 * np.random.default_rng(8).standard_normal(3 * RATE)).clip(-0.9, 0.9).astype(np.float32)
    # The sink drops the first few milliseconds that a player sends while it wakes up.
    played = np.concatenate([np.zeros(RATE // 4, np.float32), sound])
    soundfile.write(tmp_path / "noise.wav", np.stack([played, played], axis=1), RATE, subtype="FLOAT")
    captured = hear(pulse, tmp_path)
    for _ in range(4):
        if (
            not captured["lost"]
            and not captured["overflows"]
            and len(heard_of(sound, captured["samples"])) == len(sound)
        ):
            break
        # The machine was kept from its sound for too long, as the sensor says, or the server was, which nobody says:
        # that proves nothing either way. What we lost would be lost each time.
        captured = hear(pulse, tmp_path)
    assert int(captured["rate_hz"]) == RATE
    assert captured["lost"] == captured["overflows"] == captured["gap"].sum() == captured["after_stop"] == 0
    assert np.array_equal(captured["index"][1:], np.cumsum(captured["frames"])[:-1])

    heard = heard_of(sound, captured["samples"])
    assert len(heard) == len(sound)
    np.testing.assert_allclose(heard, sound, atol=2e-3)  # every sample, in its place

    time_ns, delivered_ns = captured["time_ns"], captured["delivered_ns"]
    assert np.all(np.diff(time_ns) > 0)
    steps_ms = np.diff(time_ns)[50:] * 1e-6
    assert np.abs(steps_ms - 256 / RATE * 1e3).max() < 1.0  # callbacks come in bursts, times do not
    assert np.median(delivered_ns - time_ns) < 30e6
    assert np.all(delivered_ns >= time_ns)


def test_a_vanished_device_is_reported_and_found_again(pulse: PulseServer, tmp_path: Path) -> None:
    child = Child(pulse, "capture_child", "pulse", tmp_path / "captured.npz")
    try:
        child.expect("ready")
        pulse.kill()
        child.expect("is gone")
        pulse.start()
        child.expect("is back")
        time.sleep(0.5)
        captured = child.finish()
    finally:
        child.kill()
    assert captured["reconnects"] == 1
    (hole,) = np.flatnonzero(captured["gap"])
    gap_s = captured["gap"][hole] / RATE
    away_s = (captured["time_ns"][hole] - captured["time_ns"][hole - 1]) * 1e-9
    assert gap_s == pytest.approx(away_s, abs=0.01)
    assert np.all(np.diff(captured["time_ns"]) > 0)
    assert captured["index"][-1] == captured["frames"][:-1].sum() + captured["gap"].sum()


def test_an_unknown_device_is_one_clear_line(pulse: PulseServer) -> None:
    script = (
        "from engine.audio.capture import MicrophoneSensor\n"
        "from engine.clock import SessionClock\n"
        "from engine.errors import UserError\n"
        "try:\n"
        "    MicrophoneSensor('Stage piano', SessionClock()).start(print, print)\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=pulse.environment, cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "no sound input is called 'Stage piano': take one of these: 0: pulse, 1: default\n"
