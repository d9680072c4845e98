"""Recorded poses: what was written is read, what is not such a file is one clear line."""

from __future__ import annotations

import itertools
import pickle
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from engine.clock import VirtualClock
from engine.errors import UserError
from engine.playing.render import with_heartbeats
from engine.seeing import poses_file
from engine.seeing.poses_file import PosesFileSensor, read_poses, write_poses
from engine.types import NS_PER_S, Heartbeat, Observation, PoseFrame, StatusEvent
from tests.waiting import PATIENCE_S, wait_until


def dance(count: int = 20, fps: float = 60.0) -> list[PoseFrame]:
    rng = np.random.default_rng(0)
    return [
        PoseFrame(
            round(k * NS_PER_S / fps),
            0,
            rng.normal(0.0, 0.3, (24, 3)),
            np.array([0.0, 0.95, 0.01 * k]),
            rng.random(4),
            "camera",
        )
        for k in range(count)
    ]


def arrays(count: int = 20) -> dict[str, np.ndarray]:
    poses = dance(count)
    return {
        "time_s": np.arange(count) / 60.0,
        "rotations": np.stack([pose.rotations for pose in poses]),
        "translation_m": np.stack([pose.translation_m for pose in poses]),
    }


def test_what_was_written_is_read(tmp_path: Path) -> None:
    poses = dance()
    visibility = [1.0] * 10 + [0.0] * 5 + [0.5] * 5
    write_poses(tmp_path / "poses.npz", poses, visibility)
    recorded = read_poses(tmp_path / "poses.npz")
    assert np.array_equal(recorded.rotations, np.stack([pose.rotations for pose in poses]))
    assert np.allclose(recorded.contacts, np.stack([pose.contacts for pose in poses]))
    frames = recorded.frames(start_ns=NS_PER_S)
    assert len(frames) == 15, "none where nobody was seen"
    assert {frame.performer for frame in frames} == {"camera"}
    assert abs(frames[1].time_ns - frames[0].time_ns - NS_PER_S / 60) < 2
    assert frames[0].time_ns == NS_PER_S
    with np.load(tmp_path / "poses.npz") as content:
        assert content["joints_m"].shape == (20, 24, 3)
    with pytest.raises(UserError, match="no poses to write"):
        write_poses(tmp_path / "none.npz", [])


def test_contacts_are_guessed_and_visibility_may_be_per_landmark(tmp_path: Path) -> None:
    content = arrays()
    content["rotations"][:] = 0.0
    content["translation_m"][:, 1] = 0.976
    content["translation_m"][10:, 1] = 1.5
    np.savez(tmp_path / "poses.npz", **content, visibility=np.full((20, 33), 0.25))
    recorded = read_poses(tmp_path / "poses.npz")
    assert recorded.contacts[:10].min() > 0.9
    assert recorded.contacts[10:].max() == 0.0
    assert np.allclose(recorded.visibility, 0.25)


def broken(kind: str) -> dict[str, np.ndarray]:
    content = arrays()
    if kind == "missing":
        del content["rotations"]
    elif kind == "nan":
        content["rotations"][3, 2] = np.nan
    elif kind == "shape":
        content["rotations"] = content["rotations"][:, :22]
    elif kind == "backwards":
        content["time_s"] = content["time_s"][::-1].copy()
    elif kind == "at once":
        content["time_s"] = 1.0 + np.arange(20) * 1e-12
    elif kind == "far":
        content["translation_m"][0] = 1e9
    elif kind == "text":
        content["time_s"] = np.array(["noon"] * 20)
    elif kind == "empty":
        content = {name: array[:0] for name, array in content.items()}
    elif kind == "short":
        content["translation_m"] = content["translation_m"][:5]
    return content


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "has no rotations"), ("nan", "'rotations' holds values that are not finite"),
        ("shape", "'rotations' is float32"), ("backwards", "does not increase"), ("far", "beyond 1000 m"),
        ("text", "'time_s' is"), ("empty", "'time_s' is not a list"), ("short", "'translation_m' is float32"),
        ("at once", "more than 10000 poses a second"),
    ],
)  # fmt: skip
def test_arrays_that_are_wrong_are_named(tmp_path: Path, kind: str, words: str) -> None:
    np.savez(tmp_path / "poses.npz", **broken(kind))
    with pytest.raises(UserError, match=words):
        read_poses(tmp_path / "poses.npz")


