"""Video files of a dancer: read frame by frame for offline work, or played in real time in the camera's place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.clock import Clock
from engine.errors import UserError
from engine.metrics import Metrics
from engine.protocols import Deliver, Report
from engine.seeing.landmarker import Landmarker, landmarker_path
from engine.seeing.opencv import Image, opencv, shrink
from engine.seeing.people import PersonTracker, nobody
from engine.seeing.watcher import PoseWatcher
from engine.settings import CameraSettings
from engine.types import NS_PER_S, PoseLandmarks, StatusEvent

_FORMATS = "give a video such as MP4, MOV, WEBM or MKV"
_USUAL_FPS = 30.0
"""Where the container does not state a believable rate."""
_FASTEST_FPS = 1000.0
_LONGEST_STILL_NS = 10 * NS_PER_S
"""No recording holds one picture for so long: where the file's time leaps by more, it was stuck together."""
# `stop` is noticed within this time.
_LONGEST_SLEEP_NS = 20_000_000
_LATE_NS = NS_PER_S // 2
"""A player that is this far behind (a slow disk, a sleeping laptop) goes on from now instead of hurrying after."""
_REOPENING_S = (0.05, 0.2, 1.0)
"""Waited before the next attempts to open a looped file again: a disc or a decoder may be busy for a moment."""


class VideoFrame(NamedTuple):
    """A picture (height, width, 3), blue first, and its time since the file's first picture."""

    time_ns: int
    image: Image


class VideoFile:
    """An open video file; a context manager. See `open_video`.

    Attributes:
        path: of the file.
        width, height: of its pictures, as shown (a phone's rotation applied).
        fps: as the container states it, on average.
        frames: number of pictures as the container states it, 0 if it does not; a truncated file has fewer.
    """

    def __init__(self, path: Path, capture: Any, first: Image) -> None:
        cv2 = opencv()
        self.path = path
        self.height, self.width = first.shape[:2]
        stated = float(capture.get(cv2.CAP_PROP_FPS))
        self.fps = stated if 0.1 < stated < _FASTEST_FPS else _USUAL_FPS
        count = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frames = round(count) if 0.0 < count < 1e9 else 0
        self._capture = capture
        self._position = cv2.CAP_PROP_POS_MSEC
        self._pending: Image | None = first
        self._origin_ns = self._stamp()
        self._time_ns = -1
        self._read = 0

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._capture.release()

    @property
    def interval_ns(self) -> int:
        """Usual time between two pictures."""
        return round(NS_PER_S / self.fps)

    @property
    def pictures_read(self) -> int:
        """How many pictures have been read."""
        return self._read

    @property
    def truncated(self) -> bool:
        """Whether, read to the end, much less came than the container promises (some miscount by a few).

        Many containers know their length only, and what they promise is as if the rate were the same throughout.
        """
        reached = (self._origin_ns + self._time_ns) / self.interval_ns
        return max(self._read, reached) < 0.98 * self.frames - 2

    def read(self) -> VideoFrame | None:
        """Return the next picture, or None at the end or where the file is broken."""
        image = self._pending
        if image is None:
            good, image = self._capture.read()
            if not good or image is None:
                return None
        self._pending = None
        time_ns = self._stamp() - self._origin_ns
        # Some containers carry no times, or times that stand still: then the stated rate counts on.
        if self._read and time_ns <= self._time_ns:
            time_ns = self._time_ns + self.interval_ns
        elif not self._read:
            time_ns = 0
        elif time_ns - self._time_ns > _LONGEST_STILL_NS:
            self._origin_ns += time_ns - self._time_ns - self.interval_ns
            time_ns = self._time_ns + self.interval_ns
        self._read += 1
        self._time_ns = time_ns
        return VideoFrame(time_ns, _colour(image))

    def _stamp(self) -> int:
        milliseconds = float(self._capture.get(self._position))
        return round(milliseconds * 1e6) if np.isfinite(milliseconds) else 0


