"""VMC, read back by a reader of our own hand and rebuilt as an avatar in Unity's left-handed space."""

import math
import struct

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bridges.vmc import VmcBridge
from engine.body.skeleton import JOINT_NAMES, PARENTS, forward_kinematics
from engine.clock import VirtualClock
from engine.errors import UserError
from engine.settings import load_show
from engine.stage import Cast, build_bridges, build_pipeline, build_playing
from engine.types import BeatEvent, PoseFrame
from tests.bridges.udp_receiver import UdpReceiver

# Unity's humanoid hierarchy, written down from its documentation; the parent first.
AVATAR = {
    "Hips": None,
    "Spine": "Hips",
    "Chest": "Spine",
    "UpperChest": "Chest",
    "Neck": "UpperChest",
    "Head": "Neck",
    **{f"{side}{bone}": f"{side}{parent}" if parent[0] != "!" else parent[1:] for side in ("Left", "Right")
       for bone, parent in (
           ("UpperLeg", "!Hips"), ("LowerLeg", "UpperLeg"), ("Foot", "LowerLeg"), ("Toes", "Foot"),
           ("Shoulder", "!UpperChest"), ("UpperArm", "Shoulder"), ("LowerArm", "UpperArm"), ("Hand", "LowerArm"),
       )},
}  # fmt: skip
JOINT_OF = {
    "Hips": "pelvis", "Spine": "spine1", "Chest": "spine2", "UpperChest": "spine3", "Neck": "neck", "Head": "head",
    **{f"{side}{bone}": f"{side.lower()}_{joint}" for side in ("Left", "Right")
       for bone, joint in (
           ("UpperLeg", "hip"), ("LowerLeg", "knee"), ("Foot", "ankle"), ("Toes", "foot"),
           ("Shoulder", "collar"), ("UpperArm", "shoulder"), ("LowerArm", "elbow"), ("Hand", "wrist"),
       )},
}  # fmt: skip


def read_string(packet, position):
    end = packet.index(b"\0", position)
    return packet[position:end].decode(), position + (end - position) // 4 * 4 + 4


def read_bundle(packet):
    """Return [(address, arguments)] of one bundle, read by the letter of the specification."""
    assert packet[:16] == b"#bundle\0" + bytes(7) + b"\1"
    messages, position = [], 16
    while position < len(packet):
        (size,) = struct.unpack_from(">i", packet, position)
        position += 4
        end = position + size
        address, position = read_string(packet, position)
        tags, position = read_string(packet, position)
        arguments = []
        for tag in tags[1:]:
            if tag == "s":
                text, position = read_string(packet, position)
                arguments.append(text)
            else:
                arguments.append(struct.unpack_from(">" + tag, packet, position)[0])
                position += 4
        assert position == end
        messages.append((address, arguments))
    return messages


class Marionette:
    """A receiver of VMC."""

    def __init__(self, **options):
        self.socket = UdpReceiver()
        self.bridge = VmcBridge(*self.socket.getsockname(), **options)
        self.socket.follow(self.bridge.sender)
        self.bridge.open(lambda control: None)

    def datagrams(self):
        return self.socket.datagrams()

    def show(self, frame):
        """Send a frame; return (root, {bone: (position, rotation)}) as they came."""
        self.bridge.send(frame)
        root, bones = None, {}
        for address, arguments in [message for packet in self.datagrams() for message in read_bundle(packet)]:
            if address == "/VMC/Ext/Root/Pos":
                assert arguments[0] == "root"
                root = (np.array(arguments[1:4]), np.array(arguments[4:8]))
            elif address == "/VMC/Ext/Bone/Pos":
                bones[arguments[0]] = (np.array(arguments[1:4]), np.array(arguments[4:8]))
        return root, bones

    def close(self):
        self.bridge.close()
        self.socket.close()


@pytest.fixture
def marionette():
    marionette = Marionette()
    yield marionette
    marionette.close()


@pytest.fixture
def rotation_only():
    marionette = Marionette(rotation_only=True)
    yield marionette
    marionette.close()


