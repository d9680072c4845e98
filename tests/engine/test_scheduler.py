"""The scheduler under a virtual clock: times, order, lateness, failing bridges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.clock import VirtualClock
from engine.metrics import Metrics
from engine.scheduler import OutputScheduler, Timing
from engine.types import BeatEvent, ClockEvent, ControlEvent, NoteEvent, OutputEvent, PoseFrame, StatusEvent

MS = 1_000_000
FRAME = 16 * MS


class Listener:
    """A bridge that writes down what it gets, and fails on demand."""

    name = "listener"

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.got: list[tuple[int, OutputEvent]] = []
        self.broken = False
        self.tried = 0

    def open(self, on_control: Callable[[ControlEvent], None]) -> None: ...

    def send(self, event: OutputEvent) -> None:
        self.tried += 1
        if self.broken:
            raise OSError("unplugged")
        self.got.append((self.clock.now_ns(), event))

    def close(self) -> None: ...

    def poses(self) -> list[PoseFrame]:
        return [event for _, event in self.got if isinstance(event, PoseFrame)]


def pose(time_ns: int, x: float = 0.0) -> PoseFrame:
    return PoseFrame(time_ns, 0, np.zeros((24, 3)), np.array([x, 1.0, 0.0]), np.zeros(4))


class Stage:
    def __init__(self, latency_ns: int = 0, beat_lead_ns: int = 0, bridges: int = 1) -> None:
        self.clock = VirtualClock()
        self.metrics = Metrics()
        self.listeners = [Listener(self.clock) for _ in range(bridges)]
        self.listener = self.listeners[0]
        timing = Timing(FRAME, latency_ns, beat_lead_ns)
        self.scheduler = OutputScheduler(self.clock, self.listeners, self.metrics, timing)

    def run_to(self, time_ns: int) -> None:
        while self.clock.now_ns() < time_ns:
            self.clock.advance(MS)
            self.scheduler.run_due()


def test_events_leave_at_their_times() -> None:
    stage = Stage(latency_ns=20 * MS, beat_lead_ns=50 * MS)
    note = NoteEvent(130 * MS, 0, 0, 60, 100, 1)
    beat = BeatEvent(200 * MS, 0, 7, 1, 120.0, 1.0)
    stage.scheduler.put([pose(100 * MS), beat, note])
    stage.run_to(300 * MS)
    sent = {type(event): time for time, event in stage.listener.got[:3]}
    assert sent == {PoseFrame: 80 * MS, NoteEvent: 110 * MS, BeatEvent: 130 * MS}


def test_news_leaves_at_once_and_the_clock_ahead_of_its_pose() -> None:
    stage = Stage()
    status = StatusEvent(10**12, "audio", "info", "hello")
    clock = ClockEvent(32 * MS, 0, 1.0, 0.0, 120.0, 1.0)
    stage.scheduler.put([clock, pose(32 * MS), status])
    stage.run_to(40 * MS)
    assert [type(event) for _, event in stage.listener.got] == [StatusEvent, ClockEvent, PoseFrame]


def test_of_overdue_poses_only_the_newest_is_sent() -> None:
    stage = Stage()
    stage.clock.advance(100 * MS)
    stage.scheduler.put([pose(20 * MS), pose(36 * MS), pose(52 * MS, x=3.0), pose(200 * MS)])
    stage.scheduler.run_due()
    assert [frame.time_ns for frame in stage.listener.poses()][:1] == [52 * MS]
    assert stage.metrics.counter("frames_skipped") == 2
    assert stage.metrics.counter("frames_late") == 1


def test_a_stall_is_filled_smoothly_and_counted_once() -> None:
    stage = Stage()
    for i in range(10):
        stage.scheduler.put([pose(i * FRAME, x=0.01 * i)])
    stage.run_to(9 * FRAME)
    stage.run_to(29 * FRAME)  # twenty frames without a word from the core
    filled = stage.listener.poses()[10:]
    assert 18 <= len(filled) <= 20
    assert stage.metrics.counter("late_episodes") == 1
    xs = np.array([frame.translation_m[0] for frame in stage.listener.poses()])
    steps = np.diff(xs)
    assert steps.max() <= 0.0105, "never faster than before"
    assert steps[9] == pytest.approx(0.01, rel=0.15), "goes on with the velocity it had"
    assert steps[-1] < 0.003, "and comes to rest"
    back = 30 * FRAME
    for i in range(90):
        stage.scheduler.put([pose(back + i * FRAME, x=1.0)])
    stage.run_to(back + 90 * FRAME)
    xs = np.array([frame.translation_m[0] for frame in stage.listener.poses()])
    assert np.abs(np.diff(xs)).max() < 0.12, "handed over without a jump"
    assert xs[-1] == pytest.approx(1.0, abs=1e-3)
    assert stage.metrics.counter("late_episodes") == 1


def test_a_failing_bridge_is_reported_once_and_tried_again() -> None:
    stage = Stage(bridges=2)
    broken, fine = stage.listeners
    broken.broken = True
    for i in range(150):
        stage.scheduler.put([pose(i * FRAME)])
    stage.run_to(50 * FRAME)
    assert len(fine.poses()) >= 49, "the other bridge does not notice"
    reports = [event for _, event in fine.got if isinstance(event, StatusEvent)]
    assert len(reports) == 1
    assert "unplugged" in reports[0].message
    assert broken.tried < 8, "it is left alone between tries"
    broken.broken = False
    stage.run_to(149 * FRAME)
    assert broken.poses(), "and it is back"


def test_memory_is_bounded_when_nothing_is_sent() -> None:
    stage = Stage()
    for i in range(30):
        stage.scheduler.put([pose(10**12 + i * 1000 + j) for j in range(1000)])
    assert stage.metrics.counter("output_dropped") == 10_000
