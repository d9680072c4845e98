"""Run by test_playback_pulse.py in a process of its own: play a file and listen to it at the same time.

Usage: playback_child.py SONG.wav OUTPUT.npz. Prints "ready" when the first block of the file was delivered and every
status event as it comes; ends with the file.
"""

from __future__ import annotations

import sys
import threading

import numpy as np

from engine.audio.capture import MicrophoneSensor
from engine.audio.files import AudioFileSensor
from engine.clock import SessionClock
from engine.types import NS_PER_S, AudioBlock, Observation, StatusEvent
from tests.waiting import PATIENCE_S


class Listener:
    """Keeps blocks and when they were delivered."""

    def __init__(self, clock: SessionClock) -> None:
        self.blocks: list[AudioBlock] = []
        self.delivered_ns: list[int] = []
        self.begun = threading.Event()
        self._clock = clock

    def deliver(self, block: Observation) -> None:
        assert isinstance(block, AudioBlock)
        self.delivered_ns.append(self._clock.now_ns())
        self.blocks.append(block)
        self.begun.set()

    def sound(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the samples (n,) and the session time of each (n,) [ns]."""
        times = [b.time_ns - np.arange(len(b.samples))[::-1] * NS_PER_S / b.sample_rate_hz for b in self.blocks]
        return np.concatenate([b.samples[:, 0] for b in self.blocks]), np.concatenate(times)


def main(song: str, output: str) -> None:
    clock = SessionClock()
    over = threading.Event()
    microphone, player = Listener(clock), Listener(clock)

    def report(event: StatusEvent) -> None:
        print(event.level, event.message, flush=True)

    capture = MicrophoneSensor("pulse", clock, channels=1)
    capture.start(microphone.deliver, report)
    assert microphone.begun.wait(PATIENCE_S)
    playing = AudioFileSensor(song, clock, device="pulse", on_end=over.set)
    playing.start(player.deliver, report)
    assert player.begun.wait(PATIENCE_S)
    print("ready", flush=True)
    assert over.wait(PATIENCE_S)
    capture.stop()
    playing.stop()
    heard, heard_ns = microphone.sound()
    played, played_ns = player.sound()
    np.savez(
        output,
        heard=heard,
        heard_ns=heard_ns,
        played=played,
        played_ns=played_ns,
        block_ns=[block.time_ns for block in player.blocks],
        delivered_ns=player.delivered_ns,
        failures=playing.output_failures,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
