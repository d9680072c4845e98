"""Targets as users write them, and bridges by name."""

import subprocess
import sys

import pytest

from bridges.endpoint import Endpoint, parse_target
from bridges.registry import BRIDGE_NAMES, BridgeOptions, create_bridge
from engine.clock import VirtualClock
from engine.errors import UserError

DEFAULT = Endpoint("127.0.0.1", 9000)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7000", "127.0.0.1", 7000),
        ("7000", "127.0.0.1", 7000),
        (":7000", "127.0.0.1", 7000),
        ("beamer", "beamer", 9000),
        (" beamer.local:7000 ", "beamer.local", 7000),
        ("vj_laptop-2", "vj_laptop-2", 9000),
        ("10.0.0.255:65535", "10.0.0.255", 65535),
        ("[::1]:7000", "::1", 7000),
        ("[::1]", "::1", 9000),
        ("::1", "::1", 9000),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_targets(text, host, port):
    target = parse_target(text, DEFAULT)
    assert target == Endpoint(host, port)
    assert parse_target(str(target), DEFAULT) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host:",
        "host:http",
        "host:0",
        "host:65536",
        "host:-1",
        "host:٣",
        "0",
        "123456789",
        "osc://host:9000",
        "host:9000/path",
        "my host:9000",
        "[::1",
        "[::1]9000",
        "[host]:9000",
        "a:b:c",
        "-host",
    ],
)
def test_wrong_targets_are_the_users_to_mend(text):
    with pytest.raises(UserError, match=r"target .*: (write it as HOST:PORT|a port is a number)"):
        parse_target(text, DEFAULT)


def test_every_bridge_has_a_usual_place():
    for name in BRIDGE_NAMES:
        create_bridge(name, "", VirtualClock())


@pytest.mark.parametrize("name", ["osc", "osc-control", "vmc"])
def test_names_tell_two_of_a_kind_apart(name):
    assert create_bridge(name, "[::1]:7000", VirtualClock(), BridgeOptions(smpl=True)).name == f"{name} [::1]:7000"


def test_bridges_have_usual_places():
    places = {name: create_bridge(name, "", VirtualClock()).name for name in ("osc", "osc-control", "vmc")}
    assert places == {
        "osc": "osc 127.0.0.1:9000",
        "osc-control": "osc-control 127.0.0.1:9001",
        "vmc": "vmc 127.0.0.1:39539",
    }


def test_an_unknown_bridge_is_the_users_to_mend():
    with pytest.raises(UserError, match="unknown bridge 'vcm': perhaps you meant 'vmc'"):
        create_bridge("vcm", "", VirtualClock())
    with pytest.raises(UserError, match="there are osc, "):
        create_bridge("carrier pigeon", "", VirtualClock())


def test_nothing_is_loaded_before_it_is_asked_for():
    modules = "('bridges.osc', 'bridges.vmc', 'bridges.midi', 'mido', 'aiohttp')"
    code = f"import sys, bridges.registry; sys.exit(any(m in sys.modules for m in {modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
