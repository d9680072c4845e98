"""Video files: every picture at its time, every broken file one clear line, and playing keeps time."""

from __future__ import annotations

import threading
from collections.abc import Container
from pathlib import Path

import numpy as np
import pytest

from engine.clock import Clock, SessionClock, VirtualClock
from engine.errors import UserError
from engine.protocols import Deliver, Report
from engine.seeing import video
from engine.seeing.opencv import LONGEST_SIDE, Image, opencv, shrink
from engine.seeing.retarget import LandmarkRetargeter
from engine.seeing.video import VideoFile, VideoFileSensor, open_video, read_frames, read_landmarks
from engine.settings import CameraSettings
from engine.types import NS_PER_S, Observation, PoseLandmarks, StatusEvent
from tests.engine.seeing.conftest import write_video
from tests.waiting import PATIENCE_S, wait_until

LITE = CameraSettings(model="lite")


def shades(count: int, width: int = 64, height: int = 48) -> list[Image]:
    return [np.full((height, width, 3), 8 * k, np.uint8) for k in range(count)]


@pytest.mark.parametrize(
    ("name", "code"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "mp4v"), ("a.webm", "VP80")]
)
@pytest.mark.parametrize("fps", [30.0, 59.94, 60.0])
def test_pictures_come_in_order_at_their_times(tmp_path: Path, name: str, code: str, fps: float) -> None:
    path = write_video(tmp_path / name, shades(20), fps, code)
    frames = list(read_frames(path))
    assert len(frames) == 20
    times = np.array([frame.time_ns for frame in frames])
    assert times[0] == 0
    # Matroska counts milliseconds, and the others fractions of a frame.
    assert np.abs(times - np.arange(20) * NS_PER_S / fps).max() < 1.1e6
    assert [round(float(frame.image.mean()) / 8) for frame in frames] == list(range(20))
    with open_video(path) as video:
        assert (video.width, video.height) == (64, 48)
        assert video.fps == pytest.approx(fps, rel=0.01)


def test_a_variable_rate_is_followed(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")  # comes with mediapipe, for its plots
    durations = [40, 100, 40, 300, 20, 60, 60, 60]
    images = [pillow.fromarray(image) for image in shades(len(durations))]
    path = tmp_path / "variable.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)
    times = [frame.time_ns for frame in read_frames(path)]
    assert times == [1_000_000 * sum(durations[:k]) for k in range(len(durations))]


class FilmStrip:
    """An open capture whose container states these times [ms] of its pictures, and a rate and a number of them."""

    def __init__(self, times_ms: list[float], fps: float = 25.0, count: int = 0) -> None:
        self._times_ms = iter(times_ms)
        cv2 = opencv()
        self._stated = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_COUNT: float(count)}
        self.read()

    def get(self, which: int) -> float:
        return self._stated.get(which, self._time_ms)

    def read(self) -> tuple[bool, Image | None]:
        time_ms = next(self._times_ms, None)
        if time_ms is None:
            return False, None
        self._time_ms = time_ms
        return True, np.zeros((4, 4, 3), np.uint8)

    def film(self) -> VideoFile:
        return VideoFile(Path("strip.ts"), self, np.zeros((4, 4, 3), np.uint8))


def times_ms(film: VideoFile) -> list[float]:
    times = []
    while (frame := film.read()) is not None:
        times.append(frame.time_ns / 1e6)
    return times


def test_recordings_that_were_stuck_together_follow_each_other() -> None:
    """As MPEG-TS does it: each part keeps the times it was recorded with, and a clock of 33 bits begins again."""
    first = [0.0, 40.0, 80.0]
    assert times_ms(FilmStrip([*first, *(5e6 + t for t in (0.0, 40.0, 140.0))]).film()) == [*first, 120, 160, 260]
    assert times_ms(FilmStrip([5e6 + t for t in first] + first).film()) == [*first, 120, 160, 200]
    assert times_ms(FilmStrip([0.0, 9000.0, 9040.0]).film()) == [0, 9000, 9040], "a long look at one picture is none"


def test_a_variable_rate_is_no_file_that_breaks_off() -> None:
    # Four seconds at up to 30 pictures a second: Matroska is taken to hold 120.
    sparse = FilmStrip([k * 100.0 for k in range(40)], 30.0, 120).film()
    assert len(times_ms(sparse)) == 40
    assert not sparse.truncated
    cut = FilmStrip([k * 100.0 for k in range(20)], 30.0, 120).film()
    assert len(times_ms(cut)) == 20
    assert cut.truncated


