"""The live runner with real threads and a sensor driven by hand."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine import runner as runner_module
from engine.clock import SessionClock, VirtualClock
from engine.errors import UserError
from engine.metrics import Metrics
from engine.priority import Rank, ask_for_real_time
from engine.protocols import Deliver, Report
from engine.runner import LiveRunner
from engine.scheduler import OutputScheduler, Timing
from engine.session import Session, SessionRecorder
from engine.settings import ShowSettings
from engine.types import (
    NS_PER_S,
    AudioBlock,
    ControlEvent,
    Heartbeat,
    MetricsEvent,
    Observation,
    OutputEvent,
    PoseFrame,
    StatusEvent,
)
from tests.engine.fakes import Drain, Source, make_pipeline, music
from tests.waiting import wait_until


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

    def wait_for(self, what: Callable[[OutputEvent], bool], since: int = 0, count: int = 1) -> OutputEvent:
        """Return the first event sent that fits, as soon as there are `count`; fail when they do not come.

        Args:
            what: fits.
            since: events sent before these are passed over.
            count: of events that fit.
        """

        def fitting() -> list[OutputEvent]:
            return [event for event in list(self.drain.events)[since:] if what(event)]

        wait_until(lambda: len(fitting()) >= count, "no such events were sent")
        return fitting()[0]

    def play_until(self, what: Callable[[OutputEvent], bool], since: int = 0) -> None:
        """Deliver music until an event that fits is sent: what comes late is not heard, so that it may take a while."""

        def heard() -> bool:
            self.play(0.1)
            return any(what(event) for event in list(self.drain.events)[since:])

        wait_until(heard, "no such event was sent")


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
        show.play(0.5)
        show.wait_for(lambda event: isinstance(event, PoseFrame), count=31)
        show.wait_for(lambda event: isinstance(event, MetricsEvent))
    times = [event.time_ns for event in show.drain.events if isinstance(event, PoseFrame)]
    assert times == sorted(times)
    assert show.source.stopped


def test_the_dance_goes_on_without_sound_and_says_so() -> None:
    with running() as show:
        show.play(0.3)
        lost = show.wait_for(lambda e: isinstance(e, StatusEvent) and "no sound" in e.message)
        assert isinstance(lost, StatusEvent)
        assert lost.level == "warning"
        count = len(show.drain.events)
        show.wait_for(lambda e: isinstance(e, PoseFrame) and e.time_ns > lost.time_ns + NS_PER_S // 2)
        show.wait_for(lambda e: isinstance(e, PoseFrame), since=count, count=21)
        show.play_until(lambda e: isinstance(e, StatusEvent) and "back" in e.message, since=count)
    # Once for each time, however often this thread was kept from playing.
    said = [e.message for e in show.drain.events if isinstance(e, StatusEvent) and e.component == "audio"]
    assert ["no sound" in message for message in said] == [index % 2 == 0 for index in range(len(said))]
    losses = sum("no sound" in message for message in said)
    assert 0 <= show.metrics.counter("audio_lost_episodes") - losses <= 1, "the last one may not have been sent"
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
        show.wait_for(lambda e: isinstance(e, PoseFrame), since=len(show.drain.events))
    assert show.metrics.counter("core_errors") == 1


def test_stop_leaves_no_thread_behind_and_may_be_called_twice() -> None:
    before = set(threading.enumerate())
    with running() as show:
        show.play(0.1)
    show.runner.stop()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name in ("core", "output")]
    assert np.isfinite([e.rotations for e in show.drain.events if isinstance(e, PoseFrame)]).all()


class Pulse:
    """A core that keeps what it is told; fails on demand."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        self.fail = False

    def push(self, observation: Observation) -> list[OutputEvent]:
        self.observations.append(observation)
        if self.fail:
            raise RuntimeError("a defect")
        return []


