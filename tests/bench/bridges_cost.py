"""What a frame costs in each bridge: `python tests/bench/bridges_cost.py [FRAMES]`.

Prints microseconds of CPU a frame (the best of five runs), to a local port that is read by nobody, and what building
the same OSC bundles message by message with python-osc would cost.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

import numpy as np
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from bridges.registry import BridgeOptions, create_bridge
from engine.clock import VirtualClock
from engine.types import BeatEvent, ClockEvent, NoteEvent, OutputEvent, PoseFrame, StatusEvent


def cost_us(function: Callable[[], None], repetitions: int) -> float:
    """Return the CPU time of one call [us]."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time_ns()
        for _ in range(repetitions):
            function()
        best = min(best, (time.process_time_ns() - start) / repetitions)
    return best / 1_000


def main() -> None:
    """Measure and print."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    rotations = np.random.default_rng(0).normal(scale=0.5, size=(24, 3))
    events: dict[str, OutputEvent] = {
        "pose": PoseFrame(0, 0, rotations, np.array((0.0, 0.976, 0.0)), np.ones(4)),
        "clock": ClockEvent(0, 0, 1.5, 0.5, 120.0, 1.0),
        "beat": BeatEvent(0, 0, 1, 1, 120.0, 1.0),
        "note": NoteEvent(0, 0, 9, 36, 100, 10**8),
        "status": StatusEvent(0, "audio", "info", "steady"),
    }
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{sink.getsockname()[1]}"
        for name, options in (("osc", BridgeOptions()), ("osc", BridgeOptions(smpl=True)), ("vmc", BridgeOptions())):
            bridge = create_bridge(name, target, VirtualClock(), options)
            bridge.open(lambda control: None)
            for kind, event in events.items():
                label = f"{name}{' with smpl' if options.smpl else ''}, {kind}"
                print(f"{label:24}{cost_us(lambda b=bridge, e=event: b.send(e), repetitions):7.1f} us")
            bridge.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.settimeout(1.0)
            bridge = create_bridge("osc", f"127.0.0.1:{listener.getsockname()[1]}", VirtualClock())
            bridge.open(lambda control: None)
            bridge.send(events["pose"])
            datagrams = [OscBundle(listener.recv(2_000)) for _ in range(2)]
            bridge.close()

        def build() -> None:
            for datagram in datagrams:
                bundle = OscBundleBuilder(IMMEDIATELY)
                for content in datagram:
                    message = OscMessageBuilder(address=content.address)
                    for value in content.params:
                        message.add_arg(value, "i" if isinstance(value, int) else "f")
                    bundle.add_content(message.build())
                bundle.build()

        print(f"python-osc, building the same frame: {cost_us(build, repetitions // 10):.0f} us")


if __name__ == "__main__":
    main()
