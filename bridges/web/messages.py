"""The web stage's wire format: one binary message a pose, JSON for the rest; and what a page may send back.

`src/protocol.js` reads what is written here; `tests/bridges/web/test_what_pages_are_sent.py` holds the two layouts
together.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine import controls
from engine.body import skeleton
from engine.types import BeatEvent, ClockEvent, NoteEvent, PoseFrame, StatusEvent

POSE_KIND = 1
POSE_VERSION = 1
POSE_HEADER = struct.Struct("<BBHIddffff")
"""kind u8, version u8, performer u16 (0: the lead dancer; else a place in the `performers` message), index u32,
presentation time f64 [s], beat f64, beat phase f32, tempo f32 [bpm]
(0: unknown), confidence f32, latency f32 [s]. Float32 follow: contacts (4), translation (3) [m], quaternions (24, 4)
xyzw relative to the parent. Little endian, 8-byte numbers on multiples of 8, so that typed arrays can read it."""
POSE_BYTES = POSE_HEADER.size + 4 * (4 + 3 + 24 * 4)

MAX_CONTROL_BYTES = 1024
"""The longest message a page may send; its longest honest one is below 150 bytes."""
_TAP_MAX_AGE_S = 0.5


class Malformed(ValueError):
    """A message that no page of ours sends."""


@dataclass(frozen=True, slots=True)
class ControlMessage:
    """A control as asked for by a page; `at_s` is the session time of the key press, if the page could tell."""

    name: str
    value: controls.ControlValue
    at_s: float | None


@dataclass(frozen=True, slots=True)
class PingMessage:
    """A page asks for the session time; `token` is its own clock [ms], returned as it came."""

    token: float


def pack_pose(frame: PoseFrame, clock: ClockEvent | None, index: int, performer: int = 0) -> bytes:
    """Return the pose message (POSE_BYTES bytes); the clock is carried on to the frame's presentation time."""
    beat, phase, tempo_bpm, confidence = 0.0, 0.0, 0.0, 0.0
    if clock is not None:
        now = clock.carried_to(frame.time_ns)
        beat, phase, tempo_bpm, confidence = now.beat, now.phase, now.tempo_bpm, now.confidence
    header = POSE_HEADER.pack(
        POSE_KIND,
        POSE_VERSION,
        performer,
        index & 0xFFFFFFFF,
        frame.time_ns * 1e-9,
        beat,
        phase,
        tempo_bpm,
        confidence,
        (frame.time_ns - frame.source_ns) * 1e-9,
    )
    quaternions = skeleton.axis_angle_to_quaternion(frame.rotations)
    body = (frame.contacts, frame.translation_m, quaternions)
    return header + b"".join(part.astype("<f4", copy=False).tobytes() for part in body)


def to_json(message: Mapping[str, object]) -> str:
    """Encode one message; numbers JSON has no word for become null."""
    return json.dumps({key: _finite(value) for key, value in message.items()}, separators=(",", ":"))


def beat_json(event: BeatEvent) -> str:
    """Encode a predicted beat."""
    return to_json(
        {
            "type": "beat",
            "time_s": event.time_ns * 1e-9,
            "index": event.beat_index,
            "bar_beat": event.bar_beat,
            "tempo_bpm": event.tempo_bpm,
            "confidence": event.confidence,
        }
    )


def status_json(event: StatusEvent) -> str:
    """Encode a status line, its texts cut to a length a screen can show."""
    return to_json(
        {
            "type": "status",
            "component": event.component[:48],
            "level": event.level,
            "message": event.message[:400],
        }
    )


def performers_json(names: Sequence[str]) -> str:
    """Encode who is on stage: the place of a name is the performer's number in pose messages."""
    return to_json({"type": "performers", "names": [name[:32] for name in names]})


def note_json(event: NoteEvent) -> str:
    """Encode a note."""
    return to_json(
        {
            "type": "note",
            "time_s": event.time_ns * 1e-9,
            "channel": event.channel,
            "pitch": event.pitch,
            "velocity": event.velocity,
            "duration_s": event.duration_ns * 1e-9,
        }
    )


def parse_client_message(text: str) -> ControlMessage | PingMessage:
    """Read a page's message.

    Raises:
        Malformed: not JSON, not an object, an unknown type or control, or a value of the wrong kind.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed("not JSON") from error
    if not isinstance(message, dict):
        raise Malformed("not an object")
    kind = message.get("type")
    if kind == "ping":
        token = _number(message.get("token"))
        if token is None:
            raise Malformed("ping without a token")
        return PingMessage(token)
    if kind != "control":
        raise Malformed("unknown type")
    name = message.get("name")
    if not isinstance(name, str):
        raise Malformed("control without a name")
    try:
        value = controls.coerce(name, message.get("value"))
    except (ValueError, OverflowError) as error:
        raise Malformed(str(error)) from error
    if isinstance(value, str) and not value.isprintable():
        raise Malformed("unprintable name")
    return ControlMessage(name, value, _number(message.get("at_s")))


def control_time_ns(message: ControlMessage, now_ns: int) -> int:
    """Return when a control was meant: the page's own stamp if it is believable (half a second old at most)."""
    if message.at_s is None or not now_ns * 1e-9 - _TAP_MAX_AGE_S <= message.at_s <= now_ns * 1e-9:
        return now_ns
    return round(message.at_s * 1e9)


def _number(value: object) -> float | None:
    """Return a finite float, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return value
