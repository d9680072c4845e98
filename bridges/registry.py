"""Bridges by name, each loaded only when it is asked for."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bridges.endpoint import Endpoint, parse_target
from engine.clock import Clock
from engine.errors import UserError
from engine.protocols import Bridge


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """Settings of the bridges, as in the show file; each takes its own.

    Attributes:
        smpl: osc: also send /pdd/smpl.
        presentation_timetags: osc: timetags are presentation times.
        rotation_only: vmc: no bone positions.
        stage_info: web: what a page is told when it opens, as for `WebBridge`.
        allowed_hosts: web: further names under which the page may be reached.
    """

    smpl: bool = False
    presentation_timetags: bool = False
    rotation_only: bool = False
    stage_info: Mapping[str, object] = field(default_factory=dict)
    allowed_hosts: tuple[str, ...] = ()


Factory = Callable[[Endpoint, Clock, BridgeOptions], Bridge]


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


def _web(target: Endpoint, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.web import WebBridge

    return WebBridge(
        target.host,
        target.port,
        clock=clock,
        stage_info=options.stage_info,
        allowed_hosts=options.allowed_hosts,
    )


_BRIDGES: dict[str, tuple[Endpoint, Factory]] = {
    "osc": (Endpoint("127.0.0.1", 9000), _osc),
    "vmc": (Endpoint("127.0.0.1", 39539), _vmc),
    # These listen: on loopback, unless the user says otherwise.
    "osc-control": (Endpoint("127.0.0.1", 9001), _osc_control),
    "web": (Endpoint("127.0.0.1", 8765), _web),
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
