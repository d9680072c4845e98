"""The numeric OSC dialect, for TouchDesigner, Unity, Resolume, Max and whatever else listens.

One bundle per PoseFrame, in as many datagrams as it needs; everything else as single messages. The README has the
table of addresses.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from bridges.endpoint import Endpoint
from bridges.osc_control import OscControl
from bridges.osc_udp import UdpSender
from bridges.osc_wire import BundleTemplate, NumberMessage, encode_bundle, encode_message, timetag
from engine.clock import Clock
from engine.skeleton import (
    JOINT_NAMES,
    axis_angle_to_quaternion,
    forward_kinematics_matrices,
    quaternion_to_matrix,
)
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
    ) -> None:
        self.name = f"osc {Endpoint(host, port)}"
        self.sender = UdpSender(host, port)
        self.control = OscControl(*listen, clock=clock) if listen else None
        self._clock = clock
        self._presentation_timetags = presentation_timetags
        self._pose = _PoseBundle(smpl)

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
            if self._presentation_timetags:
                self._pose.template.stamp(self._timetag(event.time_ns))
            self._pose.write(event)
            self.sender.send(self._pose.template.datagrams)
            return
        message = _single_message(event)
        if message is not None:
            if self._presentation_timetags:
                message = encode_bundle([message], self._timetag(event.time_ns))
            self.sender.send((message,))

    def close(self) -> None:
        """Tell the receiver that the stream has ended, and close; idempotent."""
        self.sender.send((encode_message("/pdd/status", ("osc", "info", "stream ended")),))
        self.sender.close()
        if self.control is not None:
            self.control.close()

    def _timetag(self, time_ns: int) -> int:
        return timetag(time.time_ns() + time_ns - self._clock.now_ns())


def _single_message(event: OutputEvent) -> bytes | None:
    """Return the message for anything but a pose, None for what has no place in the dialect."""
    if isinstance(event, ClockEvent):
        return _CLOCK.pack(event.beat, event.phase, event.tempo_bpm)
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
    """The bundle of a PoseFrame. Threads: one."""

    def __init__(self, smpl: bool) -> None:
        transform = (0.0,) * 7
        messages: list[tuple[str, tuple[int | float, ...]]] = [("/pdd/frame", (0, 0.0)), ("/pdd/root", transform)]
        messages += [(f"/pdd/joint/{name}", transform) for name in JOINT_NAMES]
        if smpl:
            messages.append(("/pdd/smpl", (0.0,) * (3 + 3 * _JOINTS)))
        self.template = BundleTemplate(messages)
        self._index = 0
        self._values = np.zeros(self.template.float_count, dtype=np.float32)
        self._root = self._values[1:_ROOT_END]
        self._joints = self._values[_ROOT_END:_JOINTS_END].reshape(_JOINTS, 7)
        self._smpl = self._values[_JOINTS_END:]
        self._quaternions = self._joints[:, 3:]

    def write(self, frame: PoseFrame) -> None:
        """Put a pose into the template."""
        quaternions = axis_angle_to_quaternion(frame.rotations)
        positions, _ = forward_kinematics_matrices(quaternion_to_matrix(quaternions), frame.translation_m)
        # q and -q are one rotation; stay on the side of the last frame, so that a receiver which smooths or
        # interpolates the four channels one by one sees no jump. The template holds the last frame.
        flipped = (quaternions * self._quaternions).sum(axis=-1) < 0.0
        quaternions[flipped] *= -1.0
        self._values[0] = frame.time_ns / NS_PER_S
        self._joints[:, :3] = positions
        self._quaternions[:] = quaternions
        self._root[:] = self._joints[0]
        if self._smpl.size:
            self._smpl[:3] = frame.translation_m
            self._smpl[3:] = frame.rotations.ravel()
        self.template.write(self._values)
        self.template.write_int(0, self._index)
        self._index = (self._index + 1) & _INT_MAX
