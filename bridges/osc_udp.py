"""Datagrams out: the one place where OSC and VMC touch a socket."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterable
from typing import Any

from engine.errors import UserError

_log = logging.getLogger(__name__)

_LOG_EVERY_S = 10.0
"""A cable that is out fails 120 times a second; the log says so this often."""


class LogLimiter:
    """Says when something that happens again and again may be logged. Threads: one."""

    def __init__(self, every_s: float = _LOG_EVERY_S) -> None:
        self._every_s = every_s
        self._next_s = float("-inf")
        self._held_back = 0

    def allow(self) -> int:
        """Return how often it has happened since the last line, this time included; 0: say nothing now."""
        self._held_back += 1
        now_s = time.monotonic()
        if now_s < self._next_s:
            return 0
        self._next_s = now_s + self._every_s
        count, self._held_back = self._held_back, 0
        return count


class UdpSender:
    """Sends datagrams to one address and never complains: what cannot be sent is dropped and counted.

    The socket is not connected: a target that is not there yet, a network that goes and comes back with another
    address, a full queue cost the frames in between and nothing else.

    Args:
        host: name or address, IPv4 or IPv6; a broadcast or multicast address is fine.
        port: 1 to 65535.

    Attributes:
        sent: datagrams handed to the network since construction.
        errors: datagrams dropped.

    Threads: one.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.sent = 0
        self.errors = 0
        self._socket: socket.socket | None = None
        self._address: Any = None
        self._limiter = LogLimiter()

    def open(self) -> None:
        """Resolve the host and take a socket.

        Raises:
            UserError: no such host, or no socket to be had.
        """
        if self._socket is not None:
            return
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise UserError(
                f"cannot find host '{self.host}'", "check the spelling, or give its IP address as HOST:PORT"
            ) from error
        # 'localhost' is often ::1 first, where TouchDesigner and Unity do not listen.
        family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            raise UserError(f"cannot open a socket to {self.host}", error.strerror or "check the network") from error
        sock.setblocking(False)
        if family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._address = address
        self._socket = sock

    def send(self, datagrams: Iterable[bytes | memoryview]) -> None:
        """Send now, or drop and count. Does nothing while closed."""
        if self._socket is None:
            return
        for datagram in datagrams:
            try:
                self._socket.sendto(datagram, self._address)
                self.sent += 1
            except OSError as error:
                self.errors += 1
                if count := self._limiter.allow():
                    _log.warning("%s:%d: %d datagrams not sent (%s)", self.host, self.port, count, error)

    def close(self) -> None:
        """Give the socket back; idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
