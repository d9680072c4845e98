"""How much may be asked for, under a given clock."""

from __future__ import annotations

from bridges.control_limits import ControlLimiter, TokenBucket


def test_token_bucket() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0)
    assert [bucket.take(5.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(5.5)
    assert not bucket.take(5.5)
    assert not bucket.take(4.0)


def test_panic_and_blackout_pass_whatever_else_is_sent() -> None:
    limiter = ControlLimiter(rate=2.0, burst=3.0)
    assert [limiter.allow("energy", 5.0) for _ in range(4)] == [True, True, True, False]
    assert limiter.allow("panic", 5.0)
    assert limiter.allow("blackout", 5.0)
    assert [limiter.allow("panic", 5.0) for _ in range(20)].count(True) == 8
    assert limiter.allow("panic", 5.2)
    assert not limiter.allow("tap", 5.2)
