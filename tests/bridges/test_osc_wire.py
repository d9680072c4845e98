"""The OSC reader and writer, judged by python-osc, an implementation that is not ours."""

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pythonosc import osc_bundle_builder, osc_message_builder
from pythonosc.osc_bundle import OscBundle
from pythonosc.parsing import ntp

from bridges.osc_wire import (
    BundleTemplate,
    NumberMessage,
    OscError,
    OscMessage,
    decode,
    encode_bundle,
    encode_message,
    timetag,
)

quick = settings(max_examples=150, deadline=None, derandomize=True)

addresses = st.text("abcxyz/019_", min_size=0, max_size=30).map("/".__add__)
values = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.floats(width=32, allow_nan=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
)


def built(address, arguments, tags=None):
    """Return the message as python-osc builds it."""
    builder = osc_message_builder.OscMessageBuilder(address=address)
    for index, value in enumerate(arguments):
        kind = tags[index] if tags else {int: "i", float: "f", str: "s"}[type(value)]
        builder.add_arg(value, kind)
    return builder.build()


def bundled(messages):
    builder = osc_bundle_builder.OscBundleBuilder(osc_bundle_builder.IMMEDIATELY)
    for message in messages:
        builder.add_content(message)
    return builder.build()


@quick
@given(addresses, st.lists(values, max_size=8))
def test_messages_are_those_of_python_osc(address, arguments):
    assert encode_message(address, arguments) == built(address, arguments).dgram


@quick
@given(addresses, st.lists(values, max_size=8))
def test_what_is_written_reads_back(address, arguments):
    message = encode_message(address, arguments)
    assert decode(message) == [OscMessage(address, tuple(arguments))]
    assert decode(encode_bundle([message, encode_bundle([message, message])])) == 3 * decode(message)


def test_bundles_are_those_of_python_osc():
    arguments = [("/a", [1, 2.5]), ("/longer/address", ["text", -1.0])]
    ours = encode_bundle([encode_message(address, args) for address, args in arguments])
    assert ours == bundled([built(address, args) for address, args in arguments]).dgram


@pytest.mark.parametrize("unix_ns", [0, 1_700_000_000_123_456_789, 1_763_700_000_999_999_999])
def test_timetag_is_ntp(unix_ns):
    seconds, fraction = divmod(timetag(unix_ns), 2**32)
    ours_ns = (seconds - 2_208_988_800) * 10**9 + fraction * 10**9 / 2**32
    assert ours_ns == pytest.approx(unix_ns, abs=300)  # 300 ns: what a float64 resolves here
    theirs = int.from_bytes(ntp.system_time_to_ntp(unix_ns / 1e9), "big")
    assert abs(theirs - timetag(unix_ns)) < 2**32 * 1e-6


def test_number_message_is_the_general_one():
    assert NumberMessage("/pdd/note", "iiif").pack(9, 36, 100, 0.25) == encode_message("/pdd/note", (9, 36, 100, 0.25))


MESSAGES = [("/frame", (7, 0.5)), *((f"/part/{'x' * k}", ("name", 1.0, k, 2.0)) for k in range(40))]


@pytest.mark.parametrize("max_bytes", [100, 256, 1452, 60_000])
def test_template_is_byte_identical_to_python_osc(max_bytes):
    template = BundleTemplate(MESSAGES, max_bytes)
    numbers = np.random.default_rng(0).normal(size=template.float_count).astype(np.float32)
    template.write(numbers)
    template.write_int(0, -12345)
    left = iter(numbers.tolist())
    wanted = [
        built(address, [next(left) if isinstance(value, float) else value for value in arguments])
        for address, arguments in [("/frame", (-12345, 0.0)), *MESSAGES[1:]]
    ]
    sent = [bytes(datagram) for datagram in template.datagrams]
    assert all(len(datagram) <= max_bytes for datagram in sent)
    position = 0
    for datagram in sent:
        count = OscBundle(datagram).num_contents
        assert datagram == bundled(wanted[position : position + count]).dgram
        position += count
    assert position == len(wanted)


def test_template_packs_greedily_and_keeps_what_was_not_written():
    template = BundleTemplate(MESSAGES, 256)
    sizes = [len(datagram) for datagram in template.datagrams]
    for index, size in enumerate(sizes[:-1]):
        first_of_next = decode(bytes(template.datagrams[index + 1]))[0]
        assert size + 4 + len(encode_message(first_of_next.address, first_of_next.arguments)) > 256
    assert [m.address for d in template.datagrams for m in decode(bytes(d))] == [address for address, _ in MESSAGES]


