"""Pictures and videos of the figure, drawn once per session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.seeing import watcher
from engine.seeing.opencv import Image, opencv
from tests.engine.seeing.figure import figure, posed, room
from tests.waiting import PATIENCE_S

POSES: dict[str, NDArray[np.float64]] = {
    "standing": posed(),
    "left arm up": posed(left_shoulder=(0.0, 0.0, 55.0)),
    "right elbow": posed(right_shoulder=(0.0, 0.0, 0.0), right_elbow=(0.0, 0.0, -80.0)),
    "left knee": posed(left_hip=(-75.0, 0.0, 0.0), left_knee=(80.0, 0.0, 0.0)),
    "from behind": posed(pelvis=(0.0, 180.0, 0.0), left_shoulder=(0.0, 0.0, 55.0)),
    "turned": posed(pelvis=(0.0, 40.0, 0.0), right_shoulder=(0.0, 0.0, -40.0)),
}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a starved machine a landmarker may be slow without hanging."""
    monkeypatch.setattr(watcher, "_STALL_S", PATIENCE_S)
    monkeypatch.setattr(watcher, "_LOADING_S", 2 * PATIENCE_S)


@pytest.fixture(scope="session")
def pictures() -> dict[str, Image]:
    """Return the figure in each of `POSES`, alone in a room."""
    drawn = {}
    for name, pose in POSES.items():
        drawn[name] = room()
        figure().draw(drawn[name], pose)
    return drawn


def write_video(path: Path, images: list[Image], fps: float, code: str = "mp4v") -> Path:
    """Write pictures of one size."""
    cv2 = opencv()
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return path


@pytest.fixture(scope="session")
def dance(tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, Image]) -> Path:
    """Return a video of 24 pictures at 30 a second: the arm goes up and comes down."""
    down, up = pictures["standing"], pictures["left arm up"]
    images = [down] * 8 + [up] * 8 + [down] * 8
    return write_video(tmp_path_factory.mktemp("video") / "dance.mp4", images, 30.0)
