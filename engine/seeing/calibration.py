"""How large the dancer is, how the camera leans, where the floor is: learnt in the first seconds, kept up slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import rest_positions_m
from engine.seeing import landmark_pose as lp
from engine.types import NS_PER_S

Array = NDArray[np.float64]

_FOCAL_HEIGHTS = 1.3
"""Focal length in picture heights: 68 degrees across at 16:9, in the middle of web cameras and phones. A wrong value
scales how far the dancer moves to and from the camera, nothing else."""
SIGHT_SHARE = 0.4
"""The landmarker looks at each person alone, along the line of sight to them, and makes up for a part of that: somebody
who stands to the side and faces along the camera's axis comes out turned by so much of the line's angle (measured on a
drawn figure: 0.3 to 0.5 at 16 and 23 degrees)."""
_FIRST_S = 3.0
"""The first estimate settles over so long ..."""
_LATER_S = 20.0
"""... and follows with this time constant afterwards: a camera that is moved, another dancer."""
_LEAN_GUESS_RAD = math.radians(6.0)
"""Landmarks of people standing upright lean towards the camera by about so much (3 to 11 degrees in eight videos)."""
_MOST_LEAN_RAD = math.radians(15.0)
_LEGS_S = 2.5
"""Depth errs most for the feet, now this way, now that: on average over so long they are under the hips."""
_STRAIGHT_SHARE, _SAME_FLOOR_M = 0.95, 0.08
"""Only a leg that is nearly straight, and a foot that is as low as the other, tell how upright somebody stands."""
_UPRIGHT_COS = math.cos(math.radians(35.0))
_FLOOR_S = 0.9
"""The floor is where the lowest foot was in so long a time: no jump lasts as long."""
_DISTANCE_S, _QUICK_DISTANCE_S = 0.25, 0.06
"""Depth from size is noisy, and people move to and from the camera more slowly than they dance. Where the floor is
looked for, the distance must not lag behind the feet."""
_BIN_S = 0.1
_SURE = 0.5
"""Visibility from which a landmark counts for measuring."""
_NEAREST_SHARE, _FARTHEST_SHARE = 0.3, 3.0
"""How near and far, against where they began, a dancer is believed to be."""

_REST = rest_positions_m()


def _length(a: int, b: int) -> float:
    return float(np.linalg.norm(_REST[a] - _REST[b]))


_LIMBS: tuple[tuple[int, int, float], ...] = (
    (lp.LEFT_HIP, lp.LEFT_KNEE, _length(1, 4)),
    (lp.RIGHT_HIP, lp.RIGHT_KNEE, _length(2, 5)),
    (lp.LEFT_KNEE, lp.LEFT_ANKLE, _length(4, 7)),
    (lp.RIGHT_KNEE, lp.RIGHT_ANKLE, _length(5, 8)),
    (lp.LEFT_SHOULDER, lp.LEFT_HIP, _length(16, 1)),
    (lp.RIGHT_SHOULDER, lp.RIGHT_HIP, _length(17, 2)),
)
"""Bones by which the size is measured, with their lengths [m] in the standard skeleton."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a body is.

    Attributes:
        points_m: (33, 3) landmarks about the hips, upright and in the skeleton's size.
        hips_m: (2,) x (to the picture's right) and z (towards the camera) of the hips; the origin is where the dancer
            was first seen.
        hips_height_m: of the middle of the hips over the floor, as the picture tells.
        foot_heights_m: (4,) over the floor: left heel, left toe, right heel, right toe.
        feet_m: (4, 2) the same points across and along the view: x and z in the world, for their speed.
    """

    points_m: Array
    hips_m: Array
    hips_height_m: float
    foot_heights_m: Array
    feet_m: Array


class _Settling:
    """A mean that settles quickly at first, then follows slowly."""

    def __init__(self, guess: float, later_s: float) -> None:
        self._guess, self._later_s = guess, later_s
        self.reset()

    def reset(self) -> None:
        self.value, self._seen_s = self._guess, 0.0

    def add(self, value: float, dt: float) -> None:
        self._seen_s += dt
        # The guess counts as a fifth of a second of evidence; then a plain mean until the slow constant takes over.
        self.value += (value - self.value) * min(dt / (0.2 + min(self._seen_s, self._later_s)), 1.0)


class StageCalibration:
    """Measures body, camera and floor as landmarks arrive. Deterministic.

    The floor is level and the camera looks along it: a point that is `v` picture heights under the picture's middle
    and `d` metres away is `v d / focal` metres below the camera, so the lowest foot tells the camera's height.
    """

    def __init__(self) -> None:
        self._size = _Settling(1.07, _LATER_S)  # what the landmarker says is smaller
        self._lean = _Settling(_LEAN_GUESS_RAD, _LATER_S)
        self._legs_lean = _Settling(0.0, _LEGS_S)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._size.reset()
        self._lean.reset()
        self._legs_lean.reset()
        self._metres: float | None = None
        self._quick_metres = 1.0
        self._first: Array | None = None
        self._depths: list[float] = []
        self._time_ns: int | None = None
        self._seen_s = 0.0

    @property
    def settled(self) -> bool:
        """Whether the first seconds are over."""
        return self._seen_s >= _FIRST_S

    @property
    def size(self) -> float:
        """Skeleton metres per metre of the landmarker."""
        return self._size.value

    @property
    def lean_rad(self) -> float:
        """How far upright people lean towards the camera in the landmarks."""
        return self._lean.value

    def place(self, points: Array, image_xy: Array, weight: Array, aspect: float, time_ns: int) -> Placement:
        """Measure one body and place it.

        Args:
            points: (33, 3) as in `PoseLandmarks`.
            image_xy: (33, 2).
            weight: (33,) how far each landmark is believed, 0 to 1.
            aspect: of the picture.
            time_ns: not before the last.
        """
        dt = 0.0 if self._time_ns is None else min(max(time_ns - self._time_ns, 0) / NS_PER_S, 0.2)
        self._time_ns = time_ns
        self._seen_s += dt
        self._measure_body(points, weight, max(dt, 1e-3))
        picture = (image_xy - [0.5, 0.5]) * [aspect, 1.0]
        metres = self._metres_per_height(points, picture, weight, dt) * self.size
        hips = 0.5 * (picture[lp.LEFT_HIP] + picture[lp.RIGHT_HIP])
        upright = self._straighten(points, weight, max(dt, 1e-3)) * self.size
        upright = _turned(upright, SIGHT_SHARE * math.atan2(float(hips[0]), _FOCAL_HEIGHTS))
        distance = _FOCAL_HEIGHTS * metres
        here = np.array([hips[0] * metres, -distance])
        if self._first is None:
            self._first = here / self.size
        # Kept in the landmarker's metres: what is learnt of the size later must not move the dancer.
        origin = self._first * self.size
        feet, depths = picture[lp.FOOT_POINTS], upright[lp.FOOT_POINTS, 2]
        # What is nearer to the camera is larger in the picture.
        below = feet[:, 1] * (self._quick_metres * self.size - depths / _FOCAL_HEIGHTS)
        floor = self._floor(below, weight[lp.FOOT_POINTS], dt)
        hips_height = floor - float(hips[1]) * self._quick_metres * self.size
        scales = metres - depths / _FOCAL_HEIGHTS
        at = np.stack([feet[:, 0] * scales, depths - distance], axis=1)
        return Placement(upright, here - origin, hips_height, floor - below, at - origin)

    def _measure_body(self, points: Array, weight: Array, dt: float) -> None:
        seen = [(a, b, rest) for a, b, rest in _LIMBS if min(weight[a], weight[b]) > _SURE]
        if len(seen) < 3:
            return
        measured = sum(float(np.linalg.norm(points[a] - points[b])) for a, b, _ in seen)
        ratio = sum(rest for _, _, rest in seen) / max(measured, 1e-3)
        if 0.5 < ratio < 2.0:
            self._size.add(ratio, dt)
        legs = _standing_leg(points, weight)
        if legs is not None:
            hips = points[[lp.LEFT_HIP, lp.RIGHT_HIP]].mean(axis=0)
            shoulders = points[[lp.LEFT_SHOULDER, lp.RIGHT_SHOULDER]].mean(axis=0)
            self._learn_lean(self._lean, shoulders - hips + legs, dt)

    @staticmethod
    def _learn_lean(lean: _Settling, up: Array, dt: float) -> None:
        if up[1] > _UPRIGHT_COS * float(np.sqrt(up @ up)):
            lean.add(min(max(math.atan2(up[2], up[1]), -_MOST_LEAN_RAD), _MOST_LEAN_RAD), dt)

    def _straighten(self, points: Array, weight: Array, dt: float) -> Array:
        out = _leaned(points, self.lean_rad)
        legs = _standing_leg(out, weight)
        if legs is not None:
            self._learn_lean(self._legs_lean, legs, dt)
        out[lp.LEFT_KNEE :] = _leaned(out[lp.LEFT_KNEE :], self._legs_lean.value)
        return out

    def _metres_per_height(self, points: Array, picture: Array, weight: Array, dt: float) -> float:
        """Return how many of the landmarker's metres one picture height is where the dancer stands."""
        trust = np.maximum(weight[11:] - 0.2, 0.0)
        total = float(trust.sum())
        fresh = self._metres
        if total > 1.0:
            flat = points[11:, :2] * [1.0, -1.0]
            flat = flat - trust @ flat / total
            shape = picture[11:] - trust @ picture[11:] / total
            body, both = float(trust @ (flat * flat).sum(axis=1)), float(trust @ (flat * shape).sum(axis=1))
            if both > 1e-4 * body:
                fresh = body / both
        if self._metres is None:
            self._metres = self._quick_metres = fresh if fresh is not None else 4.0
        elif fresh is not None:
            fresh = min(max(fresh, _NEAREST_SHARE * self._metres), _FARTHEST_SHARE * self._metres)
            self._metres += (fresh - self._metres) * (1.0 - math.exp(-dt / _DISTANCE_S))
            self._quick_metres += (fresh - self._quick_metres) * (1.0 - math.exp(-dt / _QUICK_DISTANCE_S))
        return self._metres

    def _floor(self, below: Array, weight: Array, dt: float) -> float:
        """Return how far below the camera the floor is [m]: as low as a foot was seen lately."""
        lowest = float(below.max())
        if weight.max() < _SURE:
            lowest = self._depths[-1] if self._depths else lowest
        if not self._depths:
            self._depths, self._depth_age_s, self._depth = [lowest], 0.0, lowest
            return lowest
        self._depth_age_s += dt
        while self._depth_age_s >= _BIN_S:
            self._depth_age_s -= _BIN_S
            self._depths = [*self._depths[1 - round(_FLOOR_S / _BIN_S) :], lowest]
        self._depths[-1] = max(self._depths[-1], lowest)
        # Down at once, so that no foot is under the floor; up gently, so that it does not bob under the dancer.
        target = max(self._depths)
        share = 1.0 - math.exp(-dt / (0.1 if target > self._depth else 0.6))
        self._depth += (target - self._depth) * share
        return self._depth


def _leaned(points: Array, angle_rad: float) -> Array:
    """Return points (n, 3) turned back about the picture's horizontal by what they lean towards the camera."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    out = points.copy()
    out[:, 1] = points[:, 1] * c + points[:, 2] * s
    out[:, 2] = points[:, 2] * c - points[:, 1] * s
    return out


def _turned(points: Array, angle_rad: float) -> Array:
    """Return points (n, 3) whose axes are turned to the side by an angle, in the axes of the whole picture."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    out = points.copy()
    out[:, 0] = points[:, 0] * c - points[:, 2] * s
    out[:, 2] = points[:, 2] * c + points[:, 0] * s
    return out


def _standing_leg(points: Array, weight: Array) -> Array | None:
    """Return the way (3,) up a straight leg on which the body stands, both legs' mean if both do; None if none does."""
    ways = []
    lowest = min(points[lp.LEFT_ANKLE, 1], points[lp.RIGHT_ANKLE, 1])
    for side in (0, 1):
        hip, knee, ankle = lp.LEFT_HIP + side, lp.LEFT_KNEE + side, lp.LEFT_ANKLE + side
        way = points[hip] - points[ankle]
        bones = float(np.linalg.norm(points[hip] - points[knee]) + np.linalg.norm(points[knee] - points[ankle]))
        straight = float(np.sqrt(way @ way)) > _STRAIGHT_SHARE * bones
        if straight and weight[ankle] > _SURE and points[ankle, 1] < lowest + _SAME_FLOOR_M:
            ways.append(way)
    return np.asarray(np.mean(ways, axis=0)) if ways else None
