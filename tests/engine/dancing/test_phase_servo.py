"""The phase servo: steps that land off the beat are shown on it, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.dancing.motion_track import MotionTrack
from engine.dancing.phase_servo import FORESIGHT_TICKS, REACH_TICKS, PhaseServo
from engine.types import MotionChunk

TEMPO_BPM = 110.0


def stepping(late_ticks: float, count: int = 480, depth: float = 1.0) -> NDArray[np.float64]:
    """Return how far a dancer has slid forward (count,) [m] by each tick, resting `late_ticks` after every beat."""
    fine = np.arange(count * 20) / 20.0
    speed = 1.0 - depth * np.cos(2.0 * np.pi * (fine - late_ticks) / 12.0)
    return np.cumsum(speed)[::20] / 20.0 * 0.03


def play(path: NDArray[np.float64], steady: bool = True) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Play a path through the servo as the dancer does; return dance ticks and the motion ticks shown."""
    track, servo = MotionTrack(), PhaseServo()
    track.restart(0)
    steps = np.diff(path, prepend=path[0])
    ticks = np.arange(12.0, len(path) - 40.0, 0.3)
    shown = []
    for tick in ticks:
        while track.end < tick + FORESIGHT_TICKS + 4:
            first = track.end
            forward = np.stack([np.zeros(4), steps[first : first + 4]], axis=1)
            track.append(MotionChunk(np.zeros((4, 24, 3)), np.zeros(4), forward, np.full(4, 0.976), np.zeros((4, 4))))
            servo.see(track, first, steady)
        shown.append(servo.motion_tick(float(tick), track.end, TEMPO_BPM))
        track.sample(shown[-1])
    return ticks, np.array(shown)


@pytest.mark.parametrize("late", [-2.0, -1.0, 0.0, 1.3, 2.0])
def test_steps_are_shown_on_the_beat(late: float) -> None:
    ticks, shown = play(stepping(late))
    beats = np.abs(ticks / 12.0 - np.round(ticks / 12.0)) < 0.02
    settled = beats & (ticks > 100)
    assert np.abs((shown - ticks)[settled] - late).max() < 0.4, "within 18 ms"


def test_playback_never_jumps_stops_or_runs_backwards() -> None:
    rng = np.random.default_rng(3)
    wandering = np.concatenate([stepping(late, 48) for late in rng.uniform(-3.0, 3.0, 12)])
    path = np.cumsum(np.abs(np.diff(wandering, prepend=0.0)).clip(0.0, 0.1))
    ticks, shown = play(path)
    rate = np.diff(shown) / np.diff(ticks)
    assert rate.min() > 0.4
    assert rate.max() < 1.6
    assert np.abs(shown - ticks).max() <= REACH_TICKS + 0.1


def test_gliding_feet_and_the_idle_sway_are_left_alone() -> None:
    ticks, shown = play(np.arange(480) * 0.03)
    assert shown == pytest.approx(ticks, abs=1e-9)
    ticks, shown = play(stepping(2.0), steady=False)
    assert shown == pytest.approx(ticks, abs=1e-9)
