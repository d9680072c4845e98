"""The phase servo: a small warp of playback that brings the dancer's steps onto the beat.

A network dances roughly in time; its feet land around the beat, not on it. The motion is known a beat ahead, so for
every beat the servo looks for the moment near it at which the feet come to rest, and hurries or delays the playback
smoothly so that this moment is shown on the beat. What it may do is bounded: it reaches a quarter of a beat, and
playback never runs slower or faster than a stated share of the tempo.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import forward_kinematics_matrices, quaternion_to_matrix
from engine.dancing.motion_track import MotionTrack
from engine.types import TICKS_PER_BEAT

_FEET = (7, 8, 10, 11)
"""Ankles and balls of the feet."""
REACH_TICKS = 3.0
"""A step further than this from the beat is another step (an off-beat), not a late one."""
_MARGIN_TICKS = 3
# Playback at 0.45 to 1.55 of the tempo: measured on rendered dances, more brings little and looks hurried.
_MAX_RATE = 0.55
# Foot speed is smoothed over 83 ms (as kinematic beats are measured) before its minima are taken.
_SMOOTHING_S = 0.083
# Feet rest when they are this much slower than at their quickest nearby: gliding feet have no step to show.
_REST = 0.9
# With fewer ticks than this left before the beat a new warp would be a jerk.
_LATEST_TICKS = 4.0
_CAPACITY = 128

FORESIGHT_TICKS = 12
"""How much longer before its time the motion must be known than without a servo: one beat."""


class PhaseServo:
    """Maps the dance's tick to the tick of the motion to show. Deterministic; one thread."""

    def __init__(self) -> None:
        self._feet = np.zeros((_CAPACITY, len(_FEET), 3))
        self._epochs = np.full(_CAPACITY, -1, dtype=np.int64)
        self._ticks = np.full(_CAPACITY, -1, dtype=np.int64)
        self._beat: int | None = None
        self._from = 0.0
        self._to = 0.0
        self._begun: float | None = None
        self._now = 0.0

    @property
    def warp_ticks(self) -> float:
        """How far ahead of the dance's tick the motion is shown now."""
        return self._now

    def see(self, track: MotionTrack, first: int, steady: bool) -> None:
        """Take the ticks [first, track.end) that were added to the track.

        Args:
            track: where they are.
            first: the first of them.
            steady: whether they have steps to be brought to the beat (the idle sway has none).
        """
        ticks = np.arange(first, track.end)
        quaternions, roots, epochs = track.poses(ticks)
        positions, _ = forward_kinematics_matrices(quaternion_to_matrix(quaternions), roots)
        slots = ticks % _CAPACITY
        self._feet[slots] = positions[:, _FEET]
        self._epochs[slots] = epochs if steady else -1
        self._ticks[slots] = ticks

    def forget(self) -> None:
        """Forget the ticks seen: they have been moved to another place."""
        self._ticks[:] = -1

    def motion_tick(self, tick: float, known_end: int, tempo_bpm: float) -> float:
        """Return the tick of the motion to show at a tick of the dance.

        Args:
            tick: not smaller than at the call before, but for a restart.
            known_end: the first tick of the motion that is not known.
            tempo_bpm: of the dance.
        """
        beat = math.ceil(tick / TICKS_PER_BEAT)
        target = beat * TICKS_PER_BEAT
        if beat != self._beat:
            self._beat, self._begun = beat, None
            self._from = self._to = self._now
        left = target - tick
        if self._begun is None and (known_end > target + REACH_TICKS + _MARGIN_TICKS or left <= _LATEST_TICKS):
            self._begun = tick
            step = self._step_near(target, known_end, tempo_bpm)
            wish = step - target if step is not None else 0.0
            # A smooth step of height h over d ticks is steepest in its middle: 1.5 h / d.
            most = _MAX_RATE * max(left, 0.0) / 1.5
            self._to = self._from + min(max(wish - self._from, -most), most)
        if self._begun is None or target <= self._begun:
            self._now = self._from
        else:
            share = min((tick - self._begun) / (target - self._begun), 1.0)
            self._now = self._from + (self._to - self._from) * share * share * (3.0 - 2.0 * share)
        return tick + self._now

    def _step_near(self, target: int, known_end: int, tempo_bpm: float) -> float | None:
        """Return the tick near `target` at which the feet rest, the one nearest to the present warp; None if none."""
        half = int(REACH_TICKS) + _MARGIN_TICKS
        ticks = np.arange(target - half, min(target + half + 1, known_end))
        slots = ticks % _CAPACITY
        if len(ticks) < 2 * half or (self._ticks[slots] != ticks).any():
            return None
        epochs = self._epochs[slots]
        if epochs[0] < 0 or (epochs != epochs[0]).any():
            return None
        speed = np.linalg.norm(np.diff(self._feet[slots], axis=0), axis=-1).mean(axis=-1)
        smooth = _smoothed(speed, _SMOOTHING_S * tempo_bpm * TICKS_PER_BEAT / 60.0)
        inner = smooth[1:-1]
        resting = inner < _REST * smooth.max()
        minima = np.flatnonzero((inner < smooth[:-2]) & (inner <= smooth[2:]) & resting) + 1
        if len(minima) == 0:
            return None
        # A parabola through the three speeds about a minimum places it between ticks; speed i lies at tick i + 1/2.
        before, at, after = smooth[minima - 1], smooth[minima], smooth[minima + 1]
        exact = ticks[0] + 0.5 + minima + 0.5 * (before - after) / np.maximum(before - 2.0 * at + after, 1e-12)
        near = exact[np.abs(exact - target) <= REACH_TICKS]
        if len(near) == 0:
            return None
        # Of two, the one that asks for less change; steps that drift are so followed instead of being swapped.
        return float(near[np.argmin(np.abs(near - target - 0.7 * self._from))])


def _smoothed(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Return a Gaussian-smoothed row of values, its ends weighted by what there is."""
    distance = np.arange(len(values))
    kernel = np.exp(-0.5 * ((distance[:, None] - distance[None, :]) / max(sigma, 1e-3)) ** 2)
    smoothed: NDArray[np.float64] = kernel @ values / kernel.sum(axis=1)
    return smoothed
