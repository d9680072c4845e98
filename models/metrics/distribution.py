"""Distances between sets of dances in a feature space: Fréchet distance, diversity, multimodality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_FRECHET_EPSILON = 1e-5
"""Added to both covariances (FACT, Bailando): features that never vary would make them singular."""
_SMALLEST_DEVIATION = 1e-9


@dataclass(frozen=True)
class Moments:
    """Count, sum (d,) and sum of outer products (d, d) of feature rows: enough for their mean and covariance, and sums
    of the moments of parts are the moments of the whole, so that resampling by song costs nothing."""

    count: int
    total: Floats
    squares: Floats

    @staticmethod
    def of(rows: ArrayLike) -> Moments:
        """Measure rows (n, d)."""
        x = np.asarray(rows, np.float64)
        return Moments(len(x), x.sum(axis=0), x.T @ x)

    @staticmethod
    def together(parts: Sequence[Moments]) -> Moments:
        """Return the moments of all parts' rows."""
        return Moments(sum(p.count for p in parts), sum(p.total for p in parts), sum(p.squares for p in parts))  # type: ignore[arg-type]

    def mean(self) -> Floats:
        """Return (d,)."""
        return self.total / self.count

    def covariance(self) -> Floats:
        """Return (d, d), unbiased, with epsilon on the diagonal."""
        mean = self.mean()
        spread = (self.squares - self.count * np.outer(mean, mean)) / max(self.count - 1, 1)
        return np.asarray(spread + _FRECHET_EPSILON * np.eye(len(mean)))


@dataclass(frozen=True)
class Reference:
    """A set of real dance to which others are compared: its own z-score, moments and diversity.

    Attributes:
        mean, deviation: (d,) by which every set is z-scored.
        moments: of the real set, z-scored.
        root: (d, d) matrix square root of its covariance.
        diversity: mean pairwise distance of the real set, z-scored: the target of every other set.
    """

    mean: Floats
    deviation: Floats
    moments: Moments
    root: Floats
    diversity: float

    @staticmethod
    def of(real: ArrayLike, smallest_deviation: float = _SMALLEST_DEVIATION) -> Reference:
        """Measure real features (n, d).

        Args:
            real: rows.
            smallest_deviation: of a feature. For shares of frames 0.02: a relation that the real set all but never
                shows must not blow one frame of another set up to a hundred deviations.
        """
        real = np.asarray(real, np.float64)
        mean, deviation = real.mean(axis=0), np.maximum(real.std(axis=0), smallest_deviation)
        scored = (real - mean) / deviation
        moments = Moments.of(scored)
        values, axes = np.linalg.eigh(moments.covariance())
        root = (axes * np.sqrt(np.maximum(values, 0.0))) @ axes.T
        return Reference(mean, deviation, moments, np.asarray(root), mean_distance(scored))

    def scored(self, features: ArrayLike) -> Floats:
        """Return features (n, d) z-scored by the real set."""
        return np.asarray((np.asarray(features, np.float64) - self.mean) / self.deviation)

    def frechet(self, moments: Moments) -> float:
        """Return the Fréchet distance of a z-scored set to the real one (Heusel et al. 2017, eq. 6).

        The trace of the root of A B is that of the root of A^1/2 B A^1/2, which is symmetric: no complex numbers.
        """
        theirs, mine = moments.covariance(), self.moments.covariance()
        cross = np.linalg.eigvalsh(self.root @ theirs @ self.root)
        gap = float(((moments.mean() - self.moments.mean()) ** 2).sum())
        return gap + float(np.trace(theirs) + np.trace(mine) - 2.0 * np.sqrt(np.maximum(cross, 0.0)).sum())


def frechet_distance(features: ArrayLike, real: ArrayLike) -> float:
    """Return the Fréchet distance of two sets (n, d), both z-scored by the real one (Heusel et al. 2017, eq. 6)."""
    reference = Reference.of(real)
    return reference.frechet(Moments.of(reference.scored(features)))


def diversity(features: ArrayLike, real: ArrayLike) -> float:
    """Return the mean pairwise distance of a set (n, d), z-scored by the real one; the target is the real set's."""
    return mean_distance(Reference.of(real).scored(features))


def within_diversity(dances: Sequence[ArrayLike], real: ArrayLike) -> float:
    """Return the mean over dances of the diversity of each dance's own windows (n, d)."""
    reference = Reference.of(real)
    return float(np.mean([mean_distance(reference.scored(features)) for features in dances]))


def multimodality(dances: Sequence[ArrayLike], real: ArrayLike) -> float:
    """Return how far apart several dances to ONE piece are: the mean distance, in the space z-scored by the real set,
    of windows at the same place of two different dances, over all pairs and places (Lee et al. 2019, section 5.2).

    Args:
        dances: features (n, d) each, one row a window; cut to the shortest.
        real: features (m, d) of real dances.
    """
    reference = Reference.of(real)
    return apart([reference.scored(d) for d in dances])


def apart(dances: Sequence[Floats]) -> float:
    """Return the mean distance of rows at the same place of two of the dances (n, d); 0 for a single one."""
    if len(dances) < 2:
        return 0.0
    length = min(len(d) for d in dances)
    pairs = [(i, j) for i in range(len(dances)) for j in range(i)]
    return float(np.mean([np.linalg.norm(dances[i][:length] - dances[j][:length], axis=-1).mean() for i, j in pairs]))


def mean_distance(rows: Floats) -> float:
    """Return the mean distance between two of the rows (n, d)."""
    squares = (rows**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * rows @ rows.T, 0.0))
    n = len(rows)
    return float(distances.sum() / (n * (n - 1))) if n > 1 else 0.0
