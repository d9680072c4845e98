"""The numeric OSC dialect, for TouchDesigner, Unity, Resolume, Max and whatever else listens.

One bundle per PoseFrame, in as many datagrams as it needs; everything else as single messages. The lead dancer's
poses are at /pdd/frame, /pdd/root and so on; every other performer's at /pdd/<performer>/frame ... The README has the
table of addresses.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bridges.endpoint import Endpoint
from bridges.osc_control import OscControl
from bridges.osc_udp import UdpSender
from bridges.osc_wire import BundleTemplate, NumberMessage, encode_bundle, encode_message, timetag
from bridges.pose_kinematics import PoseKinematics
from engine.body.skeleton import JOINT_NAMES
from engine.clock import Clock
from engine.types import (
    NS_PER_S,
    BeatEvent,
    ClockEvent,
    ControlEvent,
    NoteEvent,
    OutputEvent,
    PoseFrame,
    StatusEvent,
)

_CLOCK = NumberMessage("/pdd/clock", "fff")
_BEAT = NumberMessage("/pdd/beat", "iiff")
_NOTE = NumberMessage("/pdd/note", "iiif")
_MAX_TEXT_BYTES = 512
"""A longer status message is cut, so that it stays within one datagram."""
_INT_MAX = 2**31 - 1
_NEXT_BEAT = 1.0 - 2.0**-25
"""From this phase on float32 has no word but 1, which is the next beat's 0: the beat's number is rounded up, too."""
_NOT_IN_ADDRESS = re.compile(r"[^A-Za-z0-9_-]")
_MAX_PERFORMERS = 4200
"""The largest crowd, and those around it. Each costs a prepared bundle of 5 kB; names that never end must not fill the
memory."""
_MAX_NAME = 32

_JOINTS = len(JOINT_NAMES)
_ROOT_END = 1 + 7
_JOINTS_END = _ROOT_END + 7 * _JOINTS


class OscBridge:
    """Sends output events as numeric OSC, and takes control messages if it is told where to listen.

    Args:
        host: where to send: name or address, IPv4 or IPv6.
        port: of the receiver.
        clock: session time; stamps control messages, and gives presentation timetags their wall-clock time.
        listen: (host, port) for control messages; None: do not listen.
        smpl: also send /pdd/smpl.
        presentation_timetags: give every packet its presentation time instead of "immediately".
        kinematics: shared with the bridges to other receivers; None: its own.

    Threads: `send` on one; the control listener has its own.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        clock: Clock,
        listen: tuple[str, int] | None = None,
        smpl: bool = False,
        presentation_timetags: bool = False,
        kinematics: PoseKinematics | None = None,
    ) -> None:
        self.name = f"osc {Endpoint(host, port)}"
        self.sender = UdpSender(host, port)
        self.control = OscControl(*listen, clock=clock) if listen else None
        self._clock = clock
        self._presentation_timetags = presentation_timetags
        self._smpl = smpl
        self._kinematics = kinematics or PoseKinematics()
        self._poses = {"": _PoseBundle(smpl)}
        self._music: ClockEvent | None = None
        self._told_ns = -(2**62)
        """Of which presentation time the receiver was last told where the music is."""

    def open(self, on_control: Callable[[ControlEvent], None]) -> None:
        """Resolve the receiver and bind the control port.

        Raises:
            UserError: no such host, or the control port cannot be had.
        """
        self.sender.open()
        if self.control is not None:
            try:
                self.control.open(on_control)
            except BaseException:
                self.sender.close()
                raise

    def send(self, event: OutputEvent) -> None:
        """Send one event now; metrics are not sent. Network errors are counted in `sender.errors`."""
        if isinstance(event, PoseFrame):
            bundle = self._bundle(event.performer)
            if bundle is None:
                return
            if not event.performer:
                self._keep_time(event)
            if self._presentation_timetags:
                bundle.template.stamp(self._timetag(event.time_ns))
            bundle.write(event, *self._kinematics.of(event))
            self.sender.send(bundle.template.datagrams)
            return
        if isinstance(event, ClockEvent):
            self._music = event
            if 0 <= self._told_ns - event.time_ns < NS_PER_S:
                return  # late: its moment was made up for
            self._told_ns = event.time_ns
        self._send_single(event)

    def _keep_time(self, frame: PoseFrame) -> None:
        """Go on with the music where a pose comes without its clock: the core is late, and its motion is carried on."""
        music = self._music
        if music is None or frame.time_ns <= self._told_ns:
            return
        self._told_ns = frame.time_ns
        self._send_single(music.carried_to(frame.time_ns))

    def _send_single(self, event: OutputEvent) -> None:
        message = _single_message(event)
        if message is not None:
            if self._presentation_timetags:
                message = encode_bundle([message], self._timetag(event.time_ns))
            self.sender.send((message,))

    def close(self) -> None:
        """Tell the receiver that the stream has ended, and close; idempotent."""
        self.send(StatusEvent(self._clock.now_ns(), "osc", "info", "stream ended"))
        self.sender.close()
        if self.control is not None:
            self.control.close()

    def _bundle(self, performer: str) -> _PoseBundle | None:
        """Return the performer's bundle, laid out when they first appear; None beyond the limit."""
        bundle = self._poses.get(performer)
        if bundle is None and len(self._poses) < _MAX_PERFORMERS:
            name = _NOT_IN_ADDRESS.sub("_", performer)[:_MAX_NAME]
            bundle = self._poses[performer] = _PoseBundle(self._smpl, f"/pdd/{name}")
        return bundle

    def _timetag(self, time_ns: int) -> int:
        return timetag(time.time_ns() + time_ns - self._clock.now_ns())


