"""Kinematic beats: the moments at which a body's movement suddenly slows down or turns aside (Lee et al. 2019, 3.1).

Each joint's speed is spread over directions in space (a directogram; Davis & Agrawala 2018, "Visual rhythm and beat",
eq. 4 to 6). What a direction loses from one moment to the next is lost by slowing down or by turning away from it, so
one sum covers both; its peaks are the beats.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

Floats = NDArray[np.float64]

_SMOOTHING_S = 0.05
"""Faster changes than this are noise of capture: at 25 frames a second nothing quicker was seen."""
_NEIGHBOURHOOD_S = 1.0
"""A beat stands out from the second around it: a soft dance has beats as a sharp one has."""
_SHARPNESS = 4.0
"""Of the directions: at 4 a movement halfway between two counts for both, one at right angles for a fiftieth."""
_STILL_M_S = 1e-3
"""What never moves a millimetre a second has no beats, only rounding."""


@dataclass(frozen=True)
class BeatSettings:
    """What counts as a kinematic beat.

    Attributes:
        shortest_s: beats are at least this far apart; the stronger one stays. A third of a second is a quick step.
        longest_s: a longer interval is a rest: it is cut evenly, as if the beats went on.
        threshold: of a peak, relative to the mean of the second around it.
    """

    shortest_s: float = 0.33
    longest_s: float = 1.5
    threshold: float = 1.0

    def __post_init__(self) -> None:
        if not (self.shortest_s > 0.0 and 2.0 * self.shortest_s <= self.longest_s):
            raise ValueError("longest_s must be at least twice shortest_s, and both positive")


def deceleration(positions: ArrayLike, rate_hz: float) -> Floats:
    """Return (T,) how much speed the joints lose, per direction, at each moment: mean over joints [m/s^2].

    Args:
        positions: (T, J, 3) joints [m].
        rate_hz: frames a second.
    """
    velocity = np.diff(np.asarray(positions, np.float64), axis=0) * rate_hz
    speed = np.linalg.norm(velocity, axis=-1, keepdims=True)
    toward = velocity / np.maximum(speed, _STILL_M_S)
    share = np.exp(_SHARPNESS * (toward @ _directions().T - 1.0))
    share /= share.sum(axis=-1, keepdims=True)
    directogram = gaussian_filter1d((speed * share).mean(axis=1), _SMOOTHING_S * rate_hz, axis=0)
    lost = np.maximum(-np.diff(directogram, axis=0), 0.0).sum(axis=1) * rate_hz
    # A loss between two velocities belongs to the frame between them.
    return np.concatenate([[0.0], lost, [0.0]])


def kinematic_beats(positions: ArrayLike, rate_hz: float, settings: BeatSettings | None = None) -> Floats:
    """Return the times [s] of the kinematic beats of a motion (T, J, 3) [m]; rests are cut evenly.

    Args:
        positions: (T, J, 3) joints [m].
        rate_hz: frames a second.
        settings: what counts as a beat.
    """
    settings = settings or BeatSettings()
    p = np.asarray(positions, np.float64)
    if len(p) < 4 or float(np.abs(np.diff(p, axis=0)).max()) * rate_hz < _STILL_M_S:
        return np.empty(0)
    strength = deceleration(p, rate_hz)
    around = gaussian_filter1d(strength, _NEIGHBOURHOOD_S * rate_hz)
    gap = max(1, round(settings.shortest_s * rate_hz))
    peaks, _ = find_peaks(strength, height=np.maximum(settings.threshold * around, _STILL_M_S), distance=gap)
    return _without_rests(peaks / rate_hz, settings.longest_s)


def _without_rests(beats_s: Floats, longest_s: float) -> Floats:
    """Return beats with further ones in each interval that is too long."""
    parts = [
        np.linspace(begin, end, int(np.ceil((end - begin) / longest_s)), endpoint=False)
        for begin, end in pairwise(beats_s)
    ]
    return np.concatenate([*parts, beats_s[-1:]])


def _directions() -> Floats:
    """Return (26, 3) unit vectors to the faces, edges and corners of a cube."""
    steps = np.array([step for step in product((-1.0, 0.0, 1.0), repeat=3) if any(step)])
    return np.asarray(steps / np.linalg.norm(steps, axis=1, keepdims=True))
