"""Motion that goes on by itself for a moment when no usable pose comes, and hands over softly when one does."""

from __future__ import annotations

import math

import numpy as np

from engine.body.skeleton import slerp
from engine.dancing.motion_track import Pose

_REST_S = 0.12
"""Time constant in which the motion comes to rest: an arm at 5 rad/s swings 35 degrees further."""
_LANDING_S = 0.2
"""In which a dancer caught in the air comes down."""
_HAND_OVER_S = (0.1, 0.4)
"""Shortest and longest time over which the motion that returns is blended in; in between as long as the loss was,
for so far have the two moved apart."""


class Coast:
    """The last motion shown, extrapolated to rest.

    Args:
        before: the pose shown last but one.
        last: the pose shown last.
        interval_s: between the two; 0 if there was only one.
        height_m: of the lowest foot over the floor.
    """

    def __init__(self, before: Pose, last: Pose, interval_s: float, height_m: float) -> None:
        self._before, self._last = before, last
        self._per_s = 1.0 / interval_s if interval_s > 0.0 else 0.0
        # At rest, without landing, the feet would hover here.
        rise_m = float(last.translation_m[1] - before.translation_m[1])
        self._hover_m = height_m + _REST_S * self._per_s * rise_m
        self._elapsed_s = self._returned_s = 0.0
        self._hand_over_s = 0.0

    def carry(self, dt: float) -> Pose:
        """Return the pose after a further `dt` [s] without input."""
        self._elapsed_s += dt
        reach = _REST_S * (1.0 - math.exp(-self._elapsed_s / _REST_S)) * self._per_s
        before, last = self._before, self._last
        root = last.translation_m + reach * (last.translation_m - before.translation_m)
        # Critically damped, so that the fall begins as gently as it ends.
        x = self._elapsed_s / _LANDING_S
        root[1] -= self._hover_m * (1.0 - (1.0 + x) * math.exp(-x))
        turned = slerp(before.quaternions, last.quaternions, np.array(1.0 + reach))
        return Pose(np.asarray(turned, dtype=np.float64), root, last.contacts)

    def hand_over(self, pose: Pose, dt: float) -> Pose | None:
        """Return what to show for a good pose after `dt` [s]: a mixture of both motions; None once it is the pose."""
        if not self.handing_over:
            self._hand_over_s = min(max(self._elapsed_s, _HAND_OVER_S[0]), _HAND_OVER_S[1])
        self._returned_s += dt
        share = self._returned_s / self._hand_over_s
        if share >= 1.0:
            return None
        # The weight starts and ends at rest, so neither motion's velocity is broken.
        weight = share * share * (3.0 - 2.0 * share)
        own = self.carry(dt)
        mixed = slerp(own.quaternions, pose.quaternions, np.array(weight))
        root = own.translation_m + weight * (pose.translation_m - own.translation_m)
        # On the way from one place to another feet do not stand.
        return Pose(np.asarray(mixed, dtype=np.float64), root, np.zeros(4))

    @property
    def handing_over(self) -> bool:
        """Whether a good pose has come since."""
        return self._returned_s > 0.0