def _single_message(event: OutputEvent) -> bytes | None:
    """Return the message for anything but a pose, None for what has no place in the dialect."""
    if isinstance(event, ClockEvent):
        return _CLOCK.pack(event.beat, event.phase if event.phase < _NEXT_BEAT else 0.0, event.tempo_bpm)
    if isinstance(event, BeatEvent):
        return _BEAT.pack(_int32(event.beat_index), event.bar_beat, event.tempo_bpm, event.confidence)
    if isinstance(event, NoteEvent):
        return _NOTE.pack(event.channel, event.pitch, event.velocity, event.duration_ns / NS_PER_S)
    if isinstance(event, StatusEvent):
        return encode_message("/pdd/status", (_text(event.component), _text(event.level), _text(event.message)))
    if isinstance(event, ControlEvent):
        # Not the address it was asked for by: a bridge that sends to its own control port must not ask again.
        value = 1.0 if event.value is None else event.value
        return encode_message(f"/pdd/control/{event.name}", (_text(value) if isinstance(value, str) else value,))
    return None


def _int32(value: int) -> int:
    return max(-_INT_MAX, min(value, _INT_MAX))


def _text(text: str) -> str:
    """Return it without what would end an OSC string early, and short enough."""
    return text.replace("\0", " ").encode(errors="replace")[:_MAX_TEXT_BYTES].decode(errors="ignore")


class _PoseBundle:
    """The bundle of one performer's PoseFrames. Threads: one."""

    def __init__(self, smpl: bool, prefix: str = "/pdd") -> None:
        transform = (0.0,) * 7
        messages: list[tuple[str, tuple[int | float, ...]]] = [
            (f"{prefix}/frame", (0, 0.0)),
            (f"{prefix}/root", transform),
        ]
        messages += [(f"{prefix}/joint/{name}", transform) for name in JOINT_NAMES]
        if smpl:
            messages.append((f"{prefix}/smpl", (0.0,) * (3 + 3 * _JOINTS)))
        self.template = BundleTemplate(messages)
        self._index = 0
        self._values = np.zeros(self.template.float_count, dtype=np.float32)
        self._root = self._values[1:_ROOT_END]
        self._joints = self._values[_ROOT_END:_JOINTS_END].reshape(_JOINTS, 7)
        self._smpl = self._values[_JOINTS_END:]
        self._quaternions = self._joints[:, 3:]

    def write(self, frame: PoseFrame, quaternions: NDArray[np.float32], positions: NDArray[np.float32]) -> None:
        """Put a pose into the template."""
        # q and -q are one rotation; stay on the side of the last frame, so that a receiver which smooths or
        # interpolates the four channels one by one sees no jump. The template holds the last frame.
        flipped = np.vecdot(quaternions, self._quaternions) < 0.0
        self._values[0] = frame.time_ns / NS_PER_S
        self._joints[:, :3] = positions
        self._quaternions[:] = np.where(flipped[:, None], -quaternions, quaternions)
        self._root[:] = self._joints[0]
        if self._smpl.size:
            self._smpl[:3] = frame.translation_m
            self._smpl[3:] = frame.rotations.ravel()
        self.template.write(self._values)
        self.template.write_int(0, self._index)
        self._index = (self._index + 1) & _INT_MAX
