"""The crowd in processes of its own, on other cores: whatever happens there, the lead dancer does not notice.

Each process has a contiguous share of the dancers and hears all that the lead hears. Should one fall behind, hops pile
up to a limit and are then left out, and poses whose time has passed are not made: its share gets choppy while the lead
dances on. Controls are never left out. Should one die, its share alone stops; it is reported, begun again, and told
what was wished meanwhile and before.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

from engine.crowds.process import Hop, Share, Wish, serve
from engine.errors import UserError
from engine.metrics import Metrics
from engine.types import PoseFrame, StatusEvent

_log = logging.getLogger(__name__)

OnFrames = Callable[[Sequence[PoseFrame]], None]
Report = Callable[[StatusEvent], None]

_DANCERS_EACH = 60
"""A core computes 110 dancers at 60 poses a second, or computes and sends 66 to one OSC receiver (measured)."""
_WAITING_HOPS = 100
"""A second of music may wait for a share that is behind; it catches up, or it is not worth waiting for."""
_START_S = 300.0
"""A card's engine is compiled at the first start."""
_RESTART_S = 2.0
_END_S = 10.0
_CONTROLS = frozenset({"style", "energy", "mirror", "panic", "hold"})


def share_out(size: int, processes: int, cores: int) -> list[range]:
    """Return who dances in which process: contiguous shares of a crowd, all of one size but the last.

    Args:
        size: of the crowd.
        processes: at most so many; 0: as many as the size needs and the cores allow, with one left to the lead.
        cores: of the machine.
    """
    if not size:
        return []
    most = processes or min(math.ceil(size / _DANCERS_EACH), max(cores - 1, 1))
    # One size serves all but the last, so that a card compiles few engines.
    each = math.ceil(size / most)
    return [range(start, min(start + each, size)) for start in range(0, size, each)]


def usable_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class TroupeElsewhere:
    """The crowd in processes of its own.

    Threads: `hear` and `wish` by the core thread, never blocking; two threads of its own for each process.

    Args:
        builds: by who they are ("dancers 1 to 60"), what makes each share, in its process: picklable.
        metrics: counts what was left out, and what the processes sent.
    """

    def __init__(self, builds: Mapping[str, Callable[[], Share]], metrics: Metrics) -> None:
        self._members = [_Process(who, build, metrics) for who, build in builds.items()]

    @property
    def processes(self) -> list[multiprocessing.process.BaseProcess]:
        """Those that run."""
        return [member.process for member in self._members if member.process is not None]

    def start(self, on_frames: OnFrames, report: Report) -> None:
        """Begin, and wait until everybody is ready.

        Args:
            on_frames: takes the poses that the core is to show, as they come, on threads of the troupe's.
            report: tells the operator.

        Raises:
            UserError: a share cannot be built; none is left running.
        """
        try:
            # The first alone: what it compiles for a card, the others find.
            for members in (self._members[:1], self._members[1:]):
                for member in members:
                    member.launch()
                for member in members:
                    member.await_ready()
            for member in self._members:
                member.run(on_frames, report)
        except UserError:
            self.stop()
            raise

    def stop(self) -> None:
        """End the processes; idempotent."""
        for member in self._members:
            member.ask_to_end()
        deadline_s = time.monotonic() + _END_S
        for member in self._members:
            member.end(max(deadline_s - time.monotonic(), 0.1))

    def hear(self, hop: Hop) -> Sequence[PoseFrame]:
        """Pass a hop on; its poses come by `on_frames`, or are sent elsewhere."""
        packed = bytes(ForkingPickler.dumps(hop))
        for member in self._members:
            member.newest_ns = hop.end_ns
            member.hear(packed)
        return ()

    def wish(self, wish: Wish) -> None:
        """Pass a control on, if it concerns the crowd."""
        if wish.name in _CONTROLS:
            packed = bytes(ForkingPickler.dumps(wish))
            for member in self._members:
                member.wish(wish.name, packed)


