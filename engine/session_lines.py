"""Observations without sound as lines of a session's record, exact to the bit, and back."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.types import ControlEvent, Heartbeat, Observation, PoseFrame, PoseLandmarks, TempoReference

_LANDMARKS = (("positions_m", (33, 3)), ("visibility", (33,)), ("image_xy", (33, 2)))
_POSE = (("rotations", (24, 3)), ("translation_m", (3,)), ("contacts", (4,)))
# No show lasts thirty years, and the numbers of a core have 64 bits.
_LONGEST_NS = 10**18
_Shapes = tuple[tuple[str, tuple[int, ...]], ...]


def to_line(observation: Observation) -> dict[str, Any] | None:
    """Return what is written of an observation; None for sound, which has files of its own."""
    if isinstance(observation, ControlEvent):
        return {"control": observation.name, "value": observation.value, "time_ns": observation.time_ns}
    if isinstance(observation, Heartbeat):
        return {"heartbeat": 1, "time_ns": observation.time_ns}
    if isinstance(observation, PoseLandmarks):
        packed = _pack(observation, _LANDMARKS)
        return {"landmarks": packed, "aspect": observation.aspect, "time_ns": observation.time_ns}
    if isinstance(observation, PoseFrame):
        return {
            "pose": _pack(observation, _POSE),
            "performer": observation.performer,
            "source_ns": observation.source_ns,
            "time_ns": observation.time_ns,
        }
    if isinstance(observation, TempoReference):
        return {
            "tempo": observation.tempo_bpm,
            "beat": observation.beat,
            "source": observation.source,
            "playing": observation.playing,
            "time_ns": observation.time_ns,
        }
    return None


def from_line(line: dict[str, Any]) -> Observation | None:
    """Return the observation of a line; None for a line about sound.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: the line is damaged.
    """
    time_ns = _time(line["time_ns"])
    if "control" in line:
        return ControlEvent(time_ns, str(line["control"]), line["value"])
    if "heartbeat" in line:
        return Heartbeat(time_ns)
    if "landmarks" in line:
        positions, visibility, image = _unpack(line["landmarks"], _LANDMARKS)
        return PoseLandmarks(time_ns, positions, visibility, image, float(line["aspect"]))
    if "pose" in line:
        rotations, translation, contacts = _unpack(line["pose"], _POSE)
        performer = str(line["performer"])
        return PoseFrame(time_ns, _time(line["source_ns"]), rotations, translation, contacts, performer)
    if "tempo" in line:
        tempo, beat = float(line["tempo"]), float(line["beat"])
        return TempoReference(time_ns, beat, tempo, str(line["source"]), bool(line["playing"]))
    return None


def _time(value: Any) -> int:
    time_ns = int(value)
    if abs(time_ns) > _LONGEST_NS:
        raise ValueError(f"no show lasts {time_ns:.3g} ns")
    return time_ns


def _pack(owner: object, shapes: _Shapes) -> str:
    values = np.concatenate([np.ravel(getattr(owner, name)) for name, _ in shapes])
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _unpack(text: str, shapes: _Shapes) -> list[NDArray[np.float32]]:
    values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32)
    sizes = [int(np.prod(shape)) for _, shape in shapes]
    if len(values) != sum(sizes):
        raise ValueError(f"expected {sum(sizes)} numbers, got {len(values)}")
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, (_, shape) in zip(parts, shapes, strict=True)]
