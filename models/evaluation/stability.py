"""Ten minutes without a break: does the dance hold?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models import metrics
from models.metrics import Moments, Reference
from models.rivals.song import RATE_HZ, Shown

LONG_S = 600.0
_MINUTE_S = 60.0


@dataclass(frozen=True)
class MeasuredMinutes:
    """What is kept of one long dance: mean joint speed [m/s] of each minute, features (n, 72) of the first and of the
    last minute's windows, the slowest minute over the first, and the share of seconds frozen."""

    speeds_m_s: tuple[float, ...]
    first: np.ndarray
    last: np.ndarray
    speed_ratio: float
    frozen: float

    @staticmethod
    def of(shown: Shown) -> MeasuredMinutes:
        """Measure a dance of more than two minutes."""
        size = round(_MINUTE_S * RATE_HZ)
        minutes = [shown.joints[s : s + size] for s in range(0, len(shown.joints) - size + 1, size)]
        speeds = [float(np.linalg.norm(np.diff(m, axis=0), axis=-1).mean() * RATE_HZ) for m in minutes]
        return MeasuredMinutes(
            tuple(speeds),
            metrics.clip_features(minutes[0], RATE_HZ),
            metrics.clip_features(minutes[-1], RATE_HZ),
            metrics.speed_ratio(shown.joints, RATE_HZ),
            metrics.frozen_share(shown.joints, RATE_HZ),
        )


@dataclass(frozen=True)
class Stability:
    """Of a system's long dances.

    Attributes:
        dances: how many.
        energy_ratio: mean joint speed of the last minute over that of the first, mean over dances.
        least_energy_ratio: the least of these ratios.
        worst_ratio: the slowest minute of any dance over its first.
        frechet_first, frechet_last: kinetic, to real training dance, of all dances' first and last minutes.
        frozen: largest share of seconds frozen in a dance.
    """

    dances: int
    energy_ratio: float
    least_energy_ratio: float
    worst_ratio: float
    frechet_first: float
    frechet_last: float
    frozen: float

    @staticmethod
    def of(dances: Sequence[MeasuredMinutes], target: Reference) -> Stability:
        """Summarise long dances."""
        first, last = (
            target.frechet(Moments.of(target.scored(np.concatenate(rows))))
            for rows in ([d.first for d in dances], [d.last for d in dances])
        )
        ratios = [d.speeds_m_s[-1] / max(d.speeds_m_s[0], 1e-9) for d in dances]
        return Stability(
            len(dances),
            float(np.mean(ratios)),
            min(ratios),
            min(d.speed_ratio for d in dances),
            first,
            last,
            max(d.frozen for d in dances),
        )
