"""Counters and latency histograms of constant size, for the status line, `bench` and the web stage."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# 1 µs to 100 s in steps of 2.3 %: a percentile read from the histogram is within 1.2 % of the exact one.
_LOW_NS, _PER_DECADE, _DECADES = 1_000, 100, 8
_BINS = _PER_DECADE * _DECADES + 1


class Histogram:
    """A histogram of durations with logarithmic bins. Negative durations count as zero.

    Threads: one writes, any may read (a reading may miss the newest sample).
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, dtype=np.int64)
        self._count = 0
        self._max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration [ns]."""
        index = min(int(math.log10(duration_ns / _LOW_NS) * _PER_DECADE) + 1, _BINS - 1) if duration_ns > _LOW_NS else 0
        self._counts[index] += 1
        self._count += 1
        if duration_ns > self._max_ns:
            self._max_ns = duration_ns

    @property
    def count(self) -> int:
        """Number of durations counted."""
        return self._count

    @property
    def max_ms(self) -> float:
        """Longest duration [ms]."""
        return self._max_ns * 1e-6

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile [ms]; 0 when empty."""
        if self._count == 0:
            return 0.0
        cumulative = np.cumsum(self._counts)
        index = int(np.searchsorted(cumulative, percent / 100.0 * cumulative[-1]))
        upper_ns = _LOW_NS * 10 ** (index / _PER_DECADE)
        return float(min(upper_ns, self._max_ns) * 1e-6)

    def reset(self) -> None:
        """Forget everything (after a warm-up)."""
        self._counts[:] = 0
        self._count = 0
        self._max_ns = 0


class Metrics:
    """Named histograms and counters of one session.

    Threads: each histogram is written by one thread; counters by any.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.histograms: dict[str, Histogram] = {}
        self.counters: dict[str, int] = {}

    def histogram(self, name: str) -> Histogram:
        """Return the histogram of that name, made on first use."""
        with self._lock:
            return self.histograms.setdefault(name, Histogram())

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self.counters[name] = self.counters.get(name, 0) + amount

    def counter(self, name: str) -> int:
        """Return a counter, 0 if it was never counted."""
        return self.counters.get(name, 0)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time a section into the histogram of that name."""
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            self.histogram(name).add(time.perf_counter_ns() - start)

    def reset(self) -> None:
        """Forget what a warm-up measured."""
        with self._lock:
            for histogram in self.histograms.values():
                histogram.reset()
            self.counters.clear()

    def summary(self) -> dict[str, dict[str, float]]:
        """Return p50, p95, p99, max [ms] and count of every section."""
        return {
            name: {
                "p50_ms": h.percentile_ms(50),
                "p95_ms": h.percentile_ms(95),
                "p99_ms": h.percentile_ms(99),
                "max_ms": h.max_ms,
                "count": float(h.count),
            }
            for name, h in sorted(self.histograms.items())
        }
