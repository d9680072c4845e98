"""Ableton Link in: the session of other programs as the leader of the show. Receives only.

Of two Link sessions that meet, the older one's tempo wins. A program that waited in a session of its own would thus
force its tempo on whoever comes later. So nothing is joined, and nothing sent, before somebody else has been heard on
Link's multicast group for a while.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import struct
import threading
import time
from typing import Any

from engine.clock import Clock
from engine.errors import UserError
from engine.protocols import Deliver, Report
from engine.types import StatusEvent, TempoReference

_log = logging.getLogger(__name__)

SOURCE = "link"
_QUANTUM = 4.0
_POLL_S = 0.05
_START_BPM = 120.0
_GROUP, _PORT = "224.76.78.75", 20808
_HEADER = b"_asdp_v\x01"
_ALIVE = (1, 2)
# Sessions younger than half a second beside another are told apart by chance (Link's SESSION_EPS): let theirs age.
_AGE_S = 1.5
# Link repeats itself several times a second while it lives.
_FORGET_S = 5.0
# Two clocks are read together if so little passes meanwhile; tried a few times, the best counts.
_AT_ONCE_NS, _READINGS = 100_000, 5
# A session that was heard but not joined within this time is tried anew.
_JOIN_S = 6.0


class LinkSensor:
    """Follows the Link session on this network, without ever changing its tempo, beat or transport.

    Args:
        clock: session time.

    Threads: one of its own.
    """

    name = "link"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._link: Any = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, deliver: Deliver, report: Report) -> None:
        """Begin to listen. Raises `UserError` if Link is not installed."""
        try:
            import link
        except ImportError as error:
            raise UserError("no Ableton Link", "pip install 'pasdedeux[link]' (GPL-2), or another leader") from error
        self._link = link.Link(_START_BPM)
        # Else a stop of theirs is not heard; we never send one.
        self._link.startStopSyncEnabled = True
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, args=(deliver, report), name="link", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave the session; idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10.0)
            self._thread = None
        if self._link is not None:
            self._link.enabled = False
            self._link = None

    def _run(self, deliver: Deliver, report: Report) -> None:
        while not self._stopping.is_set():
            if not self._somebody_is_there():
                continue
            self._link.enabled = True
            if self._follow(deliver, report):
                report(StatusEvent(self._clock.now_ns(), SOURCE, "warning", "the Link session has ended"))
            self._link.enabled = False

    def _somebody_is_there(self) -> bool:
        """Wait until another program has been heard for long enough; False: it is time to look around."""
        try:
            listener = _listen()
        except OSError as error:
            _log.warning("Link's network cannot be listened to (%s); joining at once", error)
            return not self._stopping.wait(_AGE_S)
        first_s: float | None = None
        last_s = 0.0
        with listener:
            while not self._stopping.is_set():
                now_s = time.monotonic()
                if _hears(listener):
                    last_s = now_s
                    first_s = now_s if first_s is None else first_s
                if first_s is not None and now_s - last_s > _FORGET_S:
                    first_s = None
                if first_s is not None and now_s - first_s > _AGE_S:
                    return True
        return False

    def _follow(self, deliver: Deliver, report: Report) -> bool:
        """Deliver where the session is until it ends; return whether there was one."""
        link = self._link
        joined = False
        # Programs that do not share their transport always count as playing.
        transport_heard = False
        begun_s = time.monotonic()
        while not self._stopping.wait(_POLL_S):
            if int(link.numPeers()) == 0:
                if joined or time.monotonic() - begun_s > _JOIN_S:
                    return joined
                continue
            if not joined:
                joined = True
                report(StatusEvent(self._clock.now_ns(), SOURCE, "info", "a Link session is followed"))
            state = link.captureSessionState()
            now_us, now_ns = self._now()
            playing = bool(state.isPlaying())
            transport_heard |= playing
            beat = float(state.beatAtTime(now_us, _QUANTUM))
            deliver(TempoReference(now_ns, beat, float(state.tempo()), SOURCE, playing or not transport_heard))
        return False

    def _now(self) -> tuple[int, int]:
        """Return this moment by Link's clock [us] and by ours [ns]."""
        link_clock, best = self._link.clock(), (2**62, 0, 0)
        for _ in range(_READINGS):
            before_ns = self._clock.now_ns()
            now_us = int(link_clock.micros())
            took_ns = self._clock.now_ns() - before_ns
            # What comes between the readings (another thread's turn) would be an error of the beat.
            best = min(best, (took_ns, now_us, before_ns + took_ns // 2))
            if took_ns < _AT_ONCE_NS:
                break
        return best[1:]


def _listen() -> socket.socket:
    """Return a socket that hears Link's announcements on every interface. Raises OSError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("", _PORT))
        group = socket.inet_aton(_GROUP)
        joined = 0
        for index in (0, *(number for number, _ in socket.if_nameindex())):
            # ip_mreqn names an interface by number; Windows takes the number in place of an address.
            for request in (struct.pack("4s4si", group, bytes(4), index), group + struct.pack(">I", index)):
                with contextlib.suppress(OSError):
                    listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
                    joined += 1
                    break
        if not joined:
            raise OSError("no interface has multicast")
    except OSError:
        listener.close()
        raise
    return listener


def _hears(listener: socket.socket) -> bool:
    """Wait a moment; return whether a Link program has announced itself."""
    if not select.select([listener], [], [], 2 * _POLL_S)[0]:
        return False
    try:
        message = listener.recv(2048)
    except OSError:
        return False
    return message.startswith(_HEADER) and len(message) > len(_HEADER) and message[len(_HEADER)] in _ALIVE
