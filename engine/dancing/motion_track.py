"""The dance so far, tick by tick: integrates a generator's motion into the world and plays it at any fraction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import JOINT_NAMES, axis_angle_to_quaternion, quaternion_multiply
from engine.types import MotionChunk

# Five beats: what is shown, what the phase servo looks ahead, and two chunks of any model.
_CAPACITY = 64
# A model's chunks meet with a jolt: what is played is averaged, binomially, over some ticks around it (over five: a
# blur of one tick, 40 ms at 120 beats a minute). Measured on dances to training and validation songs, against how
# abruptly real dancers move: the place needs least, legs more, trunk, head and arms most.
_LEG_TICKS, _OTHER_TICKS, _PLACE_TICKS = 5, 7, 3
_LEGS = {f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle", "foot")}
AVERAGED_TICKS = _OTHER_TICKS // 2
"""So many ticks before the newest chunk still change with it, where they have not been shown."""


def _average(ticks: int, reach: int) -> NDArray[np.float64]:
    """Return the weights (2 reach + 1,) of an average over so many ticks, or as many as there are."""
    ticks = min(ticks, 2 * reach + 1)
    weights = np.array([math.comb(ticks - 1, k) for k in range(ticks)], np.float64)
    return np.pad(weights / weights.sum(), reach - ticks // 2)


def _averages(reach: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of every joint (24, 2 reach + 1) and of the place (2 reach + 1,)."""
    widths = [_LEG_TICKS if name in _LEGS else _OTHER_TICKS for name in JOINT_NAMES]
    return np.stack([_average(ticks, reach) for ticks in widths]), _average(_PLACE_TICKS, reach)


_AVERAGES = {reach: _averages(reach) for reach in range(AVERAGED_TICKS, 0, -1)}
"""By how many ticks are known before and after; fewer where a chunk had to be shown at once."""


@dataclass(frozen=True, slots=True)
class Pose:
    """A pose on its way to the stage: quaternions (24, 4) xyzw, root in the world (3,) [m], contacts (4,)."""

    quaternions: NDArray[np.float64]
    translation_m: NDArray[np.float64]
    contacts: NDArray[np.float64]


