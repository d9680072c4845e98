"""The control listener: what it takes, and that nothing that arrives can stop it."""

import errno
import itertools
import logging
import math
import queue
import socket
import struct
import threading
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pythonosc import osc_bundle_builder, udp_client

from bridges import osc_udp
from bridges.osc_control import OscControl
from bridges.osc_wire import encode_bundle, encode_message
from engine.clock import VirtualClock
from engine.controls import CONTROLS
from engine.errors import UserError
from engine.types import NS_PER_S, ControlEvent
from tests.ports import unshared_port
from tests.waiting import PATIENCE_S, wait_until

MAX_UDP_PAYLOAD_BYTES = 65_507
fuzz = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Desk:
    """A listener and a lighting desk that talks to it."""

    def __init__(self):
        self.clock = VirtualClock(1_000)
        self.heard = queue.Queue()
        self.control = OscControl("127.0.0.1", 0, clock=self.clock)
        self.control.open(self.heard.put)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._marks = itertools.count()

    def send(self, packet):
        self.socket.sendto(packet, self.control.address)

    def say(self, address, *arguments):
        self.send(encode_message(address, arguments))

    def events(self):
        """Return what was heard up to now; proves that the listener lives."""
        mark = f"mark {next(self._marks)}"
        self.say("/pdd/scene", mark)
        events = []
        while True:
            event = self.heard.get(timeout=PATIENCE_S)
            if event.value == mark:
                return events
            events.append(event)

    def wanted(self):
        return [(event.name, event.value) for event in self.events()]

    def close(self):
        self.control.close()
        self.socket.close()


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.close()


@pytest.fixture
def log_lines():
    """What the listener logs, to be waited for."""
    lines = queue.Queue()
    handler = logging.Handler()
    handler.emit = lambda record: lines.put(record.getMessage())
    logger = logging.getLogger("bridges.osc_control")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("panic", (), None),
        ("panic", (1,), None),
        ("panic", ("now",), None),
        ("tap", (1.0,), None),
        ("double", (), None),
        ("half", (), None),
        ("downbeat", (1,), None),
        ("blackout", (1,), 1.0),
        ("blackout", (0,), 0.0),
        ("hold", (0.7,), 1.0),
        ("mirror", (1, "more", 3.0), 1.0),
        ("style", ("house",), "house"),
        ("style", (2,), 2.0),
        ("style", ("  pop\x07\n ",), "pop"),
        ("scene", ("x" * 200,), "x" * 64),
        ("scene", (3.9,), 3.0),
        ("energy", (0.25,), 0.25),
        ("energy", (7,), 1.0),
        ("energy", (-1.0,), 0.0),
        ("nudge", (-0.125,), -0.125),
        ("nudge", (50.0,), 1.0),
        ("tempo", (128.0,), 128.0),
        ("tempo", (1e30,), 400.0),
        ("tempo", (0,), 20.0),
    ],
)
def test_controls(desk, name, arguments, value):
    desk.say(f"/pdd/{name}", *arguments)
    (event,) = desk.events()
    assert (event.name, event.time_ns) == (name, 1_000)
    assert event.value == (pytest.approx(value) if isinstance(value, float) else value)


def test_every_control_is_reachable(desk):
    for name in CONTROLS:
        desk.say(f"/pdd/{name}", 1)
    assert [name for name, _ in desk.wanted()] == list(CONTROLS)


@pytest.mark.parametrize("name", [name for name, control in CONTROLS.items() if control.kind == "trigger"])
def test_letting_a_button_go_is_not_pressing_it(desk, name):
    for value in (1, 0, 1.0, 0.0):
        desk.say(f"/pdd/{name}", value)
    desk.send(b"/pdd/%s\0" % name.encode() + bytes(-(len(name) + 6) % 4) + b",F\0\0")
    assert desk.wanted() == [(name, None), (name, None)]
    assert desk.control.counts["rejected"] == desk.control.counts["malformed"] == 0


@pytest.mark.parametrize(
    ("address", "arguments"),
    [
        ("/pdd/nothing", (1,)),
        ("/pdd/", ()),
        ("/pdd/energy", ()),
        ("/pdd/energy", ("much",)),
        ("/pdd/energy", (math.nan,)),
        ("/pdd/tempo", (math.inf,)),
        ("/pdd/panic", (math.nan,)),
        ("/pdd/blackout", ()),
        ("/pdd/style", ("",)),
        ("/pdd/style", (" \x01 ",)),
        ("/pdd/Energy", (1.0,)),
        ("/pdd/control/energy", (1.0,)),
    ],
)
def test_wrong_messages_for_us_are_rejected(desk, address, arguments):
    desk.say(address, *arguments)
    assert desk.events() == []
    assert desk.control.counts["rejected"] == 1


def test_messages_for_others_are_ignored(desk):
    desk.say("/1/fader1", 0.5)
    desk.say("/ping")
    assert desk.events() == []
    assert desk.control.counts == {"accepted": 1}


