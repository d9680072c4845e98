"""VMC 3.1 performer: the dancer as a humanoid skeleton, for Unity and VTuber tools (Virtual Motion Capture Protocol).

Source: the protocol's specification (protocol.vmc.info). Unity is left-handed: mirrored along x, a position
(x, y, z) becomes (-x, y, z) and a rotation (x, y, z, w) becomes (x, -y, -z, w). Both rest poses are the T pose facing
+Z, so that rotations need nothing more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bridges.endpoint import Endpoint
from bridges.osc_udp import UdpSender
from bridges.osc_wire import BundleTemplate, encode_bundle, encode_message
from engine.body.skeleton import REST_FLOOR_M, REST_OFFSETS_M, axis_angle_to_quaternion
from engine.types import NS_PER_S, ControlEvent, OutputEvent, PoseFrame

BONES: tuple[str, ...] = (
    "Hips",
    "LeftUpperLeg",
    "RightUpperLeg",
    "Spine",
    "LeftLowerLeg",
    "RightLowerLeg",
    "Chest",
    "LeftFoot",
    "RightFoot",
    "UpperChest",
    "LeftToes",
    "RightToes",
    "Neck",
    "LeftShoulder",
    "RightShoulder",
    "Head",
    "LeftUpperArm",
    "RightUpperArm",
    "LeftLowerArm",
    "RightLowerArm",
    "LeftHand",
    "RightHand",
)
"""Unity's HumanBodyBones for SMPL's joints 0 to 21, in SMPL's order; its hands, 22 and 23, have none."""

_POSITION_TO_UNITY = np.array([-1.0, 1.0, 1.0], dtype=np.float32)
_ROTATION_TO_UNITY = np.array([1.0, -1.0, -1.0, 1.0], dtype=np.float32)
_REST_ROOT_M = np.array([0.0, -REST_FLOOR_M, 0.0], dtype=np.float32)
"""The root joint of the dancer at rest, standing on the floor at the origin."""


class VmcBridge:
    """Sends every PoseFrame as VMC: OK, T, Root/Pos and 22 bones, local, in bundles below one datagram's size.

    OK and T go with every frame, because receivers may start late or lose the first packets.

    Args:
        host: where to send: name or address, IPv4 or IPv6.
        port: of the marionette, by custom 39539.
        rotation_only: send no bone positions (all zero), for receivers that break when the bones are not as long as
            their own model's. The dancer then travels by Root/Pos, which is where the hips are relative to standing at
            the origin; otherwise Root/Pos stays at the origin and the hips travel.
        performer: whose poses are sent: a marionette is one humanoid. "" is the lead dancer.

    Threads: `send` on one.
    """

    def __init__(self, host: str, port: int, *, rotation_only: bool = False, performer: str = "") -> None:
        self.name = f"vmc {Endpoint(host, port)}"
        self.sender = UdpSender(host, port)
        self._rotation_only = rotation_only
        self._performer = performer
        at_rest = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        messages: list[tuple[str, tuple[int | float | str, ...]]] = [
            # loaded; calibrated; mode normal; tracking good
            ("/VMC/Ext/OK", (1, 3, 0, 1)),
            ("/VMC/Ext/T", (0.0,)),
            ("/VMC/Ext/Root/Pos", ("root", *at_rest)),
        ]
        messages += [("/VMC/Ext/Bone/Pos", (bone, *at_rest)) for bone in BONES]
        self._template = BundleTemplate(messages)
        self._values = np.zeros(self._template.float_count, dtype=np.float32)
        self._root = self._values[1:8]
        self._root[6] = 1.0
        self._bones = self._values[8:].reshape(len(BONES), 7)
        if not rotation_only:
            self._bones[:, :3] = REST_OFFSETS_M[: len(BONES)] * _POSITION_TO_UNITY

    def open(self, on_control: Callable[[ControlEvent], None]) -> None:
        """Resolve the receiver; nothing comes back from it.

        Raises:
            UserError: no such host.
        """
        self.sender.open()

    def send(self, event: OutputEvent) -> None:
        """Send the performer's PoseFrame now; VMC has no word for all else. Errors are counted in `sender.errors`."""
        if not isinstance(event, PoseFrame) or event.performer != self._performer:
            return
        self._values[0] = event.time_ns / NS_PER_S
        self._bones[:, 3:] = axis_angle_to_quaternion(event.rotations[: len(BONES)]) * _ROTATION_TO_UNITY
        if self._rotation_only:
            self._root[:3] = (event.translation_m - _REST_ROOT_M) * _POSITION_TO_UNITY
        else:
            self._bones[0, :3] = event.translation_m * _POSITION_TO_UNITY
        self._template.write(self._values)
        self.sender.send(self._template.datagrams)

    def close(self) -> None:
        """Say that no model is loaded any more, so that the avatar stays as it is, and close; idempotent."""
        self.sender.send((encode_bundle([encode_message("/VMC/Ext/OK", (0,))]),))
        self.sender.close()