class MotionTrack:
    """A ring of ticks with cubic playback. Deterministic; one thread.

    Playback is a cubic Hermite curve through the ticks. The tangent at a tick is the central difference, or the
    one-sided difference if the curve had to be shown before the next tick was known; once shown it is never
    changed, so position and velocity are continuous whatever the order of arrival.

    What is played is a little smoother than what came: see `_AVERAGES`. A tick that had to be shown before its
    neighbour was known stays as it came.

    Where another source takes over (a seam), the two motions are not mixed: the old one is carried on to the first
    tick of the new one, and `epoch` tells the player that there is a jump to hide.
    """

    def __init__(self) -> None:
        self._quaternions = np.zeros((_CAPACITY, 24, 4))
        self._quaternions[..., 3] = 1.0
        self._roots = np.zeros((_CAPACITY, 3))
        self._given_quaternions = self._quaternions.copy()
        self._given_roots = self._roots.copy()
        self._headings = np.zeros(_CAPACITY)
        self._contacts = np.zeros((_CAPACITY, 4))
        self._quaternion_tangents = np.zeros((_CAPACITY, 24, 4))
        self._root_tangents = np.zeros((_CAPACITY, 3))
        self._epochs = np.zeros(_CAPACITY, dtype=np.int64)
        self._epoch = 0
        self._heading_rad = 0.0
        self._position_m = np.zeros(2)
        self._first = 0
        self._end = 0
        self._shown_tick = -1

    @property
    def end(self) -> int:
        """The first tick not yet known."""
        return self._end

    @property
    def position_m(self) -> NDArray[np.float64]:
        """Where the dance stands at its newest tick: (x, z) [m]."""
        return self._position_m

    @property
    def heading_rad(self) -> float:
        """Where the dancer faces at the newest tick: yaw about +Y; 0 is +Z."""
        return self._heading_rad

    def restart(self, first_tick: int) -> None:
        """Continue at another tick, from the same place and heading, forgetting the ticks before."""
        self._first = self._end = first_tick
        self._shown_tick = first_tick - 1
        self._epoch += 1

    def truncate(self, tick: int) -> None:
        """Forget the ticks from `tick` on, none of which has been shown; the dance goes on from the one before.

        Raises:
            ValueError: one of them has been shown, or nothing would be left.
        """
        if not max(self._first, self._shown_tick) < tick <= self._end:
            raise ValueError(f"cannot forget tick {tick}: shown up to {self._shown_tick}, known to {self._end}")
        self._end = tick
        last = (tick - 1) % _CAPACITY
        self._quaternions[last], self._roots[last] = self._given_quaternions[last], self._given_roots[last]
        self._position_m = self._given_roots[last, [0, 2]].copy()
        self._heading_rad = float(self._headings[last])

    def poses(self, ticks: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Return quaternions (n, 24, 4), roots (n, 3) and epochs (n,) of known ticks (n,)."""
        slots = ticks % _CAPACITY
        return self._quaternions[slots], self._roots[slots], self._epochs[slots]

    @property
    def begin(self) -> int:
        """The first tick still known."""
        return self._first

    @property
    def shown_tick(self) -> int:
        """The newest tick that playback has touched."""
        return self._shown_tick

    def place(self, position_m: NDArray[np.float64], heading_rad: float) -> None:
        """Put the dancer somewhere else for the ticks to come."""
        self._position_m = np.array(position_m, dtype=float)
        self._heading_rad = float(heading_rad)

    def heading_at(self, tick: int) -> float:
        """Return where the dancer faces at a known tick [rad]."""
        return float(self._headings[tick % _CAPACITY])

    def bring(self, tick: int, position_m: NDArray[np.float64], heading_rad: float) -> None:
        """Turn and move the whole dance so that at a known tick it stands here and faces there."""
        turn = heading_rad - self.heading_at(tick)
        sine, cosine = math.sin(turn), math.cos(turn)
        yaw = np.array([0.0, math.sin(0.5 * turn), 0.0, math.cos(0.5 * turn)])
        turned = np.array([[cosine, -sine], [sine, cosine]])
        move = position_m - self._roots[tick % _CAPACITY, [0, 2]] @ turned
        for roots in (self._roots, self._given_roots):
            roots[:, [0, 2]] = roots[:, [0, 2]] @ turned + move
        self._root_tangents[:, [0, 2]] = self._root_tangents[:, [0, 2]] @ turned
        for quaternions in (self._quaternions, self._given_quaternions, self._quaternion_tangents):
            quaternions[:, 0] = quaternion_multiply(yaw, quaternions[:, 0])
        self._headings += turn
        self.place(self._position_m @ turned + move, self._heading_rad + turn)

    def append(self, chunk: MotionChunk, steer_rad: float = 0.0, seam: bool = False) -> None:
        """Add a chunk of C ticks after the newest one.

        Args:
            chunk: motion in the dancer's heading frame.
            steer_rad: further yaw at each tick, by which the dancer is kept on the stage.
            seam: whether the chunk comes from another source than the one before.
        """
        self._epoch += int(seam)
        count = chunk.rotations.shape[0]
        local = np.asarray(axis_angle_to_quaternion(chunk.rotations.astype(np.float64)))
        for i in range(count):
            sine, cosine = math.sin(self._heading_rad), math.cos(self._heading_rad)
            dx, dz = (float(d) for d in chunk.root_delta_m[i])
            self._position_m[0] += cosine * dx + sine * dz
            self._position_m[1] += cosine * dz - sine * dx
            self._heading_rad += float(chunk.heading_delta_rad[i]) + steer_rad
            half = 0.5 * self._heading_rad
            yaw = np.array([0.0, math.sin(half), 0.0, math.cos(half)])
            local[i, 0] = quaternion_multiply(yaw, local[i, 0])
            slot = (self._end + i) % _CAPACITY
            if self._end + i > self._first:
                # q and -q are one rotation: keep neighbours on one side, or the curve takes the long way round.
                flip = (local[i] * self._given_quaternions[slot - 1]).sum(axis=-1) < 0.0
                local[i, flip] *= -1.0
            self._given_quaternions[slot] = local[i]
            self._given_roots[slot] = (self._position_m[0], float(chunk.root_height_m[i]), self._position_m[1])
            self._contacts[slot] = chunk.contacts[i]
            self._headings[slot] = self._heading_rad
            self._epochs[slot] = self._epoch
        self._smooth(max(self._end - AVERAGED_TICKS, self._first), self._end + count)
        self._set_tangents(max(self._end - AVERAGED_TICKS - 1, self._first), self._end + count)
        self._end += count
        self._first = max(self._first, self._end - _CAPACITY)

    def _smooth(self, start: int, end: int) -> None:
        """Set what is played at the ticks [start, end), but not at those already shown."""
        for tick in range(max(start, self._shown_tick + 1), end):
            slot = tick % _CAPACITY
            self._quaternions[slot], self._roots[slot] = self._given_quaternions[slot], self._given_roots[slot]
            for reach, (joints, place) in _AVERAGES.items():
                around = np.arange(tick - reach, tick + reach + 1) % _CAPACITY
                if tick - reach >= self._first and tick + reach < end and np.ptp(self._epochs[around]) == 0:
                    played = np.einsum("jt,tjq->jq", joints, self._given_quaternions[around])
                    self._quaternions[slot] = played / np.linalg.norm(played, axis=-1, keepdims=True)
                    self._roots[slot] = place @ self._given_roots[around]
                    break

    def _set_tangents(self, start: int, end: int) -> None:
        """Set tangents of the ticks [start, end), but not of those already shown."""
        for tick in range(max(start, self._shown_tick + 1), end):
            slot = tick % _CAPACITY
            before, after = max(tick - 1, self._first), min(tick + 1, end - 1)
            if self._epochs[before % _CAPACITY] != self._epochs[slot]:
                before = tick
            if self._epochs[after % _CAPACITY] != self._epochs[slot]:
                after = tick
            span = max(after - before, 1)
            a, b = before % _CAPACITY, after % _CAPACITY
            self._quaternion_tangents[slot] = (self._quaternions[b] - self._quaternions[a]) / span
            self._root_tangents[slot] = (self._roots[b] - self._roots[a]) / span

    def has(self, tick: float) -> bool:
        """Return whether the dance is known at a (fractional) tick."""
        return self._first <= tick < self._end - 1

    def sample(self, tick: float) -> tuple[Pose, int]:
        """Return the pose at a fractional tick for which `has` is true, and its epoch."""
        index = math.floor(tick)
        t = tick - index
        self._shown_tick = max(self._shown_tick, index + 1)
        a, b = index % _CAPACITY, (index + 1) % _CAPACITY
        if self._epochs[a] != self._epochs[b]:
            q = self._quaternions[a] + t * self._quaternion_tangents[a]
            root = self._roots[a] + t * self._root_tangents[a]
            contacts = self._contacts[a]
        else:
            t2, t3 = t * t, t * t * t
            h0, h1, h2, h3 = 2 * t3 - 3 * t2 + 1, t3 - 2 * t2 + t, 3 * t2 - 2 * t3, t3 - t2
            q = h0 * self._quaternions[a] + h1 * self._quaternion_tangents[a]
            q += h2 * self._quaternions[b] + h3 * self._quaternion_tangents[b]
            root = h0 * self._roots[a] + h1 * self._root_tangents[a]
            root += h2 * self._roots[b] + h3 * self._root_tangents[b]
            contacts = (1.0 - t) * self._contacts[a] + t * self._contacts[b]
        q /= np.sqrt((q * q).sum(axis=-1, keepdims=True))
        return Pose(q, root, contacts), int(self._epochs[a])