def test_where_no_sound_comes_heartbeats_move_time_on() -> None:
    # The runner's time is the test's; only the output thread, which has nothing to do, sleeps by the real one.
    clock, metrics, core, source = VirtualClock(), Metrics(), Pulse(), Source()
    scheduler = OutputScheduler(SessionClock(), [], metrics, Timing(NS_PER_S // 60, 0, 0))
    runner = LiveRunner(core, scheduler, [source], clock, metrics, heartbeat=True)

    def beats() -> list[int]:
        return [o.time_ns for o in list(core.observations) if isinstance(o, Heartbeat)]

    runner.start()
    try:
        wait_until(lambda: beats() == [0])
        for index in range(1, 40):
            if index == 20:
                core.fail = True
            source.deliver(ControlEvent(clock.now_ns(), "tap"))  # observations in between hold none of them up
            clock.advance(NS_PER_S // 100)
            wait_until(lambda count=index + 1: len(beats()) == count)
        clock.advance(NS_PER_S // 4)
        wait_until(lambda: len(beats()) == 41)
        clock.advance(NS_PER_S // 200 - 1)
        source.deliver(ControlEvent(clock.now_ns(), "tap"))
        wait_until(lambda: sum(isinstance(o, ControlEvent) for o in list(core.observations)) == 40)
    finally:
        runner.stop()
    wanted = [index * NS_PER_S // 100 for index in range(40)]
    assert beats() == [*wanted, wanted[-1] + NS_PER_S // 4], "every 10 ms; those that were missed are not made up for"
    assert not any(isinstance(o, AudioBlock) for o in core.observations), "no silence stands in"
    assert metrics.counter("core_errors") >= 21, "a defect is counted and the show goes on"


def test_a_core_that_fails_at_everything_says_so_once_a_second_and_panic_reaches_the_bridges() -> None:
    clock, metrics, core, source, drain = VirtualClock(), Metrics(), Pulse(), Source(), Drain()
    core.fail = True
    scheduler = OutputScheduler(SessionClock(), [drain], metrics, Timing(NS_PER_S // 60, 0, 0))
    runner = LiveRunner(core, scheduler, [source], clock, metrics, heartbeat=True)
    runner.start()
    try:
        for index in range(1, 251):
            clock.advance(NS_PER_S // 100)
            wait_until(lambda count=index: metrics.counter("core_errors") >= count, each_s=0.0005)
        for name, value in (("panic", None), ("energy", 0.5), ("blackout", 1.0)):
            source.deliver(ControlEvent(clock.now_ns(), name, value))
        wait_until(lambda: any(isinstance(e, ControlEvent) and e.name == "blackout" for e in list(drain.events)))
    finally:
        runner.stop()
    assert [event.name for event in drain.events if isinstance(event, ControlEvent)] == ["panic", "blackout"]
    assert sum(isinstance(event, StatusEvent) for event in drain.events) == 3


@pytest.mark.parametrize("delay_ms", [0, 200])
def test_after_a_hole_sound_is_heard_again_however_late_it_arrives(delay_ms: int) -> None:
    clock, metrics, core, source = VirtualClock(), Metrics(), Pulse(), Source()
    scheduler = OutputScheduler(SessionClock(), [], metrics, Timing(NS_PER_S // 60, 0, 0))
    delay_ns = delay_ms * 1_000_000
    runner = LiveRunner(core, scheduler, [source], clock, metrics, audio_delay_ns=delay_ns)
    runner.start()
    hop_ns, sent, ones = NS_PER_S // 100, 0, np.ones((480, 1), np.float32)

    def heard() -> int:
        return sum(isinstance(o, AudioBlock) and bool(o.samples.any()) for o in list(core.observations))

    try:
        for hop in range(1, 300):
            clock.advance(hop_ns)
            if 100 <= hop < 150:
                # Silence stands in meanwhile, for the time up to the newest that sound could be from.
                if hop >= 121:
                    end_ns = clock.now_ns() - delay_ns
                    wait_until(lambda end_ns=end_ns: core.observations[-1].time_ns == end_ns)
                continue
            sent += 1
            source.deliver(AudioBlock(480 * (hop - 1), clock.now_ns() - delay_ns, ones, 48_000))
            wait_until(lambda count=sent: heard() == count, "sound was taken for older than the silence")
    finally:
        runner.stop()
    times = [o.time_ns for o in core.observations]
    assert times == sorted(times)
    assert metrics.counter("audio_lost_episodes") == 1


class Slow(Source):
    """A device that takes its time to open."""

    def __init__(self, opening: Callable[[], None]) -> None:
        super().__init__()
        self.opening = opening

    def start(self, deliver: Deliver, report: Report) -> None:
        self.opening()
        super().start(deliver, report)


def test_nobody_misses_the_sound_of_a_device_that_is_being_opened() -> None:
    clock, core = VirtualClock(), Pulse()
    told: list[OutputEvent] = []

    def silence() -> int:
        return sum(len(o.samples) for o in list(core.observations) if isinstance(o, AudioBlock))

    def nothing(seconds: float) -> None:
        for _ in range(round(seconds * 20)):
            clock.advance(NS_PER_S // 20)
            before = silence()
            if clock.now_ns() > NS_PER_S // 5:
                wait_until(lambda least=before: silence() > least)

    source = Slow(lambda: nothing(1.0))
    scheduler = OutputScheduler(SessionClock(), [], Metrics(), Timing(NS_PER_S // 60, 0, 0))
    runner = LiveRunner(core, scheduler, [source], clock, Metrics(), on_events=told.extend)
    runner.start()
    try:
        assert silence() >= 40_000, "the dancer is on stage meanwhile"
        source.deliver(AudioBlock(0, clock.now_ns(), np.ones((480, 1), np.float32), 48_000))
        wait_until(lambda: any(isinstance(o, AudioBlock) and o.samples.any() for o in list(core.observations)))
        assert not any(isinstance(event, StatusEvent) for event in told)
        clock.advance(NS_PER_S // 5)
        nothing(0.1)
        wait_until(lambda: any(isinstance(event, StatusEvent) and "no sound" in event.message for event in told))
    finally:
        runner.stop()


class Absent(Source):
    """A sensor that cannot be opened."""

    def start(self, deliver: Deliver, report: Report) -> None:
        raise UserError("no such device", "plug it in")


def test_of_a_show_whose_device_cannot_be_opened_no_record_is_left(tmp_path: Path) -> None:
    def show(source: Source) -> LiveRunner:
        clock, metrics, recorder = SessionClock(), Metrics(), SessionRecorder(tmp_path / "night", ShowSettings())
        scheduler = OutputScheduler(clock, [], metrics, Timing(NS_PER_S // 60, 0, 0))
        return LiveRunner(Pulse(), scheduler, [source], clock, metrics, recorder, heartbeat=True)

    runner = show(Absent())
    with pytest.raises(UserError, match="no such device"):
        runner.start()
    runner.stop()
    assert not (tmp_path / "night").exists()
    runner = show(Source())
    runner.start()
    runner.stop()
    assert not Session(tmp_path / "night").cut_off


def test_a_device_that_raises_as_it_is_stopped_keeps_nothing_from_being_closed(tmp_path: Path) -> None:
    class Stuck(Source):
        def stop(self) -> None:
            raise RuntimeError("the driver is gone")

    clock, metrics, last = SessionClock(), Metrics(), Source()
    recorder = SessionRecorder(tmp_path / "a", ShowSettings())
    scheduler = OutputScheduler(clock, [], metrics, Timing(NS_PER_S // 60, 0, 0))
    before = set(threading.enumerate())
    runner = LiveRunner(Pulse(), scheduler, [Stuck(), last], clock, metrics, recorder, heartbeat=True)
    runner.start()
    runner.stop()
    assert last.stopped
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name in ("core", "output")]
    assert not Session(tmp_path / "a").cut_off


def test_a_recording_that_stops_is_told_once_and_the_show_goes_on(tmp_path: Path) -> None:
    clock, metrics, recorder = SessionClock(), Metrics(), SessionRecorder(tmp_path / "night", ShowSettings())
    drain = Drain()
    scheduler = OutputScheduler(clock, [drain], metrics, Timing(NS_PER_S // 60, 0, 0))
    core = Pulse()
    runner = LiveRunner(core, scheduler, [Source()], clock, metrics, recorder, heartbeat=True)
    runner.start()
    try:
        recorder.failure = "No space left on device"
        count = len(core.observations) + 5
        wait_until(lambda: len(core.observations) >= count)
        wait_until(lambda: any(isinstance(event, StatusEvent) for event in list(drain.events)))
    finally:
        runner.stop()
    told = [(e.component, e.level, e.message) for e in drain.events if isinstance(e, StatusEvent)]
    assert told == [("recorder", "error", "recording stopped: No space left on device; the show goes on")]


class Glance:
    """A core that notes the rank of the thread it is pushed on; then works without end, if told to."""

    def __init__(self) -> None:
        self.ranks: list[int] = []
        self.greedy = False

    def push(self, observation: Observation) -> list[OutputEvent]:
        self.ranks.append(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)
        if self.greedy:
            until = time.monotonic() + 0.05
            while time.monotonic() < until:
                pass
        return []


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="the system knows no such ranks")
@pytest.mark.parametrize("real_time", [True, False])
def test_core_and_output_ask_for_real_time_if_told_to_and_a_greedy_core_gives_it_back(
    real_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "ask_to_be_nice", lambda niceness: Rank.NICE)
    granted = _grants_real_time()
    clock, metrics, core = SessionClock(), Metrics(), Glance()
    scheduler = OutputScheduler(clock, [], metrics, Timing(NS_PER_S // 60, 0, 0))
    runner = LiveRunner(core, scheduler, [], clock, metrics, heartbeat=True, real_time=real_time)
    before = os.sched_getscheduler(0)
    runner.start()
    try:
        wait_until(lambda: len(core.ranks) >= 5)
        expected = os.SCHED_RR if real_time and granted else before & ~os.SCHED_RESET_ON_FORK
        assert set(core.ranks) == {expected}
        assert os.sched_getscheduler(0) == before
        output = next(thread.native_id for thread in threading.enumerate() if thread.name == "output")
        assert output is not None
        # It asks at its own first turn, whenever that is.
        wait_until(lambda: os.sched_getscheduler(output) & ~os.SCHED_RESET_ON_FORK == expected)
        core.greedy = True
        if real_time and granted:
            wait_until(lambda: metrics.counter("real_time_given_up") > 0)
        else:
            count = len(core.ranks) + 5
            wait_until(lambda: len(core.ranks) >= count)
            assert metrics.counter("real_time_given_up") == 0
    finally:
        runner.stop()


def _grants_real_time() -> bool:
    found: list[Rank] = []
    thread = threading.Thread(target=lambda: found.append(ask_for_real_time(1, inherited=False)))
    thread.start()
    thread.join()
    return found == [Rank.REAL_TIME]
