"""The pose features in torch against those of the stage."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine.body.pose_features import PoseFeatureExtractor, PoseFeatureSpec  # noqa: E402
from models.dual.dance_features import pose_features  # noqa: E402
from models.motion.representation import motion_from_ticks, ticks_from_motion  # noqa: E402
from tests.models.music_to_dance.gmd_fixtures import smooth_motion  # noqa: E402


def stage_rows(ticks: np.ndarray, interval_s: np.ndarray) -> np.ndarray:
    rotations, translation = motion_from_ticks(ticks)
    extractor = PoseFeatureExtractor()
    poses = zip(rotations, translation, ticks[:, -4:], interval_s, strict=True)
    return np.stack([extractor.process(*pose) for pose in poses])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_they_are_those_of_the_stage(seed: int) -> None:
    ticks = ticks_from_motion(*smooth_motion(seed, 150))
    interval = np.random.default_rng(seed).uniform(0.03, 0.09, 150)
    expected = stage_rows(ticks, interval)
    ours = pose_features(torch.from_numpy(ticks)[None], torch.from_numpy(interval).float()[None])[0].numpy()
    assert ours.shape == expected.shape == (150, PoseFeatureSpec().size)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_limits_hold_where_a_body_jumps() -> None:
    rotations, translation, contacts = smooth_motion(3, 40)
    rotations[20:, 0, 1] += 2.5
    translation[20:] += [3.0, 0.0, -2.0]
    ticks = ticks_from_motion(rotations, translation, contacts)
    interval = np.full(40, 0.05)
    ours = pose_features(torch.from_numpy(ticks)[None], torch.full((1, 40), 0.05))[0].numpy()
    np.testing.assert_allclose(ours, stage_rows(ticks, interval), atol=1e-4)


def test_running_energies_go_on_from_where_they_were() -> None:
    ticks = ticks_from_motion(*smooth_motion(5, 200))
    expected = stage_rows(ticks, np.full(200, 0.05))
    interval, later = torch.full((1, 80), 0.05), torch.from_numpy(ticks[None, 120:])
    energies = torch.from_numpy(expected[None, 120, -2:])
    ours, cold = (pose_features(later, interval, start)[0].numpy() for start in (energies, None))
    # Velocities are forgotten in a few ticks, the slow energy only in seconds.
    np.testing.assert_allclose(ours[15:, :-1], expected[135:, :-1], atol=5e-3)
    wrong, without = (np.abs(rows[15:, -1] - expected[135:, -1]).max() for rows in (ours, cold))
    assert wrong < 0.03
    assert without > 5.0 * wrong


def test_the_gradient_is_finite_and_right() -> None:
    ticks = torch.from_numpy(ticks_from_motion(*smooth_motion(4, 12)))[None].requires_grad_(True)
    interval = torch.full((1, 12), 0.05)
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=PoseFeatureSpec().size)).float()

    def value(t: torch.Tensor) -> torch.Tensor:
        return (pose_features(t, interval) * weights).mean()

    value(ticks).backward()
    assert ticks.grad is not None
    assert bool(ticks.grad.isfinite().all())
    step = 1e-2 * ticks.grad / ticks.grad.norm()
    numeric = float(value(ticks.detach() + step) - value(ticks.detach() - step)) / 2.0
    assert numeric == pytest.approx(float((ticks.grad * step).sum()), rel=0.05)
    # Nothing moves: still finite.
    still = ticks.detach()[:, :1].expand(-1, 12, -1).clone()
    still[..., 145:148] = 0.0
    still.requires_grad_(True)
    pose_features(still, interval).sum().backward()
    assert bool(still.grad.isfinite().all())
