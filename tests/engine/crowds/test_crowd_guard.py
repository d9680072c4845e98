"""A crowd's guard does to each dancer what `PoseGuard` does to one, whatever comes in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from engine.body import pose_algebra as algebra
from engine.body.skeleton import axis_angle_to_matrix
from engine.crowds.guard import CrowdGuard
from engine.dancing.guards import PoseGuard
from engine.types import NS_PER_S

FRAME_NS = NS_PER_S // 60
DANCERS = 5
RADIUS_M = 1.6
Motion = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rotations (T, N, 24, 3) [rad], roots (T, N, 3) [m], contacts (T, N, 4)."""


def _dance(seed: int, frames: int = 240, wild: float = 0.35) -> Motion:
    """Return smooth random motion that bends, turns, travels, and plants its feet now and then."""
    random = np.random.default_rng(seed)

    def smooth(*shape: int, sigma: float) -> np.ndarray:
        noise = gaussian_filter1d(random.normal(size=(frames, DANCERS, *shape)), sigma, axis=0)
        return noise / noise.std()

    rotations = wild * smooth(24, 3, sigma=14.0)
    rotations[:, :, [4, 5], 0] = 0.5 + 0.4 * smooth(2, sigma=12.0)
    roots = 0.5 * smooth(3, sigma=40.0)
    roots[:, :, 1] = 0.9 + 0.05 * smooth(sigma=10.0)
    contacts = 1.0 / (1.0 + np.exp(-4.0 * smooth(4, sigma=9.0)))
    return rotations, roots, contacts


def _standing(seed: int) -> Motion:
    """Return dancers who sway a little over feet that stand, on the floor: contacts are held, released, caught."""
    rotations, roots, contacts = _dance(seed, wild=0.04)
    rotations[:, :, [4, 5], 0] = 0.15 + 0.03 * np.sin(np.arange(len(rotations)) / 9.0)[:, None, None]
    roots[..., [0, 2]] *= 0.06
    roots[..., 1] = 0.9 + 0.01 * np.sin(np.arange(len(rotations)) / 7.0)[:, None]
    return rotations, roots, contacts


def _lost(motion: Motion) -> Motion:
    """Let some poses of some dancers be no numbers, for one frame and for long."""
    rotations, roots, contacts = (array.copy() for array in motion)
    rotations[40, 1, 3] = np.nan
    roots[60:110, 2] = np.inf
    contacts[150:156, 3] = np.nan
    roots[200, 1] = 400.0
    return rotations, roots, contacts


def _astray(motion: Motion) -> Motion:
    """Let dancers leave the stage, sink, jump and whirl."""
    rotations, roots, contacts = (array.copy() for array in motion)
    roots[:, 0, 0] += np.linspace(0.0, 3.0, len(roots))
    roots[100:, 1, 2] += 0.8
    roots[50:90, 2, 1] -= 0.9
    rotations[120:, 3, 16] += 2.9
    rotations[:, 4, 0, 1] += 0.38 * np.arange(len(roots))
    return rotations, roots, contacts


def _single(motion: Motion) -> list[list[np.ndarray]]:
    guards = [PoseGuard(RADIUS_M) for _ in range(DANCERS)]
    frames = []
    for index, (rotations, roots, contacts) in enumerate(zip(*motion, strict=True)):
        poses = [
            guard.apply(index * FRAME_NS, *given)
            for guard, given in zip(guards, zip(rotations, roots, contacts, strict=True), strict=True)
        ]
        frames.append(
            [np.stack([getattr(p, name) for p in poses]) for name in ("rotations", "translation_m", "contacts")]
        )
    return frames


def _together(motion: Motion) -> list[tuple[np.ndarray, ...]]:
    guard = CrowdGuard(DANCERS, RADIUS_M)
    frames = []
    for index, (rotations, roots, contacts) in enumerate(zip(*motion, strict=True)):
        with np.errstate(invalid="ignore"):
            quaternions = algebra.from_axis_angle(rotations.reshape(-1, 3)).reshape(DANCERS, 24, 4)
        frames.append(guard.apply(index * FRAME_NS, quaternions, roots, contacts))
    return frames


@pytest.mark.parametrize(
    "motion",
    [
        lambda: _dance(0),
        lambda: _dance(1, wild=0.9),
        lambda: _standing(2),
        lambda: _lost(_dance(3)),
        lambda: _lost(_standing(4)),
        lambda: _astray(_dance(5)),
        lambda: _astray(_standing(6)),
    ],
    ids=["dance", "wild", "standing", "lost", "lost standing", "astray", "astray standing"],
)
def test_together_is_one_by_one(motion: Callable[[], Motion]) -> None:
    given = motion()
    for frame, (alone, crowd) in enumerate(zip(_single(given), _together(given), strict=True)):
        for ours, theirs in zip(crowd[1:], alone[1:], strict=True):
            assert np.abs(ours - theirs).max() < 1e-5, frame
        # As rotations: half a turn one way is half a turn the other way.
        assert np.abs(axis_angle_to_matrix(crowd[0]) - axis_angle_to_matrix(alone[0])).max() < 1e-4, frame


def test_whatever_is_given_is_shown_finite() -> None:
    guard = CrowdGuard(2, RADIUS_M)
    for index in range(5):
        bad = np.full((2, 24, 4), np.nan)
        rotations, roots, contacts = guard.apply(
            index * FRAME_NS, bad, np.full((2, 3), np.inf), np.full((2, 4), np.nan)
        )
        assert np.isfinite(rotations).all()
        assert np.isfinite(roots).all()
        assert np.isfinite(contacts).all()
    assert guard.mended == 10
