"""What every bridge must do, whatever it speaks: one suite over the registry."""

import contextlib
import gc
import socket
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bridges.registry import BRIDGE_NAMES, BridgeOptions, create_bridge
from engine.clock import VirtualClock
from engine.errors import UserError
from engine.types import (
    BeatEvent,
    ClockEvent,
    ControlEvent,
    MetricsEvent,
    NoteEvent,
    OutputEvent,
    PoseFrame,
    StatusEvent,
)
from tests.ports import unshared_port

DESCRIPTORS = Path("/proc/self/fd")


def pose(index=0):
    rotations = np.random.default_rng(index).normal(scale=0.5, size=(24, 3))
    return PoseFrame(index * 16_666_667, 0, rotations, (0.0, 0.976, 0.0), (1, 1, 1, 1))


EVENTS = [
    ClockEvent(0, 0, 1.5, 0.5, 120.0, 0.9),
    pose(),
    BeatEvent(0, 0, 2, 3, 120.0, 0.9),
    BeatEvent(0, 0, -1, 0, 120.0, 0.0),
    NoteEvent(0, 0, 9, 36, 100, 250_000_000),
    NoteEvent(0, 0, 0, 127, 0, 0),
    StatusEvent(0, "audio", "error", "the interface was unplugged ✂"),
    ControlEvent(0, "energy", 0.5),
    ControlEvent(0, "style", "house"),
    ControlEvent(0, "panic"),
    MetricsEvent(0, {"frames": 60.0}),
]


def open_descriptors():
    """Return the names of our open files and sockets, where the system tells."""
    return {path.name for path in DESCRIPTORS.iterdir()} if DESCRIPTORS.exists() else set()


def unexpected(control):
    raise AssertionError(f"nobody asked for {control}")


NETWORK = tuple(name for name in BRIDGE_NAMES if name not in ("midi", "midi-file", "synth"))


@pytest.fixture
def target_of(tmp_path):
    """Return where each bridge can be opened on any machine, without what it needs to be heard."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as receiver:

        def target(name):
            if name == "midi":  # takes connections and never answers
                return f"tcp:127.0.0.1:{receiver.getsockname()[1]}"
            if name == "midi-file":
                return str(tmp_path / "music.mid")
            if name == "synth":
                return soundfont()
            return f"127.0.0.1:{unshared_port()}"

        yield target


def soundfont():
    """Return a small soundfont; where there is no synthesiser, or none to play, there is nothing to test."""
    pytest.importorskip("tinysoundfont", reason="tinysoundfont is not installed: no native synthesiser")
    pretty_midi = pytest.importorskip("pretty_midi", reason="pretty_midi is not installed: no small soundfont")
    return str(Path(pretty_midi.__file__).parent / "TimGM6mb.sf2")


@pytest.fixture(params=BRIDGE_NAMES)
def bridge(request, target_of):
    options = BridgeOptions(synth_device="no such loudspeaker", pulses=True)
    bridge = create_bridge(request.param, target_of(request.param), VirtualClock(), options)
    yield bridge
    bridge.close()


def test_the_events_are_all_there_are():
    assert {type(event) for event in EVENTS} == set(OutputEvent.__args__)


def test_takes_every_event_without_a_listener(bridge):
    bridge.open(unexpected)
    for _ in range(20):
        for event in EVENTS:
            with contextlib.suppress(OSError):  # the only error a bridge may raise while it runs
                bridge.send(event)


def test_close_is_idempotent_and_needs_no_open(bridge):
    bridge.close()
    bridge.open(unexpected)
    bridge.close()
    bridge.close()


def test_a_closed_bridge_drops_what_it_is_given(bridge):
    for event in EVENTS:
        bridge.send(event)
    bridge.open(unexpected)
    bridge.close()
    for event in EVENTS:
        bridge.send(event)


def test_opens_again_at_the_same_place(bridge):
    for _ in range(3):
        bridge.open(unexpected)
        with contextlib.suppress(OSError):
            bridge.send(pose())
        bridge.close()


def test_who_else_is_on_stage_costs_nothing(bridge):
    bridge.open(unexpected)
    for index in range(30):
        for performer in ("", "partner", "camera", "1", "2"):
            frame = pose(index)
            frame = PoseFrame(frame.time_ns, 0, frame.rotations, frame.translation_m, frame.contacts, performer)
            with contextlib.suppress(OSError):
                bridge.send(frame)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("midi", "tcp:127.0.0.1:1"),
        ("midi", "no such synthesiser"),
        ("midi-file", "/no/such/folder/music.mid"),
        ("synth", "/no/such/band.sf2"),
    ],
)
def test_what_is_not_there_is_the_users_to_mend(name, target):
    if name == "synth":
        soundfont()
    bridge = create_bridge(name, target, VirtualClock())
    with pytest.raises(UserError) as caught:
        bridge.open(unexpected)
    assert caught.value.remedy
    bridge.close()


def test_close_leaves_no_thread_and_no_descriptor(bridge):
    bridge.open(unexpected)  # once for what is loaded on first use
    bridge.close()
    threads = set(threading.enumerate())
    descriptors = open_descriptors()
    bridge.open(unexpected)
    with contextlib.suppress(OSError):
        bridge.send(pose())
    bridge.close()
    # Those of tests before may have ended meanwhile.
    assert set(threading.enumerate()) <= threads
    assert open_descriptors() <= descriptors


def test_an_evening_of_frames_leaves_nothing_in_memory(bridge):
    bridge.open(unexpected)
    frames = [pose(index) for index in range(20)]

    def run():
        for _ in range(10):
            for event in (*frames, *EVENTS):
                with contextlib.suppress(OSError):
                    bridge.send(event)
        gc.collect()

    run()
    threads = set(threading.enumerate())
    tracemalloc.start()
    held = []
    for _ in range(3):
        run()
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    # A leak grows each time; what the bridge's own thread holds at the moment does not. 310 events: sixteen bytes each.
    assert np.diff(held).min() < 5_000
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("name", BRIDGE_NAMES)
def test_its_name_says_what_it_is(name):
    assert create_bridge(name, "", VirtualClock()).name.startswith(name)


@pytest.mark.parametrize("name", NETWORK)
def test_a_place_that_cannot_be_had_is_the_users_to_mend(name, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    bridge = create_bridge(name, "no-such-host:7000", VirtualClock())
    with pytest.raises(UserError) as caught:
        bridge.open(unexpected)
    assert "no-such-host" in caught.value.problem
    assert caught.value.remedy
    bridge.close()
