"""OpenCV, which comes with the extra "camera", and the size in which its pictures are looked at."""

from __future__ import annotations

import os
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError

Image = NDArray[np.uint8]
"""A picture (height, width, 3), blue first, as OpenCV has it."""

LONGEST_SIDE = 1280
"""Pictures are made this small before a person is looked for: the landmarker scales to 256 pixels anyway, and a 4K
frame costs only time on its way."""
MISSING_REMEDY = 'pip install "pasdedeux[camera]"'


def opencv() -> ModuleType:
    """Return the `cv2` module, silenced and with one thread. Raises `UserError` if it is missing."""
    # Read when the module is loaded; FFmpeg's complaints about a broken file are told in our words instead.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_VIDEOIO_DEBUG", "0")
    try:
        import cv2
    except ImportError:
        raise UserError("video needs OpenCV, which is not installed", MISSING_REMEDY) from None
    module: ModuleType = cv2
    return module


def shrink(image: Image) -> Image:
    """Return a picture whose longer side is at most `LONGEST_SIDE`, contiguous in memory."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= LONGEST_SIDE:
        return np.ascontiguousarray(image)
    cv2 = opencv()
    size = (max(1, round(width * LONGEST_SIDE / longest)), max(1, round(height * LONGEST_SIDE / longest)))
    small: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small
