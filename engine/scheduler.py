"""Sends every output event at its time: the only place where presentation time meets the clock."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from engine.clock import Clock
from engine.controls import STATES
from engine.dancing.stand_in import StandIn
from engine.errors import Trouble
from engine.metrics import Metrics
from engine.protocols import Bridge, NoteAhead
from engine.types import NS_PER_S, BeatEvent, ClockEvent, ControlEvent, NoteEvent, OutputEvent, PoseFrame, StatusEvent

# With nothing in the queue the thread looks again this often; the core wakes it sooner.
_IDLE_NS = 20_000_000
# A bridge that fails is left alone for this long, doubling up to the last; but for the first only while it is owed what
# puts a stage out.
_RETRY_NS, _RETRY_MAX_NS = 250_000_000, 8 * NS_PER_S
_MAX_QUEUED = 20_000
# So many panics and blackouts among them are kept; more no hand has struck.
_MAX_STATES = 100
# Poses that come too late for their moment are made up for; but a dancer who has been made up for so long and still
# comes too late is better shown late than never.
_OVERTAKEN_NS = NS_PER_S // 2
# The thread ends after what it is sending; only a bridge that hangs holds it up for so long.
_END_S = 10.0
# Who is seen and not made: shown as they come, at the camera's own rate. When nobody is seen, nobody is invented.
_OBSERVED = frozenset({"camera"})


@dataclass(frozen=True, slots=True)
class Timing:
    """How far ahead of presentation events leave.

    Attributes:
        frame_ns: presentation interval of poses.
        latency_ns: delay of what follows the bridges.
        beat_lead_ns: further lead of BeatEvents.
    """

    frame_ns: int
    latency_ns: int
    beat_lead_ns: int


@dataclass(slots=True)
class _Pace:
    """Where one performer's poses have come to, and under which name they are counted."""

    counted_as: str
    stand_in: StandIn = field(default_factory=StandIn)
    next_frame_ns: int | None = None
    """When the next pose is expected; None: nothing is (who is observed is never expected)."""
    shown_ns: int | None = None
    stalled: bool = False
    overtaken_ns: int | None = None
    """Since when every pose has come after its moment was filled by carrying on."""
    lag_ns: int = 0
    """How late the poses are taken to come, where they never come in time."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A note on its way to the bridges that time it themselves."""

    note: NoteEvent