def test_bundles_are_taken_at_once_whatever_their_timetag(desk):
    in_a_century = 2**64 - 1
    desk.send(encode_bundle([encode_message("/pdd/tempo", (99.0,)), encode_message("/pdd/tap")], in_a_century))
    assert desk.wanted() == [("tempo", 99.0), ("tap", None)]


def test_python_osc_is_understood(desk):
    client = udp_client.SimpleUDPClient(*desk.control.address)
    client.send_message("/pdd/energy", 0.5)
    client.send_message("/pdd/mirror", True)
    client.send_message("/pdd/style", "house")
    bundle = osc_bundle_builder.OscBundleBuilder(osc_bundle_builder.IMMEDIATELY)
    client.send(bundle.build())
    client._sock.close()
    assert desk.wanted() == [("energy", 0.5), ("mirror", 1.0), ("style", "house")]


def test_a_packet_with_one_broken_message_gives_none(desk):
    desk.send(encode_bundle([encode_message("/pdd/tap"), b"junk"]))
    assert desk.events() == []
    assert desk.control.counts["malformed"] == 1


@fuzz
@given(packets=st.lists(st.binary(max_size=200), max_size=8))
def test_survives_random_bytes(desk, packets):
    desk.clock.advance(NS_PER_S)
    for packet in packets:
        desk.send(packet)
        desk.send(b"/pdd/" + packet)
        desk.send(b"#bundle\0" + packet)
    desk.events()


@fuzz
@given(data=st.data())
def test_survives_mutated_bundles(desk, data):
    desk.clock.advance(NS_PER_S)
    inner = [
        encode_message("/pdd/energy", (0.5,)),
        encode_message("/pdd/style", ("pop", 1)),
        encode_message("/pdd/tap"),
    ]
    packet = bytearray(encode_bundle([*inner, encode_bundle(inner)]))
    for _ in range(data.draw(st.integers(1, 8))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    desk.send(bytes(packet[: data.draw(st.integers(0, len(packet)))]))
    for event in desk.events():
        assert event.name in CONTROLS
        assert not isinstance(event.value, float) or math.isfinite(event.value)


def nested(depth):
    packet = encode_message("/pdd/tap")
    for _ in range(depth):
        packet = encode_bundle([packet])
    return packet


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        nested(100),
        nested(3_000),
        b"#bundle\0" + bytes(8) + struct.pack(">i", -1) * 1_000,
        b"#bundle\0" + bytes(8) + struct.pack(">i", 0x7FFFFFFC),
        encode_bundle([encode_message("/pdd/tap")] * 3_000)[:MAX_UDP_PAYLOAD_BYTES],
        encode_bundle([encode_bundle([])] * 3_000),
        bytes(MAX_UDP_PAYLOAD_BYTES),
        b"/" * MAX_UDP_PAYLOAD_BYTES,
        b"/a\0\0," + b"[" * 65_000,
        b"/pdd/style\0\0,b\0\0\x7f\xff\xff\xff",
    ],
    ids=lambda packet: f"{len(packet)} bytes",
)
def test_survives_hostile_packets(desk, packet):
    desk.send(packet)
    assert desk.events() == []
    assert desk.control.counts["malformed"] == 1


def test_a_flood_costs_no_more_than_it_may(desk, log_lines):
    heavy = encode_bundle([encode_message("/other", ("x" * 50_000,)), encode_message("/pdd/tap")])
    for _ in range(9):
        desk.send(heavy)
        assert desk.heard.get(timeout=PATIENCE_S).name == "tap"  # one at a time: the kernel's queue is short
    desk.send(heavy)
    assert "bytes a second" in log_lines.get(timeout=PATIENCE_S)
    desk.clock.advance(NS_PER_S)
    assert desk.events() == []
    assert desk.control.counts["flooded"] == 1


def test_panic_and_blackout_come_through_a_flood(desk, log_lines):
    heavy = encode_bundle([encode_message("/other", ("x" * 60_000,)), encode_message("/pdd/tap")])
    for _ in range(8):
        desk.send(heavy)
        assert desk.heard.get(timeout=PATIENCE_S).name == "tap"
    desk.send(heavy)
    assert "bytes a second" in log_lines.get(timeout=PATIENCE_S)
    desk.say("/pdd/energy", 0.5)
    desk.send(encode_message("/pdd/panic", ("x" * 200,)))
    desk.send(encode_bundle([encode_message("/pdd/blackout", (1,))]))
    for _ in range(20):
        desk.say("/pdd/panic")
    heard = [desk.heard.get(timeout=PATIENCE_S).name for _ in range(10)]
    assert heard == ["blackout"] + ["panic"] * 9
    # Of these, too, no more than they may cost.
    wait_until(lambda: desk.control.counts["flooded"] == 1 + 2 + 11, lambda: desk.control.counts)
    desk.clock.advance(NS_PER_S)
    assert desk.events() == []


