"""MediaPipe's pose landmarker: from a picture to the people in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UserError
from engine.seeing.opencv import MISSING_REMEDY, Image
from engine.seeing.people import Person
from engine.settings import CameraSettings

SHIPPED = Path(__file__).parents[2] / "models" / "pose_landmarks"
_BUNDLE_MAGIC = b"PK"
"""A .task bundle is a zip archive."""
LANDMARKS = 33


def landmarker_path(settings: CameraSettings) -> Path:
    """Return the bundle that the settings mean. Raises `UserError` if it is missing or no bundle."""
    if settings.model_path is not None:
        path = Path(settings.model_path).expanduser()
    elif settings.model == "heavy":
        raise UserError(
            "the pose model 'heavy' is not shipped",
            "download pose_landmarker_heavy.task and set camera.model_path to it, or choose full or lite",
        )
    else:
        path = SHIPPED / f"pose_landmarker_{settings.model}.task"
    try:
        with path.open("rb") as file:
            magic = file.read(2)
    except OSError as error:
        raise UserError(f"cannot read the pose model {path}", error.strerror or "check camera.model_path") from None
    if magic != _BUNDLE_MAGIC:
        raise UserError(f"{path} is not a pose landmarker bundle", "give a .task file of MediaPipe")
    return path


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send what libraries write to the error stream past Python to nowhere, for the duration.

    MediaPipe logs a dozen lines of its own business to a terminal that is the operator's.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, ValueError, AttributeError):  # there is no error stream to be kept clean
        yield
        return
    try:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        os.close(sink)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Landmarker:
    """Finds people in the pictures of one video, in order. Deterministic; one thread; a context manager.

    Args:
        path: a bundle, see `landmarker_path`.
        people: how many are looked for, 1 to 4. With one, MediaPipe also smooths.

    Raises:
        UserError: MediaPipe is missing, or refuses the bundle.
    """

    def __init__(self, path: Path, people: int = 1) -> None:
        self._last_ms = -1
        self._chatty = True
        with quiet_stderr():
            try:
                import mediapipe
                from mediapipe.tasks.python import BaseOptions, vision
            except ImportError:
                raise UserError("the camera needs MediaPipe, which is not installed", MISSING_REMEDY) from None
            self._mediapipe: Any = mediapipe
            options = vision.PoseLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(path)),
                running_mode=vision.RunningMode.VIDEO,
                num_poses=people,
            )
            try:
                self._landmarker: Any = vision.PoseLandmarker.create_from_options(options)
                # The first picture builds the graph: what is wrong with the bundle comes to light here.
                self.detect(np.zeros((64, 64, 3), np.uint8), 0)
            except (RuntimeError, ValueError, OSError) as error:
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                raise UserError(f"the pose model {path.name} cannot be used ({reason})", "give another one") from None

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the model; idempotent."""
        if self._landmarker is not None:
            with quiet_stderr():
                self._landmarker.close()
            self._landmarker = None

    def detect(self, image: Image, time_ns: int) -> list[Person]:
        """Return the people in a picture (height, width, 3), blue first, taken at `time_ns` of session or file time."""
        # Its clock counts milliseconds and must never stand still.
        self._last_ms = max(self._last_ms + 1, time_ns // 1_000_000)
        rgb = np.ascontiguousarray(image[:, :, ::-1])
        picture = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=rgb)
        # Until it has followed its first person it logs things that concern nobody here.
        with quiet_stderr() if self._chatty else nullcontext():
            found = self._landmarker.detect_for_video(picture, self._last_ms)
        self._chatty = self._chatty and not found.pose_landmarks
        return [
            _person(flat, world) for flat, world in zip(found.pose_landmarks, found.pose_world_landmarks, strict=True)
        ]


def _person(flat: Any, world: Any) -> Person:
    """Convert MediaPipe's lists; its world axes are x right, y down, z away from the camera."""
    positions = np.array([(p.x, -p.y, -p.z) for p in world], np.float32)
    image = np.array([(p.x, p.y) for p in flat], np.float32)
    visibility = np.array([p.visibility for p in flat], np.float32)
    return Person(np.nan_to_num(positions), np.clip(np.nan_to_num(visibility), 0.0, 1.0), np.nan_to_num(image, nan=0.5))
