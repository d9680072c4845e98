"""The Gromov-Wasserstein term against POT and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ot = pytest.importorskip("ot")

from models.dual.gromov import exact_discrepancy, inner_distances, paired_discrepancy  # noqa: E402


def points(seed: int, count: int = 12, size: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, size)))


def test_the_paired_discrepancy_is_the_energy_of_the_identity_plan() -> None:
    x, y = points(0), points(1, size=5)
    dx, dy = inner_distances(x).numpy(), inner_distances(y).numpy()
    even = np.full(12, 1 / 12)
    tensor, left, right = ot.gromov.init_matrix(dx, dy, even, even, "square_loss")
    energy = ot.gromov.gwloss(tensor, left, right, np.diag(even))
    assert float(paired_discrepancy(x, y)) == pytest.approx(energy, rel=1e-9)


def test_the_exact_one_is_pots_and_never_larger() -> None:
    for seed in range(5):
        x, y = points(seed), points(seed + 50, size=2)
        even = np.full(12, 1 / 12)
        dx, dy = inner_distances(x).numpy(), inner_distances(y).numpy()
        theirs = ot.gromov.gromov_wasserstein2(dx, dy, even, even, "square_loss", G0=np.diag(even))
        ours = float(exact_discrepancy(x, y))
        assert ours == pytest.approx(theirs, rel=1e-6)
        assert ours <= float(paired_discrepancy(x, y)) + 1e-9


def test_isometric_spaces_agree_whatever_their_axes_and_scale() -> None:
    x = points(0)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    y = 7.0 * x @ torch.from_numpy(turn) + 5.0
    assert float(paired_discrepancy(x, y)) == pytest.approx(0.0, abs=1e-9)
    shuffled = y[torch.from_numpy(np.random.default_rng(2).permutation(12))]
    assert float(paired_discrepancy(x, shuffled)) > 0.1, "paired: the order matters"


def test_the_gradient_is_that_of_finite_differences() -> None:
    x, y = points(3).requires_grad_(True), points(4, size=4)
    paired_discrepancy(x, y).backward()
    step = 1e-5 * torch.from_numpy(np.random.default_rng(5).normal(size=(12, 3)))
    numeric = (paired_discrepancy(x.detach() + step, y) - paired_discrepancy(x.detach() - step, y)) / 2.0
    assert float(numeric) == pytest.approx(float((x.grad * step).sum()), rel=1e-4)


def test_at_a_fixed_plan_pots_gradient_is_ours() -> None:
    # Spaces so alike that the identity is the best plan.
    x = points(6).requires_grad_(True)
    y = (x.detach() + 0.01 * points(7)).clone()
    exact_discrepancy(x, y).backward()
    theirs = x.grad.clone()
    x.grad = None
    paired_discrepancy(x, y).backward()
    torch.testing.assert_close(x.grad, theirs, rtol=1e-3, atol=1e-8)


def test_equal_points_have_a_finite_gradient() -> None:
    x = torch.zeros(4, 3, requires_grad=True)
    paired_discrepancy(x, points(0, 4).float()).backward()
    assert bool(x.grad.isfinite().all())
