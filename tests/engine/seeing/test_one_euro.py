"""The one-euro filter: exact where it must be, calm at rest, quick in motion, the same at any rate."""

from __future__ import annotations

import numpy as np
import pytest

from engine.seeing.one_euro import OneEuroFilter
from engine.types import NS_PER_S


def follow(filter_: OneEuroFilter, values: np.ndarray, rate_hz: float) -> np.ndarray:
    return np.array([filter_.process(v, round(k * NS_PER_S / rate_hz)) for k, v in enumerate(values)])


def test_it_is_the_filter_of_the_paper() -> None:
    """Casiez et al. 2012, appendix: alpha = 1 / (1 + tau / Te), tau = 1 / (2 pi cutoff)."""
    rate, cutoff, beta = 60.0, 1.0, 0.5
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(0.0, 0.1, 50))

    def alpha(hz: float) -> float:
        return 1.0 / (1.0 + rate / (2.0 * np.pi * hz))

    expected, speed = [values[0]], 0.0
    for value in values[1:]:
        speed += alpha(2.0) * ((value - expected[-1]) * rate - speed)
        expected.append(expected[-1] + alpha(cutoff + beta * abs(speed)) * (value - expected[-1]))
    got = follow(OneEuroFilter(cutoff, beta), values[:, None, None], rate)[:, 0, 0]
    # Times are whole nanoseconds.
    assert np.allclose(got, expected, atol=1e-6)


def test_zero_is_no_filter() -> None:
    values = np.random.default_rng(1).normal(size=(20, 3, 2))
    assert np.array_equal(follow(OneEuroFilter(0.0, 5.0), values, 30.0), values)


def test_at_rest_noise_is_quenched_and_in_motion_it_follows() -> None:
    rng = np.random.default_rng(2)
    still = rng.normal(0.0, 0.01, (300, 1, 3))
    calm = follow(OneEuroFilter(1.0, 5.0), still, 60.0)
    assert calm[60:].std() < 0.5 * still[60:].std()
    time_s = np.arange(300) / 60.0
    moving = np.stack([2.0 * time_s, np.zeros(300), np.zeros(300)], axis=1)[:, None]
    lag_m = moving[-1, 0, 0] - follow(OneEuroFilter(1.0, 5.0), moving, 60.0)[-1, 0, 0]
    assert lag_m / 2.0 < 0.02, "15 ms behind at 2 m/s"


@pytest.mark.parametrize("rate", [24.0, 30.0, 60.0, 120.0])
def test_the_rate_hardly_matters(rate: float) -> None:
    count = round(3 * rate)
    wave = np.sin(2 * np.pi * 0.7 * np.arange(count) / rate)[:, None, None]
    end = follow(OneEuroFilter(2.0, 3.0), wave, rate)[-1, 0, 0]
    reference = follow(OneEuroFilter(2.0, 3.0), np.sin(2 * np.pi * 0.7 * np.arange(720) / 240)[:, None, None], 240.0)
    assert end == pytest.approx(reference[round(720 * (count - 1) / count), 0, 0], abs=0.05)


def test_time_that_stands_still_changes_nothing_and_reset_forgets() -> None:
    filter_ = OneEuroFilter(1.0, 1.0)
    first = filter_.process(np.zeros((2, 3)), 0)
    assert np.array_equal(filter_.process(np.ones((2, 3)), 0), first)
    filter_.reset()
    assert np.array_equal(filter_.process(np.ones((2, 3)), 5), np.ones((2, 3)))
