"""Ports for tests that must know one before anybody listens there, or find it free again afterwards."""

from __future__ import annotations

import itertools
import os
import socket

# Below what Linux (from 32768), macOS and Windows (from 49152) give to whoever binds port 0 or connects somewhere: a
# port of these that was free a moment ago is not handed to another program, or test, in between.
_FIRST, _EACH = 20_000, 1_000
_numbers = itertools.count(os.getpid())


def unshared_port() -> int:
    """Return a port of this machine that is free, for TCP and UDP, and that the system gives to nobody by itself.

    Test processes that run side by side (pytest-xdist's workers) have ranges of their own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
    for _ in range(_EACH):
        port = _FIRST + worker * _EACH + next(_numbers) % _EACH
        try:
            with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                # A connection that ended here a moment ago is no hindrance to those who listen.
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port
    raise RuntimeError("this machine has no free port")
