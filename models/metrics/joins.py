"""Jumps where units of movement are joined: how fast the body moves across a join, and elsewhere.

What dances in units tends to jump where one ends and the next begins (Huang et al. 2021, section 4.3, of Lee et al.
2019). A jump is a displacement in no time; seen at a frame rate it is a speed, so that motions of different rates
compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_WINDOW_S = 0.1
"""A jump between two poses is spread over the time to the next pose: less than this at all tempos."""
_INSIDE_PER_JOIN = 8
"""Moments inside units, evenly apart, for each join: enough for a 99th percentile of a minute of dance."""


@dataclass(frozen=True)
class JoinFigures:
    """Joint displacement about joins, against that inside units.

    Attributes:
        at_joins: (3,) 50th, 95th and 99th percentile of the largest mean joint speed [m/s] within 0.1 s of a join.
        inside: (3,) the same about moments that are not near a join.
        ratio: of the medians; 1 where nothing gives a join away.
        jumps: share of joins that are faster than 99 of 100 moments inside; 0.01 where nothing gives a join away.
    """

    at_joins: tuple[float, float, float]
    inside: tuple[float, float, float]
    ratio: float
    jumps: float


def join_displacements(positions: ArrayLike, rate_hz: float, moments_s: ArrayLike) -> Floats:
    """Return the largest mean joint speed (n,) [m/s] within 0.1 s of each moment (n,) [s] of a motion (T, J, 3).

    Moments whose window is not whole are left out.
    """
    p = np.asarray(positions, np.float64)
    speed = np.linalg.norm(np.diff(p, axis=0), axis=-1).mean(axis=1) * rate_hz
    reach = max(1, round(_WINDOW_S * rate_hz))
    frames = np.rint(np.asarray(moments_s, np.float64) * rate_hz).astype(int)
    frames = frames[(frames >= reach) & (frames + reach <= len(speed))]
    # Speed k lies between frames k and k + 1.
    return np.array([speed[frame - reach : frame + reach].max() for frame in frames])


def join_figures(positions: ArrayLike, rate_hz: float, joins_s: ArrayLike) -> JoinFigures:
    """Measure the joins (n,) [s] of a motion (T, J, 3).

    Raises:
        ValueError: there are fewer than two joins in the motion, or nothing between them.
    """
    joins = np.sort(np.asarray(joins_s, np.float64))
    if len(joins) < 2:
        raise ValueError("units are known by two joins or more")
    between = np.linspace(joins[0], joins[-1], (len(joins) - 1) * _INSIDE_PER_JOIN + 1)
    away = np.abs(between[:, None] - joins).min(axis=1)
    at = join_displacements(positions, rate_hz, joins)
    inside = join_displacements(positions, rate_hz, between[away > 2.0 * _WINDOW_S])
    if len(at) < 2 or not len(inside):
        raise ValueError("the motion has no two joins with something between them")
    found, usual = (np.percentile(values, [50.0, 95.0, 99.0]) for values in (at, inside))
    return JoinFigures(
        at_joins=(float(found[0]), float(found[1]), float(found[2])),
        inside=(float(usual[0]), float(usual[1]), float(usual[2])),
        ratio=float(found[0] / max(usual[0], 1e-9)),
        jumps=float((at > usual[2]).mean()),
    )
