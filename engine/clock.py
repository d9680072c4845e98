"""Session time: monotonic nanoseconds since the session began, real or virtual."""

from __future__ import annotations

import time
from typing import Protocol

# time.sleep on Linux, macOS and Windows (3.11+, high-resolution timer) overshoots by up to ~0.1 ms on an idle
# machine; waking this much early and yielding for the rest costs little and halves the jitter.
_SPIN_NS = 150_000


class Clock(Protocol):
    """Where session time comes from."""

    def now_ns(self) -> int:
        """Return the session time [ns]."""
        ...

    def sleep_until(self, time_ns: int) -> None:
        """Return at or just after `time_ns`; at once if it has passed."""
        ...


class SessionClock:
    """The machine's monotonic clock, zero at construction. Threads: any."""

    def __init__(self) -> None:
        self._origin_ns = time.perf_counter_ns()

    def now_ns(self) -> int:
        return time.perf_counter_ns() - self._origin_ns

    def sleep_until(self, time_ns: int) -> None:
        remaining = time_ns - self.now_ns()
        while remaining > 0:
            if remaining > _SPIN_NS:
                time.sleep((remaining - _SPIN_NS) * 1e-9)
            else:
                time.sleep(0)
            remaining = time_ns - self.now_ns()


class VirtualClock:
    """A clock that moves only when told; sleeping moves it. Threads: one."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until(self, time_ns: int) -> None:
        self._now_ns = max(self._now_ns, time_ns)

    def advance(self, duration_ns: int) -> None:
        """Move forward by `duration_ns` >= 0."""
        if duration_ns < 0:
            raise ValueError("a clock never runs backwards")
        self._now_ns += duration_ns
