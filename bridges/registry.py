"""Bridges by name, each loaded only when it is asked for, and the HOST:PORT targets of the command line."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from engine.clock import Clock
from engine.errors import UserError
from engine.protocols import Bridge


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host (name or address, without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """Settings of the bridges, as in the show file; each takes its own.

    Attributes:
        smpl: osc: also send /pdd/smpl.
        presentation_timetags: osc: timetags are presentation times.
        rotation_only: vmc: no bone positions.
    """

    smpl: bool = False
    presentation_timetags: bool = False
    rotation_only: bool = False


Factory = Callable[[Endpoint, Clock, BridgeOptions], Bridge]

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_EXAMPLES = "write it as HOST:PORT, e.g. 127.0.0.1:9000 or [::1]:9000"


def parse_target(text: str, default: Endpoint) -> Endpoint:
    """Read where to send or listen.

    Args:
        text: "host:port", "host", "port", ":port", "[::1]:port", "[::1]" or "::1".
        default: what is taken for the part that is not there.

    Raises:
        UserError: it is none of these, or the port is not 1 to 65535.
    """
    text = text.strip()
    if text.isdecimal():
        return Endpoint(default.host, _port(text, text))
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_ipv6(host) or (rest and not rest.startswith(":")):
            raise UserError(f"cannot read target '{text}'", _EXAMPLES)
        return Endpoint(host, _port(rest[1:], text) if rest else default.port)
    if _is_ipv6(text):
        return Endpoint(text, default.port)
    host, colon, port = text.partition(":")
    if not text or (host and not _HOST.fullmatch(host)):
        raise UserError(f"cannot read target '{text}'", _EXAMPLES)
    return Endpoint(host or default.host, _port(port, text) if colon else default.port)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _port(text: str, target: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 5 or not 1 <= int(text) <= 65535:
        raise UserError(f"no such port in target '{target}'", "a port is a number from 1 to 65535")
    return int(text)


def _osc(target: Endpoint, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.osc import OscBridge

    return OscBridge(
        target.host,
        target.port,
        clock=clock,
        smpl=options.smpl,
        presentation_timetags=options.presentation_timetags,
    )


def _osc_control(target: Endpoint, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.osc_control import OscControl

    return OscControl(target.host, target.port, clock=clock)


def _vmc(target: Endpoint, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.vmc import VmcBridge

    return VmcBridge(target.host, target.port, rotation_only=options.rotation_only)


_BRIDGES: dict[str, tuple[Endpoint, Factory]] = {
    "osc": (Endpoint("127.0.0.1", 9000), _osc),
    # Loopback unless the user says otherwise.
    "osc-control": (Endpoint("127.0.0.1", 9001), _osc_control),
    "vmc": (Endpoint("127.0.0.1", 39539), _vmc),
}
BRIDGE_NAMES: tuple[str, ...] = tuple(_BRIDGES)


def create_bridge(name: str, target: str, clock: Clock, options: BridgeOptions | None = None) -> Bridge:
    """Make a bridge; it opens nothing yet.

    Args:
        name: one of `BRIDGE_NAMES`.
        target: where it sends or listens, as for `parse_target`; "" is its usual place.
        clock: session time.
        options: None: the defaults.

    Raises:
        UserError: no such bridge, or a target that cannot be read.
    """
    if name not in _BRIDGES:
        nearest = difflib.get_close_matches(name, BRIDGE_NAMES, n=1)
        hint = f"perhaps you meant '{nearest[0]}'" if nearest else f"there are {', '.join(BRIDGE_NAMES)}"
        raise UserError(f"unknown bridge '{name}'", hint)
    default, factory = _BRIDGES[name]
    endpoint = parse_target(target, default) if target else default
    return factory(endpoint, clock, options or BridgeOptions())
