"""The live runner with real threads and a sensor driven by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from engine.clock import SessionClock
from engine.metrics import Metrics
from engine.runner import LiveRunner
from engine.scheduler import OutputScheduler, Timing
from engine.types import (
    NS_PER_S,
    AudioBlock,
    ControlEvent,
    MetricsEvent,
    Observation,
    OutputEvent,
    PoseFrame,
    StatusEvent,
)
from tests.engine.fakes import Drain, Source, make_pipeline, music


class Show:
    def __init__(self) -> None:
        self.clock, self.metrics = SessionClock(), Metrics()
        self.source, self.drain = Source(), Drain()
        self.pipeline = make_pipeline()
        timing = Timing(NS_PER_S // 60, 0, 0)
        scheduler = OutputScheduler(self.clock, [self.drain], self.metrics, timing)
        self.runner = LiveRunner(self.pipeline, scheduler, [self.source], self.clock, self.metrics)

    def play(self, seconds: float) -> None:
        """Deliver music in real time."""
        samples = music(seconds)
        start = self.clock.now_ns()
        for index in range(0, len(samples), 480):
            end_ns = start + (index + 480) * NS_PER_S // 48_000
            self.clock.sleep_until(end_ns)
            self.source.deliver(AudioBlock(index, end_ns, samples[index : index + 480], 48_000))

    def wait_for(self, what: Callable[[OutputEvent], bool], seconds: float = 5.0) -> OutputEvent:
        """Return the first event sent that fits; fail when none comes."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            for event in list(self.drain.events):
                if what(event):
                    return event
            time.sleep(0.01)
        raise AssertionError("no such event was sent")


@contextmanager
def running() -> Iterator[Show]:
    show = Show()
    show.runner.start()
    try:
        yield show
    finally:
        show.runner.stop()


def test_music_in_poses_out() -> None:
    with running() as show:
        show.play(1.0)
        show.wait_for(lambda event: isinstance(event, PoseFrame))
        show.wait_for(lambda event: isinstance(event, MetricsEvent))
    times = [event.time_ns for event in show.drain.events if isinstance(event, PoseFrame)]
    assert times == sorted(times)
    assert len(times) > 30
    assert show.source.stopped


def test_the_dance_goes_on_without_sound_and_says_so() -> None:
    with running() as show:
        show.play(0.3)
        lost = show.wait_for(lambda e: isinstance(e, StatusEvent) and "no sound" in e.message)
        assert isinstance(lost, StatusEvent)
        assert lost.level == "warning"
        count = len(show.drain.events)
        show.wait_for(lambda e: isinstance(e, PoseFrame) and e.time_ns > lost.time_ns + NS_PER_S // 2)
        assert len(show.drain.events) > count + 20
        show.play(0.3)
        show.wait_for(lambda e: isinstance(e, StatusEvent) and "back" in e.message)
    assert show.metrics.counter("audio_lost_episodes") == 1
    assert show.metrics.counter("core_errors") == 0


def test_a_control_from_any_thread_takes_effect() -> None:
    with running() as show:
        threading.Thread(target=show.runner.control, args=(ControlEvent(0, "energy", 0.9),)).start()
        show.wait_for(lambda event: event == ControlEvent(0, "energy", 0.9))


def test_a_defect_in_the_core_does_not_end_the_show() -> None:
    with running() as show:
        push = show.pipeline.push
        failed = threading.Event()

        def failing(observation: Observation) -> list[OutputEvent]:
            if not failed.is_set():
                failed.set()
                raise ZeroDivisionError("a defect")
            return push(observation)

        show.pipeline.push = failing  # type: ignore[method-assign]
        show.play(0.5)
        show.wait_for(lambda e: isinstance(e, StatusEvent) and e.component == "core")
        show.wait_for(lambda e: isinstance(e, PoseFrame))
    assert show.metrics.counter("core_errors") == 1


def test_stop_leaves_no_thread_behind_and_may_be_called_twice() -> None:
    before = {thread.name for thread in threading.enumerate()}
    with running() as show:
        show.play(0.1)
    show.runner.stop()
    after = {thread.name for thread in threading.enumerate()}
    assert not {"core", "output"} & (after - before)
    assert np.isfinite([e.rotations for e in show.drain.events if isinstance(e, PoseFrame)]).all()