def test_template_stamps_every_bundle():
    template = BundleTemplate(MESSAGES, 256)
    template.stamp(timetag(1_700_000_000_500_000_000))
    for datagram in template.datagrams:
        assert OscBundle(bytes(datagram)).timestamp == pytest.approx(1_700_000_000.5, abs=1e-6)


def test_template_refuses_a_wrong_number_of_numbers():
    template = BundleTemplate(MESSAGES)
    with pytest.raises(ValueError, match="shape"):
        template.write(np.zeros(template.float_count - 1, dtype=np.float32))


def test_reads_every_type_python_osc_writes():
    arguments = [1, 2.5, "text", b"\1\2\3", True, False, None, 2**40, 1.25, [1, [2.0]], (1, 2, 3, 4), 0xFF00FF00]
    tags = ["i", "f", "s", "b", "T", "F", "N", "h", "d", None, "m", "r"]
    builder = osc_message_builder.OscMessageBuilder(address="/all")
    for value, tag in zip(arguments, tags, strict=True):
        builder.add_arg(value, tag)
    (message,) = decode(builder.build().dgram)
    assert message.arguments == (
        1,
        2.5,
        "text",
        b"\1\2\3",
        True,
        False,
        None,
        2**40,
        1.25,
        1,
        2.0,
        0x01020304,
        0xFF00FF00,
    )


def test_reads_a_message_without_type_tags():
    assert decode(b"/pdd/panic\0\0") == [OscMessage("/pdd/panic", ())]


GOOD = encode_message("/pdd/energy", (0.5, "text", 3))


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0\0\0\0",
        b"hello",
        b"/a\0",
        b"/abc",
        b"/a\0\0i\0\0\0",
        b"/a\0\0,i\0\0",
        b"/a\0\0,i\0\0\0\0\0\1\0\0\0\2",
        b"/a\0\0,z\0\0",
        b"/a\0\0,s\0\0abcd",
        b"/a\0\0,b\0\0\x7f\xff\xff\xff",
        b"/a\0\0,b\0\0\xff\xff\xff\xff",
        b"/a\0\0,b\0\0\0\0\0\1x",
        b"/\xff\0\0,\0\0\0",
        b"#bundle\0",
        b"#bundle\0" + bytes(7),
        encode_bundle([GOOD])[:-1],
        encode_bundle([GOOD])[:-4],
        encode_bundle([GOOD]) + b"\0",
        encode_bundle([GOOD]) + struct.pack(">i", 0),
        encode_bundle([GOOD]) + struct.pack(">i", -4),
        encode_bundle([GOOD]) + struct.pack(">i", 2**31 - 4),
        encode_bundle([GOOD, b"junk"]),
        GOOD[:-4],
        GOOD + bytes(4),
    ],
)
def test_refuses_what_is_not_osc(packet):
    with pytest.raises(OscError):
        decode(packet)


def nested(depth):
    packet = GOOD
    for _ in range(depth):
        packet = encode_bundle([packet])
    return packet


def test_depth_and_number_are_bounded():
    assert len(decode(nested(4))) == 1
    for depth in (5, 100, 3000):
        with pytest.raises(OscError, match="deeper"):
            decode(nested(depth))
    with pytest.raises(OscError, match="more than"):
        decode(encode_bundle([b"/a\0\0,\0\0\0"] * 4000))
    with pytest.raises(OscError, match="more than"):
        decode(encode_bundle([encode_bundle([b"/a\0\0,\0\0\0"] * 100)] * 10))


@quick
@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_else(packet):
    for start in (b"", b"/pdd/", b"#bundle\0" + bytes(8)):
        with contextlib.suppress(OscError):
            decode(start + packet)


@quick
@given(st.data())
def test_mutated_bundles_raise_nothing_else(data):
    packet = bytearray(encode_bundle([GOOD, encode_bundle([GOOD, GOOD]), GOOD]))
    for _ in range(data.draw(st.integers(1, 6))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    try:
        messages = decode(bytes(packet))
    except OscError:
        return
    assert all(message.address.startswith("/") for message in messages)
