"""Where sensors hand over to the core: a queue that never blocks a sensor and never lets a backlog grow."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from engine.clock import Clock
from engine.metrics import Metrics
from engine.types import NS_PER_S, AudioBlock, Observation, PoseFrame, PoseLandmarks

# A core that is this far behind (a debugger, a sleeping laptop) jumps to the present instead of dancing the past.
_MAX_BACKLOG_NS = NS_PER_S // 2
# Where the dancer was so long ago is of no use once it is known where they are.
_MAX_POSE_AGE_NS = NS_PER_S // 5


class Inbox:
    """Observations in order of arrival.

    When more than half a second of audio waits, the oldest blocks are dropped and added to the next block's gap, so
    that sample positions stay true; poses wait a fifth of a second for a newer one; drops are counted.

    Threads: `put` by any, `get` by the core thread.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._queue: deque[tuple[int, Observation]] = deque()
        self._condition = threading.Condition()

    def put(self, observation: Observation) -> None:
        """Add one observation."""
        with self._condition:
            self._queue.append((self._clock.now_ns(), observation))
            self._condition.notify()

    def get(self, timeout_s: float) -> tuple[int, Observation] | None:
        """Return the oldest observation and when it was put, or None if none came in time."""
        with self._condition:
            if not self._queue:
                self._condition.wait(timeout_s)
            if not self._queue:
                return None
            put_ns, observation = self._queue.popleft()
            if isinstance(observation, AudioBlock):
                return self._skip_backlog(put_ns, observation)
            if isinstance(observation, PoseLandmarks | PoseFrame):
                return self._skip_old_poses(put_ns, observation)
            return put_ns, observation

    def _skip_old_poses(self, put_ns: int, pose: PoseLandmarks | PoseFrame) -> tuple[int, Observation]:
        """Drop poses that are too old, beside a newer one; return the observation to go on with."""
        poses = (o for _, o in reversed(self._queue) if isinstance(o, PoseLandmarks | PoseFrame))
        newest = next(poses, None)
        if newest is None or newest.time_ns - pose.time_ns <= _MAX_POSE_AGE_NS:
            return put_ns, pose
        oldest_ns = newest.time_ns - _MAX_POSE_AGE_NS

        def is_old(observation: Observation) -> bool:
            return isinstance(observation, PoseLandmarks | PoseFrame) and observation.time_ns < oldest_ns

        kept = [(put, observation) for put, observation in self._queue if not is_old(observation)]
        self._metrics.count("poses_skipped", len(self._queue) - len(kept) + 1)
        self._queue = deque(kept)
        return self._queue.popleft()

    def _skip_backlog(self, put_ns: int, block: AudioBlock) -> tuple[int, AudioBlock]:
        """Drop audio that is too old; return the block to go on with."""
        newest = next((o for _, o in reversed(self._queue) if isinstance(o, AudioBlock)), None)
        if newest is None or newest.time_ns - block.time_ns <= _MAX_BACKLOG_NS:
            return put_ns, block
        self._metrics.count("backlog_episodes")
        lost = block.gap_samples + len(block.samples)
        kept: list[tuple[int, Observation]] = []
        while self._queue:
            put_ns, observation = self._queue.popleft()
            if not isinstance(observation, AudioBlock):
                kept.append((put_ns, observation))  # a control is never dropped
            elif observation is newest:
                block = replace(newest, gap_samples=newest.gap_samples + lost)
                break
            else:
                lost += observation.gap_samples + len(observation.samples)
        self._metrics.count("backlog_samples", lost)
        self._queue.extendleft(reversed(kept))
        return put_ns, block
