"""Landmarks of live pictures: the landmarker in a process of its own, watched over and restarted.

Newest wins: the process has at most one picture in work and one waiting, and a newer picture replaces the one that
waits. Nothing here ever makes the engine wait for a picture, a model or a process.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from typing import NamedTuple

import numpy as np

from engine.clock import Clock
from engine.errors import UserError
from engine.metrics import Histogram, Metrics
from engine.protocols import Deliver, Report
from engine.seeing import worker_process
from engine.seeing.landmarker import landmarker_path
from engine.seeing.opencv import LONGEST_SIDE, Image, shrink
from engine.seeing.people import PersonTracker, nobody
from engine.settings import CameraSettings
from engine.types import NS_PER_S, StatusEvent

_LARGEST_BYTES = LONGEST_SIDE * LONGEST_SIDE * 3
_STALL_S = 1.0
"""A picture takes 10 to 50 ms; a process that is silent for so long hangs."""
_LOADING_S = 30.0
"""Loading the library and the model takes two seconds, on a cold and busy machine several."""
_RETRY_S = (0.25, 0.5, 1.0, 2.0, 5.0)
_HEALTHY_S = 10.0
"""After so long without a failure the pauses begin small again."""
_REPORT_EVERY_NS = 10 * NS_PER_S


class _Waiting(NamedTuple):
    """A picture that waits for its turn."""

    image: Image
    time_ns: int


class PoseWatcher:
    """Finds the dancer in pictures that arrive live, outside the engine's process.

    Threads: `show` by one thread, `start` and `stop` by another; `deliver` and `report` are called on one of its own.

    Args:
        settings: model, number of people, whom to follow.
        clock: session time.
        metrics: gets the histograms `pose_latency` (from capture to landmarks) and `pose` (the model alone), and the
            counters `pose_frames`, `pose_dropped`, `pose_restarts`.

    Attributes:
        frames: pictures looked at.
        dropped: pictures that a newer one replaced before they were looked at.
        restarts: times the process was started anew.
    """

    def __init__(self, settings: CameraSettings, clock: Clock, metrics: Metrics | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._tracker = PersonTracker(settings.person)
        self.frames = 0
        self.dropped = 0
        self.restarts = 0
        self._first_ns = self._last_ns = 0
        self._context = multiprocessing.get_context("spawn")
        self._memory: SharedMemory | None = None
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()
        self._waiting: _Waiting | None = None
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._reported_ns = 0
        self._deliver: Deliver
        self._report: Report

    @property
    def latency(self) -> Histogram:
        """Durations from a picture's capture to its landmarks."""
        return self._metrics.histogram("pose_latency")

    @property
    def rate_hz(self) -> float:
        """Pictures looked at per second since the first; 0 before the second."""
        passed = self._last_ns - self._first_ns
        return (self.frames - 1) * NS_PER_S / passed if passed > 0 else 0.0

    @property
    def pid(self) -> int | None:
        """Process id of the landmarker now, None while there is none."""
        process = self._process
        return process.pid if process is not None else None

    def start(self, deliver: Deliver, report: Report) -> None:
        """Start the process and wait until its model is loaded.

        Raises:
            UserError: MediaPipe or the model is missing, or it does not come up.
        """
        self._deliver, self._report = deliver, report
        path = landmarker_path(self._settings)
        self._stopping.clear()
        self._tracker.reset()
        self._memory = SharedMemory(create=True, size=_LARGEST_BYTES)
        try:
            self._launch(str(path))
            self._await_ready()
        except UserError:
            self._end_process()
            self._release()
            raise
        self._thread = threading.Thread(target=self._watch, args=(str(path),), name="pose watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the process and release its memory; idempotent."""
        self._stopping.set()
        self._news.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)
            self._thread = None
        self._end_process()
        self._release()

    def show(self, image: Image, time_ns: int) -> None:
        """Take a picture (height, width, 3) captured at `time_ns`; returns at once. It must not be changed later."""
        waiting = _Waiting(shrink(image), time_ns)
        with self._lock:
            if self._waiting is not None:
                self.dropped += 1
                self._metrics.count("pose_dropped")
            self._waiting = waiting
        self._news.set()

    @property
    def idle(self) -> bool:
        """Whether the last picture shown has been taken up (for a source that can wait)."""
        return self._waiting is None

    def _launch(self, bundle: str) -> None:
        assert self._memory is not None
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self._memory.name, bundle, self._settings.people)
        process = self._context.Process(target=worker_process.run, args=arguments, name="pose landmarker", daemon=True)
        process.start()
        theirs.close()
        self._pipe, self._process = ours, process

    def _await_ready(self) -> None:
        """Wait for the model. Raises `UserError` if it is refused, `OSError` never."""
        answer = self._receive(_LOADING_S)
        if isinstance(answer, worker_process.Refused):
            raise UserError(answer.problem, answer.remedy)
        if not isinstance(answer, worker_process.Ready):
            raise UserError("the pose landmarker does not start", "see whether the machine has memory left, then retry")

    def _receive(self, timeout_s: float) -> object:
        """Return the process's next message, or None if it died, hangs, or we are stopping."""
        deadline = time.monotonic() + timeout_s
        pipe = self._pipe
        assert pipe is not None
        try:
            while not self._stopping.is_set() and (left := deadline - time.monotonic()) > 0:
                if pipe.poll(min(left, 0.1)):
                    message: object = pipe.recv()
                    return message
        except (EOFError, OSError):
            pass
        return None

    def _watch(self, bundle: str) -> None:
        """Hand pictures to the process and deliver what it sees; the thread's main function."""
        failures, since = 0, time.monotonic()
        while not self._stopping.is_set():
            problem = self._work()
            if self._stopping.is_set():
                break
            if time.monotonic() - since > _HEALTHY_S:
                failures = 0
            self._say("warning", f"the pose landmarker {problem}; starting it again")
            self._restart(bundle, failures)
            failures, since = failures + 1, time.monotonic()
        self._end_process()

    def _restart(self, bundle: str, failures: int) -> None:
        while not self._stopping.is_set():
            self._end_process()
            if self._stopping.wait(_RETRY_S[min(failures, len(_RETRY_S) - 1)]):
                return
            failures += 1
            try:
                self._launch(bundle)
                self._await_ready()
            except (UserError, OSError) as error:
                if failures == 1 and not self._stopping.is_set():
                    self._say("error", str(error))
                continue
            self.restarts += 1
            self._metrics.count("pose_restarts")
            with self._lock:
                self._waiting = None  # older than the pause
            self._say("info", "the pose landmarker is back")
            return

    def _work(self) -> str:
        """Serve pictures until something is wrong; return what."""
        number = 0
        while not self._stopping.is_set():
            if not self._news.wait(0.5):
                if self._process is not None and not self._process.is_alive():
                    return self._cause()
                continue
            self._news.clear()
            with self._lock:
                waiting, self._waiting = self._waiting, None
            if waiting is None:
                continue
            height, width = waiting.image.shape[:2]
            assert self._memory is not None
            assert self._pipe is not None
            place = np.ndarray((height, width, 3), np.uint8, self._memory.buf)
            place[:] = waiting.image
            del place
            number += 1
            try:
                self._pipe.send(worker_process.Picture(number, height, width, waiting.time_ns))
            except OSError:
                return self._cause()
            answer = self._receive(_STALL_S)
            if not isinstance(answer, worker_process.Seen):
                return self._cause()
            self._hand_over(answer, waiting.time_ns, width / height)
        return ""

    def _cause(self) -> str:
        process = self._process
        if process is not None:
            process.join(0.2)
            if not process.is_alive():
                return f"ended (exit code {process.exitcode})"
        return f"gave no answer for {_STALL_S:.0f} s"

    def _hand_over(self, seen: worker_process.Seen, time_ns: int, aspect: float) -> None:
        person = self._tracker.choose(seen.people, time_ns, aspect)
        now_ns = self._clock.now_ns()
        self._metrics.histogram("pose").add(seen.busy_ns)
        self.latency.add(now_ns - time_ns)
        self._metrics.count("pose_frames")
        self.frames += 1
        self._first_ns = self._first_ns or now_ns
        self._last_ns = now_ns
        self._deliver(nobody(time_ns, aspect) if person is None else person.landmarks(time_ns, aspect))
        if now_ns - self._reported_ns > _REPORT_EVERY_NS and self.frames > 1:
            self._reported_ns = now_ns
            p50, p95 = self.latency.percentile_ms(50), self.latency.percentile_ms(95)
            self._say("info", f"{self.rate_hz:.0f} poses a second, {p50:.0f} ms after the picture (95 %: {p95:.0f} ms)")

    def _end_process(self) -> None:
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.join(0.3)
            if process.is_alive():
                process.kill()
                process.join(2.0)
            process.close()

    def _release(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory.unlink()
            self._memory = None

    def _say(self, level: str, message: str) -> None:
        self._report(StatusEvent(self._clock.now_ns(), "camera", level, message))