class OutputScheduler:
    """A queue ordered by send time, and the rules for being late.

    Each performer has a pace of their own. Of several overdue poses of one performer only the newest is sent. When no
    pose has come for its time, that performer's last motion is carried on, so that the output never stops; each such
    stretch is counted once, as an episode. Where no pose comes in time any more, they are shown late. A bridge that
    raises is counted, left alone for a while, and tried again; the others do not notice. Panic and blackout it is told
    all the same, and if it cannot take them, before all else when it can; so it is with the ends of notes.

    Args:
        clock: session time.
        bridges: open.
        metrics: counts poses and times.
        timing: how far ahead events leave.
        fills_in: carry on who is late. Not for who computes on the same core: filling in costs more than a pose.

    Threads: `put` by any; `run_due` by one (the output thread in `start`, or a test with a virtual clock).
    """

    def __init__(
        self, clock: Clock, bridges: Sequence[Bridge], metrics: Metrics, timing: Timing, fills_in: bool = True
    ) -> None:
        self._clock = clock
        self._bridges = list(bridges)
        self._metrics = metrics
        self._timing = timing
        self._fills_in = fills_in
        self._ahead = {index: bridge for index, bridge in enumerate(bridges) if isinstance(bridge, NoteAhead)}
        self._note_lead_ns = max((bridge.note_lead_ns for bridge in self._ahead.values()), default=0)
        self._queue: list[tuple[int, int, OutputEvent | _Ahead]] = []
        self._order = itertools.count()
        self._condition = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._paces: dict[str, _Pace] = {}
        self._retry_at: dict[int, int] = {}
        self._backoff: dict[int, int] = {}
        self._owed: list[dict[object, Callable[[], None]]] = [{} for _ in bridges]
        """What each bridge must still be told, whatever else it misses: the newest of each, in order."""
        self._on_status: Callable[[Sequence[StatusEvent]], None] | None = None

    def put(self, events: Iterable[OutputEvent]) -> None:
        """Add events to be sent at their times.

        A panic takes back the notes that are still to come. Their ends, and those of notes that sound, leave at once;
        who times notes itself ends them by itself.
        """
        with self._condition:
            for event in events:
                if isinstance(event, ControlEvent) and event.name == "panic":
                    self._end_notes()
                send_ns = self._send_time(event)
                if self._ahead and isinstance(event, NoteEvent):
                    heapq.heappush(self._queue, (send_ns - self._note_lead_ns, next(self._order), _Ahead(event)))
                heapq.heappush(self._queue, (send_ns, next(self._order), event))
            if len(self._queue) > _MAX_QUEUED:
                self._drop_oldest()
            self._condition.notify()

    def start(
        self,
        each_turn: Callable[[], object] | None = None,
        on_status: Callable[[Sequence[StatusEvent]], None] | None = None,
    ) -> None:
        """Start the output thread.

        Args:
            each_turn: called on it, often.
            on_status: called on it with what is sent to the bridges of how sending goes.
        """
        self._on_status = on_status
        self._thread = threading.Thread(target=self._run, args=(each_turn,), name="output", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; events not yet due are dropped. Bridges are closed by their owner."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(timeout=_END_S)

    def _end_notes(self) -> None:
        """Take back the notes of the queue, and let the ends among them leave at once."""
        kept: list[tuple[int, int, OutputEvent | _Ahead]] = []
        for send_ns, order, event in self._queue:
            if isinstance(event, NoteEvent) and event.velocity == 0:
                kept.append((0, order, event))
            elif not isinstance(event, NoteEvent | _Ahead):
                kept.append((send_ns, order, event))
        heapq.heapify(kept)
        self._queue = kept

    def _drop_oldest(self) -> None:
        """Make room. Only if the output thread has been gone for minutes: memory must not grow."""
        kept: list[tuple[int, int, OutputEvent | _Ahead]] = []
        while len(self._queue) + len(kept) > _MAX_QUEUED:
            oldest = heapq.heappop(self._queue)
            if isinstance(oldest[2], ControlEvent) and oldest[2].name in STATES and len(kept) < _MAX_STATES:
                kept.append(oldest)
            else:
                self._metrics.count("output_dropped")
        for entry in kept:
            heapq.heappush(self._queue, entry)

    def _send_time(self, event: OutputEvent) -> int:
        timing = self._timing
        if isinstance(event, PoseFrame | ClockEvent | NoteEvent):
            return event.time_ns - timing.latency_ns
        if isinstance(event, BeatEvent):
            return event.time_ns - timing.latency_ns - timing.beat_lead_ns
        return 0

    def _run(self, each_turn: Callable[[], object] | None) -> None:
        while True:
            if each_turn is not None:
                each_turn()
            with self._condition:
                if self._stopping:
                    return
                due_ns = self._due_ns()
                if due_ns is None:
                    self._condition.wait(_IDLE_NS / NS_PER_S)
                    continue
                wait_ns = due_ns - self._clock.now_ns()
                if wait_ns > 2_000_000:
                    # Something earlier may be put meanwhile, so not longer than the condition can cut short.
                    self._condition.wait((wait_ns - 1_500_000) / NS_PER_S)
                    continue
            self._clock.sleep_until(due_ns)
            self.run_due()

    def _due_ns(self) -> int | None:
        """Return when something is next to be done: an event, or a pose that is missing; None: nothing is."""
        times = [missing_ns for pace in self._paces.values() if (missing_ns := self._missing_ns(pace)) is not None]
        if self._queue:
            times.append(self._queue[0][0])
        return min(times, default=None)

    def _missing_ns(self, pace: _Pace) -> int | None:
        """Return when a performer's next pose is missing: half a frame after it is to come; None: none is expected."""
        if pace.next_frame_ns is None:
            return None
        return pace.next_frame_ns - self._timing.latency_ns + self._timing.frame_ns // 2 + pace.lag_ns

    def run_due(self) -> None:
        """Send everything that is due now."""
        now_ns = self._clock.now_ns()
        with self._condition:
            due: list[tuple[int, OutputEvent | _Ahead]] = []
            while self._queue and self._queue[0][0] <= now_ns:
                send_ns, _, event = heapq.heappop(self._queue)
                due.append((send_ns, event))
        newest: dict[str, int] = {}
        for _, event in due:
            if isinstance(event, PoseFrame):
                newest[event.performer] = max(event.time_ns, newest.get(event.performer, event.time_ns))
        newest_clock_ns = _newest_clock_ns(due, newest)
        for send_ns, event in due:
            if isinstance(event, PoseFrame):
                if event.time_ns < newest[event.performer]:
                    self._metrics.count(f"{_counted_as(event.performer)}_skipped")
                else:
                    self._send_pose(event, send_ns, now_ns)
            elif isinstance(event, _Ahead):
                self._send_ahead(event.note)
            elif not isinstance(event, ClockEvent) or event.time_ns >= newest_clock_ns:
                self._send(event)
        for pace in self._paces.values():
            self._carry_on(pace, now_ns)

    def _send_pose(self, frame: PoseFrame, send_ns: int, now_ns: int) -> None:
        pace = self._paces.setdefault(frame.performer, _Pace(_counted_as(frame.performer)))
        if frame.performer in _OBSERVED:
            self._send_observed(pace, frame)
            return
        if pace.next_frame_ns is not None and frame.time_ns < pace.next_frame_ns - self._timing.frame_ns // 2:
            # Its moment was filled by carrying on.
            pace.overtaken_ns = now_ns if pace.overtaken_ns is None else pace.overtaken_ns
            if now_ns - pace.overtaken_ns < _OVERTAKEN_NS:
                self._metrics.count(f"{pace.counted_as}_skipped")
                return
            self._fall_behind(pace, now_ns - send_ns, now_ns)
        elif now_ns - send_ns <= self._timing.frame_ns // 2:
            pace.lag_ns = 0
        pace.overtaken_ns = None
        pace.stalled = False
        if self._fills_in:
            pace.next_frame_ns = frame.time_ns + self._timing.frame_ns
        self._send(pace.stand_in.see(frame))
        sent_ns = self._clock.now_ns()
        self._metrics.count(pace.counted_as)
        if now_ns - send_ns > self._timing.frame_ns // 2:
            self._metrics.count(f"{pace.counted_as}_late")
        if pace.counted_as != "frames":
            return
        self._metrics.histogram("output_jitter").add(now_ns - send_ns)
        self._metrics.histogram("output_send").add(sent_ns - now_ns)
        self._metrics.histogram("sample_to_output").add(sent_ns - frame.source_ns)

    def _fall_behind(self, pace: _Pace, lag_ns: int, now_ns: int) -> None:
        """From now on take it that a performer's poses come so late."""
        pace.lag_ns = lag_ns
        if pace.counted_as == "frames":
            self._metrics.count("fallen_behind")
            message = f"poses come {lag_ns / 1e6:.0f} ms too late and are shown late: raise output.lookahead_ms"
            self._tell(StatusEvent(now_ns, "output", "warning", message))

    def _send_observed(self, pace: _Pace, frame: PoseFrame) -> None:
        """Pass on a pose that was seen; late is late, but never backwards."""
        if pace.shown_ns is not None and frame.time_ns <= pace.shown_ns:
            self._metrics.count("observed_skipped")
            return
        pace.shown_ns = frame.time_ns
        self._send(frame)
        self._metrics.count("observed")
        self._metrics.histogram("observed_to_output").add(self._clock.now_ns() - frame.source_ns)

    def _carry_on(self, pace: _Pace, now_ns: int) -> None:
        """Fill in for a pose that has not come although half a frame has passed since its time."""
        expected, missing_ns = pace.next_frame_ns, self._missing_ns(pace)
        if expected is None or missing_ns is None or now_ns < missing_ns:
            return
        frame = pace.stand_in.carry(expected)
        pace.next_frame_ns = expected + self._timing.frame_ns
        if frame is None:
            return
        if not pace.stalled:
            pace.stalled = True
            if pace.counted_as == "frames":
                self._metrics.count("late_episodes")
        self._metrics.count(f"{pace.counted_as}_carried")
        self._send(frame)

    def _send(self, event: OutputEvent) -> None:
        owed_as = _owed_as(event)
        for index, bridge in enumerate(self._bridges):
            if isinstance(event, NoteEvent) and index in self._ahead:
                continue
            self._try(index, partial(bridge.send, event), owed_as)

    def _send_ahead(self, note: NoteEvent) -> None:
        at_ns = self._send_time(note)
        for index, bridge in self._ahead.items():
            self._try(index, partial(bridge.send_ahead, note, at_ns), _owed_as(note))

    def _try(self, index: int, send: Callable[[], None], owed_as: object) -> None:
        owed = self._owed[index]
        if owed_as is not None:
            owed.pop(owed_as, None)
            owed[owed_as] = send
        if self._retry_at.get(index, 0) > self._clock.now_ns() and owed_as not in STATES:
            return
        for key in list(owed):
            if not self._takes(index, owed[key]):
                return
            del owed[key]
        if owed_as is None:
            self._takes(index, send)

    def _takes(self, index: int, send: Callable[[], None]) -> bool:
        """Send; return whether the bridge has taken it."""
        try:
            send()
        except Trouble as trouble:
            self._tell(StatusEvent(self._clock.now_ns(), self._bridges[index].name, "error", str(trouble)))
        except Exception as error:  # on stage nothing raises; the other bridges go on
            self._fail(index, error)
            return False
        self._backoff.pop(index, None)
        self._retry_at.pop(index, None)
        return True

    def _fail(self, index: int, error: Exception) -> None:
        backoff = min(2 * self._backoff.get(index, _RETRY_NS // 2), _RETRY_MAX_NS)
        first = index not in self._backoff
        self._backoff[index] = backoff
        now_ns = self._clock.now_ns()
        self._retry_at[index] = now_ns + (_RETRY_NS if STATES & self._owed[index].keys() else backoff)
        self._metrics.count("bridge_errors")
        if first:
            message = f"{type(error).__name__}: {error}; trying again"
            self._tell(StatusEvent(now_ns, self._bridges[index].name, "error", message))

    def _tell(self, status: StatusEvent) -> None:
        self.put([status])
        if self._on_status is not None:
            self._on_status([status])


def _owed_as(event: OutputEvent) -> object:
    """Return under which name a bridge that cannot take an event is owed it; None: it may miss it."""
    if isinstance(event, ControlEvent) and event.name in STATES:
        return event.name
    if isinstance(event, NoteEvent) and event.velocity == 0:
        return event.channel, event.pitch
    return None


def _counted_as(performer: str) -> str:
    """Return under which name a performer's frames are counted: the crowd's lateness is not the show's."""
    return "crowd_frames" if performer.isdecimal() else "frames"


def _newest_clock_ns(due: Sequence[tuple[int, OutputEvent | _Ahead]], newest: Mapping[str, int]) -> int:
    """Return the time before which overdue ClockEvents are of no use: the lead's newest pose brings its own clock.

    Where only others are shown, at paces of their own, it is the newest clock.
    """
    if not newest:
        return -(2**62)
    if "" in newest:
        return newest[""]
    return max((event.time_ns for _, event in due if isinstance(event, ClockEvent)), default=0)