def test_a_file_that_was_stuck_together_goes_on_where_its_time_leaps(tmp_path: Path) -> None:
    content = arrays()
    content["time_s"][5:] += 1800.0  # somebody was waited for
    content["time_s"][10:] += 9 * 86400.0
    np.savez(tmp_path / "poses.npz", **content)
    frames = read_poses(tmp_path / "poses.npz").frames()
    steps_s = np.diff([frame.time_ns for frame in frames]) / NS_PER_S
    assert steps_s[4] == pytest.approx(1800.0 + 1 / 60)
    assert np.delete(steps_s, 4) == pytest.approx(1 / 60, abs=1e-6)
    beats = itertools.islice(with_heartbeats(frames), 200_000)
    assert 180_000 < sum(isinstance(observation, Heartbeat) for observation in beats) < 190_000
    lone = {name: array[:2] for name, array in arrays().items()} | {"time_s": np.array([0.0, 86400.0])}
    np.savez(tmp_path / "lone.npz", **lone)
    assert read_poses(tmp_path / "lone.npz").frames()[-1].time_ns == NS_PER_S


def test_files_that_are_no_archive_are_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_poses(tmp_path / "none.npz")
    with pytest.raises(UserError, match="not a file"):
        read_poses(tmp_path)
    (tmp_path / "text.npz").write_text("a poem")
    np.savez(tmp_path / "whole.npz", **arrays())
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "evil.npz", "w") as archive:
        archive.writestr("time_s.npy", pickle.dumps(print))
    for name in ("text", "cut", "evil"):
        with pytest.raises(UserError):
            read_poses(tmp_path / f"{name}.npz")
    np.savez(tmp_path / "objects.npz", **{**arrays(), "time_s": np.array([print] * 20, dtype=object)})
    with pytest.raises(UserError):
        read_poses(tmp_path / "objects.npz")
    monkeypatch.setattr(poses_file, "_LARGEST_BYTES", 100)
    with pytest.raises(UserError, match="unpacks to"):
        read_poses(tmp_path / "whole.npz")


def test_who_is_stopped_between_two_rounds_is_not_over(tmp_path: Path) -> None:
    write_poses(tmp_path / "poses.npz", dance(12, fps=60.0))
    seen: list[Observation] = []
    said: list[StatusEvent] = []
    over = threading.Event()

    def deliver(observation: Observation) -> None:
        seen.append(observation)
        if len(seen) == 12:
            sensor._stopping.set()

    sensor = PosesFileSensor(tmp_path / "poses.npz", VirtualClock(NS_PER_S), loop=True, on_end=over.set)
    sensor.start(deliver, said.append)
    wait_until(lambda: len(seen) == 12)
    sensor.stop()
    assert len(seen) == 12
    assert not over.is_set()
    assert said == []


@pytest.mark.parametrize("loop", [False, True])
def test_playing_keeps_the_file_s_time(tmp_path: Path, loop: bool) -> None:
    write_poses(tmp_path / "poses.npz", dance(12, fps=60.0))
    seen: list[PoseFrame] = []
    said: list[StatusEvent] = []
    over = threading.Event()

    def deliver(observation: Observation) -> None:
        assert isinstance(observation, PoseFrame)
        seen.append(observation)

    clock = VirtualClock(NS_PER_S)
    sensor = PosesFileSensor(tmp_path / "poses.npz", clock, loop=loop, on_end=over.set)
    sensor.start(deliver, said.append)
    if loop:
        wait_until(lambda: len(seen) >= 30)
        assert not over.is_set()
    else:
        assert over.wait(PATIENCE_S)
        assert len(seen) == 12
        assert any("is over" in event.message for event in said)
    sensor.stop()
    sensor.stop()
    steps = np.diff([frame.time_ns for frame in seen])
    assert np.abs(steps - NS_PER_S / 60).max() < 5, "also from the last to the first"
    assert all(frame.time_ns == frame.source_ns for frame in seen)
