"""The dancer as last seen: poses at any moment of the recent past, and the feature row of every tick."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np
from numpy.typing import NDArray

from engine.body.pose_features import PoseFeatureExtractor, PoseFeatureSpec
from engine.body.skeleton import axis_angle_to_quaternion, quaternion_to_axis_angle, slerp
from engine.types import NS_PER_S, PoseFrame

# More than the slowest tick, the look-ahead and the latency of any camera together. By time and not by number: whoever
# was recorded at 500 frames a second would be forgotten before their ticks are read.
_KEPT_NS = 2 * NS_PER_S
# Ticks are read this much later at the most when the camera is late; beyond it the pose stands still.
_LONGEST_DELAY_NS = 250_000_000
# The delay is given back by this share of the time that passes: slow enough not to be seen as movement (2 %).
_RECOVERY = 0.02
# Poses further apart than this are not interpolated: the dancer was out of sight, and did not glide there.
_LONGEST_GAP_NS = NS_PER_S // 2


class PoseTrack:
    """The newest poses of one dancer. Deterministic; one thread."""

    def __init__(self) -> None:
        self._times: deque[int] = deque()
        self._poses: deque[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = deque()

    def __len__(self) -> int:
        return len(self._times)

    @property
    def newest_ns(self) -> int | None:
        """When the newest pose was captured; None before the first."""
        return self._times[-1] if self._times else None

    def add(self, frame: PoseFrame) -> bool:
        """Take a pose; false if it is not newer than the newest, or not finite."""
        if self._times and frame.time_ns <= self._times[-1]:
            return False
        arrays = (frame.rotations, frame.translation_m, frame.contacts)
        if not all(bool(np.isfinite(array).all()) for array in arrays):
            return False
        quaternions, root, contacts = (np.asarray(array, np.float64) for array in arrays)
        self._times.append(frame.time_ns)
        self._poses.append((np.asarray(axis_angle_to_quaternion(quaternions), np.float64), root, contacts))
        while len(self._times) > 1 and self._times[1] < frame.time_ns - _KEPT_NS:
            self._times.popleft()
            self._poses.popleft()
        return True

    def clear(self) -> None:
        """Forget all poses."""
        self._times.clear()
        self._poses.clear()

    def sample(self, time_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
        """Return rotations (24, 3) [rad], root (3,) [m] and contacts (4,) at a time; None before the first pose.

        Between two poses it is interpolated on the sphere, before the first and after the last it stands still.
        """
        if not self._times:
            return None
        index = bisect_right(self._times, time_ns)
        earlier = self._poses[max(index - 1, 0)]
        if index in (0, len(self._times)) or self._times[index] - self._times[index - 1] > _LONGEST_GAP_NS:
            return np.asarray(quaternion_to_axis_angle(earlier[0])), earlier[1], earlier[2]
        later = self._poses[index]
        share = (time_ns - self._times[index - 1]) / (self._times[index] - self._times[index - 1])
        rotations = quaternion_to_axis_angle(slerp(earlier[0], later[0], share))
        return (
            np.asarray(rotations, np.float64),
            earlier[1] + share * (later[1] - earlier[1]),
            earlier[2] + share * (later[2] - earlier[2]),
        )


class TickFeatures:
    """Feature rows of the poses at ticks, read as late as the camera makes necessary and no later.

    A pose arrives a frame and its estimation after the moment it shows. When a tick is due before its pose has come,
    all ticks are read that much later from then on (and slowly earlier again), so that the band sees movement at its
    true speed, a little late, instead of a dancer who freezes and leaps. Deterministic; one thread.
    """

    def __init__(self, track: PoseTrack, spec: PoseFeatureSpec | None = None) -> None:
        self._track = track
        self._extractor = PoseFeatureExtractor(spec)
        self.spec = self._extractor.spec
        self._read_ns: int | None = None
        self._delay_ns = 0
        self._away = False
        self._row: NDArray[np.float32] | None = None
        self.unseen = np.zeros(self.spec.size, np.float32)
        self.unseen.flags.writeable = False

    @property
    def delay_ns(self) -> int:
        """By how much ticks are read late."""
        return self._delay_ns

    def reset(self) -> None:
        """Forget the movement so far."""
        self._extractor.reset()
        self._read_ns = None
        self._delay_ns = 0
        self._away = False
        self._row = None

    def row(self, tick_ns: int, interval_ns: int) -> NDArray[np.float32]:
        """Return the row (P,) of the tick at `tick_ns`, `interval_ns` after the one before; zeros while unseen."""
        newest_ns = self._track.newest_ns
        if newest_ns is None:
            return self.unseen
        self._delay_ns = max(self._delay_ns - round(_RECOVERY * interval_ns), 0)
        late_ns = tick_ns - newest_ns
        away, self._away = self._away, late_ns > _LONGEST_GAP_NS
        if away and not self._away:
            self._delay_ns = 0  # nobody was seen, which says nothing of how late the camera is
        if self._delay_ns < late_ns:
            self._delay_ns = min(late_ns, _LONGEST_DELAY_NS)
        read_ns = tick_ns - self._delay_ns
        elapsed_ns = interval_ns if self._read_ns is None else read_ns - self._read_ns
        if elapsed_ns <= 0 and self._row is not None and self._delay_ns < _LONGEST_DELAY_NS:
            return self._row  # the camera has just fallen behind: nothing is known of this tick
        self._read_ns = read_ns
        pose = self._track.sample(read_ns)
        if pose is None:
            return self.unseen
        self._row = self._extractor.process(*pose, (elapsed_ns if elapsed_ns > 0 else interval_ns) / NS_PER_S)
        return self._row
