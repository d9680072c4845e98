"""Open Sound Control 1.0 on the wire: a strict reader, a writer, and templates of bundles that are sent every frame.

Source: the OSC 1.0 specification (opensoundcontrol.stanford.edu/spec-1_0.html). Everything is big-endian and padded
to four bytes, which is what makes a whole bundle an array of 32-bit words (see `BundleTemplate`).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

OscValue = int | float | str | bytes | bool | None

MAX_DATAGRAM_BYTES = 1_452
"""The payload of one unfragmented Ethernet frame over IPv6 (1,500 - 40 - 8); IPv4 has room for 20 more."""

IMMEDIATELY = 1
"""The timetag that asks for no delay."""

_BUNDLE = b"#bundle\0"
_BUNDLE_HEAD_BYTES = len(_BUNDLE) + 8
_NTP_EPOCH_S = 2_208_988_800
"""Seconds from 1900, where NTP counts from, to 1970."""

_MAX_DEPTH = 4
"""Bundles nested deeper than this come from no controller; the bound keeps a hostile packet from costing a stack."""
_MAX_MESSAGES = 512
"""Messages in one packet; TouchDesigner's OSC Out packs all its channels into one, so well above any real surface."""


class OscError(ValueError):
    """A packet that is not OSC."""


@dataclass(frozen=True, slots=True)
class OscMessage:
    """One message as it was read: an address and its arguments, arrays flattened."""

    address: str
    arguments: tuple[OscValue, ...]


def timetag(unix_ns: int) -> int:
    """Return the 64-bit NTP timetag of a time in ns since 1970."""
    seconds, fraction_ns = divmod(unix_ns, 1_000_000_000)
    return (seconds + _NTP_EPOCH_S) << 32 | (fraction_ns << 32) // 1_000_000_000


def _padded(text: bytes) -> bytes:
    return text + bytes(4 - len(text) % 4)


def _argument_bytes(value: int | float | str) -> int:
    return len(_padded(value.encode())) if isinstance(value, str) else 4


def encode_message(address: str, arguments: Sequence[int | float | str] = ()) -> bytes:
    """Return one message; int becomes 'i', float 'f', str 's' (UTF-8)."""
    tags = ","
    body = b""
    for value in arguments:
        if isinstance(value, str):
            tags += "s"
            body += _padded(value.encode())
        elif isinstance(value, int):
            tags += "i"
            body += struct.pack(">i", value)
        else:
            tags += "f"
            body += struct.pack(">f", value)
    return _padded(address.encode()) + _padded(tags.encode()) + body


def encode_bundle(messages: Sequence[bytes], tag: int = IMMEDIATELY) -> bytes:
    """Return one bundle of encoded messages."""
    parts = [_BUNDLE, struct.pack(">Q", tag)]
    for message in messages:
        parts += [struct.pack(">i", len(message)), message]
    return b"".join(parts)


class NumberMessage:
    """A message of numbers only, packed in well under a microsecond.

    Args:
        address: OSC address.
        tags: one letter an argument, 'i' or 'f'.
    """

    def __init__(self, address: str, tags: str) -> None:
        self._head = _padded(address.encode()) + _padded(b"," + tags.encode())
        self._body = struct.Struct(">" + tags)

    def pack(self, *numbers: float) -> bytes:
        """Return the message with these arguments."""
        return self._head + self._body.pack(*numbers)


