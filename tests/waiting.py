"""Waiting for what other threads and processes do: for the thing itself, and for as long as a starved machine takes."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 120.0
"""Nobody ever waits so long: what is waited for takes milliseconds, on a machine that is kept from its work seconds."""


def wait_until(
    condition: Callable[[], bool], what: Callable[[], object] | str = "", each_s: float | None = None
) -> None:
    """Wait until something is so.

    Args:
        condition: asked again and again; may do something each time that brings it about.
        what: to be said if it does not become so.
        each_s: between two questions; if not given half a millisecond, and longer and longer up to five.

    Raises:
        AssertionError: it did not become so within `PATIENCE_S`.
    """
    ended = time.monotonic() + PATIENCE_S
    pause_s = 0.0005 if each_s is None else each_s
    while not condition():
        assert time.monotonic() < ended, f"not so within {PATIENCE_S:.0f} s: {what() if callable(what) else what}"
        time.sleep(pause_s)
        if each_s is None:
            pause_s = min(2.0 * pause_s, 0.005)
