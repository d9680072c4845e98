"""Dance metrics on motions whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

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


def test_both_directions_of_alignment_differ_when_beats_are_passed_by() -> None:
    beats = np.arange(0.0, 20.0, 0.5)
    every_other = beats[::2]
    assert np.isclose(metrics.beat_alignment(every_other, beats), 1.0)
    assert np.isclose(metrics.music_alignment(every_other, beats), 0.5, atol=0.01)
    assert metrics.beat_coverage(every_other, beats) == 0.5
    # 50 ms is one sigma.
    assert np.isclose(metrics.beat_alignment(beats + 0.05, beats), np.exp(-0.5), atol=0.02)


def test_hits_count_within_a_tenth_of_a_second() -> None:
    beats = np.arange(0.0, 20.0, 0.5)
    assert metrics.beat_hit_rate(beats + 0.09, beats) == 1.0
    assert metrics.beat_hit_rate(beats[:-1] + 0.11, beats) == 0.0
    figures = metrics.beat_figures(beats + 0.09, beats)
    # Of the even shifts of half a second, 0.2 s are within the tolerance.
    assert np.isclose(figures.hit_rate_chance, 0.4, atol=0.03)
    assert figures.hit_rate == 1.0


def test_events_match_one_to_one_with_a_signed_offset() -> None:
    beats = np.arange(0.0, 10.0, 0.5)
    # Two kinematic beats near each beat: one of them is too many.
    danced = np.concatenate([beats - 0.03, beats + 0.03])
    precision, recall, f1, offset_s = metrics.event_scores(danced, beats)
    assert (precision, recall) == (0.5, 1.0)
    assert np.isclose(f1, 2.0 / 3.0)
    assert np.isclose(offset_s, -0.03)
    precision, recall, f1, offset_s = metrics.event_scores(beats + 0.06, beats)
    assert (precision, recall, f1) == (1.0, 1.0, 1.0)
    assert np.isclose(offset_s, 0.06)
    precision, recall, f1, offset_s = metrics.event_scores(beats + 0.08, beats)
    assert f1 == 0.0
    assert np.isnan(offset_s)


def test_body_beats_are_where_all_joints_rest() -> None:
    p = _still()
    angle = 2.0 * np.pi * np.arange(len(p)) / 60.0 * 1.5
    p[:, :, 2] += (0.05 * (angle - np.sin(angle)))[:, None]
    found = metrics.body_beats(p, 60.0)
    assert np.allclose(np.diff(found), 1.0 / 1.5, atol=0.02)
    assert metrics.beat_alignment(found, np.arange(0.0, 21.0, 1.0 / 1.5)) > 0.95


def test_reference_gives_the_same_frechet_as_the_textbook() -> None:
    from scipy.linalg import sqrtm

    random = np.random.default_rng(3)
    real, other = random.normal(size=(400, 6)), random.normal(size=(300, 6)) @ random.normal(size=(6, 6)) + 0.5
    a, b = (other - real.mean(0)) / real.std(0), (real - real.mean(0)) / real.std(0)
    cov_a, cov_b = (np.cov(x, rowvar=False) + 1e-5 * np.eye(6) for x in (a, b))
    textbook = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2.0 * np.real(sqrtm(cov_a @ cov_b)))
    reference = metrics.Reference.of(real)
    parts = [metrics.Moments.of(reference.scored(part)) for part in np.split(other, [50, 170])]
    assert np.isclose(reference.frechet(metrics.Moments.together(parts)), textbook, rtol=1e-6)
    assert np.isclose(metrics.frechet_distance(other, real), textbook, rtol=1e-6)


def test_dances_to_one_piece_that_are_alike_are_not_multimodal() -> None:
    random = np.random.default_rng(0)
    real = random.normal(size=(500, 8)) * 3.0
    one = random.normal(size=(15, 8)) * 3.0
    assert metrics.multimodality([one, one, one], real) == 0.0
    apart = one + 2.0 * real.std(axis=0)
    assert np.isclose(metrics.multimodality([one, apart], real), 2.0 * np.sqrt(8.0))


def test_frozen_seconds_are_counted() -> None:
    moving = np.cumsum(np.full((60 * 10, 24, 3), 0.01), axis=0)
    moving[60 * 6 :] = moving[60 * 6]
    assert np.isclose(metrics.frozen_share(moving, 60.0), 0.4, atol=0.11)
    assert metrics.frozen_share(moving[: 60 * 5], 60.0) == 0.0


def test_a_push_needs_a_standing_foot() -> None:
    time_s = np.arange(600) / 60.0
    p = _still(10.0)
    p[:, 0, 0] = 0.1 * np.sin(2.0 * np.pi * time_s)
    assert metrics.physical_foot_contact(p, 60.0) == 0.0
    p[:, [7, 8, 10, 11], 0] = (0.5 * time_s)[:, None]
    flying = metrics.physical_foot_contact(p, 60.0)
    # Both feet 1/60 m a frame, times the mean of |sin| (its largest is 1).
    assert np.isclose(flying, 1e4 * (0.5 / 30.0) ** 2 * 2.0 / np.pi, rtol=0.05)
    p[:, [7, 10], 0] = 0.0
    assert metrics.physical_foot_contact(p, 60.0) < 1e-6


@pytest.mark.parametrize("rate_hz", [24.0, 25.0, 50.0, 120.0])
def test_pushes_count_as_much_at_every_frame_rate(rate_hz: float) -> None:
    def flying(rate_hz: float) -> float:
        time_s = np.arange(0.0, 20.0, 1.0 / rate_hz)
        p = np.zeros((len(time_s), 24, 3))
        p[:, 0, 0] = 0.1 * np.sin(2.0 * time_s)
        p[:, [7, 8, 10, 11], 0] = (0.5 * time_s)[:, None]
        return metrics.physical_foot_contact(p, rate_hz)

    assert np.isclose(flying(rate_hz), flying(30.0), rtol=0.02)


def test_geometric_relations_hold_for_poses_in_which_one_sees_them() -> None:
    from engine.body.skeleton import forward_kinematics

    names = [r.kind + ":" + ",".join(r.joints) for r in metrics.RELATIONS]
    assert len(names) == 32
    rotations = np.zeros((120, 24, 3))
    joints, _ = forward_kinematics(rotations, np.tile([0.0, 0.95, 0.0], (120, 1)))
    rest = dict(zip(names, metrics.geometric_features(joints, 60.0), strict=True))
    assert rest["angle:right_knee,right_hip,right_knee,right_ankle"] == 0.0
    assert rest["fast:pelvis"] == 0.0
    assert rest["upright:neck,pelvis"] == 0.0
    # Right knee bent by 100 degrees and the thigh lifted: the knee relation, the raised foot, and only on that side.
    rotations[:, 2, 0], rotations[:, 5, 0] = -1.6, 1.75
    lifted = dict(
        zip(
            names,
            metrics.geometric_features(
                forward_kinematics(rotations, np.tile([0.0, 0.95, 0.0], (120, 1)))[0],
                60.0,
            ),
            strict=True,
        )
    )
    assert lifted["angle:right_knee,right_hip,right_knee,right_ankle"] == 1.0
    assert lifted["angle:left_knee,left_hip,left_knee,left_ankle"] == 0.0
    assert lifted["height_over:right_ankle"] == 1.0
    assert lifted["angle:neck,pelvis,right_hip,right_knee"] == 1.0
    # The whole body travels: the root is fast half of the time, whatever the frame rate.
    for rate in (30.0, 120.0):
        moving = np.repeat(joints[:1], int(4 * rate), axis=0)
        moving[int(2 * rate) :, :, 2] += (np.arange(int(2 * rate)) / rate)[:, None]
        assert np.isclose(metrics.geometric_features(moving, rate)[names.index("fast:pelvis")], 0.5, atol=0.03)
    assert metrics.geometric_clip_features(joints.repeat(4, axis=0), 60.0).shape == (3, 32)


def test_a_classifier_of_real_styles_recognises_them_and_is_not_fooled_by_noise() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 10)) * 2.0
    styles = np.repeat([0, 2, 3], [200, 50, 30])
    rows = centres[np.repeat([0, 1, 2], [200, 50, 30])] + random.normal(size=(280, 10))
    classifier = metrics.StyleClassifier.fit(rows[::2], styles[::2], rows[1::2], styles[1::2])
    assert classifier.held_out_accuracy > 0.9
    assert set(classifier.predict(rows)) == {0, 2, 3}
    assert classifier.accuracy(random.normal(size=(300, 10)) * 3.0, np.repeat([0, 2, 3], 100)) < 0.55
    motion = np.cumsum(random.normal(size=(60 * 8, 24, 3)) * 0.01, axis=0)
    assert metrics.style_features(motion, 60.0).shape == (3, 248)


def test_an_interval_covers_the_mean_of_songs_that_differ() -> None:
    songs = list(np.random.default_rng(1).normal(5.0, 2.0, 40))
    interval = metrics.bootstrap(songs, lambda parts: float(np.mean(parts)))
    assert interval.low < 5.0 < interval.high
    assert np.isclose(interval.high - interval.low, 2 * 1.96 * 2.0 / np.sqrt(40), rtol=0.35)
    assert np.isnan(metrics.bootstrap(songs[:1], lambda parts: parts[0]).low)
    # The number of different songs shrinks in every resample; centred, the interval is about the value again.
    biased = metrics.bootstrap(songs, lambda parts: float(len(set(parts))))
    centred = metrics.bootstrap(songs, lambda parts: float(len(set(parts))), centred=True)
    assert biased.high < biased.value == 40.0
    assert centred.low < 40.0 < centred.high
