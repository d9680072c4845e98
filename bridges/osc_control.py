"""OSC control input: /pdd/panic, /pdd/energy and the rest of `engine.controls`, from whatever surface sends them.

Everybody on the network can send here, so a packet is read strictly, is never waited for (timetags are ignored) and
can do no more than be counted: whatever arrives, the next good message works.
"""

from __future__ import annotations

import errno
import logging
import math
import selectors
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable

from bridges.control_limits import ControlLimiter, TokenBucket
from bridges.endpoint import Endpoint
from bridges.osc_udp import LogLimiter
from bridges.osc_wire import OscError, OscMessage, OscValue, decode
from engine.clock import Clock
from engine.controls import CONTROLS, STATES, ControlValue, coerce
from engine.errors import UserError
from engine.types import NS_PER_S, ControlEvent, OutputEvent

_log = logging.getLogger(__name__)

_PREFIX = "/pdd/"
_MAX_BYTES_PER_S = 500_000
"""A hundred faders sent sixty times a second are 300 kB/s; the worst packets of this many bytes cost 5 % of a core."""
_PACKET_COST_BYTES = 64
"""Headers: what makes a flood of empty packets count."""
_URGENT_BYTES = 128
"""A packet with nothing but a panic or a blackout in it is not longer: of these a few are read in any flood."""
_URGENT_ADDRESSES = tuple(f"{_PREFIX}{name}\0".encode() for name in STATES)
_URGENT_PER_S, _URGENT_AT_ONCE = 10.0, 10.0
_CONTROLS_PER_S, _CONTROLS_AT_ONCE = 200.0, 100.0
"""Three faders sent sixty times a second. Each costs the core what it takes to carry it out, and its echo to everybody;
ten thousand a second, which those bytes hold, make a third of the poses late."""
_STRUCK = frozenset(name for name, control in CONTROLS.items() if control.kind == "trigger") | {"nudge"}
"""Controls of which each one counts: a nudge goes on from the last."""
_WAIT_S = 0.02
"""How soon values that were too many are tried again."""
_MAX_PACKET_BYTES = 65_536
_PAUSE_AFTER_ERROR_S = 0.1
_CLOSE_TIMEOUT_S = 10.0

OnControl = Callable[[ControlEvent], None]


