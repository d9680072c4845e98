"""Bridges by name, each loaded only when it is asked for."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridges.endpoint import Endpoint, parse_target
from bridges.pose_kinematics import PoseKinematics
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
        performer: vmc: whose poses.
        stage_info: web: what a page is told when it opens, as for `WebBridge`.
        allowed_hosts: web: further names under which the page may be reached.
        pulses: midi: also send MIDI clock.
        programs: midi, midi-file, synth: General MIDI program (from 0) by voice.
        synth_device: synth: sound output; None: the default.
        synth_gain_db: synth: of the soundfont.
        kinematics: osc: what is worked out of a pose once for all receivers.
    """

    smpl: bool = False
    presentation_timetags: bool = False
    rotation_only: bool = False
    performer: str = ""
    stage_info: Mapping[str, object] = field(default_factory=dict)
    allowed_hosts: tuple[str, ...] = ()
    pulses: bool = False
    programs: Mapping[str, int] = field(default_factory=dict)
    synth_device: str | None = None
    synth_gain_db: float = -6.0
    kinematics: PoseKinematics = field(default_factory=PoseKinematics)


Factory = Callable[[str, Clock, BridgeOptions], Bridge]
NetworkFactory = Callable[[Endpoint, Clock, BridgeOptions], Bridge]


def _osc(target: Endpoint, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.osc import OscBridge

    return OscBridge(
        target.host,
        target.port,
        clock=clock,
        smpl=options.smpl,
        presentation_timetags=options.presentation_timetags,
        kinematics=options.kinematics,
    )


def _osc_control(target: Endpoint, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.osc_control import OscControl

    return OscControl(target.host, target.port, clock=clock)


def _vmc(target: Endpoint, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.vmc import VmcBridge

    return VmcBridge(target.host, target.port, rotation_only=options.rotation_only, performer=options.performer)


def _web(target: Endpoint, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.web import WebBridge

    return WebBridge(
        target.host,
        target.port,
        clock=clock,
        stage_info=options.stage_info,
        allowed_hosts=options.allowed_hosts,
    )


def _midi(target: str, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.midi import MidiBridge

    return MidiBridge(target or "virtual:Pas de Deux", clock=clock, programs=options.programs, pulses=options.pulses)


def _midi_file(target: str, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.midi_file import MidiRecorder

    return MidiRecorder(Path(target or "music.mid").expanduser(), options.programs)


def _synth(target: str, clock: Clock, options: BridgeOptions) -> Bridge:
    from bridges.synth import SynthBridge

    return SynthBridge(
        target,
        clock=clock,
        device=options.synth_device,
        gain_db=options.synth_gain_db,
        programs=options.programs,
    )


def _on_network(default: Endpoint, factory: NetworkFactory) -> Factory:
    """Return a factory whose target is HOST:PORT, or a part of it."""

    def create(target: str, clock: Clock, options: BridgeOptions) -> Bridge:
        return factory(parse_target(target, default) if target else default, clock, options)

    return create


_BRIDGES: dict[str, Factory] = {
    "osc": _on_network(Endpoint("127.0.0.1", 9000), _osc),
    "vmc": _on_network(Endpoint("127.0.0.1", 39539), _vmc),
    # These listen: on loopback, unless the user says otherwise.
    "osc-control": _on_network(Endpoint("127.0.0.1", 9001), _osc_control),
    "web": _on_network(Endpoint("127.0.0.1", 8765), _web),
    # The name of a port, a file, a soundfont.
    "midi": _midi,
    "midi-file": _midi_file,
    "synth": _synth,
}
BRIDGE_NAMES: tuple[str, ...] = tuple(_BRIDGES)


def create_bridge(name: str, target: str, clock: Clock, options: BridgeOptions | None = None) -> Bridge:
    """Make a bridge; it opens nothing yet.

    Args:
        name: one of `BRIDGE_NAMES`.
        target: where it sends or listens, as for `parse_target`; of "midi" a port, of "midi-file" a file, of "synth" a
            soundfont; "" is its usual place.
        clock: session time.
        options: None: the defaults.

    Raises:
        UserError: no such bridge, or a target that cannot be read.
    """
    if name not in _BRIDGES:
        nearest = difflib.get_close_matches(name, BRIDGE_NAMES, n=1)
        hint = f"perhaps you meant '{nearest[0]}'" if nearest else f"there are {', '.join(BRIDGE_NAMES)}"
        raise UserError(f"unknown bridge '{name}'", hint)
    return _BRIDGES[name](target, clock, options or BridgeOptions())