def place(root, bones):
    """Return {bone: position} in Unity's space, by its transform hierarchy.

    The formula that rotates a vector by a quaternion is the same in both handednesses, so scipy's will do.
    """
    rotations, positions = {}, {}
    for bone, parent in AVATAR.items():
        position, quaternion = bones[bone]
        base = (root[0], Rotation.from_quat(root[1])) if parent is None else (positions[parent], rotations[parent])
        positions[bone] = base[0] + base[1].apply(position)
        rotations[bone] = base[1] * Rotation.from_quat(quaternion)
    return positions


def frame(rotations=None, translation=(0.0, 0.976, 0.0), time_ns=2_500_000_000):
    return PoseFrame(time_ns, 0, np.zeros((24, 3)) if rotations is None else rotations, translation, (1, 1, 1, 1))


def raised_left_hand():
    rotations = np.zeros((24, 3))
    rotations[JOINT_NAMES.index("left_shoulder")] = (0, 0, math.pi / 2)
    return rotations


def random_pose(seed=0):
    return np.random.default_rng(seed).normal(scale=0.6, size=(24, 3))


def test_a_frame_is_complete_and_fits(marionette):
    marionette.bridge.send(frame(random_pose()))
    packets = marionette.datagrams()
    assert len(packets) >= 2
    assert max(map(len, packets)) <= 1_472
    messages = [message for packet in packets for message in read_bundle(packet)]
    assert messages[0] == ("/VMC/Ext/OK", [1, 3, 0, 1])
    assert messages[1] == ("/VMC/Ext/T", [2.5])
    assert messages[2][0] == "/VMC/Ext/Root/Pos"
    assert sorted(arguments[0] for _, arguments in messages[3:]) == sorted(AVATAR)
    assert {address for address, _ in messages[3:]} == {"/VMC/Ext/Bone/Pos"}
    assert {len(arguments) for _, arguments in messages[2:]} == {8}


def test_every_frame_carries_ok_and_time(marionette):
    for index in range(3):
        marionette.bridge.send(frame(time_ns=index * 500_000_000))
        heard = dict(message for packet in marionette.datagrams() for message in read_bundle(packet))
        assert heard["/VMC/Ext/OK"][0] == 1
        assert heard["/VMC/Ext/T"] == [index * 0.5]


def test_rest_is_a_t_pose_facing_plus_z(marionette):
    where = place(*marionette.show(frame()))
    # In Unity's left-handed space, who faces +Z has +X at the right.
    assert where["LeftHand"][0] < -0.5
    assert where["RightHand"][0] > 0.5
    assert where["LeftHand"][1] == pytest.approx(where["RightHand"][1], abs=0.05)
    assert where["LeftToes"][2] > where["LeftFoot"][2] + 0.05
    assert where["Head"][1] > 1.4
    assert 0.0 < where["LeftToes"][1] < 0.1


def test_a_raised_left_hand_is_up_and_at_the_avatars_left(marionette):
    where = place(*marionette.show(frame(raised_left_hand())))
    assert where["LeftHand"][1] > where["Head"][1] + 0.2
    assert where["LeftHand"][0] < -0.1
    assert where["RightHand"][1] < where["Head"][1]
    assert where["RightHand"][0] > 0.5


def test_a_hand_to_the_front_is_in_front(marionette):
    rotations = np.zeros((24, 3))
    rotations[JOINT_NAMES.index("left_shoulder")] = (0, -math.pi / 2, 0)
    where = place(*marionette.show(frame(rotations)))
    assert where["LeftHand"][2] > where["Hips"][2] + 0.4


def test_turning_left_and_stepping_left(marionette):
    rotations = np.zeros((24, 3))
    rotations[0] = (0, math.pi / 2, 0)  # about +Y, right-handed: from +Z towards +X, the dancer's left
    where = place(*marionette.show(frame(rotations, (1.0, 0.976, 0.0))))
    assert where["Hips"] == pytest.approx([-1.0, 0.976, 0.0])  # left is -X in Unity
    assert where["LeftToes"][0] < where["LeftFoot"][0] - 0.05  # the toes point to where they turned


