"""Read BVH (Biovision Hierarchy) files of any skeleton and channel order.

The format (Meredith & Maddock 2001, "Motion capture file formats explained"): a hierarchy of joints with offsets, then
one row of channels a frame, in the order the hierarchy names them. A joint's rotation is the product of its channels'
rotations in the order they are listed (Zrotation Xrotation Yrotation is Rz Rx Ry), in degrees. Units of length are the
file's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_AXES = {"X": 0, "Y": 1, "Z": 2}
_MOST_JOINTS = 512
"""More than any rig with fingers and face has: a file with more is not a body."""


@dataclass(frozen=True, slots=True)
class BvhMotion:
    """A motion of J joints over T frames.

    Attributes:
        names: of the joints, parents before children.
        parents: (J,) index of each joint's parent, -1 for the root.
        offsets: (J, 3) from the parent, at rest.
        ends: (J, 3) offset of the joint's end site, NaN where it has none.
        translations: (T, J, 3) from the parent; the offset unless the file moves the joint.
        rotations: (T, J, 3, 3) relative to the parent.
        frame_time_s: > 0.
    """

    names: tuple[str, ...]
    parents: NDArray[np.int64]
    offsets: NDArray[np.float64]
    ends: NDArray[np.float64]
    translations: NDArray[np.float64]
    rotations: NDArray[np.float64]
    frame_time_s: float

    def world(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the joints' positions (T, J, 3) and rotations (T, J, 3, 3) in the world."""
        return place(self.parents, self.translations, self.rotations)

    def rest_positions(self) -> NDArray[np.float64]:
        """Return the joints (J, 3) with all rotations zero, the root at the origin."""
        positions = np.zeros_like(self.offsets)
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                positions[joint] = positions[parent] + self.offsets[joint]
        return positions


