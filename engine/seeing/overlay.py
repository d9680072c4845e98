"""Pictures to look at: the retargeted skeleton over the video's frames, beside the landmarks it was made from.

Offline only. The dancer's left is drawn orange, their right blue, the spine white; landmarks are small dots in the
same colours; what stands is green. A second panel shows the skeleton alone, from the front and from its left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import JOINT_NAMES, PARENTS, contact_points, forward_kinematics
from engine.errors import UserError
from engine.seeing.opencv import Image, opencv
from engine.types import PoseFrame, PoseLandmarks

Array = NDArray[np.float64]
Colour = tuple[int, int, int]

_LEFT, _RIGHT, _MIDDLE, _STANDING, _FAINT = (40, 140, 255), (255, 160, 40), (245, 245, 245), (80, 220, 80), (90, 90, 90)
_FITTED = [(1, 23), (2, 24), (16, 11), (17, 12), (4, 25), (5, 26), (7, 27), (8, 28)]
"""Joints and the landmarks that mean the same: by these the skeleton is laid over the picture."""
_SHOWN_M = 2.2
"""Height of the panels beside the picture."""
_LANDMARK_BONES = [(11, 13), (13, 15), (12, 14), (14, 16), (11, 12), (23, 24), (11, 23), (12, 24)]
_LANDMARK_BONES += [(23, 25), (25, 27), (24, 26), (26, 28), (27, 29), (29, 31), (28, 30), (30, 32)]


def draw_overlay(
    image: Image,
    landmarks: PoseLandmarks,
    pose: PoseFrame | None,
    lean_rad: float = 0.0,
    height: int = 360,
    zoom: bool = False,
) -> Image:
    """Return a picture of the given height with landmarks, skeleton, and the skeleton alone beside it.

    Args:
        image: (height, width, 3) blue first.
        landmarks: of this picture.
        pose: what became of them, not mirrored; None: nobody.
        lean_rad: what calibration took out (`StageCalibration.lean_rad`).
        height: of the result in pixels.
        zoom: cut the dancer out of the picture.
    """
    cv2 = opencv()
    if zoom and landmarks.visibility.any():
        image, landmarks = _cut_out(image, landmarks)
    width = height if zoom else round(image.shape[1] * height / image.shape[0])
    canvas: Image = (cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) * 0.7).astype(np.uint8)
    dots = landmarks.image_xy.astype(np.float64) * [width, height]
    if landmarks.visibility.any():
        for a, b in _LANDMARK_BONES:
            _line(canvas, dots[a], dots[b], _FAINT, 1)
        for index in range(11, 33):
            if landmarks.visibility[index] > 0.3:
                _dot(canvas, dots[index], _LEFT if index % 2 else _RIGHT, 2)
    panels = np.full((height, round(1.1 * height), 3), 24, np.uint8)
    if pose is not None:
        placed, world = forward_kinematics(pose.rotations.astype(np.float64), pose.translation_m.astype(np.float64))
        joints = np.asarray(placed, np.float64)
        points = np.asarray(contact_points(placed, world), np.float64)
        _draw(canvas, *_over_picture(joints, points, landmarks, lean_rad, width, height), pose.contacts)
        _panels(panels, joints, points, pose.contacts)
    joined: Image = np.concatenate([canvas, panels], axis=1)
    return joined


def write_sheet(path: Path, pictures: Sequence[Image], columns: int = 3) -> None:
    """Write pictures of one size as one PNG, row by row. Raises `UserError` if it cannot be written."""
    if not pictures:
        raise UserError("no pictures for a contact sheet", "is the video empty?")
    blank = np.zeros_like(pictures[0])
    cells = [*pictures, *[blank] * (-len(pictures) % columns)]
    rows = [np.concatenate(cells[k : k + columns], axis=1) for k in range(0, len(cells), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not opencv().imwrite(str(path), np.concatenate(rows, axis=0)):
        raise UserError(f"cannot write {path}", "check the folder, and that its name ends in .png")


def _cut_out(image: Image, landmarks: PoseLandmarks) -> tuple[Image, PoseLandmarks]:
    """Return the square around the person, and the landmarks in it."""
    size = np.array([image.shape[1], image.shape[0]], np.float64)
    dots = landmarks.image_xy.astype(np.float64) * size
    middle = 0.5 * (dots.min(axis=0) + dots.max(axis=0))
    half = max(0.65 * float(np.ptp(dots, axis=0).max()), 8.0)
    low = np.clip(middle - half, 0.0, size - 2.0).astype(int)
    high = np.clip(middle + half, low + 2.0, size).astype(int)
    xy = (dots - low) / (high - low)
    return image[low[1] : high[1], low[0] : high[0]], replace(landmarks, image_xy=xy)


def _over_picture(
    joints: Array, points: Array, landmarks: PoseLandmarks, lean_rad: float, width: int, height: int
) -> tuple[Array, Array]:
    """Return joints and contact points in pixels: leant back, then shifted and scaled onto the landmarks."""
    c, s = np.cos(lean_rad), np.sin(lean_rad)
    leant = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    flat, soles = ((leant @ (part - joints[0]).T).T[:, :2] * [1.0, -1.0] for part in (joints, points))
    own, seen = zip(*_FITTED, strict=True)
    target = landmarks.image_xy[list(seen)].astype(np.float64) * [width, height]
    source = flat[list(own)]
    weight = landmarks.visibility[list(seen)].astype(np.float64) + 1e-3
    weight = weight / weight.sum()
    middle, aim = weight @ source, weight @ target
    spread = float(weight @ ((source - middle) ** 2).sum(axis=1))
    scale = float(weight @ ((source - middle) * (target - aim)).sum(axis=1)) / max(spread, 1e-9)
    return (flat - middle) * scale + aim, (soles - middle) * scale + aim


def _draw(canvas: Image, joints: Array, points: Array, contacts: NDArray[np.float32], thick: int = 2) -> None:
    for child in range(1, len(JOINT_NAMES)):
        _line(canvas, joints[PARENTS[child]], joints[child], _colour(JOINT_NAMES[child]), thick)
    for joint in joints:
        _dot(canvas, joint, _MIDDLE, 1)
    for point, contact in zip(points, contacts, strict=True):
        _dot(canvas, point, _STANDING if contact > 0.5 else _FAINT, 3)


def _panels(canvas: Image, joints: Array, points: Array, contacts: NDArray[np.float32]) -> None:
    """Draw the skeleton from the front (as the camera sees it), and from its own left (facing left)."""
    height, width = canvas.shape[:2]
    scale = height / _SHOWN_M
    floor = height - 0.1 * scale
    _line(canvas, np.array([0.0, floor]), np.array([float(width), floor]), _FAINT, 1)
    for axis, sign, at in ((0, 1.0, 0.28 * width), (2, -1.0, 0.74 * width)):
        flat = [
            np.stack([at + sign * scale * (part[:, axis] - joints[0, axis]), floor - scale * part[:, 1]], axis=1)
            for part in (joints, points)
        ]
        _draw(canvas, flat[0], flat[1], contacts)


def _colour(name: str) -> Colour:
    return _LEFT if name.startswith("left") else _RIGHT if name.startswith("right") else _MIDDLE


def _line(canvas: Image, start: Array, end: Array, colour: Colour, thick: int) -> None:
    cv2 = opencv()
    cv2.line(canvas, _pixel(start), _pixel(end), colour, thick, cv2.LINE_AA)


def _dot(canvas: Image, at: Array, colour: Colour, radius: int) -> None:
    cv2 = opencv()
    cv2.circle(canvas, _pixel(at), radius, colour, -1, cv2.LINE_AA)


def _pixel(point: Array) -> tuple[int, int]:
    x, y = np.clip(np.nan_to_num(point), -10_000.0, 10_000.0)
    return round(float(x)), round(float(y))
