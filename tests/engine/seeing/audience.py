"""Who a sensor of poses delivers to, in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.types import Observation, PoseLandmarks, StatusEvent
from tests.waiting import PATIENCE_S


class Audience:
    """Takes what is delivered and reported."""

    def __init__(self) -> None:
        self.seen: list[PoseLandmarks] = []
        self.said: list[StatusEvent] = []
        self.changed = threading.Condition()

    def deliver(self, observation: Observation) -> None:
        assert isinstance(observation, PoseLandmarks)
        with self.changed:
            self.seen.append(observation)
            self.changed.notify_all()

    def report(self, event: StatusEvent) -> None:
        with self.changed:
            self.said.append(event)
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, timeout_s)

    def heard(self, words: str) -> bool:
        return any(words in event.message for event in self.said)
