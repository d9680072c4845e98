"""Beats: trackers that listen, and the follower that makes one steady timeline of what they believe."""

from __future__ import annotations

from engine.beats.follower import BeatFollower
from engine.errors import UserError
from engine.protocols import BeatTracker

TRACKERS = ("flux", "aubio")
"""Trackers that need nothing but the engine, best first. `models.beats.activation` has a better one, 'neural'."""


def create_tracker(name: str) -> BeatTracker:
    """Make one of the engine's own trackers, for hops of 480 samples at 48 kHz.

    Raises:
        UserError: no such tracker, or its library is missing.
    """
    if name == "aubio":
        from engine.beats.aubio_tracker import AubioTracker

        return AubioTracker()
    if name == "flux":
        from engine.beats.flux_tracker import FluxTracker

        return FluxTracker()
    raise UserError(f"unknown beat tracker '{name}'", f"choose one of {', '.join(TRACKERS)} or neural")


__all__ = ["TRACKERS", "BeatFollower", "create_tracker"]
