"""The crowd as the core sees it, and what runs in a process that has a share of it.

Every hop the core tells the crowd what it tells the lead: the time, the beat, a row of features. In the core's own
thread (offline) the crowd answers with poses. In a process of its own it sends most of them itself: passing each pose
on to the core and sending it there would take the lead's time. `engine.crowds.shares` is the core's end of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.announcer import FrameTimes
from engine.clock import Clock
from engine.crowds.crowd import Crowd
from engine.errors import UserError
from engine.metrics import Metrics
from engine.priority import ask_to_be_nice
from engine.scheduler import OutputScheduler
from engine.settings import ShowSettings
from engine.signals import leave_to_parent
from engine.types import NS_PER_S, BeatState, PoseFrame

_SWITCH_INTERVAL_S = 0.0005
"""As the live runner's: whoever sends gets their turn while poses are computed."""
_NICENESS = 5
"""Lower than the lead's: where there is not enough for both, the crowd is late."""
_COUNTERS_NS = NS_PER_S // 2


@dataclass(frozen=True, slots=True)
class Hop:
    """What the crowd is told of 10 ms of music."""

    end_ns: int
    beat: BeatState
    row: NDArray[np.float32]
    active: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """A control that concerns the crowd."""

    name: str
    value: float | str | None


class Troupe(Protocol):
    """The crowd as the core sees it."""

    def hear(self, hop: Hop) -> Sequence[PoseFrame]:
        """Take a hop; return the poses that came of it at once, if any."""
        ...

    def wish(self, wish: Wish) -> None:
        """Take a control."""
        ...


class TroupeHere:
    """The crowd on the thread of whoever asks: the core's offline, and in each process a share of it. Deterministic."""

    def __init__(self, crowd: Crowd, settings: ShowSettings) -> None:
        self._crowd = crowd
        self._times = FrameTimes(settings)
        self._vision_ns = round(settings.output.vision_lead_ms * 1e6)

    def hear(self, hop: Hop, present_ns: int = -(2**62)) -> list[PoseFrame]:
        """Take a hop; return everybody's poses that have come into the look-ahead.

        Args:
            hop: of the music.
            present_ns: poses to be shown before it are not made any more, so that who is behind catches up.
        """
        self._crowd.update(hop.end_ns, hop.beat, hop.row, hop.active)
        frames: list[PoseFrame] = []
        for time_ns in self._times.due(hop.end_ns):
            if time_ns >= present_ns:
                frames += self._crowd.frames(time_ns, hop.end_ns, time_ns + self._vision_ns)
        return frames

    def wish(self, wish: Wish) -> None:
        """Take a control; one that does not fit has been refused by the lead already."""
        crowd, value = self._crowd, wish.value
        if wish.name == "style" and value is not None:
            crowd.set_style(value)
        elif wish.name == "energy" and isinstance(value, float):
            crowd.set_energy(value)
        elif wish.name == "mirror":
            crowd.set_mirror(value == 1.0)
        elif wish.name == "panic":
            crowd.panic()
        elif wish.name == "hold":
            crowd.hold(value == 1.0)


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the crowd, ready to dance in a process of its own.

    Attributes:
        troupe: its dancers.
        clock: session time.
        output: sends their poses from here.
        metrics: what `output` counts into; passed on to the core.
        through_core: performers whose poses go to the core instead, to whom only the core can show.
    """

    troupe: TroupeHere
    clock: Clock
    output: OutputScheduler
    metrics: Metrics
    through_core: frozenset[str]


def serve(connection: Connection, build: Callable[[], Share]) -> None:
    """Be a process with a share of the crowd, until the core sends None or is gone.

    Receives `Hop` and `Wish`; sends "ready" or what went wrong, then lists of poses and dicts of counters to add.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    ask_to_be_nice(_NICENESS)
    # Ctrl-C goes to every process of the terminal; the core ends us when it has ended its own work.
    leave_to_parent()
    try:
        share = build()
    except UserError as error:
        connection.send(str(error))
        return
    connection.send("ready")
    share.output.start()
    try:
        _dance(connection, share)
    except (EOFError, OSError):
        pass
    finally:
        share.output.stop()


def _dance(connection: Connection, share: Share) -> None:
    counted: dict[str, int] = {}
    counters_ns = share.clock.now_ns()
    while True:
        messages = [connection.recv()]
        while connection.poll():
            messages.append(connection.recv())
        for_core: list[PoseFrame] = []
        for message in messages:
            if message is None:
                return
            if isinstance(message, Wish):
                share.troupe.wish(message)
                continue
            frames = share.troupe.hear(message, share.clock.now_ns())
            for_core += [frame for frame in frames if frame.performer in share.through_core]
            share.output.put(frame for frame in frames if frame.performer not in share.through_core)
        if for_core:
            connection.send(for_core)
        if share.clock.now_ns() - counters_ns > _COUNTERS_NS:
            counters_ns = share.clock.now_ns()
            now = dict(share.metrics.counters)
            connection.send({name: count - counted.get(name, 0) for name, count in now.items()})
            counted = now
