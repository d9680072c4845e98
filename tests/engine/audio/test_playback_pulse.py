"""AudioFileSensor on a real output: what the pipeline is given is what is heard, when it is heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.engine.audio.conftest import Child, PulseServer

RATE = 44_100


@pytest.fixture
def song(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Four seconds: a click of 5 ms every half second, on a trace of noise."""
    sound = (1e-3 * np.random.default_rng(1).standard_normal(4 * RATE)).astype(np.float32)
    for k in range(1, 8):
        sound[k * RATE // 2 : k * RATE // 2 + RATE // 200] = 0.8
    path = tmp_path / "song.wav"
    soundfile.write(path, sound, RATE, subtype="FLOAT")
    return path, sound


def clicks_ns(sound: np.ndarray, time_ns: np.ndarray) -> np.ndarray:
    """Return when each click begins."""
    loud = np.flatnonzero(sound > 0.4)
    return time_ns[loud[np.diff(loud, prepend=-RATE) > RATE // 10]]


def test_a_file_is_delivered_when_it_is_heard(
    pulse: PulseServer, tmp_path: Path, song: tuple[Path, np.ndarray]
) -> None:
    child = Child(pulse, "playback_child", str(song[0]), tmp_path / "heard.npz")
    try:
        child.expect("song.wav is over")
        result = child.finish()
    finally:
        child.kill()
    assert np.array_equal(result["played"], song[1])
    assert result["failures"] == 0
    heard, played = (clicks_ns(result[kind], result[f"{kind}_ns"]) for kind in ("heard", "played"))
    assert len(heard) == len(played) == 7
    # Each click; a server that was kept from its work may be late with some.
    assert np.median(np.abs(heard - played)) < 40e6
    assert np.median(np.abs(np.diff(played) - 500e6)) < 10e6
    late_ns = result["delivered_ns"] - result["block_ns"]
    assert late_ns.min() >= 0  # no more of the future than a microphone has
    assert np.median(late_ns) < 20e6


def test_a_lost_output_does_not_stop_the_file(
    pulse: PulseServer, tmp_path: Path, song: tuple[Path, np.ndarray]
) -> None:
    child = Child(pulse, "playback_child", str(song[0]), tmp_path / "heard.npz")
    try:
        child.expect("ready")
        pulse.kill()
        child.expect("the file goes on silently")
        child.expect("song.wav is over")
        result = child.finish()
    finally:
        child.kill()
    assert result["failures"] == 1
    assert np.array_equal(result["played"], song[1])
    assert np.all(np.diff(result["block_ns"]) > 0)
    assert np.diff(result["block_ns"])[-100:] == pytest.approx(1e7, abs=2)
    late_ns = result["delivered_ns"] - result["block_ns"]
    # No burst of blocks from the past, which most of them would be: it takes two seconds of four to miss an output.
    assert np.median(late_ns) < 20e6
