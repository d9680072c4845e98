"""Where sensors hand over to the core: a queue that never blocks a sensor and never lets a backlog grow."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from engine.clock import Clock
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
            return put_ns, observation

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
