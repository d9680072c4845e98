"""The seams of the house: what a beat tracker, a generator, a sensor and a bridge must offer.

Everything outside the core is reached through these, by name, from the composition root (`engine.stage`).
`tests/contract/` runs one suite over every registered implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engine.types import (
    BeatEstimate,
    ComposerInfo,
    ControlEvent,
    GeneratorInfo,
    MotionChunk,
    MotionRequest,
    MusicRequest,
    MusicStep,
    NoteEvent,
    Observation,
    OutputEvent,
    StatusEvent,
)

Deliver = Callable[[Observation], None]
Report = Callable[[StatusEvent], None]


class BeatTracker(Protocol):
    """Turns hops of mono audio into beat estimates. Deterministic; called on the core thread only."""

    sample_rate_hz: int
    hop_samples: int

    def process(self, hop: NDArray[np.float32], end_ns: int) -> BeatEstimate | None:
        """Take one hop (hop_samples,) whose newest sample is at `end_ns`; return the belief now, or None."""
        ...

    def reset(self) -> None:
        """Forget everything heard."""
        ...


class Generator(Protocol):
    """A streaming music -> dance model. Deterministic for a seed; called on the core thread only."""

    info: GeneratorInfo

    def reset(self, seed: int) -> None:
        """Start a new dance from the model's start pose."""
        ...

    def step(self, request: MotionRequest) -> MotionChunk:
        """Return the next `info.chunk_ticks` ticks of motion; state advances by one chunk."""
        ...


class Company(Protocol):
    """Several dancers of one music -> dance model, computed in one step. Deterministic; core thread only."""

    info: GeneratorInfo

    def reset_dancer(self, index: int, seed: int) -> None:
        """Start one dancer's dance anew."""
        ...

    def step(self, requests: Sequence[MotionRequest]) -> Sequence[MotionChunk]:
        """Return the next chunk of each dancer, one request each."""
        ...


class Composer(Protocol):
    """A streaming dance -> music model. Deterministic for a seed; called on the core thread only."""

    info: ComposerInfo

    def reset(self, seed: int) -> None:
        """Start a new piece."""
        ...

    def step(self, request: MusicRequest) -> MusicStep:
        """Return what the four voices do in the next step (a sixteenth); state advances by one step."""
        ...


class Core(Protocol):
    """A pure core: observations in, output events out. Deterministic; called on the core thread only."""

    def push(self, observation: Observation) -> list[OutputEvent]:
        """Take one observation; return the events it gives rise to, in order. Never raises for what it contains."""
        ...


class Sensor(Protocol):
    """Hardware or a file behind a small interface. Owns its threads; delivers observations."""

    name: str

    def start(self, deliver: Deliver, report: Report) -> None:
        """Open and begin to deliver. Raises `engine.errors.UserError` if it cannot be opened."""
        ...

    def stop(self) -> None:
        """Stop delivering and release the device; idempotent."""
        ...


@runtime_checkable
class NoteAhead(Protocol):
    """A bridge that times notes better than a thread of ours can (a process of its own, a driver with time stamps).

    Its notes are handed over `note_lead_ns` before they leave, by `send_ahead`, never by `send`. A panic takes back
    what has been handed over, as it ends what sounds.
    """

    note_lead_ns: int

    def send_ahead(self, event: NoteEvent, at_ns: int) -> None:
        """Send a note at session time `at_ns` (may be past: at once). Raises as `Bridge.send`."""
        ...


class Bridge(Protocol):
    """Carries output events to another program.

    Threads: `send` is called on one thread only, at presentation time, and returns within a fraction of a
    millisecond; a bridge whose peer may be slow queues inside, newest pose wins. `on_control` may be called from
    any thread of the bridge.
    """

    name: str

    def open(self, on_control: Callable[[ControlEvent], None]) -> None:
        """Open sockets. Raises `engine.errors.UserError` with a remedy if they cannot be had."""
        ...

    def send(self, event: OutputEvent) -> None:
        """Send one event now.

        May raise OSError: the scheduler counts it and leaves the bridge alone for a while, but for panic, blackout and
        the ends of notes, which it sends again. `engine.errors.Trouble` it only passes on to the operator.
        """
        ...

    def close(self) -> None:
        """Leave the peer in a safe state (notes off, neutral) and close; idempotent.

        Raises `engine.errors.UserError` if what was to be kept of the show cannot be.
        """
        ...
