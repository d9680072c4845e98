"""The CPU takes over in the middle of a show, from the same memory, within the step that failed."""

from __future__ import annotations

import logging
from collections.abc import Callable

from models.backends.protocol import BackendLost, StepBackend

_log = logging.getLogger(__name__)


class FailoverBackend:
    """A `StepBackend` that runs on `first` until that is lost, and on `second` from then on.

    Args:
        first: has a mirrored memory.
        second: shares its memory with `first`.
        report: takes a level and a message.
    """

    def __init__(self, first: StepBackend, second: StepBackend, report: Callable[[str, str], None] | None) -> None:
        if first.memory is not second.memory:
            raise ValueError("the two back ends must share one memory")
        self._now, self._second, self._report = first, second, report
        self.memory = first.memory

    @property
    def name(self) -> str:
        """Of the back end in use."""
        return self._now.name

    def run(self) -> None:
        """Compute one step; see `StepBackend`."""
        if self._now is self._second:
            self._second.run()
            return
        try:
            self._now.run()
        except BackendLost as error:
            message = f"{error}; the CPU goes on"
            _log.error(message)
            if self._report is not None:
                self._report("error", message)
            lost, self._now = self._now, self._second
            self._second.run()
            lost.close()

    def close(self) -> None:
        """Release both."""
        self._now.close()
        self._second.close()