class OscControl:
    """Listens for OSC control messages on a thread of its own; a bridge that sends nothing.

    Args:
        host: address to listen on; loopback unless the user says otherwise.
        port: 0 takes any free one (see `address`).
        clock: stamps the events.

    Attributes:
        address: (host, port) where it listens; None while closed.
        counts: 'accepted' messages that became a ControlEvent; 'malformed' packets that are not OSC; 'rejected'
            messages for us with an unknown control or a wrong value; 'flooded' packets dropped unread, triggers and
            nudges dropped, because too many came; 'outdated' values that a newer one overtook; 'failed' receptions,
            or deliveries to whoever takes the events.

    Threads: `open` and `close` on one; `counts` is written by the listener and may be read anywhere.
    """

    def __init__(self, host: str, port: int, *, clock: Clock) -> None:
        self.name = f"osc-control {Endpoint(host, port)}"
        self._host = host
        self._port = port
        self._clock = clock
        self.address: tuple[str, int] | None = None
        self.counts: Counter[str] = Counter()
        self._limiter = LogLimiter()
        self._window_start_ns = 0
        self._window_bytes = 0
        self._urgent = TokenBucket(_URGENT_PER_S, _URGENT_AT_ONCE)
        self._controls = ControlLimiter(_CONTROLS_PER_S, _CONTROLS_AT_ONCE)
        # In order of arrival: what is struck by a key of its own, of every other control the newest value by its name.
        # Between two packets only values wait here: a fader's last must not be lost, it says where the fader is.
        self._wanted: dict[object, tuple[str, ControlValue]] = {}
        self._stop = threading.Event()
        self._waker: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def open(self, on_control: OnControl) -> None:
        """Bind the port and begin to listen.

        Args:
            on_control: called on the listener's thread.

        Raises:
            UserError: the port is taken or may not be had; says which and what to do.
        """
        if self._thread is not None:
            return
        listener = _bind(self._host, self._port)
        self.address = listener.getsockname()[:2]
        self._stop.clear()
        self._wanted.clear()
        self._waker, wakened = socket.socketpair()
        self._thread = threading.Thread(
            target=self._listen, args=(listener, wakened, on_control), name="osc-control", daemon=True
        )
        self._thread.start()

    def send(self, event: OutputEvent) -> None:
        """Do nothing: this bridge only listens."""

    def close(self) -> None:
        """Stop listening and free the port; idempotent."""
        if self._thread is None or self._waker is None:
            return
        self._stop.set()
        self._waker.close()
        self._thread.join(_CLOSE_TIMEOUT_S)
        self._thread = self._waker = self.address = None

    def _listen(self, listener: socket.socket, wakened: socket.socket, on_control: OnControl) -> None:
        buffer = bytearray(_MAX_PACKET_BYTES)
        with listener, wakened, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wakened, selectors.EVENT_READ)
            while not self._stop.is_set():
                selector.select(_WAIT_S if self._wanted else None)
                try:
                    size = listener.recv_into(buffer)
                except BlockingIOError:
                    size = None
                except OSError as error:
                    self._complain("failed", f"cannot receive: {error}")
                    self._stop.wait(_PAUSE_AFTER_ERROR_S)
                    continue
                try:
                    if size is not None:
                        self._read(bytes(buffer[:size]))
                    self._hand_over(on_control)
                except Exception as error:
                    # The listener outlives everything, or the operator's panic button is dead for the evening.
                    self._complain("failed", f"control not delivered: {error!r}")

    def _read(self, packet: bytes) -> None:
        """Take note of what a packet asks for."""
        now_ns = self._clock.now_ns()
        if now_ns - self._window_start_ns >= NS_PER_S:
            self._window_start_ns = now_ns
            self._window_bytes = 0
        self._window_bytes += len(packet) + _PACKET_COST_BYTES
        if self._window_bytes > _MAX_BYTES_PER_S and not self._may_be_urgent(packet, now_ns):
            self._complain("flooded", f"more than {_MAX_BYTES_PER_S} bytes a second")
            return
        try:
            messages = decode(packet)
        except OscError as error:
            self._complain("malformed", f"not OSC: {error}")
            return
        for message in messages:
            if not message.address.startswith(_PREFIX):
                continue  # surfaces send all sorts of things; not ours
            name = message.address.removeprefix(_PREFIX)
            try:
                wanted, value = _value(name, message)
            except ValueError as error:
                self._complain("rejected", str(error))
                continue
            if wanted:
                if name not in _STRUCK and self._wanted.pop(name, None) is not None:
                    self.counts["outdated"] += 1
                self._wanted[object() if name in _STRUCK else name] = (name, value)

    def _may_be_urgent(self, packet: bytes, now_ns: int) -> bool:
        """Say whether a packet is read although there are too many."""
        short = len(packet) <= _URGENT_BYTES and any(address in packet for address in _URGENT_ADDRESSES)
        return short and self._urgent.take(now_ns / NS_PER_S)

    def _hand_over(self, on_control: OnControl) -> None:
        """Deliver what is asked for and not too much; what is struck comes at its moment or not at all."""
        now_ns = self._clock.now_ns()
        for key, (name, value) in tuple(self._wanted.items()):
            if self._controls.allow(name, now_ns / NS_PER_S):
                del self._wanted[key]
                self.counts["accepted"] += 1
                on_control(ControlEvent(now_ns, name, value))
            elif name in _STRUCK:
                del self._wanted[key]
                self._complain("flooded", f"more than {_CONTROLS_PER_S:.0f} controls a second")

    def _complain(self, counter: str, reason: str) -> None:
        """Count, and say so once in a while."""
        self.counts[counter] += 1
        if count := self._limiter.allow():
            _log.warning("OSC control on port %d: %s (%d times)", self._port, ascii(reason)[1:-1], count)


def _value(name: str, message: OscMessage) -> tuple[bool, ControlValue]:
    """Return (whether something is wanted, the value of the control).

    Raises:
        ValueError: unknown control, or a value it does not take.
    """
    first: OscValue = message.arguments[0] if message.arguments else None
    if isinstance(first, float) and not math.isfinite(first):
        raise ValueError(f"control '{name}' got {first}")
    control = CONTROLS.get(name)
    if control is not None and control.kind == "trigger":
        # A button sends 1 when it is pressed and 0 when it is let go.
        released = isinstance(first, int | float) and first < 0.5
        return not released, None
    if isinstance(first, str):
        first = "".join(character for character in first if character.isprintable()).strip()
        if not first:
            raise ValueError(f"control '{name}' got an empty name")
    return True, coerce(name, first)


def _bind(host: str, port: int) -> socket.socket:
    where = f"OSC control port {port} on {host}"
    try:
        family, kind, protocol, _, address = min(
            socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE),
            key=lambda entry: entry[0] != socket.AF_INET,
        )
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserError(f"cannot listen on '{host}'", "use 127.0.0.1, 0.0.0.0 or an address of this machine") from error
    try:
        if sys.platform == "win32":
            # Windows lets two programs have one port, and gives the packets to either.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        listener.setblocking(False)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"{where} is in use", "close the program that has it, or choose another with --set osc.listen=HOST:PORT"
            ) from error
        if error.errno == errno.EACCES:
            raise UserError(
                f"{where} is not allowed", "choose a port above 1023 with --set osc.listen=HOST:PORT"
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(
                f"{where}: no such address here", "use 127.0.0.1, 0.0.0.0 or one of this machine's"
            ) from error
        raise UserError(f"cannot open {where}", error.strerror or "choose another port") from error
    return listener
