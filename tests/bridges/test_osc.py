"""The numeric OSC dialect, as an independent listener (python-osc) hears it."""

import errno
import logging
import math
import queue
import socket
import struct
import time
from types import SimpleNamespace

import numpy as np
import pytest
from pythonosc import osc_bundle_builder, osc_message_builder
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_packet import OscPacket
from pythonosc.osc_server import BlockingOSCUDPServer
from scipy.spatial.transform import Rotation

from bridges import osc_udp
from bridges.osc import OscBridge
from bridges.pose_kinematics import PoseKinematics
from engine.body.skeleton import JOINT_NAMES, PARENTS, REST_OFFSETS_M
from engine.clock import VirtualClock
from engine.errors import UserError
from engine.types import BeatEvent, ClockEvent, ControlEvent, MetricsEvent, NoteEvent, PoseFrame, StatusEvent
from tests.bridges.udp_receiver import UdpReceiver
from tests.waiting import PATIENCE_S

UDP_PAYLOAD_BYTES = 1_472


def pose(seed=0, time_ns=1_500_000_000, translation=(0.3, 0.95, -0.7)):
    rotations = np.random.default_rng(seed).normal(scale=0.7, size=(24, 3))
    return PoseFrame(time_ns, time_ns - 1, rotations, translation, (1, 1, 0, 0))


@pytest.fixture
def receiver():
    with UdpReceiver() as receiver:
        yield receiver


@pytest.fixture
def bridge_to(receiver):
    opened = []

    def make(**options):
        bridge = OscBridge("127.0.0.1", receiver.getsockname()[1], clock=VirtualClock(), **options)
        bridge.open(lambda control: None)
        opened.append(bridge)
        receiver.follow(bridge.sender)
        return bridge

    yield make
    for bridge in opened:
        bridge.close()


def messages(datagrams):
    """Return {address: arguments}, read by python-osc."""
    return {
        timed.message.address: timed.message.params for datagram in datagrams for timed in OscPacket(datagram).messages
    }


def test_python_osc_server_hears_whole_frames():
    heard = []
    dispatcher = Dispatcher()
    dispatcher.set_default_handler(lambda address, *arguments: heard.append((address, arguments)))
    frames = 5
    with BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher) as server:
        server.timeout = PATIENCE_S
        bridge = OscBridge("127.0.0.1", server.server_address[1], clock=VirtualClock())
        bridge.open(lambda control: None)
        for index in range(frames):
            bridge.send(pose(index, time_ns=index * 16_666_667))
        for _ in range(bridge.sender.sent):
            server.handle_request()
        bridge.close()
    per_frame = ["/pdd/frame", "/pdd/root", *(f"/pdd/joint/{name}" for name in JOINT_NAMES)]
    assert [address for address, _ in heard] == per_frame * frames
    starts = [arguments for address, arguments in heard if address == "/pdd/frame"]
    assert [index for index, _ in starts] == list(range(frames))
    assert [seconds for _, seconds in starts] == pytest.approx([index / 60 for index in range(frames)], abs=1e-6)
    assert {len(arguments) for address, arguments in heard if address != "/pdd/frame"} == {7}
    assert all(isinstance(value, float) for address, arguments in heard[1:26] for value in arguments)


@pytest.mark.parametrize("smpl", [False, True])
def test_datagrams_fit_and_are_byte_identical_to_python_osc(bridge_to, receiver, smpl):
    bridge_to(smpl=smpl).send(pose())
    datagrams = receiver.datagrams()
    assert 2 <= len(datagrams) <= 3
    assert max(map(len, datagrams)) <= UDP_PAYLOAD_BYTES
    for datagram in datagrams:
        bundle = osc_bundle_builder.OscBundleBuilder(osc_bundle_builder.IMMEDIATELY)
        for content in OscBundle(datagram):
            message = osc_message_builder.OscMessageBuilder(address=content.address)
            for value in content.params:
                message.add_arg(value, "i" if isinstance(value, int) else "f")
            bundle.add_content(message.build())
        assert bundle.build().dgram == datagram
        assert datagram[8:16] == (1).to_bytes(8, "big")  # immediately


