"""What runs in the landmarker's own process: take the newest picture, say who is in it, wait for the next."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.errors import UserError
from engine.seeing.landmarker import Landmarker
from engine.seeing.people import Person
from engine.signals import leave_to_parent


class Picture(NamedTuple):
    """A picture that lies in shared memory: its size, when it was taken."""

    number: int
    height: int
    width: int
    time_ns: int


class Ready(NamedTuple):
    """The model is loaded."""


class Refused(NamedTuple):
    """The model cannot be had; trying again would not help."""

    problem: str
    remedy: str


class Seen(NamedTuple):
    """The people of a picture; `busy_ns` is what the model took."""

    number: int
    people: list[Person]
    busy_ns: int


def run(pipe: Connection, memory_name: str, bundle: str, people: int) -> None:
    """Serve pictures until the other end of the pipe closes; the main function of the process."""
    # Ctrl-C goes to every process of the terminal; when to end is the engine's decision.
    leave_to_parent()
    # Whatever native code prints from now on, the operator's terminal stays clean.
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    memory = SharedMemory(memory_name)
    try:
        _serve(pipe, memory, Path(bundle), people)
    except (EOFError, OSError):
        pass  # the engine is gone or has closed the pipe
    finally:
        memory.close()


def _serve(pipe: Connection, memory: SharedMemory, bundle: Path, people: int) -> None:
    try:
        landmarker = Landmarker(bundle, people)
    except UserError as error:
        pipe.send(Refused(error.problem, error.remedy))
        return
    with landmarker:
        pipe.send(Ready())
        while True:
            picture: Picture = pipe.recv()
            start_ns = time.perf_counter_ns()
            shape = (picture.height, picture.width, 3)
            image = np.ndarray(shape, np.uint8, memory.buf)
            found = landmarker.detect(image, picture.time_ns)
            del image  # a view of the shared memory, which could not be closed under it
            pipe.send(Seen(picture.number, found, time.perf_counter_ns() - start_ns))
