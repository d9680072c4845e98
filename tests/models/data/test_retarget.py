"""The marker fit, on dances whose true pose is known."""

import numpy as np
import pytest

from engine.body import skeleton as sk
from models.data import markers as mk
from models.data.retarget import Calibration, FittedMotion, calibrate, fit_markers, scale_markers
from models.data.retarget_start import first_guess
from tests.models.data.synthetic_dance import J, mirrored_markers, steps, wear_markers

FPS = 25.0
SCALE = 1.08
"""SMPL metres per marker metre of the synthetic dancer, who is smaller than SMPL."""


@pytest.fixture(scope="module")
def offsets() -> np.ndarray:
    return mk.NOMINAL_OFFSETS_M + np.random.default_rng(1).normal(scale=0.012, size=(mk.MARKER_COUNT, 3))


@pytest.fixture(scope="module")
def calibration(offsets: np.ndarray) -> Calibration:
    return calibrate([(wear_markers(*steps(400, FPS), offsets) / SCALE, FPS)], frames=80, iterations=150)


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, np.ndarray]:
    return steps(120, FPS, bpm=100.0, turn=-0.5)


@pytest.fixture(scope="module")
def fitted(calibration: Calibration, truth: tuple[np.ndarray, np.ndarray], offsets: np.ndarray) -> FittedMotion:
    noise = np.random.default_rng(2).normal(scale=0.004, size=(120, mk.MARKER_COUNT, 3))
    return fit_markers(wear_markers(*truth, offsets) / SCALE + noise, FPS, calibration, iterations=150)


def test_joints_are_where_they_were(fitted: FittedMotion, truth: tuple[np.ndarray, np.ndarray]) -> None:
    true, _ = sk.forward_kinematics(*truth)
    got, _ = sk.forward_kinematics(fitted.rotations, fitted.translation_m)
    # The dancer's way is scaled from where they began in marker space: compare relative to the hips, and the way apart.
    error = np.linalg.norm((got - got[:, :1]) - (true - true[:, :1]), axis=-1)
    named = {name: np.median(error[:, J[name]]) for name in sk.JOINT_NAMES}
    assert np.median(error) < 0.025, named
    assert max(named.values()) < 0.06, named
    way = fitted.translation_m - fitted.translation_m[0]
    np.testing.assert_allclose(way, truth[1] - truth[1][0], atol=0.05)
    assert np.median(fitted.residual_m) < 0.015


def test_scale_is_found(calibration: Calibration) -> None:
    assert len(calibration.scale) == 1
    assert calibration.scale[0] == pytest.approx(SCALE, rel=0.04)


def test_nothing_flips(fitted: FittedMotion, truth: tuple[np.ndarray, np.ndarray]) -> None:
    def turns(rotations: np.ndarray) -> np.ndarray:
        local = sk.axis_angle_to_matrix(rotations.astype(np.float64))
        return np.linalg.norm(sk.matrix_to_axis_angle(np.swapaxes(local[:-1], -1, -2) @ local[1:]), axis=-1)

    assert turns(fitted.rotations).max() < turns(truth[0]).max() + 0.15


def test_knees_and_elbows_bend_the_right_way(fitted: FittedMotion, truth: tuple[np.ndarray, np.ndarray]) -> None:
    local = sk.axis_angle_to_matrix(fitted.rotations.astype(np.float64))
    for side in ("left", "right"):
        shank = local[:, J[f"{side}_knee"]] @ sk.REST_OFFSETS_M[J[f"{side}_ankle"]]
        assert shank[:, 2].max() < 0.05, "a shank swings back"
        assert shank[:, 2].min() < -0.25, "and far"
        forearm = local[:, J[f"{side}_elbow"]] @ sk.REST_OFFSETS_M[J[f"{side}_wrist"]]
        assert forearm[:, 2].min() > 0.0, "a forearm swings forward"
        bend = np.abs(truth[0][:, J[f"{side}_knee"], 0] - fitted.rotations[:, J[f"{side}_knee"], 0])
        assert np.median(bend) < 0.15


def test_soles_stand_on_the_floor(fitted: FittedMotion) -> None:
    points = sk.contact_points(*sk.forward_kinematics(fitted.rotations, fitted.translation_m))
    lowest = points[..., 1].min(axis=1)
    assert np.abs(np.median(lowest)) < 0.01
    assert lowest.min() > -0.03
    # One foot stands at any time, both sides take turns.
    assert (fitted.contacts.max(axis=1) == 1.0).mean() > 0.7
    assert fitted.contacts[:, :2].max() == fitted.contacts[:, 2:].max() == 1.0


def test_a_mirrored_dance_gives_the_mirrored_pose(calibration: Calibration, offsets: np.ndarray) -> None:
    markers = wear_markers(*steps(40, FPS)) / SCALE
    plain = Calibration(calibration.centres, calibration.scale, mk.NOMINAL_OFFSETS_M[None])
    a = fit_markers(markers, FPS, plain, iterations=80)
    b = fit_markers(mirrored_markers(markers), FPS, plain, iterations=80)
    expected, _ = sk.forward_kinematics(*sk.mirror(a.rotations, a.translation_m))
    got, _ = sk.forward_kinematics(b.rotations, b.translation_m)
    assert np.median(np.linalg.norm(expected - got, axis=-1)) < 0.03
    far_apart = np.linalg.norm(got - sk.forward_kinematics(a.rotations, a.translation_m)[0], axis=-1)
    assert np.median(far_apart) > 0.05, "the test would not see exchanged sides"


def test_one_lost_marker_does_not_drag_the_arm_along(
    calibration: Calibration, truth: tuple[np.ndarray, np.ndarray], offsets: np.ndarray
) -> None:
    markers = wear_markers(truth[0][:40], truth[1][:40], offsets) / SCALE
    lost = markers.copy()
    lost[20:30, 22] += [0.0, 0.6, 0.3]
    hand = J["right_wrist"]
    places = [
        sk.forward_kinematics(f.rotations, f.translation_m)[0][:, hand]
        for f in (fit_markers(m, FPS, calibration, iterations=80) for m in (markers, lost))
    ]
    assert np.linalg.norm(places[0] - places[1], axis=-1).max() < 0.06


def test_first_guess_knows_the_limbs(truth: tuple[np.ndarray, np.ndarray]) -> None:
    rotations, translation = first_guess(wear_markers(*truth))
    got, _ = sk.forward_kinematics(rotations, translation)
    true, _ = sk.forward_kinematics(*truth)
    for joint in ("left_wrist", "right_wrist", "left_ankle", "right_ankle", "head"):
        assert np.linalg.norm(got[:, J[joint]] - true[:, J[joint]], axis=-1).max() < 0.25


def test_constant_scale_is_uniform_and_a_fade_does_not_sweep_the_dancer() -> None:
    markers = wear_markers(*steps(50, FPS)) + np.array([3.0, 0.0, -2.0])
    np.testing.assert_allclose(scale_markers(markers, np.full(50, 1.1)), markers * 1.1, atol=1e-12)
    still = np.repeat(markers[:1], 50, axis=0)
    faded = scale_markers(still, np.linspace(1.0, 1.2, 50))
    hips = faded[:, [mk.LEFT_HIP, mk.RIGHT_HIP]].mean(axis=1)
    np.testing.assert_allclose(hips[:, [0, 2]], np.broadcast_to(hips[0, [0, 2]], (50, 2)), atol=1e-12)
