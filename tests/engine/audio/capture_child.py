"""Run by test_capture_pulse.py in a process of its own: capture until told to stop, then save what came.

Usage: capture_child.py DEVICE OUTPUT.npz. Prints "ready" once the first block is in and every status event as it
comes; ends when its standard input is closed.
"""

from __future__ import annotations

import sys

import numpy as np

from engine.audio.capture import MicrophoneSensor
from engine.clock import SessionClock
from engine.types import AudioBlock, Observation, StatusEvent


def main(device: str, output: str) -> None:
    clock = SessionClock()
    blocks: list[AudioBlock] = []
    delivered_ns: list[int] = []

    def deliver(observation: Observation) -> None:
        assert isinstance(observation, AudioBlock)
        delivered_ns.append(clock.now_ns())
        blocks.append(observation)
        if len(blocks) == 1:
            print("ready", flush=True)

    def report(event: StatusEvent) -> None:
        print(event.level, event.message, flush=True)

    sensor = MicrophoneSensor(device, clock, channels=1)
    sensor.start(deliver, report)
    sys.stdin.read()
    sensor.stop()
    count = len(blocks)
    sensor.stop()
    np.savez(
        output,
        samples=np.concatenate([block.samples[:, 0] for block in blocks]),
        frames=[len(block.samples) for block in blocks],
        index=[block.sample_index for block in blocks],
        gap=[block.gap_samples for block in blocks],
        time_ns=[block.time_ns for block in blocks],
        delivered_ns=delivered_ns,
        rate_hz=blocks[-1].sample_rate_hz,
        lost=sensor.lost_samples,
        overflows=sensor.overflows,
        reconnects=sensor.reconnects,
        after_stop=len(blocks) - count,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
