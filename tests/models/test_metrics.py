"""Dance metrics on motions whose values are known."""

from __future__ import annotations

import numpy as np

from models import metrics


def _still(seconds: float = 20.0) -> np.ndarray:
    return np.tile(np.linspace(0.0, 1.7, 24)[None, :, None], (int(60 * seconds), 1, 3)) * [0.0, 1.0, 0.0]


def _stepping(beats_per_s: float, seconds: float = 20.0, phase: float = 0.0) -> np.ndarray:
    """Feet that stand on each beat: displacement whose speed is 1 - cos of the beat phase."""
    p = _still(seconds)
    angle = 2.0 * np.pi * (np.arange(len(p)) / 60.0 * beats_per_s - phase)
    p[:, [7, 8, 10, 11], 0] += (0.1 * (angle - np.sin(angle)))[:, None]
    return p


def test_kinetic_features_of_uniform_motion_are_its_squared_speed_at_any_rate() -> None:
    for rate in (30.0, 60.0, 120.0):
        p = np.zeros((int(4 * rate), 24, 3))
        p[:, 3, 0] = 0.5 * np.arange(len(p)) / rate
        p[:, 4, 1] = 0.2 * np.arange(len(p)) / rate
        features = metrics.kinetic_features(p, rate)
        assert features.shape == (72,)
        assert np.isclose(features[3], 0.25)
        assert np.isclose(features[24 + 4], 0.04)
        assert np.abs(features[48:]).max() < 1e-6


def test_frechet_is_zero_to_itself_and_grows_with_a_shift() -> None:
    random = np.random.default_rng(0)
    real = random.normal(size=(300, 5))
    assert abs(metrics.frechet_distance(real, real)) < 1e-3
    shifted = metrics.frechet_distance(real + real.std(axis=0) * 2.0, real)
    assert np.isclose(shifted, 20.0, atol=0.1)


def test_diversity_is_scaled_by_the_real_set() -> None:
    real = np.random.default_rng(0).normal(size=(200, 6)) * [1, 10, 100, 1, 1, 1]
    whole = metrics.diversity(real, real)
    assert np.isclose(whole, np.sqrt(12.0), rtol=0.1)
    assert np.isclose(metrics.diversity(real[0] + 0.5 * (real - real[0]), real), 0.5 * whole, rtol=1e-6)


def test_steps_on_the_beat_align_and_chance_is_told() -> None:
    on = metrics.foot_beats(_stepping(1.5), 60.0)
    off = metrics.foot_beats(_stepping(1.5, phase=0.5), 60.0)
    beats = np.arange(0.0, 20.0, 1.0 / 1.5)
    assert metrics.beat_alignment(on, beats) > 0.95
    assert metrics.beat_alignment(off, beats) < 0.05
    chance = metrics.alignment_by_chance(on, beats)
    assert 0.1 < chance < 0.3
    assert np.isclose(chance, metrics.alignment_by_chance(off, beats), atol=0.03)
    assert metrics.beat_alignment([], beats) == 0.0


def test_standing_is_planted_gliding_is_not() -> None:
    points = np.zeros((600, 4, 3))
    assert metrics.planted_share(points, 60.0) == 1.0
    points[:, 2:, 0] = np.arange(600)[:, None] / 60.0
    assert np.isclose(metrics.planted_share(points, 60.0), 0.5)
    assert np.isclose(metrics.foot_sliding(points, np.ones((600, 4)), 60.0), 0.5)
    points[..., 1] = 0.3
    assert metrics.planted_share(points, 60.0) == 0.0
    assert metrics.both_feet_off_share(points) == 1.0


def test_a_dance_that_freezes_is_seen() -> None:
    moving = np.random.default_rng(0).normal(size=(60 * 150, 24, 3)) * 0.01
    assert metrics.speed_ratio(moving, 60.0) > 0.95
    moving[60 * 60 :] = moving[60 * 60]
    assert metrics.speed_ratio(moving, 60.0) < 0.1
