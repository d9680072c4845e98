"""How much whoever controls the show may ask for, by whatever way. The clock is given, in seconds."""

from __future__ import annotations

from engine.controls import STATES

# How often a hand strikes at most what must work whatever else is sent.
_URGENT_RATE, _URGENT_BURST = 10.0, 10.0


class TokenBucket:
    """Allows `burst` at once and `rate` per second after that. Threads: one."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens = burst
        self._last_s: float | None = None

    def take(self, now_s: float) -> bool:
        """Take one token; False if there is none."""
        if self._last_s is not None:
            self._tokens = min(self._burst, self._tokens + max(now_s - self._last_s, 0.0) * self._rate)
        self._last_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class ControlLimiter:
    """Limits controls; panic and blackout have a bucket of their own, which nothing else empties. Threads: one.

    Args:
        rate: of the other controls, per second.
        burst: of these at once.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._usual = TokenBucket(rate, burst)
        self._urgent = TokenBucket(_URGENT_RATE, _URGENT_BURST)

    def allow(self, name: str, now_s: float) -> bool:
        """Return whether one more control of that name is not too many."""
        return (self._urgent if name in STATES else self._usual).take(now_s)
