"""Where sensors hand over to the core: a queue that never blocks a sensor and never lets a backlog grow."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from engine.metrics import Metrics
from engine.types import NS_PER_S, AudioBlock, Observation

# A core that is this far behind (a debugger, a sleeping laptop) jumps to the present instead of dancing the past.
_MAX_BACKLOG_NS = NS_PER_S // 2


class Inbox:
    """Observations in order of arrival.

    When more than half a second of audio waits, the oldest blocks are dropped and added to the next block's gap, so
    that sample positions stay true; drops are counted.

    Threads: `put` by any, `get` by the core thread.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._queue: deque[Observation] = deque()
        self._condition = threading.Condition()

    def put(self, observation: Observation) -> None:
        """Add one observation."""
        with self._condition:
            self._queue.append(observation)
            self._condition.notify()

    def get(self, timeout_s: float) -> Observation | None:
        """Return the oldest observation, or None if none came in time."""
        with self._condition:
            if not self._queue:
                self._condition.wait(timeout_s)
            if not self._queue:
                return None
            observation = self._queue.popleft()
            if isinstance(observation, AudioBlock):
                observation = self._skip_backlog(observation)
            return observation

    def _skip_backlog(self, block: AudioBlock) -> AudioBlock:
        """Drop audio that is too old; return the block to go on with."""
        newest = next((o for o in reversed(self._queue) if isinstance(o, AudioBlock)), None)
        if newest is None or newest.time_ns - block.time_ns <= _MAX_BACKLOG_NS:
            return block
        self._metrics.count("backlog_episodes")
        lost = block.gap_samples + len(block.samples)
        kept: list[Observation] = []
        while self._queue:
            observation = self._queue.popleft()
            if not isinstance(observation, AudioBlock):
                kept.append(observation)  # a control is never dropped
            elif observation is newest:
                block = replace(newest, gap_samples=newest.gap_samples + lost)
                break
            else:
                lost += observation.gap_samples + len(observation.samples)
        self._metrics.count("backlog_samples", lost)
        self._queue.extendleft(reversed(kept))
        return block
