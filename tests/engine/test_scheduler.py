"""The scheduler under a virtual clock: times, order, lateness, failing bridges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.clock import VirtualClock
from engine.errors import Trouble
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

    def poses(self, performer: str | None = None) -> list[PoseFrame]:
        poses = [event for _, event in self.got if isinstance(event, PoseFrame)]
        return [frame for frame in poses if performer is None or frame.performer == performer]


def pose(time_ns: int, x: float = 0.0, performer: str = "") -> PoseFrame:
    return PoseFrame(time_ns, 0, np.zeros((24, 3)), np.array([x, 1.0, 0.0]), np.zeros(4), performer)


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


def test_who_never_comes_in_time_is_shown_late_and_who_does_again_in_time() -> None:
    stage = Stage()
    put_at = {n: FRAME * n + (60 * MS if 20 <= n < 150 else -30 * MS) for n in range(1, 300)}
    while stage.clock.now_ns() < 290 * FRAME:
        stage.clock.advance(MS)
        now_ns = stage.clock.now_ns()
        stage.scheduler.put([pose(FRAME * n, float(n)) for n, at_ns in put_at.items() if at_ns == now_ns])
        stage.scheduler.run_due()
    count = stage.metrics.counter
    assert count("fallen_behind") == 1
    told = [event.message for _, event in stage.listener.got if isinstance(event, StatusEvent)]
    assert told == ["poses come 60 ms too late and are shown late: raise output.lookahead_ms"]
    # Half a second is made up for; then the dance itself is shown, late; then it is in time again.
    assert 25 < count("frames_skipped") < 40
    assert count("frames_late") > 80
    assert count("frames_late") + count("frames_skipped") == 130
    last = [(at_ns - frame.time_ns) for at_ns, frame in stage.listener.got if isinstance(frame, PoseFrame)][-60:]
    assert set(last) == {0}


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


def test_panic_blackout_and_the_ends_of_notes_reach_a_bridge_that_has_failed() -> None:
    stage = Stage()
    listener, put = stage.listener, stage.scheduler.put

    def took() -> list[tuple[int, str | int]]:
        told: list[tuple[int, str | int]] = []
        for at_ns, event in listener.got:
            if isinstance(event, ControlEvent):
                told.append((at_ns // MS, f"{event.name} {event.value}"))
            elif isinstance(event, NoteEvent):
                told.append((at_ns // MS, event.pitch * (1 if event.velocity else -1)))
        return told

    # A fault of a moment: what may not be missed is not.
    listener.broken = True
    put([NoteEvent(10 * MS, 0, 0, 60, 100, MS)])
    stage.run_to(20 * MS)
    listener.broken = False
    put([ControlEvent(20 * MS, "energy", 0.7), ControlEvent(20 * MS, "blackout", 1.0)])
    stage.run_to(30 * MS)
    assert took() == [(21, "blackout 1.0")]
    put([ControlEvent(30 * MS, "blackout", 0.0), NoteEvent(40 * MS, 0, 0, 61, 100, MS)])
    stage.run_to(50 * MS)
    assert took()[1:] == [(31, "blackout 0.0"), (40, 61)], "and who takes that is left alone no longer"

    # A long one: the newest of each, in order, as soon as it takes something again; of a note that it missed nothing.
    listener.got.clear()
    listener.broken = True
    for second in range(1, 31):
        put([NoteEvent(second * 1000 * MS, 0, 0, 61, 100, MS)])
    put([NoteEvent(20_000 * MS, 0, 0, 61, 0, 0)])
    stage.run_to(20_500 * MS)
    put([ControlEvent(20_500 * MS, "blackout", 1.0), ControlEvent(20_500 * MS, "panic")])
    stage.run_to(20_600 * MS)
    put([ControlEvent(20_600 * MS, "blackout", 0.0), ControlEvent(20_600 * MS, "hold", 1.0)])
    put([pose(index * FRAME) for index in range(1300, 1320)])
    stage.run_to(20_700 * MS)
    listener.broken = False
    stage.run_to(22_000 * MS)
    assert [what for _, what in took()] == [-61, "panic None", "blackout 0.0"]
    assert took()[0][0] <= 20_700 + 250 + FRAME // MS


def test_a_bridge_that_goes_on_is_heard_by_the_operator_and_not_left_alone() -> None:
    stage = Stage()
    told: list[StatusEvent] = []
    takes = stage.listener.send

    def send(event: OutputEvent) -> None:
        takes(event)
        if len(stage.listener.got) == 3:
            raise Trouble("the disk is full")

    stage.listener.send = send  # type: ignore[method-assign]
    stage.scheduler.start(on_status=told.extend)
    stage.scheduler.stop()
    for i in range(20):
        stage.scheduler.put([pose(i * FRAME)])
    stage.run_to(19 * FRAME)
    assert len(stage.listener.poses()) == 20
    assert [(event.component, event.level, event.message) for event in told] == [
        ("listener", "error", "the disk is full")
    ]
    assert told == [event for _, event in stage.listener.got if isinstance(event, StatusEvent)]


def test_memory_is_bounded_when_nothing_is_sent() -> None:
    stage = Stage()
    for i in range(30):
        stage.scheduler.put([pose(10**12 + i * 1000 + j) for j in range(1000)])
    assert stage.metrics.counter("output_dropped") == 10_000


def test_a_panic_outlasts_an_output_that_hung_for_minutes() -> None:
    stage = Stage()
    stage.scheduler.put([ControlEvent(0, "panic"), ControlEvent(0, "blackout", 1.0)])
    for i in range(30):
        stage.scheduler.put([pose(10**9 + i * 1000 + j) for j in range(1000)])
    stage.scheduler.put([ControlEvent(0, "blackout", 0.0)] * 20_100)
    stage.scheduler.run_due()
    controls = [event for _, event in stage.listener.got if isinstance(event, ControlEvent)]
    assert controls[:2] == [ControlEvent(0, "panic"), ControlEvent(0, "blackout", 1.0)]
    assert controls[-1] == ControlEvent(0, "blackout", 0.0)
    assert len(controls) <= 20_000


def shown(listener: Listener, performer: str) -> list[tuple[int, int, bytes]]:
    """Return when what was shown of a performer."""
    return [
        (sent_ns, event.time_ns, event.rotations.tobytes() + event.translation_m.tobytes())
        for sent_ns, event in listener.got
        if isinstance(event, PoseFrame) and event.performer == performer
    ]


def test_of_each_performer_the_newest_overdue_pose_is_sent() -> None:
    stage = Stage()
    stage.clock.advance(100 * MS)
    duet = [pose(time_ns * MS, performer=who) for who in ("", "partner", "1") for time_ns in (20, 36, 52)]
    stage.scheduler.put([*duet, pose(68 * MS, performer="1"), ClockEvent(36 * MS, 0, 0.5, 0.5, 120.0, 1.0)])
    stage.scheduler.put([ClockEvent(52 * MS, 0, 1.0, 0.0, 120.0, 1.0)])
    stage.scheduler.run_due()
    assert {frame.performer: frame.time_ns // MS for frame in stage.listener.poses()} == {
        "": 52,
        "partner": 52,
        "1": 68,
    }
    clocks = [event.time_ns // MS for _, event in stage.listener.got if isinstance(event, ClockEvent)]
    assert clocks == [52], "the lead's newest pose keeps its clock, however new the others are"
    assert stage.metrics.counter("frames_skipped") == 2 + 2
    assert stage.metrics.counter("crowd_frames_skipped") == 3, "what the crowd misses is not the show's"


def test_a_duet_is_two_solos() -> None:
    """Lateness, stalls and what fills them in are each performer's own."""

    def solo(frames: list[PoseFrame], jitter_ms: list[int]) -> list[tuple[int, PoseFrame]]:
        return [(frame.time_ns - ahead * MS, frame) for frame, ahead in zip(frames, jitter_ms, strict=True)]

    random = np.random.default_rng(5)
    parts: dict[str, list[tuple[int, PoseFrame]]] = {}
    for who, offset in (("", 0), ("partner", 5 * MS)):
        times = [offset + index * FRAME for index in range(120) if not (30 < index < 45 and who)]
        frames = [pose(time_ns, float(random.normal()), who) for time_ns in times]
        parts[who] = solo(frames, [int(ms) for ms in random.integers(-40, 60, len(frames))])

    def run(whose: list[str]) -> Stage:
        stage = Stage()
        coming = sorted((entry for who in whose for entry in parts[who]), key=lambda entry: entry[0])
        while stage.clock.now_ns() < 130 * FRAME:
            while coming and coming[0][0] <= stage.clock.now_ns():
                stage.scheduler.put([coming.pop(0)[1]])
            stage.scheduler.run_due()
            stage.clock.advance(MS)
        return stage

    both = run(["", "partner"])
    late = 0
    for who in ("", "partner"):
        alone = run([who])
        assert len(shown(alone.listener, who)) > 60
        assert shown(both.listener, who) == shown(alone.listener, who)
        late += alone.metrics.counter("late_episodes")
    assert both.metrics.counter("late_episodes") == late > 0
    assert {frame.performer for frame in both.listener.poses()} == {"", "partner"}, "stand-ins keep their names"


