"""Sends every output event at its time: the only place where presentation time meets the clock."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.clock import Clock
from engine.metrics import Metrics
from engine.protocols import Bridge
from engine.stand_in import StandIn
from engine.types import NS_PER_S, BeatEvent, ClockEvent, NoteEvent, OutputEvent, PoseFrame, StatusEvent

# With nothing in the queue the thread looks again this often; the core wakes it sooner.
_IDLE_NS = 20_000_000
# A bridge that fails is left alone for this long, doubling up to the last.
_RETRY_NS, _RETRY_MAX_NS = 250_000_000, 8 * NS_PER_S
_MAX_QUEUED = 20_000


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


class OutputScheduler:
    """A queue ordered by send time, and the rules for being late.

    Of several overdue poses only the newest is sent. When no pose has come for its time, the last motion is carried
    on, so that the output never stops; each such stretch is counted once, as an episode. A bridge that raises is
    counted, left alone for a while, and tried again; the others do not notice.

    Threads: `put` by any; `run_due` by one (the output thread in `start`, or a test with a virtual clock).
    """

    def __init__(self, clock: Clock, bridges: Sequence[Bridge], metrics: Metrics, timing: Timing) -> None:
        self._clock = clock
        self._bridges = list(bridges)
        self._metrics = metrics
        self._timing = timing
        self._queue: list[tuple[int, int, OutputEvent]] = []
        self._order = itertools.count()
        self._condition = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._stand_in = StandIn()
        self._next_frame_ns: int | None = None
        self._stalled = False
        self._retry_at: dict[int, int] = {}
        self._backoff: dict[int, int] = {}

    def put(self, events: Iterable[OutputEvent]) -> None:
        """Add events to be sent at their times."""
        with self._condition:
            for event in events:
                heapq.heappush(self._queue, (self._send_time(event), next(self._order), event))
            while len(self._queue) > _MAX_QUEUED:
                # Only if the output thread has been gone for minutes: memory must not grow.
                heapq.heappop(self._queue)
                self._metrics.count("output_dropped")
            self._condition.notify()

    def start(self) -> None:
        """Start the output thread."""
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; events not yet due are dropped. Bridges are closed by their owner."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _send_time(self, event: OutputEvent) -> int:
        timing = self._timing
        if isinstance(event, PoseFrame | ClockEvent | NoteEvent):
            return event.time_ns - timing.latency_ns
        if isinstance(event, BeatEvent):
            return event.time_ns - timing.latency_ns - timing.beat_lead_ns
        return 0

    def _run(self) -> None:
        while True:
            with self._condition:
                if self._stopping:
                    return
                if not self._queue and self._next_frame_ns is None:
                    self._condition.wait(_IDLE_NS / NS_PER_S)
                    continue
                due_ns = self._due_ns()
                wait_ns = due_ns - self._clock.now_ns()
                if wait_ns > 2_000_000:
                    # Something earlier may be put meanwhile, so not longer than the condition can cut short.
                    self._condition.wait((wait_ns - 1_500_000) / NS_PER_S)
                    continue
            self._clock.sleep_until(due_ns)
            self.run_due()

    def _due_ns(self) -> int:
        """Return when something is next to be done: an event, or a pose that is missing."""
        due = self._queue[0][0] if self._queue else 2**62
        if self._next_frame_ns is not None:
            due = min(due, self._next_frame_ns - self._timing.latency_ns + self._timing.frame_ns // 2)
        return due

    def run_due(self) -> None:
        """Send everything that is due now."""
        now_ns = self._clock.now_ns()
        with self._condition:
            due: list[tuple[int, OutputEvent]] = []
            while self._queue and self._queue[0][0] <= now_ns:
                send_ns, _, event = heapq.heappop(self._queue)
                due.append((send_ns, event))
        newest = max((event.time_ns for _, event in due if isinstance(event, PoseFrame)), default=None)
        for send_ns, event in due:
            if isinstance(event, PoseFrame | ClockEvent) and newest is not None and event.time_ns < newest:
                if isinstance(event, PoseFrame):
                    self._metrics.count("frames_skipped")
                continue
            if isinstance(event, PoseFrame):
                self._send_pose(event, send_ns, now_ns)
            else:
                self._send(event)
        self._carry_on(now_ns)

    def _send_pose(self, frame: PoseFrame, send_ns: int, now_ns: int) -> None:
        if self._next_frame_ns is not None and frame.time_ns < self._next_frame_ns - self._timing.frame_ns // 2:
            self._metrics.count("frames_skipped")  # its moment was filled by carrying on
            return
        self._stalled = False
        self._next_frame_ns = frame.time_ns + self._timing.frame_ns
        self._send(self._stand_in.see(frame))
        sent_ns = self._clock.now_ns()
        self._metrics.count("frames")
        self._metrics.histogram("output_jitter").add(now_ns - send_ns)
        self._metrics.histogram("output_send").add(sent_ns - now_ns)
        self._metrics.histogram("sample_to_output").add(sent_ns - frame.source_ns)
        if now_ns - send_ns > self._timing.frame_ns // 2:
            self._metrics.count("frames_late")

    def _carry_on(self, now_ns: int) -> None:
        """Fill in for a pose that has not come although half a frame has passed since its time."""
        expected = self._next_frame_ns
        if expected is None or now_ns < expected - self._timing.latency_ns + self._timing.frame_ns // 2:
            return
        frame = self._stand_in.carry(expected)
        self._next_frame_ns = expected + self._timing.frame_ns
        if frame is None:
            return
        if not self._stalled:
            self._stalled = True
            self._metrics.count("late_episodes")
        self._metrics.count("frames_carried")
        self._send(frame)

    def _send(self, event: OutputEvent) -> None:
        for index, bridge in enumerate(self._bridges):
            if self._retry_at.get(index, 0) > self._clock.now_ns():
                continue
            try:
                bridge.send(event)
                self._backoff.pop(index, None)
            except Exception as error:  # on stage nothing raises; the other bridges go on
                self._fail(index, error)

    def _fail(self, index: int, error: Exception) -> None:
        backoff = min(2 * self._backoff.get(index, _RETRY_NS // 2), _RETRY_MAX_NS)
        first = index not in self._backoff
        self._backoff[index] = backoff
        now_ns = self._clock.now_ns()
        self._retry_at[index] = now_ns + backoff
        self._metrics.count("bridge_errors")
        if first:
            message = f"{type(error).__name__}: {error}; trying again"
            self.put([StatusEvent(now_ns, self._bridges[index].name, "error", message)])
