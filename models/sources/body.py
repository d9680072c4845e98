"""Motion that comes as a body, not as markers: on the floor, with contacts, checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from engine.body import skeleton
from models.data import markers as mk
from models.data.clip_sources import SHORTEST_S, BadClip
from models.data.retarget import FittedMotion

_FLOOR_PERCENTILE = 5.0
"""The lowest sole is on the floor in more than a twentieth of a dance, and below it in less (noise)."""
_FASTEST_ROOT = 12.0
"""m/s: the fastest sprinters reach it. What is faster has jumped."""


def body_motion(rotations: ArrayLike, translation: ArrayLike, fps: float, residual_m: ArrayLike) -> FittedMotion:
    """Put a motion of the standard skeleton on the floor and label its contacts.

    Args:
        rotations: (T, 24, 3) axis-angle [rad].
        translation: (T, 3) root joint [m], Y up, over any floor.
        fps: frames per second.
        residual_m: (T, N) distances of N joints from where the source had them; zeros where nothing was fitted.

    Raises:
        BadClip: it is too short, not finite, or does not move like a person.
    """
    turns, way = np.asarray(rotations, np.float64), np.array(translation, np.float64)
    if len(turns) < SHORTEST_S * fps:
        raise BadClip(f"it is shorter than {SHORTEST_S:g} s")
    if not (np.isfinite(turns).all() and np.isfinite(way).all()):
        raise BadClip("its motion contains NaN or infinity")
    if np.linalg.norm(np.diff(way, axis=0), axis=-1).max() * fps > _FASTEST_ROOT:
        raise BadClip("its root jumps")
    positions, world = skeleton.forward_kinematics(turns, way)
    soles = skeleton.contact_points(positions, world)
    floor = np.percentile(soles[..., 1].min(axis=1), _FLOOR_PERCENTILE)
    way[:, 1] -= floor
    soles[..., 1] -= floor
    if not 0.5 < float(np.median(np.ptp(positions[..., 1], axis=1))) < 3.0:
        raise BadClip("its motion is not a standing person with Y up")
    return FittedMotion(
        turns.astype(np.float32),
        way.astype(np.float32),
        mk.label_contacts(soles, fps),
        fps,
        np.asarray(residual_m, np.float32),
        soles.astype(np.float32),
    )
