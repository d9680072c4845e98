"""The camera that the dancer dances before."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.clock import Clock
from engine.errors import UserError
from engine.metrics import Metrics
from engine.protocols import Deliver, Report
from engine.seeing.opencv import Image, opencv
from engine.seeing.watcher import PoseWatcher
from engine.settings import CameraSettings
from engine.types import StatusEvent

_log = logging.getLogger(__name__)

_RETRY_S = (0.25, 0.5, 1.0, 2.0)
_PATIENCE_READS = 3
"""A camera that is waking up or has lost a USB packet returns nothing once or twice."""
_PROBED = 4
"""Where the system lists no cameras, so many indices are tried by opening them."""
_SYSFS = Path("/sys/class/video4linux")
_LOOK = "see `pasdedeux devices` for the cameras there are, or give a video file"


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera of this machine; the name is what the system calls it, or "camera N" where it does not say."""

    index: int
    name: str


def list_cameras() -> list[Camera]:
    """Return the cameras of this machine; never raises. Linux names them, elsewhere each is opened for a moment."""
    if sys.platform.startswith("linux"):
        return _linux_cameras(_SYSFS)
    try:
        opencv()
    except UserError:
        return []
    found = []
    for index in range(_PROBED):
        capture = open_capture(index)
        if capture is not None:
            _give_back(capture)
            found.append(Camera(index, f"camera {index}"))
    return found


def _linux_cameras(folder: Path) -> list[Camera]:
    """Return the first video node of each camera (the others carry metadata)."""
    found = []
    for node in folder.glob("video*") if folder.is_dir() else ():
        try:
            if int((node / "index").read_text()) == 0:
                found.append(Camera(int(node.name.removeprefix("video")), (node / "name").read_text().strip()))
        except (OSError, ValueError):  # unplugged while we look
            continue
    return sorted(found, key=lambda camera: camera.index)


def find_camera(wanted: str | None) -> Camera:
    """Return the camera of an index or a part of a name; None: the first. Raises `UserError` if there is none."""
    cameras = list_cameras()
    if wanted is not None and wanted.strip().isdigit():
        index = int(wanted)
        return next((camera for camera in cameras if camera.index == index), Camera(index, f"camera {index}"))
    if not cameras:
        raise UserError("no camera was found", "plug one in and see that this user may open it, or give a video file")
    if wanted is None:
        return cameras[0]
    for camera in cameras:
        if wanted.lower() in camera.name.lower():
            return camera
    raise UserError(f"no camera is named '{wanted}'", f"there are: {', '.join(c.name for c in cameras)}")


def open_capture(index: int) -> Any | None:
    """Return OpenCV's open capture of a camera, or None if it cannot be opened."""
    # Video4Linux waits ten seconds for a picture before it admits that the camera is gone.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
    cv2 = opencv()
    try:
        capture = cv2.VideoCapture(index)
        opened = bool(capture.isOpened())
    except Exception as error:  # whatever a driver does, that camera is not to be had now
        _log.debug("camera %d: %s", index, error)
        return None
    if opened:
        return capture
    _give_back(capture)
    return None


def _give_back(capture: Any) -> None:
    """Release a capture; one whose driver objects is left to it."""
    try:
        capture.release()
    except Exception as error:
        _log.debug("a camera cannot be released: %s", error)


class CameraSensor:
    """Watch the dancer through a camera: delivers `PoseLandmarks`, stamped when the picture arrived.

    A camera that vanishes is reported and looked for, by name, with growing pauses.

    Threads: one that reads the camera, and the landmarker's (see `PoseWatcher`), which call `deliver` and `report`.

    Args:
        settings: which camera, size, rate, model, whom to follow.
        clock: session time.
        metrics: see `PoseWatcher`.

    Attributes:
        reconnects: times a vanished camera came back.
    """

    def __init__(self, settings: CameraSettings, clock: Clock, metrics: Metrics | None = None) -> None:
        self.name = "camera"
        self.watcher = PoseWatcher(settings, clock, metrics)
        self.reconnects = 0
        self._settings = settings
        self._clock = clock
        self._latency_ns = round(settings.latency_ms * 1e6)
        self._camera = Camera(0, "")
        self._capture: Any | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._report: Report

    @property
    def device_name(self) -> str:
        """Name of the camera in use, empty before `start`."""
        return self._camera.name

    def start(self, deliver: Deliver, report: Report) -> None:
        """Open the camera and the landmarker, and begin. Raises `UserError` if one cannot be had."""
        self._report = report
        self._stopping.clear()
        self._camera = find_camera(self._settings.device)
        self._capture = self._open(self._camera)
        if self._capture is None:
            raise UserError(f"the camera {self._camera.name!r} cannot be opened (in use, or none there)", _LOOK)
        try:
            self.watcher.start(deliver, report)
        except UserError:
            self._release()
            raise
        self.name = f"camera {self._camera.name}"
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering and release the camera and the landmarker; idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10.0)
            self._thread = None
        self.watcher.stop()

    def _open(self, camera: Camera) -> Any | None:
        capture = open_capture(camera.index)
        if capture is None:
            return None
        cv2 = opencv()
        # Motion JPEG: raw pictures of 720p fill USB 2 at 10 a second. Cameras that cannot, ignore it.
        wishes = {
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
            cv2.CAP_PROP_FRAME_WIDTH: self._settings.width,
            cv2.CAP_PROP_FRAME_HEIGHT: self._settings.height,
            cv2.CAP_PROP_FPS: self._settings.fps,
            # Pictures that wait in a driver's queue are old.
            cv2.CAP_PROP_BUFFERSIZE: 1,
        }
        for wish, value in wishes.items():
            try:
                capture.set(wish, value)
            except Exception as error:  # a wish; whether the camera is good, its pictures tell
                _log.debug("camera %d refuses property %d: %s", camera.index, wish, error)
        return capture

    def _run(self) -> None:
        """Show what the camera gives until stopped; the thread's main function."""
        misses = 0
        while not self._stopping.is_set():
            image = self._read()
            if image is not None:
                misses = 0
                self.watcher.show(image, self._clock.now_ns() - self._latency_ns)
                continue
            misses += 1
            if misses >= _PATIENCE_READS:
                self._release()
                self._say("warning", f"the camera {self._camera.name!r} is gone; looking for it")
                self._reconnect()
                misses = 0
        self._release()

    def _release(self) -> None:
        if self._capture is not None:
            _give_back(self._capture)
            self._capture = None

    def _read(self) -> Image | None:
        if self._capture is None:
            return None
        try:
            good, image = self._capture.read()
        except Exception:  # whatever a driver does in mid-show, it counts as no picture
            return None
        return image if good and image is not None and image.ndim == 3 and image.shape[2] == 3 else None

    def _reconnect(self) -> None:
        """Try to open the vanished camera, which has been released, until it is back or the sensor is stopped."""
        attempt = 0
        while not self._stopping.wait(_RETRY_S[min(attempt, len(_RETRY_S) - 1)]):
            attempt += 1
            # Indices shift when cameras come and go, so it is asked for by name where it has one.
            same_name = [camera for camera in list_cameras() if camera.name == self._camera.name]
            camera = same_name[0] if same_name else self._camera
            self._capture = self._open(camera)
            if self._capture is None:
                continue
            if self._read() is None:
                self._release()
                continue
            self._camera = camera
            self.reconnects += 1
            self._say("info", f"the camera {camera.name!r} is back")
            return

    def _say(self, level: str, message: str) -> None:
        self._report(StatusEvent(self._clock.now_ns(), "camera", level, message))