def place(
    parents: NDArray[np.int64], translations: NDArray[np.float64], rotations: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Chain local translations (T, J, 3) and rotations (T, J, 3, 3) into the world; parents come before children."""
    positions, world = np.empty_like(translations), np.empty_like(rotations)
    for joint, parent in enumerate(parents):
        if parent < 0:
            positions[:, joint], world[:, joint] = translations[:, joint], rotations[:, joint]
        else:
            turned = world[:, parent] @ translations[:, joint, :, None]
            positions[:, joint] = positions[:, parent] + turned[..., 0]
            world[:, joint] = world[:, parent] @ rotations[:, joint]
    return positions, world


def read_bvh(path: Path) -> BvhMotion:
    """Read a file.

    Raises:
        ValueError: it is not a BVH file, is cut off, or holds values that are not finite.
        OSError: it cannot be opened.
    """
    text = path.read_text(encoding="latin-1")
    head, found, tail = text.partition("MOTION")
    if not found:
        raise ValueError("it has no MOTION section")
    hierarchy = _Hierarchy(head)
    frames, frame_time_s, values = _motion(tail, sum(len(c) for c in hierarchy.channels))
    count = len(hierarchy.names)
    translations = np.repeat(np.array(hierarchy.offsets)[None], frames, axis=0)
    rotations = np.repeat(np.eye(3)[None, None], count, axis=1).repeat(frames, axis=0)
    column = 0
    for joint, channels in enumerate(hierarchy.channels):
        moved = {name[0].upper(): column + k for k, name in enumerate(channels) if name.lower().endswith("position")}
        for axis, place_ in moved.items():
            translations[:, joint, _AXES[axis]] = values[:, place_]
        for k, name in enumerate(channels):
            if name.lower().endswith("rotation"):
                rotations[:, joint] = rotations[:, joint] @ _turn(name[0].upper(), values[:, column + k])
        column += len(channels)
    return BvhMotion(
        tuple(hierarchy.names),
        np.array(hierarchy.parents, dtype=np.int64),
        np.array(hierarchy.offsets),
        np.array(hierarchy.ends),
        translations,
        rotations,
        frame_time_s,
    )


class _Hierarchy:
    """The joints of a file, in the order of its channels."""

    def __init__(self, head: str) -> None:
        self.names: list[str] = []
        self.parents: list[int] = []
        self.offsets: list[tuple[float, float, float]] = []
        self.ends: list[tuple[float, float, float]] = []
        self.channels: list[list[str]] = []
        self._lines = [line.split() for line in head.splitlines() if line.strip()]
        if not self._lines or self._lines[0][0] != "HIERARCHY":
            raise ValueError("it does not begin with HIERARCHY")
        self._read()
        if not self.names:
            raise ValueError("it has no joints")

    def _read(self) -> None:
        open_: list[int | None] = []  # None: an end site
        pending: int | None = None
        for words in self._lines[1:]:
            kind = words[0]
            if kind in ("ROOT", "JOINT"):
                above = [joint for joint in open_ if joint is not None]
                if len(self.names) == _MOST_JOINTS or (kind == "ROOT") != (not self.names):
                    raise ValueError("its hierarchy is not one body")
                self.names.append(" ".join(words[1:]))
                self.parents.append(above[-1] if above else -1)
                self.offsets.append((0.0, 0.0, 0.0))
                self.ends.append((np.nan, np.nan, np.nan))
                self.channels.append([])
                pending = len(self.names) - 1
            elif kind == "End":
                pending = None
            elif kind == "{":
                open_.append(pending)
            elif kind == "}":
                if not open_:
                    raise ValueError("its brackets do not match")
                open_.pop()
            elif kind == "OFFSET" and open_:
                x, y, z = _finite(words[1:4])
                if open_[-1] is None:
                    self.ends[next(joint for joint in reversed(open_) if joint is not None)] = (x, y, z)
                else:
                    self.offsets[open_[-1]] = (x, y, z)
            elif kind == "CHANNELS" and open_ and open_[-1] is not None:
                names = words[2:]
                if len(names) != int(words[1]) or not all(_is_channel(name) for name in names):
                    raise ValueError(f"the channels of {self.names[open_[-1]]} are not understood")
                self.channels[open_[-1]] = names
            else:
                raise ValueError(f"its hierarchy has a line '{' '.join(words)[:40]}'")
        if open_:
            raise ValueError("its hierarchy is cut off")


def _is_channel(name: str) -> bool:
    return name[:1].upper() in _AXES and name[1:].lower() in ("position", "rotation")


def _finite(words: list[str]) -> list[float]:
    values = [float(word) for word in words]
    if len(values) != 3 or not np.isfinite(values).all():
        raise ValueError("an offset is not three numbers")
    return values


def _motion(tail: str, channels: int) -> tuple[int, float, NDArray[np.float64]]:
    words = tail.split()
    if len(words) < 5 or words[0] != "Frames:" or words[2:4] != ["Frame", "Time:"]:
        raise ValueError("its MOTION section is not understood")
    frames, frame_time_s = int(words[1]), float(words[4])
    if not 0.0 < frame_time_s < 10.0:
        raise ValueError(f"its frame time is {frame_time_s}")
    values = np.array(words[5:], dtype=np.float64)
    if frames < 0 or len(values) != frames * channels:
        raise ValueError(f"it is cut off: {len(values)} values, expected {frames} frames of {channels}")
    if not np.isfinite(values).all():
        raise ValueError("it contains NaN or infinity")
    return frames, frame_time_s, values.reshape(frames, channels)


def _turn(axis: str, degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotations (T, 3, 3) about a coordinate axis."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.repeat(np.eye(3)[None], len(degrees), axis=0)
    first, second = {"X": (1, 2), "Y": (2, 0), "Z": (0, 1)}[axis]
    matrix[:, first, first] = matrix[:, second, second] = cos
    matrix[:, first, second], matrix[:, second, first] = -sin, sin
    return matrix