def test_positions_are_what_the_rotations_say(bridge_to, receiver):
    frame = pose(3)
    bridge_to().send(frame)
    heard = messages(receiver.datagrams())
    joints = np.array([heard[f"/pdd/joint/{name}"] for name in JOINT_NAMES])
    world = []
    for joint, parent in enumerate(PARENTS):
        local = Rotation.from_quat(joints[joint, 3:])
        assert np.abs(local.as_matrix() - Rotation.from_rotvec(frame.rotations[joint]).as_matrix()).max() < 1e-5
        if parent < 0:
            world.append(local)
            assert joints[joint, :3] == pytest.approx(frame.translation_m)
        else:
            world.append(world[parent] * local)
            wanted = joints[parent, :3] + world[parent].apply(REST_OFFSETS_M[joint].copy())
            assert joints[joint, :3] == pytest.approx(wanted, abs=1e-5)
    assert heard["/pdd/root"] == heard["/pdd/joint/pelvis"]


def test_a_raised_left_hand_is_up_and_at_plus_x(bridge_to, receiver):
    rotations = np.zeros((24, 3))
    rotations[JOINT_NAMES.index("left_shoulder")] = (0, 0, math.pi / 2)
    bridge_to().send(PoseFrame(0, 0, rotations, (0, 0.976, 0), (1, 1, 1, 1)))
    heard = messages(receiver.datagrams())
    left, right, head = (heard[f"/pdd/joint/{name}"] for name in ("left_hand", "right_hand", "head"))
    assert left[1] > head[1] + 0.2
    assert left[0] > 0.1
    assert right[0] < -0.5


def test_quaternions_never_jump_to_the_other_sign(bridge_to, receiver):
    bridge = bridge_to()
    before = None
    for step in range(200):  # twice around: past pi, where axis-angle starts again from the other side
        angle = (step * 4 * math.pi / 200 + math.pi) % (2 * math.pi) - math.pi
        rotations = np.zeros((24, 3))
        rotations[0, 1] = angle
        bridge.send(PoseFrame(step, 0, rotations, (0, 0, 0), (1, 1, 1, 1)))
        now = np.array(messages(receiver.datagrams())["/pdd/root"][3:])
        assert before is None or np.abs(now - before).max() < 0.05
        before = now


def test_smpl_is_translation_and_axis_angles(bridge_to, receiver):
    frame = pose(4)
    bridge_to(smpl=True).send(frame)
    heard = messages(receiver.datagrams())["/pdd/smpl"]
    assert np.array_equal(np.float32(heard), np.concatenate([frame.translation_m, frame.rotations.ravel()]))
    bridge_to().send(frame)
    assert "/pdd/smpl" not in messages(receiver.datagrams())


@pytest.mark.parametrize(
    ("event", "address", "arguments"),
    [
        (ClockEvent(0, 0, 33.25, 0.25, 120.5, 0.9), "/pdd/clock", [33.25, 0.25, 120.5]),
        (ClockEvent(0, 0, 5.0 - 1e-8, 1.0 - 1e-8, 120.5, 0.9), "/pdd/clock", [5.0, 0.0, 120.5]),
        (BeatEvent(0, 0, 34, 3, 120.5, 0.75), "/pdd/beat", [34, 3, 120.5, 0.75]),
        (BeatEvent(0, 0, 2**40, 3, 120.5, 0.75), "/pdd/beat", [2**31 - 1, 3, 120.5, 0.75]),
        (NoteEvent(0, 0, 9, 36, 100, 250_000_000), "/pdd/note", [9, 36, 100, 0.25]),
        (StatusEvent(0, "audio", "warning", "läuft nicht"), "/pdd/status", ["audio", "warning", "läuft nicht"]),
        (StatusEvent(0, "a\0b", "info", ""), "/pdd/status", ["a b", "info", ""]),
        (ControlEvent(0, "energy", 0.5), "/pdd/control/energy", [0.5]),
        (ControlEvent(0, "style", "break"), "/pdd/control/style", ["break"]),
        (ControlEvent(0, "panic"), "/pdd/control/panic", [1.0]),
    ],
)
def test_single_messages(bridge_to, receiver, event, address, arguments):
    bridge_to().send(event)
    assert messages(receiver.datagrams()) == {address: arguments}


def test_endless_status_is_cut_at_a_character(bridge_to, receiver):
    bridge_to().send(StatusEvent(0, "ü" * 9_999, "info", "€" * 9_999))
    (datagram,) = receiver.datagrams()
    assert len(datagram) <= UDP_PAYLOAD_BYTES
    component, _, message = messages([datagram])["/pdd/status"]
    assert component == "ü" * 256
    assert message == "€" * 170


