"""The motion's own beat: recovered from feet that follow a known, drifting one."""

import numpy as np
import pytest

from models.data.motion_beat import estimate_tempo, fit_offset, foot_speed

FPS, BPM, SECONDS = 25.0, 90.0, 60.0


def feet(beat: np.ndarray, seed: int = 1) -> np.ndarray:
    """Return two feet (T, 2, 3) that are slowest on each whole beat, with a random size of every step and noise."""
    rng = np.random.default_rng(seed)
    size = np.interp(beat, np.arange(-2, 200), rng.uniform(0.4, 1.6, size=202))
    speed = size * (1.0 - np.cos(2.0 * np.pi * beat)) * 0.7 + 0.05
    x = np.cumsum(speed) / FPS
    points = np.zeros((len(beat), 2, 3))
    points[..., 0] = x[:, None]
    return points + rng.normal(scale=0.002, size=points.shape)


@pytest.mark.parametrize("shift", [0.0, 0.3, -0.4])
def test_a_drifting_beat_is_followed(shift: float) -> None:
    time = np.arange(round(FPS * SECONDS)) / FPS
    music = time * BPM / 60.0
    drift = shift + 0.25 * np.sin(2.0 * np.pi * time / 50.0)
    found = fit_offset(foot_speed(feet(music + drift), FPS), music, locked=False)
    error = (found.offset_beats - drift + 0.5) % 1.0 - 0.5
    assert np.abs(error).max() < 0.12
    assert np.median(np.abs(error)) < 0.04
    assert found.coherence.mean() > 0.5
    assert np.abs(np.diff(found.offset_beats)).max() < 0.02, "it never jumps"


def test_without_a_beat_the_coherence_says_so() -> None:
    music = np.arange(round(FPS * SECONDS)) / FPS * BPM / 60.0
    noise = np.random.default_rng(2).normal(size=len(music))
    found = fit_offset(noise, music, locked=True)
    assert found.coherence.mean() < 0.35
    assert np.abs(found.offset_beats).max() < 0.5, "the music's beat is kept where nothing speaks against it"


def test_tempo_of_a_dance_without_music() -> None:
    beat = np.arange(round(FPS * SECONDS)) / FPS * BPM / 60.0
    assert estimate_tempo(foot_speed(feet(beat), FPS), FPS, near_bpm=86.0) == pytest.approx(BPM, rel=0.01)