class _Process:
    """One process and its share, as the core's process sees it."""

    def __init__(self, who: str, build: Callable[[], Share], metrics: Metrics) -> None:
        self._who, self._build, self._metrics = who, build, metrics
        self._waiting: queue.Queue[bytes] = queue.Queue(_WAITING_HOPS)
        # The last of each name, in the order in which they came; replaced, never changed, so that no thread need wait.
        self._wishes: dict[str, bytes] = {}
        self._stopping = threading.Event()
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self.newest_ns = 0
        self.process: multiprocessing.process.BaseProcess | None = None

    def hear(self, packed: bytes) -> None:
        """Let a hop wait to be sent, if there is room."""
        try:
            self._waiting.put_nowait(packed)
        except queue.Full:
            self._metrics.count("crowd_hops_dropped")

    def wish(self, name: str, packed: bytes) -> None:
        """Let a control be sent before all hops that wait."""
        self._wishes = {key: value for key, value in self._wishes.items() if key != name} | {name: packed}

    def launch(self) -> None:
        """Start the process."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self._build), name=self._who, daemon=True)
        self.process.start()
        theirs.close()

    def await_ready(self) -> None:
        """Wait until it can dance. Raises `UserError` if it cannot."""
        assert self._connection is not None
        assert self.process is not None
        deadline_s = time.monotonic() + _START_S
        answer = "it does not start"
        while time.monotonic() < deadline_s and not self._stopping.is_set():
            try:
                if self._connection.poll(0.2):
                    answer = self._connection.recv()
                    break
            except (EOFError, OSError):
                answer = "it ended while it was starting"
                break
        if answer != "ready":
            self.process.kill()
            raise UserError(f"{self._who}: {answer}", "make crowd.size smaller, or 0")

    def run(self, on_frames: OnFrames, report: Report) -> None:
        """Begin to pass on what waits, and to take what comes back."""
        self._thread = threading.Thread(target=self._run, args=(on_frames, report), name="crowd", daemon=True)
        self._thread.start()

    def ask_to_end(self) -> None:
        """Let the process end by itself; idempotent."""
        self._stopping.set()

    def end(self, patience_s: float) -> None:
        """See to it that it has ended; idempotent."""
        if self._thread is not None:
            self._thread.join(patience_s)
            self._thread = None
            if self.process is not None:
                self.process.join(patience_s)
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None

    def _run(self, on_frames: OnFrames, report: Report) -> None:
        while not self._stopping.is_set():
            self._serve(on_frames)
            if self._stopping.is_set():
                return
            self._metrics.count("crowd_lost")
            report(StatusEvent(self.newest_ns, "crowd", "error", f"{self._who} were lost; beginning them again"))
            while not self._stopping.wait(_RESTART_S):
                try:
                    self.launch()
                    self.await_ready()
                    break
                except (UserError, OSError) as error:
                    _log.error("%s", error)
            while not self._waiting.empty():
                self._waiting.get_nowait()

    def _serve(self, on_frames: OnFrames) -> None:
        """Pass messages on until the process is lost, or the show ends; first of all what has been wished so far."""
        connection, self._connection = self._connection, None
        assert connection is not None
        told: dict[str, bytes] = {}
        reader = threading.Thread(target=self._read, args=(connection, on_frames), name="crowd reader", daemon=True)
        reader.start()
        try:
            while not self._stopping.is_set():
                try:
                    hop = self._waiting.get(timeout=0.1)
                except queue.Empty:
                    if not reader.is_alive():
                        break
                    continue
                for name, wish in self._wishes.items():
                    if told.get(name) is not wish:
                        connection.send_bytes(wish)
                        told[name] = wish
                connection.send_bytes(hop)
            if self._stopping.is_set():
                # A closed pipe would not tell it: a reader that waits keeps its end open.
                connection.send(None)
                reader.join(_END_S)
        except OSError:
            pass
        connection.close()

    def _read(self, connection: Connection, on_frames: OnFrames) -> None:
        try:
            while True:
                message = connection.recv()
                if isinstance(message, dict):
                    for name, amount in message.items():
                        self._metrics.count(name, amount)
                    continue
                # The core's newest hop is the present, near enough: what was due before it comes too late.
                timely = [frame for frame in message if frame.time_ns >= self.newest_ns]
                if len(timely) < len(message):
                    self._metrics.count("crowd_frames_late", len(message) - len(timely))
                on_frames(timely)
        except (EOFError, OSError):
            return
