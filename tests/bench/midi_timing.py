"""How late notes and clock pulses are at an independent receiver, beside a busy Python thread.

    python -m tests.bench.midi_timing [SECONDS]

Two processes: the engine's scheduler with a MIDI bridge, and (this one) a receiver on a socket.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import numpy as np

from tests.bridges.midi_receiver import SocketReceiver

BPM = 120.0
NICENESS = -10 if os.geteuid() == 0 else 0
"""What the live runner asks for, and is granted to an administrator."""
_ENGINE = """
    import os, sys, threading, time
    os.setpriority(os.PRIO_PROCESS, 0, {niceness})
    from bridges.midi import MidiBridge
    from engine.clock import SessionClock
    from engine.metrics import Metrics
    from engine.scheduler import OutputScheduler, Timing
    from engine.types import ClockEvent, NoteEvent
    sys.setswitchinterval(0.0005)
    clock = SessionClock()
    bridge = MidiBridge("{target}", clock=clock, pulses=True)
    bridge.open(lambda control: None)
    scheduler = OutputScheduler(clock, [bridge], Metrics(), Timing(16_666_667, 0, 0))
    scheduler.start()
    def busy():
        while True:
            sum(range(2000))
    threading.Thread(target=busy, daemon=True).start()
    start_ns = clock.now_ns() + 200_000_000
    offset_ns = time.perf_counter_ns() - clock.now_ns()
    print(start_ns + offset_ns, flush=True)
    frames, steps = int({seconds} * 60), int({seconds} * 8)
    events = [ClockEvent(start_ns + i * 16_666_667, 0, i / 30, 0.0, 120.0, 1.0) for i in range(frames)]
    events += [NoteEvent(start_ns + k * 125_000_000, 0, 9, 36, 100, 60_000_000) for k in range(steps)]
    scheduler.put(events)
    time.sleep({seconds} + 1.0)
    scheduler.stop()
    bridge.close()
"""

_BARE = """
    import os, socket, time
    os.setpriority(os.PRIO_PROCESS, 0, {niceness})
    sender = socket.create_connection(("127.0.0.1", {port}))
    start_ns = time.perf_counter_ns() + 200_000_000
    print(start_ns, flush=True)
    for k in range(int({seconds} * 8)):
        time.sleep(max(start_ns + k * 125_000_000 - time.perf_counter_ns(), 0) / 1e9)
        sender.sendall(bytes((0x99, 36, 100)))
"""


def floor(seconds: float) -> dict[str, float]:
    """Return how late notes are that a process sends which does nothing else: what this machine has to offer now."""
    receiver = SocketReceiver()
    code = textwrap.dedent(_BARE.format(port=receiver.port, seconds=seconds, niceness=NICENESS))
    sender = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    receiver.wait(lambda messages: len(messages) >= int(seconds * 8))
    late_ms = np.array([entry.at_ns - int(sender.stdout) for entry in receiver.heard]) / 1e6
    late_ms -= np.arange(len(late_ms)) * 125.0
    receiver.hang_up()
    return {
        "median_ms": round(float(np.median(late_ms)), 3),
        "p99_ms": round(float(np.percentile(np.abs(late_ms), 99)), 3),
    }


def main(seconds: float) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    receiver = SocketReceiver()
    code = textwrap.dedent(_ENGINE.format(target=receiver.target, seconds=seconds, niceness=NICENESS))
    engine = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    start_ns = int(engine.stdout)
    report: dict[str, dict[str, float]] = {"bare sender, for comparison": floor(seconds)}
    for kind, interval_ns in (("note_on", 125_000_000), ("clock", 60e9 / BPM / 24)):
        heard = receiver.of(kind)
        # In order, none missing (both are counted): a pulse is judged by its place in the row, a note by its time.
        late_ms = (np.array([entry.at_ns - start_ns for entry in heard]) - np.arange(len(heard)) * interval_ns) / 1e6
        if kind == "clock":
            late_ms -= np.median(late_ms)
        report[kind] = {
            "count": len(heard),
            "median_ms": round(float(np.median(late_ms)), 3),
            "p99_ms": round(float(np.percentile(np.abs(late_ms), 99)), 3),
            "worst_ms": round(float(np.abs(late_ms).max()), 3),
        }
    print(json.dumps(report, indent=1))
    receiver.hang_up()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