def test_who_is_seen_by_a_camera_is_never_invented() -> None:
    stage = Stage(latency_ns=20 * MS)
    lead = [pose(index * FRAME, 0.01 * index) for index in range(60)]
    seen = [pose(index * 33 * MS, 0.01 * index, "camera") for index in range(1, 10)]
    stage.scheduler.put([*lead, *seen])
    stage.run_to(50 * FRAME)
    assert [frame.time_ns for frame in stage.listener.poses("camera")] == [frame.time_ns for frame in seen]
    stage.scheduler.put([pose(200 * MS, performer="camera")])  # one that lost its way
    stage.run_to(51 * FRAME)
    assert len(stage.listener.poses("camera")) == len(seen)
    assert stage.metrics.counter("observed_skipped") == 1
    assert stage.metrics.counter("late_episodes") == stage.metrics.counter("frames_carried") == 0


def test_without_a_lead_the_newest_clock_is_sent() -> None:
    stage = Stage()
    stage.clock.advance(100 * MS)
    clocks = [ClockEvent(time_ns * MS, 0, time_ns / 500, 0.0, 120.0, 1.0) for time_ns in (40, 60, 80)]
    stage.scheduler.put([*clocks, pose(90 * MS, performer="camera")])
    stage.scheduler.run_due()
    assert [event.time_ns for _, event in stage.listener.got] == [80 * MS, 90 * MS]


