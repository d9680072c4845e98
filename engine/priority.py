"""Asking the system to be run before others: for the few threads whose lateness is seen or heard.

Real time (round robin) at a low level, where the system grants it: Linux, to administrators and to those with the right
to real-time audio. Else the thread's own niceness; refused, or unknown (Windows, macOS), things go on as they are.
Whoever asks must sleep nearly always: such a thread goes before everything of an ordinary rank.
"""

from __future__ import annotations

import enum
import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

NICENESS = -10
"""What is asked for where real time is refused."""

_MOST_OF_A_CORE = 0.7
_AGAIN_BELOW = 0.4
"""A thread that takes more than the first share of a core gives real time back until it takes less than the second."""
_WINDOW_NS = 250_000_000


class Rank(enum.Enum):
    """What the system granted."""

    REAL_TIME = "real time"
    NICE = "nice"
    ORDINARY = "ordinary"


def ask_for_real_time(level: int, inherited: bool) -> Rank:
    """Ask that the calling thread is run before others; return what came of it.

    Args:
        level: 1 to 99; 1 goes before every ordinary thread, higher levels before lower ones.
        inherited: whether threads and processes begun by this one have the rank, too.
    """
    try:
        policy = os.SCHED_RR if inherited else os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(level))
        return Rank.REAL_TIME
    except (OSError, AttributeError):
        return ask_to_be_nice(NICENESS)


def ask_to_be_nice(niceness: int) -> Rank:
    """Set the calling thread's niceness, which threads begun by it later inherit; return what came of it."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except (OSError, AttributeError):
        return Rank.ORDINARY
    return Rank.NICE


def give_up_real_time() -> None:
    """Go back to an ordinary rank; the niceness is what it was."""
    try:
        # A thread with reset-on-fork may not take the flag off without the right to; it may keep it.
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    except (OSError, AttributeError):
        return


def run_at_rank(work: Callable[[], T], level: int) -> T:
    """Do some work on a thread of its own in real time, where the system grants it; return or raise what it does.

    Args:
        work: that sleeps nearly always.
        level: as of `ask_for_real_time`.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        ask_for_real_time(level, inherited=False)
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="ranked")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


class RealTime:
    """Keeps a thread in real time as long as it leaves the machine room to breathe.

    A thread that cannot keep up never sleeps, and in real time it would keep the core from everybody else, those who
    send what it computes among them. So what it takes is watched: too much, and it gives its rank back until it
    takes less.

    Threads: `watch` by the one that is watched; may be made on another.

    Args:
        level: as of `ask_for_real_time`.
    """

    def __init__(self, level: int) -> None:
        self._level = level
        self._given_up = False
        self._wall_ns: int | None = None
        self._used_ns = 0
        self.rank = Rank.ORDINARY

    def watch(self) -> bool:
        """Ask for the rank the first time; then look at what the thread took. Cheap; to be called at every turn.

        Returns:
            Whether the rank was given back, or had again.
        """
        now_ns = time.monotonic_ns()
        if self._wall_ns is None:
            self.rank = ask_for_real_time(self._level, inherited=False)
            self._wall_ns, self._used_ns = now_ns, time.thread_time_ns()
            return False
        if now_ns - self._wall_ns < _WINDOW_NS:
            return False
        used_ns = time.thread_time_ns()
        share = (used_ns - self._used_ns) / (now_ns - self._wall_ns)
        self._wall_ns, self._used_ns = now_ns, used_ns
        return self.judge(share)

    def judge(self, share: float) -> bool:
        """Give the rank back, or ask for it again, by the share of a core that was taken; return whether it changed."""
        if self.rank is Rank.REAL_TIME and share > _MOST_OF_A_CORE:
            give_up_real_time()
            self.rank, self._given_up = Rank.ORDINARY, True
            return True
        if self._given_up and share < _AGAIN_BELOW:
            self._given_up = False
            self.rank = ask_for_real_time(self._level, inherited=False)
            return self.rank is Rank.REAL_TIME
        return False
