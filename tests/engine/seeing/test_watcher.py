"""The landmarker in its own process: newest wins, and whatever happens to it, pictures are looked at again."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.clock import SessionClock
from engine.errors import UserError
from engine.metrics import Metrics
from engine.seeing import watcher as watcher_module
from engine.seeing.opencv import Image
from engine.seeing.watcher import PoseWatcher
from engine.settings import CameraSettings
from engine.types import Observation, StatusEvent
from tests.engine.seeing.audience import Audience
from tests.waiting import PATIENCE_S, wait_until

LITE = CameraSettings(model="lite")


@pytest.fixture(scope="module")
def clock() -> SessionClock:
    return SessionClock()


class _Router:
    """Hands on to whoever listens now, so that one process can serve several tests."""

    def __init__(self) -> None:
        self.audience = Audience()

    def deliver(self, observation: Observation) -> None:
        self.audience.deliver(observation)

    def report(self, event: StatusEvent) -> None:
        self.audience.report(event)


@pytest.fixture(scope="module")
def served(clock: SessionClock) -> Iterator[tuple[PoseWatcher, _Router]]:
    router, watcher = _Router(), PoseWatcher(LITE, clock, Metrics())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watcher_module, "_LOADING_S", 2 * PATIENCE_S)
        watcher.start(router.deliver, router.report)
    yield watcher, router
    watcher.stop()


@pytest.fixture
def audience() -> Audience:
    return Audience()


@pytest.fixture
def watcher(served: tuple[PoseWatcher, _Router], audience: Audience, clock: SessionClock) -> PoseWatcher:
    """Return the running watcher, with nothing left to do and everything told to this test's audience."""
    watcher, router = served
    # What tests before have shown is looked at first.
    before, stamp = Audience(), clock.now_ns()
    router.audience = before
    watcher.show(np.zeros((48, 64, 3), np.uint8), stamp)
    assert before.wait(lambda: bool(before.seen) and before.seen[-1].time_ns == stamp)
    router.audience = audience
    return watcher


def keep_showing(watcher: PoseWatcher, clock: SessionClock, image: Image, until: Callable[[], bool]) -> None:
    """Show a picture thirty times a second until something is so."""

    def shown() -> bool:
        watcher.show(image, clock.now_ns())
        return until()

    wait_until(shown, each_s=1 / 30)


def test_pictures_become_landmarks_and_the_newest_wins(
    watcher: PoseWatcher, clock: SessionClock, audience: Audience, pictures: dict[str, Image]
) -> None:
    frames, dropped = watcher.frames, watcher.dropped
    assert watcher.pid is not None
    stamps = []
    if sys.platform != "win32":
        os.kill(watcher.pid, signal.SIGSTOP)  # as slow as can be
    for _ in range(40):
        stamps.append(clock.now_ns())
        watcher.show(pictures["left arm up"], stamps[-1])
    if sys.platform != "win32":
        os.kill(watcher.pid, signal.SIGCONT)
    assert audience.wait(lambda: bool(audience.seen) and audience.seen[-1].time_ns == stamps[-1])
    times = [landmarks.time_ns for landmarks in audience.seen]
    assert times == sorted(times)
    assert set(times) <= set(stamps), "stamped when captured, not when seen"
    assert watcher.frames - frames == len(times)
    assert watcher.dropped - dropped == len(stamps) - len(times) > 10
    last = audience.seen[-1]
    assert last.visibility.min() > 0.3
    assert last.image_xy[15, 1] < last.image_xy[11, 1], "the left wrist is over the shoulder"
    assert last.aspect == pytest.approx(4 / 3)
    assert watcher.latency.percentile_ms(50) > 0.0
    assert watcher.rate_hz > 0.0


def test_a_picture_without_anybody_is_told_too(watcher: PoseWatcher, clock: SessionClock, audience: Audience) -> None:
    watcher.show(np.zeros((480, 640, 3), np.uint8), clock.now_ns())
    assert audience.wait(lambda: len(audience.seen) == 1)
    assert not audience.seen[0].visibility.any()


def test_a_4k_picture_is_made_small_first(
    watcher: PoseWatcher, clock: SessionClock, audience: Audience, pictures: dict[str, Image]
) -> None:
    large = np.repeat(np.repeat(pictures["standing"], 6, axis=0), 6, axis=1)
    assert large.shape == (2880, 3840, 3)
    watcher.show(large, clock.now_ns())
    assert audience.wait(lambda: len(audience.seen) == 1)
    assert audience.seen[0].visibility.min() > 0.3


def test_a_crash_is_reported_and_survived(
    watcher: PoseWatcher, clock: SessionClock, audience: Audience, pictures: dict[str, Image]
) -> None:
    first, restarts = watcher.pid, watcher.restarts
    assert first is not None
    os.kill(first, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    keep_showing(watcher, clock, pictures["standing"], lambda: watcher.restarts == restarts + 1 and bool(audience.seen))
    assert watcher.pid not in (None, first)
    assert audience.heard("the pose landmarker ended")
    assert audience.heard("is back")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process without ending it")
def test_a_stall_is_reported_and_survived(
    watcher: PoseWatcher,
    clock: SessionClock,
    audience: Audience,
    pictures: dict[str, Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert watcher.pid is not None
    restarts = watcher.restarts
    os.kill(watcher.pid, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(watcher_module, "_STALL_S", 1.0)
        keep_showing(watcher, clock, pictures["standing"], lambda: audience.heard("gave no answer for 1 s"))
    keep_showing(watcher, clock, pictures["standing"], lambda: watcher.restarts == restarts + 1 and bool(audience.seen))


def test_showing_never_blocks_whatever_the_process_does(
    watcher: PoseWatcher, clock: SessionClock, audience: Audience, pictures: dict[str, Image]
) -> None:
    assert watcher.pid is not None
    before = watcher.frames, watcher.restarts
    if sys.platform != "win32":
        os.kill(watcher.pid, signal.SIGSTOP)
    for _ in range(100):
        watcher.show(pictures["standing"], clock.now_ns())
    if sys.platform != "win32":
        assert (watcher.frames, watcher.restarts) == before, "it came back while nothing was seen, and nobody given up"
        os.kill(watcher.pid, signal.SIGCONT)
    assert audience.wait(lambda: bool(audience.seen))


def test_stopping_leaves_nothing_behind_and_twice_is_once(clock: SessionClock, audience: Audience) -> None:
    threads = set(threading.enumerate())
    watcher = PoseWatcher(LITE, clock)
    watcher.start(audience.deliver, audience.report)
    pid = watcher.pid
    assert pid is not None
    watcher.stop()
    watcher.stop()
    assert watcher.pid is None
    if sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert set(threading.enumerate()) <= threads


def test_a_model_that_is_none_is_refused_at_the_start(tmp_path: Path, clock: SessionClock, audience: Audience) -> None:
    (tmp_path / "broken.task").write_bytes(b"PK\x03\x04 not much of an archive")
    watcher = PoseWatcher(CameraSettings(model_path=str(tmp_path / "broken.task")), clock)
    with pytest.raises(UserError, match=r"broken\.task cannot be used"):
        watcher.start(audience.deliver, audience.report)
    assert watcher.pid is None