class BundleTemplate:
    """Bundles that are sent every frame with the same addresses and other numbers.

    The packets are laid out once, in one buffer; a frame then costs one scattered copy into it, a few
    microseconds, where building the same bytes message by message costs half a millisecond.

    Args:
        messages: (address, arguments) in the order of sending. Every float is a slot that `write` fills and every
            int one that `write_int` may change; strings stay.
        max_bytes: messages go to a further datagram where one would grow beyond this.

    Threads: one.
    """

    def __init__(
        self, messages: Sequence[tuple[str, Sequence[int | float | str]]], max_bytes: int = MAX_DATAGRAM_BYTES
    ) -> None:
        packets: list[list[bytes]] = [[]]
        size = _BUNDLE_HEAD_BYTES
        start = _BUNDLE_HEAD_BYTES  # of the next message's size field in the whole buffer
        floats: list[int] = []
        ints: list[int] = []
        for address, arguments in messages:
            message = encode_message(address, arguments)
            if packets[-1] and size + 4 + len(message) > max_bytes:
                packets.append([])
                size = _BUNDLE_HEAD_BYTES
                start += _BUNDLE_HEAD_BYTES
            packets[-1].append(message)
            size += 4 + len(message)
            start += 4 + len(message)
            slot = start - sum(_argument_bytes(value) for value in arguments)
            for value in arguments:
                if isinstance(value, float):
                    floats.append(slot // 4)
                elif isinstance(value, int):
                    ints.append(slot // 4)
                slot += _argument_bytes(value)
        bundles = [encode_bundle(packet) for packet in packets]
        self._buffer = bytearray(b"".join(bundles))
        self._floats: NDArray[np.float32] = np.frombuffer(self._buffer, dtype=">f4")
        self._float_slots = np.array(floats, dtype=np.intp)
        self._ints: NDArray[np.int32] = np.frombuffer(self._buffer, dtype=">i4")
        self._int_slots = ints
        ends = list(itertools.accumulate(map(len, bundles)))
        self._starts = [0, *ends[:-1]]
        whole = memoryview(self._buffer)
        self.datagrams: tuple[memoryview, ...] = tuple(
            whole[begin:end] for begin, end in zip(self._starts, ends, strict=True)
        )
        """What to send; valid until the next `write`."""

    @property
    def float_count(self) -> int:
        """How many numbers `write` takes."""
        return len(self._float_slots)

    def write(self, values: NDArray[np.float32]) -> None:
        """Put `values` (float_count,) into the float slots, in the order of the messages."""
        self._floats[self._float_slots] = values

    def write_int(self, index: int, value: int) -> None:
        """Put a value into the `index`-th int slot."""
        self._ints[self._int_slots[index]] = value

    def stamp(self, tag: int) -> None:
        """Set the timetag of every bundle."""
        for start in self._starts:
            struct.pack_into(">Q", self._buffer, start + len(_BUNDLE), tag)


def decode(packet: bytes) -> list[OscMessage]:
    """Read a packet: one message, or a bundle and what is nested in it. Timetags are ignored.

    All or nothing: a packet with one broken element gives none of its messages.

    Raises:
        OscError: it is not OSC, nested too deep, or holds too many messages.
    """
    messages: list[OscMessage] = []
    pending = [(0, len(packet), 0)]
    while pending:
        start, end, depth = pending.pop()
        if packet[start : start + len(_BUNDLE)] != _BUNDLE:
            messages.append(_decode_message(packet, start, end))
            if len(messages) > _MAX_MESSAGES:
                raise OscError(f"more than {_MAX_MESSAGES} messages in a packet")
            continue
        if depth == _MAX_DEPTH:
            raise OscError(f"bundles nested deeper than {_MAX_DEPTH}")
        # Depth first, in the order of sending: the stack is filled backwards.
        pending += [(a, b, depth + 1) for a, b in reversed(_elements(packet, start, end))]
    return messages


def _elements(packet: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """Return the extents of a bundle's elements."""
    position = start + _BUNDLE_HEAD_BYTES
    if position > end:
        raise OscError("a bundle without a timetag")
    extents = []
    while position < end:
        size, position = _number(packet, position, end, _INT)
        if size <= 0 or size % 4 or size > end - position:
            raise OscError(f"a bundle element of {size} bytes where {end - position} are left")
        extents.append((position, position + size))
        if len(extents) > _MAX_MESSAGES:
            raise OscError(f"more than {_MAX_MESSAGES} elements in a bundle")
        position += size
    return extents


def _decode_message(packet: bytes, start: int, end: int) -> OscMessage:
    if (end - start) % 4 or packet[start : start + 1] != b"/":
        raise OscError("neither a message nor a bundle")
    address, position = _string(packet, start, end)
    if position == end:  # senders older than OSC 1.0 leave out an empty list of type tags
        return OscMessage(address, ())
    tags, position = _string(packet, position, end)
    if not tags.startswith(","):
        raise OscError("no type tags")
    arguments: list[OscValue] = []
    for tag in tags[1:]:
        if tag in _FIXED:
            value, position = _number(packet, position, end, _FIXED[tag])
            arguments.append(value)
        elif tag in "sS":
            text, position = _string(packet, position, end)
            arguments.append(text)
        elif tag == "b":
            size, position = _number(packet, position, end, _INT)
            if not 0 <= size <= end - position:
                raise OscError(f"a blob of {size} bytes where {end - position} are left")
            arguments.append(packet[position : position + size])
            position += size + -size % 4
        elif tag in _CONSTANTS:
            arguments.append(_CONSTANTS[tag])
        elif tag not in "[]":
            raise OscError(f"unknown type tag {tag!r}")
    if position != end:
        raise OscError(f"{end - position} bytes beyond the last argument")
    return OscMessage(address, tuple(arguments))


_INT = struct.Struct(">i")
# Characters, colours and MIDI are read as the integers they are made of: nothing here listens to them.
_FIXED = {tag: struct.Struct(">" + code) for tag, code in zip("ifhdtcrm", "ifqdQIII", strict=True)}
_CONSTANTS: dict[str, OscValue] = {"T": True, "F": False, "N": None, "I": True}


def _number(packet: bytes, position: int, end: int, kind: struct.Struct) -> tuple[Any, int]:
    if kind.size > end - position:
        raise OscError("cut short")
    return kind.unpack_from(packet, position)[0], position + kind.size


def _string(packet: bytes, position: int, end: int) -> tuple[str, int]:
    stop = packet.find(b"\0", position, end)
    after = stop + 4 - (stop - position) % 4
    if stop < 0 or after > end:
        raise OscError("a string without an end")
    try:
        return packet[position:stop].decode(), after
    except UnicodeDecodeError as error:
        raise OscError("a string that is not UTF-8") from error
