"""SampleClock: steady times out of bursts, jitter, drift and loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audio.sample_clock import SampleClock
from engine.types import NS_PER_S

RATE, BLOCK = 48_000, 256


def errors_ms(
    seconds: float,
    delay_ns: Callable[[int], float],
    drift_ppm: float = 0.0,
    clock: SampleClock | None = None,
) -> np.ndarray:
    """Feed callbacks that are late by `delay_ns(k)`; return by how much each time misses the truth [ms].

    As in a real driver a callback never comes before the one ahead of it.
    """
    clock = clock or SampleClock(RATE)
    errors, arrival, last = [], 0.0, -1
    for k in range(1, round(seconds * RATE / BLOCK)):
        truth = NS_PER_S + k * BLOCK * NS_PER_S / RATE * (1 + drift_ppm * 1e-6)
        arrival = max(arrival, truth + delay_ns(k))
        time_ns = clock.observe(k * BLOCK, round(arrival))
        assert time_ns > last
        last = time_ns
        errors.append((time_ns - truth) * 1e-6)
    return np.array(errors)


def test_steady_arrivals_are_the_times() -> None:
    assert np.abs(errors_ms(5, lambda k: 0.0)).max() < 1e-3


def test_bursts_of_two_are_spread() -> None:
    """PulseAudio delivers two callbacks at once: every other one comes a whole block late."""
    block_ns = BLOCK * NS_PER_S / RATE
    errors = errors_ms(30, lambda k: block_ns * (k % 2))
    assert np.abs(errors[10:]).max() < 0.1


@pytest.mark.parametrize("drift_ppm", [-150.0, 0.0, 80.0])
def test_drift_is_followed_under_jitter(drift_ppm: float) -> None:
    rng = np.random.default_rng(2)
    clock = SampleClock(RATE)
    errors = errors_ms(120, lambda k: rng.exponential(3e6), drift_ppm, clock)
    assert clock.drift_ppm == pytest.approx(drift_ppm, abs=5.0)
    assert np.abs(errors[RATE // BLOCK * 15 :]).max() < 0.5
    assert np.abs(np.diff(errors)).max() < 1.2e-2 * BLOCK / RATE * 1e3 + 0.3
    assert clock.lost_samples == 0


def test_a_late_start_is_corrected_at_once_for_no_sample_is_heard_after_it_arrived() -> None:
    errors = errors_ms(2, lambda k: 40e6 if k < 3 else 0.0)
    assert np.abs(errors[20:]).max() < 0.1


def test_a_stall_that_is_made_up_is_no_loss() -> None:
    clock = SampleClock(RATE)
    errors = errors_ms(20, lambda k: 400e6 if k == 1000 else 0.0, clock=clock)
    assert clock.lost_samples == 0
    assert np.abs(errors).max() < 0.5


@pytest.mark.parametrize("reported", [False, True])
def test_lost_samples_are_counted_and_time_goes_on(reported: bool) -> None:
    rng = np.random.default_rng(4)
    clock = SampleClock(RATE)
    lost, delivered, found_after_s = round(0.08 * RATE), 0, None
    for k in range(1, 12 * RATE // BLOCK):
        delivered += BLOCK
        gone = lost if k > 1000 else 0
        truth = (delivered + gone) * NS_PER_S // RATE
        time_ns = clock.observe(delivered, round(truth + rng.exponential(1e6)), overflowed=reported and k == 1001)
        if clock.lost_samples and found_after_s is None:
            found_after_s = (k - 1000) * BLOCK / RATE
    assert clock.lost_samples == pytest.approx(lost, abs=0.002 * RATE)
    assert found_after_s is not None
    assert found_after_s < (0.15 if reported else 1.0)
    assert abs(time_ns - truth) < 2_000_000


def test_a_wrongly_stated_rate_still_keeps_time() -> None:
    """A device that says 48 kHz and runs at 44.1: the missing tenth shows as loss, the time stays right."""
    clock = SampleClock(RATE)
    for k in range(1, 20 * 44_100 // BLOCK):
        truth = k * BLOCK * NS_PER_S // 44_100
        time_ns = clock.observe(k * BLOCK, truth)
    assert abs(time_ns - truth) < 100_000_000


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 2 * NS_PER_S), st.booleans()), min_size=1, max_size=300
    )
)
def test_times_never_run_backwards_nor_past_the_arrival(steps: list[tuple[int, int, bool]]) -> None:
    clock, delivered, arrival, last = SampleClock(RATE), 0, 0, -1
    for frames, wait_ns, overflowed in steps:
        delivered, arrival = delivered + frames, arrival + wait_ns
        time_ns = clock.observe(delivered, arrival, overflowed)
        assert last <= time_ns <= max(arrival, last + 1)
        last = time_ns
