"""Intervals by the bootstrap over songs (Efron 1979): windows of one song are not independent, songs are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Part = TypeVar("Part")

RESAMPLES = 400
"""The 95 % limits of a few hundred resamples move by less than they mean with a handful of songs."""


@dataclass(frozen=True)
class Interval:
    """A figure and the middle 95 % of its bootstrap."""

    value: float
    low: float
    high: float


def bootstrap(
    parts: Sequence[Part],
    figure: Callable[[list[Part]], float],
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    centred: bool = False,
) -> Interval:
    """Return a figure of all parts, and its percentile interval over resamples of the parts with replacement.

    Args:
        parts: one for each song.
        figure: of any list of parts. What is not finite in a resample is left out.
        centred: take out of the interval what the resampling itself adds: with fewer different songs a Fréchet
            distance grows and a pooled diversity shrinks, whatever the dances (Efron and Tibshirani 1993, ch. 10: the
            bootstrap estimate of bias).
        resamples: how many; with a single part the interval is NaN.
        seed: of the resampling.
    """
    value = figure(list(parts))
    if len(parts) < 2:
        return Interval(value, float("nan"), float("nan"))
    random = np.random.Generator(np.random.PCG64(seed))
    drawn = [figure([parts[i] for i in random.integers(0, len(parts), len(parts))]) for _ in range(resamples)]
    finite = np.array(drawn)[np.isfinite(drawn)]
    if not len(finite):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(finite, [2.5, 97.5]) - (float(np.median(finite)) - value if centred else 0.0)
    return Interval(value, float(low), float(high))
