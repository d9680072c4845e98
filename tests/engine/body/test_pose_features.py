"""Pose features: causal, size-free, mirrored, deterministic, quiet when nothing moves."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from engine.body.pose_features import PoseFeatureExtractor, PoseFeatureSpec
from engine.body.skeleton import axis_angle_to_matrix, matrix_to_axis_angle, mirror

SPEC = PoseFeatureSpec()
INTERVAL_S = 0.05


def _dance(ticks: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    rotations = gaussian_filter1d(random.normal(size=(ticks, 24, 3)), 5, axis=0) * 0.8
    rotations[:, 0] = 0.0
    rotations[:, 0, 1] = np.linspace(0.0, 9.0, ticks)
    translation = np.cumsum(gaussian_filter1d(random.normal(size=(ticks, 3)), 8, axis=0) * 0.03, axis=0)
    translation[:, 1] = 0.95
    return rotations, translation, (random.random((ticks, 4)) > 0.5).astype(float)


def _rows(rotations: np.ndarray, translation: np.ndarray, contacts: np.ndarray) -> np.ndarray:
    extractor = PoseFeatureExtractor()
    poses = zip(rotations, translation, contacts, strict=True)
    return np.stack([extractor.process(*pose, INTERVAL_S) for pose in poses])


def test_a_row_depends_on_nothing_later_and_is_the_same_each_time() -> None:
    dance = _dance()
    rows = _rows(*dance)
    assert rows.shape == (80, SPEC.size)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    changed = tuple(a.copy() for a in dance)
    for array in changed:
        array[40:] += 0.3
    again = _rows(*changed)
    assert np.array_equal(rows[:40], again[:40])
    assert not np.allclose(rows[40], again[40])


def test_reset_forgets() -> None:
    dance = _dance(30)
    extractor = PoseFeatureExtractor()
    first = [extractor.process(*pose, INTERVAL_S) for pose in zip(*dance, strict=True)]
    without = extractor.process(*(a[0] for a in dance), INTERVAL_S)
    extractor.reset()
    assert np.array_equal(extractor.process(*(a[0] for a in dance), INTERVAL_S), first[0])
    assert not np.array_equal(without, first[0])


def test_the_digest_follows_every_constant() -> None:
    assert SPEC.digest == PoseFeatureSpec().digest
    assert len(set(SPEC.names)) == SPEC.size
    for change in ({"version": 2}, {"velocity_smoothing_s": 0.06}, {"joints": (15, 9)}):
        assert dataclasses.replace(SPEC, **change).digest != SPEC.digest


def test_a_still_dancer_moves_nothing() -> None:
    rotations, translation, _ = (np.repeat(a[:1], 20, axis=0) for a in _dance())
    rows = _rows(rotations, translation, np.ones((20, 4)))
    assert np.abs(rows[:, SPEC.movement]).max() == 0.0
    assert np.abs(rows[:, : SPEC.movement.start]).max() > 0.1


def test_movement_that_stops_dies_away_within_a_beat() -> None:
    rotations, translation, contacts = _dance()
    for array in (rotations, translation, contacts):
        array[40:] = array[39]
    rows = _rows(rotations, translation, contacts)
    fast = [i for i, name in enumerate(SPEC.names) if name.startswith(("velocity", "speed", "brake", "strike", "yaw"))]
    assert np.abs(rows[35:40, fast]).max() > 0.5
    assert np.abs(rows[52:, fast]).max() < 1e-3
    # An accent that ends is a brake, and only then.
    brake = rows[:, SPEC.column("brake_left_wrist")]
    assert brake[40] > 0.05


def test_a_mirrored_dance_gives_mirrored_rows() -> None:
    rotations, translation, contacts = _dance()
    ours = SPEC.mirrored(_rows(rotations, translation, contacts))
    theirs = _rows(*mirror(rotations, translation), contacts[:, [2, 3, 0, 1]])
    # The skeleton's own asymmetry (up to a centimetre a bone) is all that may differ.
    assert np.abs(ours - theirs)[:, : SPEC.movement.start].max() < 0.08
    assert np.abs(ours - theirs).mean() < 0.02
    assert np.array_equal(SPEC.mirrored(SPEC.mirrored(ours)), ours)
    lefts = SPEC.column("speed_left_wrist"), SPEC.column("speed_right_wrist")
    assert np.abs(theirs[:, lefts[0]] - ours[:, lefts[1]]).mean() > 0.1


def test_neither_place_nor_heading_matters() -> None:
    rotations, translation, contacts = _dance()
    turn = axis_angle_to_matrix(np.array([0.0, 1.3, 0.0]))
    turned = rotations.copy()
    turned[:, 0] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(rotations[:, 0]))
    moved = translation @ np.asarray(turn).T + [3.0, 0.0, -2.0]
    assert np.allclose(_rows(rotations, translation, contacts), _rows(turned, moved, contacts), atol=1e-4)


def test_a_rest_pose_is_where_it_should_be() -> None:
    row = PoseFeatureExtractor().process(np.zeros((24, 3)), (0.0, 0.976, 0.0), np.ones(4), INTERVAL_S)
    assert row[SPEC.column("root_height")] == pytest.approx(1.0, abs=1e-3)
    assert row[SPEC.column("position_left_wrist_x")] > 0.5
    assert row[SPEC.column("position_head_y")] > 0.4
    assert row[SPEC.column("lean_x")] == row[SPEC.column("lean_z")] == 0.0


def test_a_cameras_noise_is_no_dance() -> None:
    rotations, translation, contacts = _dance()
    random = np.random.default_rng(1)
    still = tuple(np.repeat(a[:1], 80, axis=0) for a in (rotations, translation, contacts))
    noisy = _rows(still[0] + 0.01 * random.normal(size=(80, 24, 3)), still[1] + 0.003, still[2])
    energy = SPEC.column("energy")
    assert noisy[:, energy].mean() < 0.25 * _rows(rotations, translation, contacts)[:, energy].mean()


def test_what_is_not_finite_or_jumps_is_survived() -> None:
    rotations, translation, contacts = _dance()
    rotations[0], translation[20], contacts[30] = np.nan, np.inf, np.nan
    translation[50:] += 100.0
    extractor = PoseFeatureExtractor()
    intervals = [np.nan, 0.0, -1.0, 50.0] * 20
    rows = np.stack(
        [extractor.process(*pose, s) for *pose, s in zip(rotations, translation, contacts, intervals, strict=True)]
    )
    assert np.isfinite(rows).all()
    assert np.abs(rows).max() < 40.0


def test_a_row_is_cheap() -> None:
    dance = _dance()
    extractor = PoseFeatureExtractor()
    times = []
    for pose in zip(*dance, strict=True):
        begin = time.thread_time()
        extractor.process(*pose, INTERVAL_S)
        times.append(time.thread_time() - begin)
    # Of the processor's time, and the best of many: a busy machine does not decide. It takes 0.1 ms; a tick lasts 35 ms
    # at 140 beats a minute.
    assert min(times) < 0.005