def test_panic_takes_back_the_notes_that_are_still_to_come() -> None:
    stage = Stage()

    def note(time_ms: int) -> NoteEvent:
        return NoteEvent(time_ms * MS, 0, 0, 60, 100, 1)

    stage.scheduler.put([note(20), note(60), pose(64 * MS)])
    stage.run_to(40 * MS)
    stage.scheduler.put([note(70), ControlEvent(40 * MS, "panic"), note(80)])
    stage.run_to(200 * MS)
    notes = [event.time_ns // MS for _, event in stage.listener.got if isinstance(event, NoteEvent)]
    assert notes == [20, 80], "what is composed after it is played"
    assert stage.listener.poses()


def test_on_panic_the_ends_leave_at_once() -> None:
    stage = Stage()

    def note(time_ms: int, pitch: int, velocity: int) -> NoteEvent:
        return NoteEvent(time_ms * MS, 0, 0, pitch, velocity, 1)

    # One sounds and its end waits; the next waits. Then, as the core says it: the ends, and the panic.
    stage.scheduler.put([note(20, 40, 100), note(90, 40, 0), note(90, 43, 100)])
    stage.run_to(40 * MS)
    stage.scheduler.put([note(91, 43, 0), ControlEvent(40 * MS, "panic")])
    stage.run_to(200 * MS)
    notes = [(sent // MS, e.pitch, e.velocity) for sent, e in stage.listener.got if isinstance(e, NoteEvent)]
    assert notes == [(20, 40, 100), (41, 40, 0), (41, 43, 0)]


class Ahead(Listener):
    """A bridge that times notes itself."""

    note_lead_ns = 20 * MS

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.ahead: list[tuple[int, int, NoteEvent]] = []

    def send_ahead(self, event: NoteEvent, at_ns: int) -> None:
        if self.broken:
            raise OSError("unplugged")
        self.ahead.append((self.clock.now_ns(), at_ns, event))


def test_who_times_notes_itself_is_given_them_ahead() -> None:
    clock, metrics = VirtualClock(), Metrics()
    plain, early = Listener(clock), Ahead(clock)
    scheduler = OutputScheduler(clock, [plain, early], metrics, Timing(FRAME, 10 * MS, 0))
    notes = [NoteEvent(time_ms * MS, 0, 0, 60, 100, 1) for time_ms in (100, 130, 15, 190)]
    scheduler.put([*notes, pose(110 * MS)])

    def run_to(time_ms: int) -> None:
        while clock.now_ns() < time_ms * MS:
            scheduler.run_due()
            clock.advance(MS)

    run_to(140)
    assert [(now // MS, at // MS) for now, at, _ in early.ahead] == [(0, 5), (70, 90), (100, 120)]
    assert [event.time_ns // MS for _, event in plain.got if isinstance(event, NoteEvent)] == [15, 100, 130]
    assert not any(isinstance(event, NoteEvent) for _, event in early.got)
    assert len(early.poses()) == len(plain.poses()) == 1
    scheduler.put([NoteEvent(180 * MS, 0, 0, 60, 0, 0), ControlEvent(140 * MS, "panic")])
    run_to(300)
    assert len(early.ahead) == 3, "panic takes back what is still to be handed over, and its ends: it ends all itself"
    early.broken = True
    scheduler.put([NoteEvent(400 * MS, 0, 0, 61, 100, 1)])
    run_to(420)
    assert metrics.counter("bridge_errors") == 1
    assert plain.got[-1] == (390 * MS, NoteEvent(400 * MS, 0, 0, 61, 100, 1)), "the others do not notice"


def test_who_does_not_fill_in_sends_nothing_that_was_not_made() -> None:
    clock, metrics = VirtualClock(), Metrics()
    listener = Listener(clock)
    scheduler = OutputScheduler(clock, [listener], metrics, Timing(FRAME, 0, 0), fills_in=False)
    times = [index * FRAME for index in (0, 1, 2, 9)]
    for time_ns in times:
        while clock.now_ns() < time_ns:
            clock.advance(MS)
            scheduler.run_due()
        scheduler.put([pose(time_ns, performer="7")])
        scheduler.run_due()
    assert [frame.time_ns for frame in listener.poses("7")] == times
    assert metrics.counters == {"crowd_frames": 4}
