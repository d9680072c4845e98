"""Real time, asked for and given back. What the system grants depends on the machine; what is done with it does not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from engine import priority
from engine.priority import Rank, RealTime, ask_for_real_time, give_up_real_time, run_at_rank

linux = pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="the system knows no such ranks")


def _in_thread(work: Callable[[], object]) -> None:
    """Run it on a thread of its own, so that this one keeps its rank."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as failure:  # passed on below
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


@linux
def test_what_is_said_to_be_granted_is_what_the_system_does() -> None:
    ours = os.sched_getscheduler(0)

    def work() -> None:
        rank = ask_for_real_time(5, inherited=False)
        policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
        assert (policy == os.SCHED_RR) == (rank is Rank.REAL_TIME)
        if rank is Rank.REAL_TIME:
            assert os.sched_getparam(0).sched_priority == 5
        code = "import os; print(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)"
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        # Refused, a thread stays what it was, and that is inherited.
        ordinary = os.SCHED_OTHER if rank is Rank.REAL_TIME else ours
        assert int(child.stdout) == ordinary, "a process begun from there is an ordinary one"
        give_up_real_time()
        assert os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER

    _in_thread(work)
    assert os.sched_getscheduler(0) == ours, "other threads are as they were"


@linux
def test_refused_it_is_nice_and_refused_that_too_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*arguments: object) -> None:
        asked.append(arguments)
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "setpriority", lambda *arguments: asked.append(arguments))
    assert ask_for_real_time(5, inherited=True) is Rank.NICE
    assert asked[-1] == (os.PRIO_PROCESS, 0, priority.NICENESS)
    monkeypatch.setattr(os, "setpriority", refuse)
    assert ask_for_real_time(5, inherited=True) is Rank.ORDINARY
    give_up_real_time()


def test_where_the_system_knows_no_ranks_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sched_setscheduler", "setpriority"):
        monkeypatch.delattr(os, name, raising=False)
    assert ask_for_real_time(5, inherited=False) is Rank.ORDINARY
    give_up_real_time()


def test_who_takes_most_of_a_core_gives_real_time_back_until_it_takes_less(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []

    def grant(level: int, inherited: bool) -> Rank:
        did.append(f"ask {level} {inherited}")
        return Rank.REAL_TIME

    monkeypatch.setattr(priority, "ask_for_real_time", grant)
    monkeypatch.setattr(priority, "give_up_real_time", lambda: did.append("give up"))
    real_time = RealTime(5)
    assert not real_time.watch()
    assert not real_time.judge(0.5)
    assert real_time.judge(0.95)
    assert real_time.rank is Rank.ORDINARY
    assert not real_time.judge(0.95)
    assert not real_time.judge(0.5), "not back and forth"
    assert real_time.judge(0.2)
    assert real_time.rank is Rank.REAL_TIME
    assert did == ["ask 5 False", "give up", "ask 5 False"]


def test_who_was_refused_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "ask_for_real_time", lambda level, inherited: Rank.NICE)
    real_time = RealTime(5)
    assert not real_time.watch()
    assert not real_time.judge(1.0)
    assert not real_time.judge(0.1)
    assert real_time.rank is Rank.NICE


def test_what_a_thread_takes_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, used = [0], [0]
    monkeypatch.setattr(priority.time, "monotonic_ns", lambda: wall[0])
    monkeypatch.setattr(priority.time, "thread_time_ns", lambda: used[0])
    monkeypatch.setattr(priority, "ask_for_real_time", lambda level, inherited: Rank.REAL_TIME)
    monkeypatch.setattr(priority, "give_up_real_time", lambda: None)
    real_time = RealTime(5)
    assert not real_time.watch()
    wall[0], used[0] = 100_000_000, 100_000_000
    assert not real_time.watch(), "a burst may take a core"
    wall[0], used[0] = 300_000_000, 150_000_000
    assert not real_time.watch()
    wall[0], used[0] = 600_000_000, 440_000_000
    assert real_time.watch()


@linux
def test_work_at_a_rank_leaves_its_caller_the_rank_it_had() -> None:
    ours = os.sched_getscheduler(0)
    assert run_at_rank(lambda: 6 * 7, 5) == 42
    with pytest.raises(ZeroDivisionError):
        run_at_rank(lambda: 1 // 0, 5)
    assert os.sched_getscheduler(0) == ours
