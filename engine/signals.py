"""Ctrl-c, a polite kill and the closing of the terminal: how they end a show in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""The terminal was closed; not on Windows."""


class Signals:
    """Lets ctrl-c, a polite kill and the closing of the terminal set an event; nothing is interrupted by them.

    But what only prepares a show is (`interrupting`). Whoever was told to ignore the closing of the terminal (`nohup`)
    does. Only Python's main thread can be told of signals; used on another one, this does nothing.

    Args:
        stop: is set.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._before: dict[signal.Signals, Any] = {}
        self._interrupting = self._holding = self._interrupted = False

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGTERM]
            if _HANGUP is not None and signal.getsignal(_HANGUP) is not signal.SIG_IGN:
                numbers.append(_HANGUP)
            for number in numbers:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._interrupted:
            raise KeyboardInterrupt  # a library that is interrupted while it loads may have made it another error

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let the first signal raise KeyboardInterrupt in what is done within; what cleans up after it is spared."""
        self._interrupting = True
        try:
            yield
        finally:
            self._interrupting = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let it do so only after what is done within."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._interrupted:
            raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()
        if self._interrupting and not self._interrupted:
            self._interrupted = True
            if not self._holding:
                raise KeyboardInterrupt


def leave_to_parent() -> None:
    """Ignore what a terminal tells all its processes: when this one ends is its parent's decision."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _HANGUP is not None:
        signal.signal(_HANGUP, signal.SIG_IGN)