def test_the_clock_goes_on_with_poses_that_are_carried_on(bridge_to, receiver):
    bridge, frame_ns = bridge_to(), 20_000_000
    clocks = [ClockEvent(k * frame_ns, 0, 5.0 + 0.04 * k, 0.04 * k, 120.0, 0.9) for k in range(5)]
    frames = [pose(time_ns=k * frame_ns) for k in range(5)]
    # The third and the fourth come late, after their moments were made up for.
    for event in (clocks[0], frames[0], clocks[1], frames[1], frames[2], frames[3], *clocks[2:], frames[4]):
        bridge.send(event)
    heard = [messages([datagram]) for datagram in receiver.datagrams()]
    order = [address for said in heard for address in ("/pdd/clock", "/pdd/frame") if address in said]
    assert order == ["/pdd/clock", "/pdd/frame"] * 5
    said = [clock["/pdd/clock"] for clock in heard if "/pdd/clock" in clock]
    assert [beat for beat, _, _ in said] == pytest.approx([5.0, 5.04, 5.08, 5.12, 5.16])
    assert [phase for _, phase, _ in said] == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16], abs=1e-6)


def test_metrics_are_not_sent(bridge_to, receiver):
    bridge_to().send(MetricsEvent(0, {"a": 1.0}))
    assert receiver.datagrams() == []


def test_presentation_timetags_are_wall_clock_time(receiver):
    clock = VirtualClock(10_000_000_000)
    bridge = OscBridge("127.0.0.1", receiver.getsockname()[1], clock=clock, presentation_timetags=True)
    receiver.follow(bridge.sender)
    bridge.open(lambda control: None)
    before = time.time()
    bridge.send(pose(time_ns=10_050_000_000))
    bridge.send(BeatEvent(10_050_000_000, 0, 1, 1, 120.0, 1.0))
    after = time.time()
    bridge.close()
    datagrams = receiver.datagrams()
    *shown_later, ended = datagrams
    assert len(shown_later) == 3
    assert ended[:8] == b"#bundle\0"
    for datagram in shown_later:
        seconds, fraction = struct.unpack(">II", datagram[8:16])
        shown = seconds - 2_208_988_800 + fraction / 2**32
        assert before + 0.05 - 1e-3 <= shown <= after + 0.05 + 1e-3


def test_close_says_so_once(bridge_to, receiver):
    bridge = bridge_to()
    bridge.close()
    bridge.close()
    assert messages(receiver.datagrams()) == {"/pdd/status": ["osc", "info", "stream ended"]}


def test_ipv6():
    try:
        sock = UdpReceiver("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with sock:
        bridge = OscBridge("::1", sock.getsockname()[1], clock=VirtualClock())
        sock.follow(bridge.sender)
        bridge.open(lambda control: None)
        bridge.send(pose())
        datagrams = sock.datagrams()
        bridge.close()
    assert max(map(len, datagrams)) <= 1_452
    assert len(messages(datagrams)) == 26


def test_a_name_that_is_both_means_ipv4(monkeypatch, receiver):
    port = receiver.getsockname()[1]
    both = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: both)
    bridge = OscBridge("localhost", port, clock=VirtualClock())
    receiver.follow(bridge.sender)
    bridge.open(lambda control: None)
    bridge.send(pose())
    assert len(receiver.datagrams()) == 2
    bridge.close()


def test_unknown_host_is_the_users_to_mend(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError, match=r"cannot find host 'beamer'.*IP address"):
        OscBridge("beamer", 9000, clock=VirtualClock()).open(lambda control: None)


class BrokenSocket:
    """A socket whose network is gone."""

    def __init__(self, error):
        self.error = error

    def sendto(self, datagram, address):
        raise self.error

    def close(self):
        pass


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EAGAIN, errno.ENOBUFS])
def test_network_errors_are_counted_and_logged_once(bridge_to, receiver, monkeypatch, caplog, number):
    monkeypatch.setattr(osc_udp, "time", SimpleNamespace(monotonic=lambda: 0.0))
    bridge = bridge_to()
    working = bridge.sender._socket
    monkeypatch.setattr(bridge.sender, "_socket", BrokenSocket(OSError(number, "gone")))
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            bridge.send(pose())
    assert bridge.sender.errors == 100
    assert len(caplog.records) == 1
    monkeypatch.setattr(bridge.sender, "_socket", working)
    bridge.send(pose())
    assert len(receiver.datagrams()) == 2