def test_files_that_are_no_video_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        open_video(tmp_path / "none.mp4")
    with pytest.raises(UserError, match="not a file"):
        open_video(tmp_path)
    for name, content in (("text.mp4", b"a poem\n" * 50), ("empty.mp4", b""), ("noise.mp4", bytes(range(256)) * 40)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as video"):
            open_video(tmp_path / name)


def test_a_truncated_file_ends_where_it_breaks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(60)]
    whole = write_video(tmp_path / "whole.avi", noisy, 30.0, "MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    with open_video(tmp_path / "cut.avi") as video:
        count = 0
        while video.read() is not None:
            count += 1
        assert 10 < count < 45
    # An MP4 whose index is at its end cannot be opened at all.
    whole = write_video(tmp_path / "whole.mp4", noisy, 30.0).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read as video"):
        open_video(tmp_path / "cut.mp4")


def test_large_pictures_are_made_small(tmp_path: Path) -> None:
    path = write_video(tmp_path / "large.mp4", shades(2, 3840, 2160), 30.0)
    frame = next(iter(read_frames(path)))
    assert frame.image.shape == (2160, 3840, 3)
    assert shrink(frame.image).shape == (720, LONGEST_SIDE, 3)
    tall = np.zeros((4000, 10, 3), np.uint8)
    assert shrink(tall).shape == (1280, 3, 3)
    small = np.zeros((10, 20, 3), np.uint8)[:, ::2]
    assert shrink(small).shape == (10, 10, 3)
    assert shrink(small).flags.c_contiguous


def test_landmarks_of_a_file_are_the_same_every_time(dance: Path) -> None:
    first, second = list(read_landmarks(dance, LITE)), list(read_landmarks(dance, LITE))
    assert len(first) == 24
    for a, b in zip(first, second, strict=True):
        assert a.time_ns == b.time_ns
        assert np.array_equal(a.positions_m, b.positions_m)
    heights = np.array([landmarks.positions_m[15, 1] - landmarks.positions_m[11, 1] for landmarks in first])
    assert heights[:8].max() < 0.0 < heights[10:16].min(), "the left hand goes over the shoulder"
    retargeter = LandmarkRetargeter()
    poses = [retargeter.process(landmarks) for landmarks in first]
    assert all(pose is not None for pose in poses)


def test_black_pictures_hold_nobody(tmp_path: Path) -> None:
    path = write_video(tmp_path / "black.mp4", [np.zeros((240, 320, 3), np.uint8)] * 4, 30.0)
    landmarks = list(read_landmarks(path, LITE))
    assert len(landmarks) == 4
    assert not any(seen.visibility.any() for seen in landmarks)


class Wall:
    """Takes pictures in the landmarker's place, and notes when each is shown."""

    def __init__(self, clock: Clock) -> None:
        self.shown: list[tuple[int, int]] = []
        """(when, the picture's time) [ns]."""
        self._clock = clock

    def start(self, deliver: Deliver, report: Report) -> None: ...

    def show(self, image: Image, time_ns: int) -> None:
        self.shown.append((self._clock.now_ns(), time_ns))

    def stop(self) -> None: ...


def before_a_wall(path: Path, stage: Stage, clock: Clock, loop: bool = False) -> tuple[VideoFileSensor, Wall]:
    """Return a player without a landmarker."""
    sensor, wall = VideoFileSensor(path, LITE, clock, loop=loop, on_end=stage.over.set), Wall(clock)
    sensor.watcher = wall  # type: ignore[assignment]
    return sensor, wall


class Stage:
    def __init__(self) -> None:
        self.seen: list[PoseLandmarks] = []
        self.said: list[StatusEvent] = []
        self.over = threading.Event()

    def deliver(self, observation: Observation) -> None:
        assert isinstance(observation, PoseLandmarks)
        self.seen.append(observation)


def test_playing_keeps_the_file_s_time(dance: Path) -> None:
    stage, clock = Stage(), VirtualClock(5 * NS_PER_S)
    sensor, wall = before_a_wall(dance, stage, clock)
    sensor.start(stage.deliver, stage.said.append)
    assert stage.over.wait(PATIENCE_S)
    sensor.stop()
    shown = np.array(wall.shown)
    assert len(shown) == 24
    wanted = 5 * NS_PER_S + np.arange(24) * NS_PER_S / 30
    assert np.abs(shown[:, 1] - wanted).max() < 1.1e6
    assert np.array_equal(shown[:, 0], shown[:, 1]), "when it is due, neither before nor after"
    assert any("is over" in event.message for event in stage.said)


def test_who_is_seen_in_a_video_is_delivered_with_its_time(dance: Path) -> None:
    stage = Stage()
    # Over and over, so that a landmarker that is late sees some of it.
    sensor = VideoFileSensor(dance, LITE, SessionClock(), loop=True, on_end=stage.over.set)
    sensor.start(stage.deliver, stage.said.append)
    wait_until(lambda: len(stage.seen) >= 5)
    sensor.stop()
    times = [landmarks.time_ns for landmarks in stage.seen]
    assert times == sorted(set(times))
    assert max(landmarks.visibility.max() for landmarks in stage.seen) > 0.3


def test_a_loop_goes_on_until_it_is_stopped(dance: Path) -> None:
    stage = Stage()
    sensor, wall = before_a_wall(dance, stage, VirtualClock(), loop=True)
    sensor.start(stage.deliver, stage.said.append)
    wait_until(lambda: len(wall.shown) > 60)
    sensor.stop()
    sensor.stop()
    shown = len(wall.shown)
    assert not stage.over.is_set(), stage.said
    times = np.array([time_ns for _, time_ns in wall.shown])
    assert np.abs(np.diff(times) - NS_PER_S / 30).max() < 2.2e6, "also from the last to the first"
    assert len(wall.shown) == shown, "and nothing more"


class Failing:
    """Opens a video, but for some of the times it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bad: Container[int]) -> None:
        self.asked = 0
        self._bad = bad
        monkeypatch.setattr(video, "open_video", self)
        monkeypatch.setattr(video, "_REOPENING_S", (0.0, 0.0, 0.0))

    def __call__(self, path: Path) -> VideoFile:
        self.asked += 1
        if self.asked in self._bad:
            raise UserError(f"{path} cannot be read as video", "look at it")
        return open_video(path)


def test_a_loop_survives_a_file_that_cannot_be_opened_for_a_moment(
    dance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Failing(monkeypatch, bad=range(3, 6))
    stage = Stage()
    sensor, wall = before_a_wall(dance, stage, VirtualClock(), loop=True)
    sensor.start(stage.deliver, stage.said.append)
    wait_until(lambda: len(wall.shown) > 60)
    sensor.stop()
    assert not stage.over.is_set(), stage.said
    assert [event.level for event in stage.said] == ["warning"] * 3


def test_who_is_stopped_while_the_file_is_opened_again_is_not_over(
    dance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, given = Stage(), []
    sensor, wall = before_a_wall(dance, stage, VirtualClock(), loop=True)

    def opened(path: Path) -> VideoFile:
        if given:
            stopping = threading.Thread(target=sensor.stop)
            stopping.start()
            wait_until(sensor._stopping.is_set)
        given.append(open_video(path))
        return given[-1]

    monkeypatch.setattr(video, "open_video", opened)
    sensor.start(stage.deliver, stage.said.append)
    wait_until(lambda: len(given) == 2 and sensor._thread is None)
    assert not stage.over.is_set()
    assert stage.said == []
    assert len(wall.shown) == 24
    assert given[1].read() is not None, "the picture that was read when it was opened"
    assert given[1].read() is None, "closed"


def test_a_loop_whose_file_is_gone_is_over(dance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Failing(monkeypatch, bad=range(2, 100))
    stage = Stage()
    sensor, wall = before_a_wall(dance, stage, VirtualClock(), loop=True)
    sensor.start(stage.deliver, stage.said.append)
    assert stage.over.wait(PATIENCE_S)
    sensor.stop()
    assert len(wall.shown) == 24
    assert failing.asked == 5
    assert [event.level for event in stage.said] == ["warning"] * 3 + ["error", "info"]


def test_a_file_that_breaks_off_is_reported(tmp_path: Path, pictures: dict[str, Image]) -> None:
    images = [pictures["standing"], pictures["left arm up"]] * 15
    whole = write_video(tmp_path / "whole.avi", images, 60.0, "MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    stage = Stage()
    sensor, _ = before_a_wall(tmp_path / "cut.avi", stage, VirtualClock())
    sensor.start(stage.deliver, stage.said.append)
    assert stage.over.wait(PATIENCE_S)
    sensor.stop()
    assert any("breaks off after" in event.message for event in stage.said)


def test_opencv_is_there() -> None:
    assert opencv().__name__ == "cv2"