def test_more_controls_than_hands_can_give_are_dropped_but_panic_comes_through(desk):
    desk.send(encode_bundle([encode_message("/pdd/tap")] * 250 + [encode_message("/pdd/panic")] * 250))
    assert desk.heard.get(timeout=PATIENCE_S).name == "tap"
    desk.clock.advance(NS_PER_S)
    names = ["tap", *(name for name, _ in desk.wanted())]
    assert names == ["tap"] * 100 + ["panic"] * 10
    assert desk.control.counts["flooded"] == 390
    desk.say("/pdd/tap")
    assert desk.wanted() == [("tap", None)]


def test_of_a_packet_the_newest_value_of_each_control_counts(desk):
    faders = [encode_message(f"/pdd/{name}", (step / 200,)) for step in range(201) for name in ("energy", "density")]
    tap = encode_message("/pdd/tap")
    desk.send(encode_bundle([tap, encode_message("/pdd/blackout", (1,)), *faders, tap]))
    assert desk.wanted() == [("tap", None), ("blackout", 1.0), ("energy", 1.0), ("density", 1.0), ("tap", None)]
    assert (desk.control.counts["outdated"], desk.control.counts["flooded"]) == (400, 0)
    desk.send(encode_bundle([encode_message("/pdd/nudge", (0.25,))] * 2))
    assert desk.wanted() == [("nudge", 0.25)] * 2, "one goes on from the other"


def test_the_last_value_of_a_storm_of_faders_is_not_lost(desk):
    desk.send(encode_bundle([encode_message("/pdd/tap")] * 100))
    for value in (0.25, 0.5, 0.75):
        desk.say("/pdd/energy", value)
    desk.say("/pdd/panic")
    heard = [desk.heard.get(timeout=PATIENCE_S).name for _ in range(101)]
    assert heard == ["tap"] * 100 + ["panic"], "no time has passed: the fader waits"
    desk.clock.advance(NS_PER_S)
    energy = desk.heard.get(timeout=PATIENCE_S)
    assert (energy.name, energy.value, energy.time_ns) == ("energy", 0.75, 1_000 + NS_PER_S)
    assert desk.events() == []


def test_a_failing_receiver_of_events_does_not_stop_it(caplog, monkeypatch):
    monkeypatch.setattr(osc_udp, "time", SimpleNamespace(monotonic=lambda: 0.0))
    heard = queue.Queue()

    def deliver(event):
        heard.put(event)
        raise RuntimeError("inbox full")

    control = OscControl("127.0.0.1", 0, clock=VirtualClock())
    control.open(deliver)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, caplog.at_level(logging.WARNING):
        for _ in range(3):
            sock.sendto(encode_message("/pdd/tap"), control.address)
            assert heard.get(timeout=PATIENCE_S).name == "tap"
        control.close()
    assert control.counts == {"accepted": 3, "failed": 3}
    assert len(caplog.records) == 1  # and the log is not flooded


def test_log_lines_are_one_line(desk, caplog):
    with caplog.at_level(logging.WARNING):
        desk.say("/pdd/x\n\x1b[31mroot: all is well", 1)
        desk.events()
    (record,) = caplog.records
    assert record.getMessage().isprintable()


def test_a_taken_port_is_the_users_to_mend(desk):
    host, port = desk.control.address
    with pytest.raises(UserError, match=rf"port {port} on {host} is in use.*osc.listen=HOST:PORT"):
        OscControl(host, port, clock=VirtualClock()).open(print)


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.EACCES, "above 1023"), (errno.EADDRNOTAVAIL, "one of this machine's"), (errno.ENOMEM, "cannot open")],
)
def test_other_bind_errors_are_the_users_to_mend(monkeypatch, number, message):
    def refuse(self, address):
        raise OSError(number, "no")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(UserError, match=message):
        OscControl("127.0.0.1", 80, clock=VirtualClock()).open(print)


def test_a_wrong_host_is_the_users_to_mend(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError, match=r"cannot listen on 'nowhere'.*127\.0\.0\.1"):
        OscControl("nowhere", 9001, clock=VirtualClock()).open(print)


def test_close_frees_the_port_and_open_takes_it_again():
    address = ("127.0.0.1", unshared_port())
    before = set(threading.enumerate())
    control, heard = OscControl(*address, clock=VirtualClock()), queue.Queue()
    control.open(heard.put)
    (thread,) = set(threading.enumerate()) - before
    control.close()
    control.close()
    assert not thread.is_alive()
    again = OscControl(*address, clock=VirtualClock())
    again.open(heard.put)
    again.open(heard.put)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(encode_message("/pdd/tap"), address)
        assert heard.get(timeout=PATIENCE_S) == ControlEvent(0, "tap", None)
    again.close()
