"""A receiver of datagrams that knows how many were sent to it, so that it never looks before they are there."""

from __future__ import annotations

import socket

from bridges.osc_udp import UdpSender
from tests.waiting import PATIENCE_S


class UdpReceiver(socket.socket):
    """Listens on a free port of this machine."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.bind((host, 0))
        self.settimeout(PATIENCE_S)
        self._senders: list[UdpSender] = []
        self._taken = 0

    def follow(self, sender: UdpSender) -> None:
        """Count what a sender sends here."""
        self._senders.append(sender)

    def datagrams(self) -> list[bytes]:
        """Return what was sent since the last time, in order; waits for what is still on its way."""
        # Even loopback delivers a little later when the kernel has much to do.
        received = []
        while self._taken < sum(sender.sent for sender in self._senders):
            received.append(self.recv(65_536))
            self._taken += 1
        return received