@pytest.mark.parametrize("seed", range(5))
def test_the_avatar_is_the_dancer_in_a_mirror_along_x(marionette, seed):
    shown = frame(random_pose(seed), (0.4, 1.1, -0.6))
    where = place(*marionette.show(shown))
    joints, _ = forward_kinematics(shown.rotations, shown.translation_m)
    for bone, joint in JOINT_OF.items():
        wanted = joints[JOINT_NAMES.index(joint)] * (-1.0, 1.0, 1.0)
        assert where[bone] == pytest.approx(wanted, abs=1e-5)
        if AVATAR[bone] is not None:
            assert JOINT_OF[AVATAR[bone]] == JOINT_NAMES[PARENTS[JOINT_NAMES.index(joint)]]


def test_rotation_only_sends_no_bone_positions(marionette, rotation_only):
    shown = frame(random_pose(), (0.4, 1.1, -0.6))
    _, bones = marionette.show(shown)
    root, only = rotation_only.show(shown)
    for bone in AVATAR:
        assert np.array_equal(only[bone][0], np.zeros(3))
        assert np.array_equal(only[bone][1], bones[bone][1])
    # The avatar's own standing height comes on top: what is sent is where the hips have moved to.
    assert root[0] == pytest.approx([-0.4, 1.1 - 0.976, -0.6], abs=1e-3)
    assert np.array_equal(root[1], [0, 0, 0, 1])


def test_other_events_are_not_vmc(marionette):
    marionette.bridge.send(BeatEvent(0, 0, 1, 1, 120.0, 1.0))
    assert marionette.datagrams() == []


def test_close_says_not_loaded_once(marionette):
    marionette.bridge.close()
    marionette.bridge.close()
    (packet,) = marionette.datagrams()
    assert read_bundle(packet) == [("/VMC/Ext/OK", [0])]


def test_a_marionette_is_one_performer(marionette):
    def frame(performer, x):
        return PoseFrame(0, 0, np.zeros((24, 3)), (x, 0.976, 0.0), (1, 1, 1, 1), performer)

    assert marionette.show(frame("camera", 1.0)) == (None, {})
    _, bones = marionette.show(frame("", 0.5))
    assert bones["Hips"][0][0] == pytest.approx(-0.5)
    partner = Marionette(performer="partner")
    assert partner.show(frame("", 1.0)) == (None, {})
    assert partner.show(frame("partner", 0.25))[1]["Hips"][0][0] == pytest.approx(-0.25)
    partner.close()


@pytest.mark.parametrize(
    ("cast", "wished", "sent"),
    [
        (None, "", ""),
        (Cast.BAND, "", "camera"),
        (Cast.DUET, "", ""),
        (Cast.DUET, "partner", "partner"),
    ],
)
def test_the_lead_dancer_is_sent_or_else_who_plays_the_band(cast, wished, sent):
    with UdpReceiver() as receiver:
        target = "{}:{}".format(*receiver.getsockname())
        overrides = [f'vmc.targets=["{target}"]', f'vmc.performer="{wished}"', "web.ports=[]"]
        show = load_show(None, [*overrides, "dancer.model=idle", "band.model=rules", "beats.tracker=flux"])
        core = build_pipeline(show) if cast is None else build_playing(show, cast=cast)
        (bridge,) = build_bridges(show, VirtualClock(), core)
        assert isinstance(bridge, VmcBridge)
        bridge.open(lambda control: None)
        for performer in ("", "camera", "partner"):
            before = bridge.sender.sent
            bridge.send(PoseFrame(0, 0, np.zeros((24, 3)), np.zeros(3), np.zeros(4), performer))
            assert (bridge.sender.sent > before) == (performer == sent)
        bridge.close()


@pytest.mark.parametrize(
    ("cast", "wished", "known"),
    [
        (None, "camera", "leave vmc.performer out"),
        (Cast.BAND, "partner", "or set it to camera"),
        (Cast.DUET, "camara", "or set it to camera or partner"),
    ],
)
def test_who_is_not_on_the_stage_is_refused(cast, wished, known):
    overrides = ['vmc.targets=["9"]', f'vmc.performer="{wished}"', "web.ports=[]"]
    show = load_show(None, [*overrides, "dancer.model=idle", "band.model=rules", "beats.tracker=flux"])
    core = build_pipeline(show) if cast is None else build_playing(show, cast=cast)
    with pytest.raises(UserError, match=f"is called '{wished}': .*{known}$"):
        build_bridges(show, VirtualClock(), core)