def open_video(path: str | Path) -> VideoFile:
    """Open a video file of any size and rate.

    Raises:
        UserError: the file is missing, a folder, empty, broken, or no video.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"no such file: {path}", _FORMATS)
    if not path.is_file():
        raise UserError(f"not a file: {path}", _FORMATS)
    cv2 = opencv()
    try:
        # FFmpeg by name: other backends take a path such as img_%02d.png for a pattern.
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        good, image = capture.read() if capture.isOpened() else (False, None)
    except cv2.error as error:
        raise UserError(f"{path} cannot be read as video ({str(error).splitlines()[0][:120]})", _FORMATS) from None
    if not good or image is None or image.ndim < 2 or min(image.shape[:2]) < 2:
        capture.release()
        raise UserError(f"{path} cannot be read as video", _FORMATS)
    return VideoFile(path, capture, _colour(image))


def read_frames(path: str | Path) -> Iterator[VideoFrame]:
    """Yield every picture of a file as fast as it decodes. Raises `UserError` as `open_video` does."""
    with open_video(path) as video:
        while (frame := video.read()) is not None:
            yield frame


def read_landmarks(path: str | Path, settings: CameraSettings) -> Iterator[PoseLandmarks]:
    """Yield the dancer's landmarks in every picture of a file, deterministically; times count from the file's start.

    The landmarker runs in this process, one picture after the other, however long it takes.

    Raises:
        UserError: the video, MediaPipe or its model cannot be used; at the first picture.
    """
    tracker = PersonTracker(settings.person)
    with open_video(path) as video, Landmarker(landmarker_path(settings), settings.people) as landmarker:
        aspect = video.width / video.height
        while (frame := video.read()) is not None:
            people = landmarker.detect(shrink(frame.image), frame.time_ns)
            person = tracker.choose(people, frame.time_ns, aspect)
            yield nobody(frame.time_ns, aspect) if person is None else person.landmarks(frame.time_ns, aspect)


class VideoFileSensor:
    """Play a video file in real time in the camera's place: delivers `PoseLandmarks`.

    A picture counts as captured when the file says it is due. One that cannot be looked at in time gives way to the
    next, as with a camera.

    Threads: one of its own, and the landmarker's (see `PoseWatcher`), which call `deliver`, `report` and `on_end`.

    Args:
        path: of the file, opened by `start`.
        settings: model, people, whom to follow.
        clock: session time.
        loop: begin again at the end, without a gap.
        on_end: called when the file is over.
        metrics: see `PoseWatcher`.
    """

    def __init__(
        self,
        path: str | Path,
        settings: CameraSettings,
        clock: Clock,
        *,
        loop: bool = False,
        on_end: Callable[[], None] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.name = f"video {Path(path).name}"
        self.watcher = PoseWatcher(settings, clock, metrics)
        self._path = Path(path)
        self._clock = clock
        self._loop = loop
        self._on_end = on_end
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._report: Report

    def start(self, deliver: Deliver, report: Report) -> None:
        """Open the file and the landmarker, and begin. Raises `UserError` for a bad file or a missing model."""
        self._report = report
        self._stopping.clear()
        video = open_video(self._path)
        try:
            self.watcher.start(deliver, report)
        except UserError:
            video.close()
            raise
        self._thread = threading.Thread(target=self._play, args=(video,), name="video file", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering and release file and landmarker; idempotent."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)
            self._thread = None
        self.watcher.stop()

    def _play(self, video: VideoFile) -> None:
        """Show the pictures when they are due until the file ends or the sensor is stopped; the thread's main."""
        origin_ns = self._clock.now_ns()
        while True:
            with video:
                end_ns = self._play_once(video, origin_ns)
            # Not the loop's condition: who is stopped while a file is opened again is not over, and closes that file.
            if self._stopping.is_set():
                return
            if video.truncated:
                read, promised = video.pictures_read, video.frames
                self._say("warning", f"{self._path.name} breaks off after {read} of {promised} pictures")
            if not self._loop:
                break
            origin_ns = end_ns
            reopened = self._reopened()
            if reopened is None:
                if self._stopping.is_set():
                    return
                break
            video = reopened
        self._say("info", f"{self._path.name} is over")
        if self._on_end is not None:
            self._on_end()

    def _reopened(self) -> VideoFile | None:
        """Return the file, opened for another round; None: it cannot be, or the sensor is stopped.

        It was a good video a moment ago, so what fails now may pass: it is tried again before the show goes without.
        """
        for waits_s in (*_REOPENING_S, None):
            try:
                return open_video(self._path)
            except UserError as error:
                self._say("error" if waits_s is None else "warning", str(error))
            if waits_s is None or self._stopping.wait(waits_s):
                break
        return None

    def _play_once(self, video: VideoFile, origin_ns: int) -> int:
        """Play to the end; return when the next round begins."""
        due_ns = origin_ns
        while not self._stopping.is_set() and (frame := video.read()) is not None:
            due_ns = origin_ns + frame.time_ns
            late_ns = self._clock.now_ns() - due_ns
            if late_ns > _LATE_NS:
                origin_ns += late_ns
                due_ns += late_ns
            self._wait_until(due_ns)
            if not self._stopping.is_set():
                self.watcher.show(frame.image, due_ns)
        return due_ns + video.interval_ns

    def _wait_until(self, due_ns: int) -> None:
        while not self._stopping.is_set():
            now_ns = self._clock.now_ns()
            if now_ns >= due_ns:
                return
            self._clock.sleep_until(min(due_ns, now_ns + _LONGEST_SLEEP_NS))

    def _say(self, level: str, message: str) -> None:
        self._report(StatusEvent(self._clock.now_ns(), "camera", level, message))


def _colour(image: Image) -> Image:
    """Return three channels of a picture that may have one or four."""
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return image[:, :, :3]
