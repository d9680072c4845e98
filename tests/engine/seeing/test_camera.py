"""The camera: found by index or name, and whatever becomes of it, the show goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.clock import SessionClock
from engine.errors import UserError
from engine.seeing import camera
from engine.seeing.camera import Camera, CameraSensor, find_camera, list_cameras
from engine.seeing.opencv import Image, opencv
from engine.settings import CameraSettings
from tests.engine.seeing.audience import Audience


class FakeCapture:
    """A camera that gives one picture again and again, until it is unplugged."""

    def __init__(self, image: Image) -> None:
        self.image, self.plugged, self.released = image, True, False
        self.asked: dict[int, float] = {}

    def isOpened(self) -> bool:
        return True

    def set(self, key: int, value: float) -> bool:
        self.asked[key] = value
        return True

    def read(self) -> tuple[bool, Image | None]:
        time.sleep(0.02)
        return (True, self.image) if self.plugged else (False, None)

    def release(self) -> None:
        self.released = True


def nodes(folder: Path, cameras: dict[str, tuple[str, int]]) -> Path:
    for node, (name, index) in cameras.items():
        (folder / node).mkdir(parents=True)
        (folder / node / "name").write_text(name + "\n")
        (folder / node / "index").write_text(f"{index}\n")
    return folder


@pytest.fixture
def two_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = nodes(
        tmp_path / "v4l",
        {"video0": ("Laptop Camera", 0), "video1": ("Laptop Camera", 1), "video2": ("HD Webcam C920", 0)},
    )
    monkeypatch.setattr(camera, "_SYSFS", folder)
    monkeypatch.setattr(camera.sys, "platform", "linux")


@pytest.mark.usefixtures("two_cameras")
def test_cameras_are_listed_once_each_and_found_by_index_or_name() -> None:
    assert list_cameras() == [Camera(0, "Laptop Camera"), Camera(2, "HD Webcam C920")]
    assert find_camera(None).index == 0
    assert find_camera("2") == Camera(2, "HD Webcam C920")
    assert find_camera("c920").index == 2
    assert find_camera("7") == Camera(7, "camera 7"), "an index is taken at its word"
    with pytest.raises(UserError, match=r"no camera is named 'kinect'.*Laptop Camera, HD Webcam C920"):
        find_camera("kinect")


def test_no_camera_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "_SYSFS", tmp_path / "none")
    monkeypatch.setattr(camera.sys, "platform", "linux")
    for wanted in (None, "webcam"):
        with pytest.raises(UserError, match=r"no camera was found.*plug one in"):
            CameraSensor(CameraSettings(device=wanted), SessionClock()).start(lambda o: None, lambda e: None)
    with pytest.raises(UserError, match=r"'camera 9' cannot be opened"):
        CameraSensor(CameraSettings(device="9"), SessionClock()).start(lambda o: None, lambda e: None)


@pytest.mark.usefixtures("two_cameras")
def test_an_unplugged_camera_is_reported_and_found_again_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pictures: dict[str, Image]
) -> None:
    opened: list[tuple[int, FakeCapture]] = []
    present = {2}

    def open_fake(index: int) -> Any:
        if index not in present:
            return None
        opened.append((index, FakeCapture(pictures["standing"])))
        return opened[-1][1]

    monkeypatch.setattr(camera, "open_capture", open_fake)
    stage, clock = Audience(), SessionClock()
    sensor = CameraSensor(CameraSettings(device="C920", model="lite", latency_ms=40.0), clock)
    sensor.start(stage.deliver, stage.report)
    try:
        assert sensor.device_name == "HD Webcam C920"
        assert {1280, 720} <= set(opened[0][1].asked.values())
        assert stage.wait(lambda: len(stage.seen) >= 3)
        assert clock.now_ns() - stage.seen[-1].time_ns > 40_000_000, "the stated latency is taken off the stamp"
        # It comes back as another device.
        present.clear()
        opened[0][1].plugged = False
        assert stage.wait(lambda: any("is gone" in event.message for event in stage.said))
        assert opened[0][1].released
        monkeypatch.setattr(camera, "_SYSFS", nodes(tmp_path / "later", {"video5": ("HD Webcam C920", 0)}))
        present.add(5)
        assert stage.wait(lambda: any("is back" in event.message for event in stage.said))
        before = len(stage.seen)
        assert stage.wait(lambda: len(stage.seen) > before + 2)
        assert (sensor.reconnects, opened[-1][0]) == (1, 5)
    finally:
        sensor.stop()
    sensor.stop()
    assert opened[-1][1].released


def watched_until(said: str) -> tuple[Audience, CameraSensor]:
    """Watch through the first camera until that is said, then stop."""
    stage = Audience()
    sensor = CameraSensor(CameraSettings(model="lite"), SessionClock())
    sensor.start(stage.deliver, stage.report)
    try:
        assert stage.wait(lambda: any(said in event.message for event in stage.said))
    finally:
        sensor.stop()
    return stage, sensor


@pytest.mark.usefixtures("two_cameras")
def test_pictures_of_a_strange_kind_count_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = FakeCapture(np.zeros((48, 64), np.uint8))
    monkeypatch.setattr(camera, "open_capture", lambda index: capture)
    stage, _ = watched_until("is gone")
    assert stage.seen == []


class Faulty(FakeCapture):
    """A camera whose driver raises at everything but its pictures, and at those while it wakes up."""

    def __init__(self, image: Image, broken_reads: int) -> None:
        super().__init__(image)
        self.broken_reads = broken_reads

    def set(self, key: int, value: float) -> bool:
        raise RuntimeError("no such property")

    def read(self) -> tuple[bool, Image | None]:
        if self.broken_reads:
            self.broken_reads -= 1
            raise RuntimeError("protocol error")
        return super().read()

    def release(self) -> None:
        super().release()
        raise RuntimeError("no such device")


@pytest.mark.usefixtures("two_cameras")
def test_a_driver_that_raises_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    unplugged = FakeCapture(np.zeros((48, 64, 3), np.uint8))
    unplugged.plugged = False
    waking = [Faulty(unplugged.image, 1), Faulty(unplugged.image, 0)]
    coming: list[Any] = [unplugged, RuntimeError("device busy"), *waking]

    def capture(index: int) -> Any:
        following = coming.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    monkeypatch.setattr(opencv(), "VideoCapture", capture)
    monkeypatch.setattr(camera, "_RETRY_S", (0.01,))
    _, sensor = watched_until("is back")
    assert sensor.reconnects == 1
    assert [capture.released for capture in waking] == [True, True]
