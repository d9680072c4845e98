"""Who of those seen is the dancer: tracks kept by place and size, and a choice that is stood by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from engine.types import NS_PER_S, PoseLandmarks

_TRUNK = [11, 12, 23, 24]
"""Shoulders and hips: the part of a body that is seen best and moves least."""
_FORGET_NS = 2 * NS_PER_S
"""A person unseen for so long (behind another, out of the picture) is somebody new afterwards."""
_REACH = 1.5
"""A track is not continued further away than this many of its own sizes; a stride of a frame is a tenth of that."""
_DRIFT_S = 0.25
"""How long a track is taken to go on at its speed while it is not seen: longer, and it runs away."""
_SIZE_WEIGHT = 2.0
"""A person does not become a quarter smaller within a frame: that costs as much as half their own size of way."""
_ELSEWHERE = 100.0
"""Cost of leaving a track without a person: larger than any match allowed."""


@dataclass(frozen=True, slots=True)
class Person:
    """One person in one picture; arrays as in `PoseLandmarks`."""

    positions_m: NDArray[np.float32]
    visibility: NDArray[np.float32]
    image_xy: NDArray[np.float32]

    def landmarks(self, time_ns: int, aspect: float) -> PoseLandmarks:
        """Return what the core is told."""
        return PoseLandmarks(time_ns, self.positions_m, self.visibility, self.image_xy, aspect)


def nobody(time_ns: int, aspect: float) -> PoseLandmarks:
    """Return the landmarks of a frame in which nobody was seen."""
    return PoseLandmarks(
        time_ns, np.zeros((33, 3), np.float32), np.zeros(33, np.float32), np.zeros((33, 2), np.float32), aspect
    )


class _Track:
    """Where a person was last seen, how large, and where to."""

    def __init__(self, place: NDArray[np.float64], size: float, time_ns: int) -> None:
        self.place, self.size, self.seen_ns = place, size, time_ns
        self._speed = np.zeros(2)

    def expected(self, time_ns: int) -> NDArray[np.float64]:
        away_s = min((time_ns - self.seen_ns) / NS_PER_S, _DRIFT_S)
        return self.place + self._speed * away_s

    def follow(self, place: NDArray[np.float64], size: float, time_ns: int) -> None:
        passed_s = max((time_ns - self.seen_ns) / NS_PER_S, 1e-3)
        self._speed += 0.3 * ((place - self.place) / passed_s - self._speed)
        self.size += 0.3 * (size - self.size)
        self.place, self.seen_ns = place, time_ns


class PersonTracker:
    """Chooses one of the people of each picture and stays with them. Deterministic.

    The wish is used when somebody is to be chosen: at the start, and when the chosen one has been out of sight for
    two seconds. Until then a larger person walking in, or one who crosses, changes nothing.

    Args:
        person: "largest", "left", "middle" or "right" (as seen in the picture).
    """

    def __init__(self, person: str = "largest") -> None:
        self._person = person
        self.reset()

    def reset(self) -> None:
        """Forget everybody."""
        self._tracks: list[_Track] = []
        self._chosen: _Track | None = None

    def choose(self, people: list[Person], time_ns: int, aspect: float) -> Person | None:
        """Return the dancer among the people of one picture, or None if they are not in it."""
        self._tracks = [track for track in self._tracks if time_ns - track.seen_ns <= _FORGET_NS]
        if self._chosen not in self._tracks:
            self._chosen = None
        measures = [_measure(person, aspect) for person in people]
        owners = self._assign(measures, time_ns)
        for index, (place, size) in enumerate(measures):
            track = owners[index]
            if track is None:
                owners[index] = track = _Track(place, size, time_ns)
                self._tracks.append(track)
            else:
                track.follow(place, size, time_ns)
        if self._chosen is None and people:
            self._chosen = owners[self._wish(measures, aspect)]
        return next((person for person, track in zip(people, owners, strict=True) if track is self._chosen), None)

    def _assign(self, measures: list[tuple[NDArray[np.float64], float]], time_ns: int) -> list[_Track | None]:
        """Return whose track each measured person continues: the cheapest of all assignments."""
        tracks = self._tracks
        owners: list[_Track | None] = [None] * len(measures)
        if not tracks or not measures:
            return owners
        cost = np.full((len(measures), len(tracks)), _ELSEWHERE)
        for row, (place, size) in enumerate(measures):
            for column, track in enumerate(tracks):
                way = float(np.linalg.norm(place - track.expected(time_ns))) / max(track.size, 1e-3)
                if way < _REACH:
                    cost[row, column] = way + _SIZE_WEIGHT * abs(float(np.log(size / max(track.size, 1e-3))))
        for row, column in zip(*linear_sum_assignment(cost), strict=True):
            if cost[row, column] < _ELSEWHERE:
                owners[int(row)] = tracks[int(column)]
        return owners

    def _wish(self, measures: list[tuple[NDArray[np.float64], float]], aspect: float) -> int:
        """Return the index of the person that the wish means."""
        across = [float(place[0]) for place, _ in measures]
        if self._person == "left":
            return int(np.argmin(across))
        if self._person == "right":
            return int(np.argmax(across))
        if self._person == "middle":
            return int(np.argmin(np.abs(np.array(across) - 0.5 * aspect)))
        return int(np.argmax([size for _, size in measures]))


def _measure(person: Person, aspect: float) -> tuple[NDArray[np.float64], float]:
    """Return the middle of the hips and the length of the trunk, both in picture heights."""
    points = person.image_xy.astype(np.float64) * [aspect, 1.0]
    trunk = points[_TRUNK]
    hips, shoulders = trunk[2:].mean(axis=0), trunk[:2].mean(axis=0)
    # A trunk seen from the side or bent forward is short in the picture; its own width and the body's length count too.
    length = float(np.linalg.norm(shoulders - hips))
    reach = float(np.linalg.norm(np.ptp(points, axis=0)))
    return hips, max(length, 0.25 * reach, 1e-3)
