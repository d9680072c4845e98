"""Clips heard anew: what is done to the features must leave the labels true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.beats.spectrum import BandSpectrum
from models.beats.augmentation import beat_positions, disguise, draw_speed, play
from models.beats.cache import TrainingCache, labels, tempo_bpm, tempo_classes
from models.beats.corpus import Clip

RATE, LENGTH_S, PERIOD_S = 48_000, 30.0, 0.52


def clicks() -> Clip:
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 1e-3, round(LENGTH_S * RATE)).astype(np.float32)
    beats = np.arange(0.3, LENGTH_S, PERIOD_S)
    t = np.arange(round(0.05 * RATE)) / RATE
    burst = (0.4 * np.exp(-t / 0.01) * np.sin(2 * np.pi * 700 * t)).astype(np.float32)
    for at in beats:
        room = audio[round(at * RATE) :][: len(burst)]
        room += burst[: len(room)]
    return Clip(audio, beats, np.arange(len(beats)) % 4, np.array([(0.0, 0.3)]), 4)


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray]:
    made = clicks()
    return BandSpectrum().extract(made.audio).astype(np.float16), labels(made, round(LENGTH_S * 100))


def rise_after(features: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return how many hops after each position the energy rises most."""
    rise = np.diff(features[:, :24], axis=0).mean(axis=1)
    near = np.floor(positions).astype(int)[:, None] + np.arange(-8, 9)
    return near[np.arange(len(near)), rise[near].argmax(axis=1)] - positions


def inner(positions: np.ndarray, length: int) -> np.ndarray:
    return positions[(positions > 12) & (positions < length - 12)]


def test_labels_give_their_beats_back(clip: tuple[np.ndarray, np.ndarray]) -> None:
    positions, first = beat_positions(clip[1])
    np.testing.assert_allclose(positions[1:-1], 100 * np.arange(0.3, LENGTH_S, PERIOD_S)[1:-1], atol=0.1)
    assert np.flatnonzero(first).tolist() == list(range(0, len(positions), 4))
    assert np.nanmedian(tempo_bpm(clip[1])) == pytest.approx(60 / PERIOD_S, rel=0.002)


@pytest.mark.parametrize("speed", [0.82, 1.0, 1.2])
@pytest.mark.parametrize("start", [0.0, 130.4])
def test_beats_move_with_the_sound(clip: tuple[np.ndarray, np.ndarray], speed: float, start: float) -> None:
    features, truth = play(*clip, start, speed, 2200)
    positions, first = beat_positions(truth)
    before, _ = beat_positions(clip[1])
    assert np.median(np.diff(positions)) == pytest.approx(100 * PERIOD_S / speed, rel=0.003)
    assert np.unique(np.diff(np.flatnonzero(first))).tolist() == [4]
    late = rise_after(features, inner(positions, 2200)) - np.median(rise_after(clip[0], inner(before, 3000)))
    assert np.abs(np.median(late)) < 0.8
    assert np.abs(late).max() <= 2.0


def test_at_its_own_speed_a_clip_is_as_it_was(clip: tuple[np.ndarray, np.ndarray]) -> None:
    features, truth = play(*clip, 0.0, 1.0, 2400)
    np.testing.assert_array_equal(features, clip[0][:2400].astype(np.float32))
    # The first beat was half hidden by what nobody could hear before it.
    assert np.abs(truth.astype(int) - clip[1][:2400])[60:].max() < 30


@pytest.mark.parametrize("seed", range(12))
def test_a_disguise_leaves_beats_in_place(clip: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    features = clip[0][:2400].astype(np.float32)
    positions = inner(beat_positions(clip[1])[0], 2400)
    changed = disguise(np.random.default_rng(seed), features)
    assert changed.shape == features.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert changed.min() >= 0
    assert np.abs(changed - features).mean() > 0.005, "nothing was done"
    late = rise_after(changed, positions) - rise_after(features, positions)
    assert abs(np.median(late)) <= 1.0


def test_speeds_keep_the_tempo_in_range() -> None:
    rng = np.random.default_rng(1)
    for bpm in (56.0, 90.0, 130.0, 200.0):
        speeds = [draw_speed(rng, np.array([np.nan, bpm], np.float32)) for _ in range(200)]
        assert 54.9 < bpm * min(speeds) <= bpm <= bpm * max(speeds) < 205.1
    assert draw_speed(rng, np.full(3, np.nan, np.float32)) > 0


def test_a_batch_is_new_each_time_and_its_tempo_is_that_of_its_beats(
    clip: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    np.save(tmp_path / "labels_000.npy", np.repeat(clip[1][None], 3, axis=0))
    np.save(tmp_path / "features_000.npy", np.repeat(clip[0][None], 3, axis=0))
    cache = TrainingCache(tmp_path)
    cache.refresh()
    features, truths, tempi = cache.batch(np.array([0, 1, 2]), np.random.default_rng(5))
    assert features.shape == (3, 2400, 88)
    assert np.abs(features[0] - features[1]).mean() > 0.02
    for truth, classes in zip(truths, tempi, strict=True):
        positions, _ = beat_positions(truth)
        wanted = tempo_classes(np.array([6000 / np.median(np.diff(positions))], np.float32))[0]
        known = classes[300:1500]
        assert np.abs(known[known >= 0] - wanted).max() <= 1
