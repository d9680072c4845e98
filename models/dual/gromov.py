"""How alike two spaces are that have no axis in common: the Gromov-Wasserstein discrepancy of their inner distances.

Memoli 2011 ("Gromov-Wasserstein distances and the metric approach to object matching"); in learning, Peyre et al. 2016.
Music and dance of the same beats are paired, so the plan that couples the two spaces is known: it is the identity, and
its energy, mean((D_x - D_y)^2), is what is minimised. The exact discrepancy (the best plan's energy, by POT; Flamary et
al. 2021) is at most that; it is what is reported.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST = 1e-12


def inner_distances(points: Tensor) -> Tensor:
    """Return the distances (..., n, n) of points (..., n, d), divided by their mean: a space has no scale of its own.

    Without that, both spaces would agree best by shrinking to a point.
    """
    squared = ((points[..., :, None, :] - points[..., None, :, :]) ** 2).sum(-1)
    distances = (squared + _SMALLEST).sqrt() * (squared > 0.0)
    return distances / distances.mean(dim=(-2, -1), keepdim=True).clamp(min=_SMALLEST)


def paired_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Return the energy () of the identity plan between paired points (..., n, d) and (..., n, e)."""
    return ((inner_distances(first) - inner_distances(second)) ** 2).mean()


def exact_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Return the Gromov-Wasserstein discrepancy () of points (n, d) and (n, e), squared loss, even weights.

    Found by POT's conditional gradient from the identity plan: a local optimum, never worse than the identity.
    """
    import ot  # type: ignore[import-untyped]  # slow to import, and only wanted for a check

    count = len(first)
    even = torch.full((count,), 1.0 / count, dtype=torch.float64, device=first.device)
    distances = inner_distances(first.double()), inner_distances(second.double())
    value: Tensor = ot.gromov.gromov_wasserstein2(*distances, even, even, "square_loss", G0=torch.diag(even))
    return value
