"""The inbox: order, and what happens to a backlog."""

from __future__ import annotations

import numpy as np

from engine.clock import VirtualClock
from engine.inbox import Inbox
from engine.metrics import Metrics
from engine.types import AudioBlock, ControlEvent, Observation
from tests.engine.dance_poses import dance


def block(index: int, size: int = 480) -> AudioBlock:
    return AudioBlock(index * size, (index + 1) * 10_000_000, np.full((size, 1), index), 48_000)


def take(inbox: Inbox) -> Observation | None:
    got = inbox.get(0.0)
    return got[1] if got is not None else None


def test_observations_come_in_order() -> None:
    inbox = Inbox(Metrics(), VirtualClock())
    items = [block(0), ControlEvent(5, "tap"), block(1)]
    for item in items:
        inbox.put(item)
    assert [take(inbox) for _ in items] == items
    assert inbox.get(0.0) is None


def test_a_backlog_becomes_a_gap_and_loses_no_control() -> None:
    metrics = Metrics()
    inbox = Inbox(metrics, VirtualClock())
    for index in range(100):
        inbox.put(block(index))
        if index == 50:
            inbox.put(ControlEvent(0, "panic"))
    first = take(inbox)
    assert isinstance(first, AudioBlock)
    assert first.sample_index == 99 * 480
    assert first.gap_samples == 99 * 480
    assert take(inbox) == ControlEvent(0, "panic")
    assert inbox.get(0.0) is None
    assert metrics.counter("backlog_episodes") == 1


def test_half_a_second_is_no_backlog() -> None:
    inbox = Inbox(Metrics(), VirtualClock())
    for index in range(50):
        inbox.put(block(index))
    got = [take(inbox) for _ in range(50)]
    assert [item.sample_index for item in got if isinstance(item, AudioBlock)] == [i * 480 for i in range(50)]


def test_of_poses_that_waited_only_the_newest_fifth_of_a_second_is_kept() -> None:
    metrics = Metrics()
    inbox = Inbox(metrics, VirtualClock())
    poses, wish = [*dance(1.0)], ControlEvent(5, "tap")
    for pose in poses[:15]:
        inbox.put(pose)
    inbox.put(wish)
    for pose in poses[15:]:
        inbox.put(pose)
    got = list(iter(lambda: take(inbox), None))
    kept = [pose for pose in poses if poses[-1].time_ns - pose.time_ns <= 200_000_000]
    assert got == [wish, *kept]
    assert metrics.counter("poses_skipped") == len(poses) - len(kept)