def test_control_comes_in_where_it_is_told_to_listen():
    heard = queue.Queue()
    bridge = OscBridge("127.0.0.1", 9, clock=VirtualClock(5), listen=("127.0.0.1", 0))
    bridge.open(heard.put)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"/pdd/panic\0\0,\0\0\0", bridge.control.address)
    assert heard.get(timeout=PATIENCE_S) == ControlEvent(5, "panic", None)
    bridge.close()
    assert bridge.control.address is None


def test_a_taken_control_port_leaves_nothing_open(receiver):
    bridge = OscBridge("127.0.0.1", 9, clock=VirtualClock(), listen=receiver.getsockname())
    with pytest.raises(UserError, match=rf"{receiver.getsockname()[1]} on 127.0.0.1 is in use"):
        bridge.open(lambda control: None)
    bridge.send(pose())
    assert bridge.sender.sent == 0


@pytest.mark.parametrize("smpl", [False, True])
def test_every_performer_has_addresses_of_their_own(bridge_to, receiver, smpl):
    def of(performer, seed):
        frame = pose(seed)
        return PoseFrame(frame.time_ns, 0, frame.rotations, frame.translation_m, frame.contacts, performer)

    bridge = bridge_to(smpl=smpl)
    cast = {"": 1, "partner": 2, "camera": 3, "12": 4}
    for performer, seed in cast.items():
        bridge.send(of(performer, seed))
    datagrams = receiver.datagrams()
    assert max(map(len, datagrams)) <= UDP_PAYLOAD_BYTES
    heard = messages(datagrams)
    parts = ["frame", "root", *(f"joint/{name}" for name in JOINT_NAMES), *(["smpl"] if smpl else [])]
    addresses = {f"/pdd/{performer + '/' if performer else ''}{part}" for performer in cast for part in parts}
    assert set(heard) == addresses
    for performer, seed in cast.items():
        prefix = f"/pdd/{performer}" if performer else "/pdd"
        bridge.send(pose(seed))
        alone = messages(receiver.datagrams())
        # q and -q are one rotation
        for name in JOINT_NAMES:
            here, there = np.array(heard[f"{prefix}/joint/{name}"]), np.array(alone[f"/pdd/joint/{name}"])
            assert here[:3] == pytest.approx(there[:3])
            assert abs(here[3:] @ there[3:]) == pytest.approx(1.0, abs=1e-5)
    assert heard["/pdd/partner/frame"][0] == 0, "frames are counted performer by performer"


def test_hostile_and_endless_performers_stay_addresses_and_few(bridge_to, receiver, monkeypatch):
    monkeypatch.setattr("bridges.osc._MAX_PERFORMERS", 64)
    bridge, datagrams = bridge_to(), []
    for index in range(200):
        frame = pose(index)
        bridge.send(PoseFrame(0, 0, frame.rotations, frame.translation_m, frame.contacts, f"#{index} */?\0{'x' * 900}"))
        datagrams += receiver.datagrams()
    assert max(map(len, datagrams)) <= UDP_PAYLOAD_BYTES
    heard = {address.split("/")[2] for address in messages(datagrams)}
    assert len(heard) < 64
    assert all(not set(name) & set(" #*,/?[]{}\0") for name in heard)


def test_the_largest_crowd_has_addresses(bridge_to, receiver):
    bridge, frame = bridge_to(), pose(0)
    for index in range(4096):
        bridge.send(PoseFrame(0, 0, frame.rotations, frame.translation_m, frame.contacts, str(index + 1)))
        datagrams = receiver.datagrams()
    assert "/pdd/4096/frame" in messages(datagrams)


def test_bridges_that_share_what_is_worked_out_send_the_same(bridge_to, receiver):
    shared = PoseKinematics()
    ours, theirs, alone = bridge_to(kinematics=shared), bridge_to(kinematics=shared), bridge_to()
    for seed in range(3):
        sent = []
        for bridge in (ours, theirs, alone):
            bridge.send(pose(seed))
            sent.append(messages(receiver.datagrams()))
        assert sent[0] == sent[1] == sent[2]


def test_notes_are_told_as_numbers(bridge_to, receiver):
    bridge_to().send(NoteEvent(0, 0, 9, 36, 100, 250_000_000))
    assert messages(receiver.datagrams()) == {"/pdd/note": [9, 36, 100, 0.25]}
