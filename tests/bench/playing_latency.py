"""How late notes are at an independent receiver while a dancer plays: triggers after the frame, the band on its grid.

    python -m tests.bench.playing_latency INPUT [SECONDS] [SECTION.KEY=VALUE ...]

INPUT is a camera, a video or a poses.npz (files are looped). The receiver is a process of its own that reads OSC from
a socket with python-osc, and MIDI from another, and stamps what comes with the clock that all processes share.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np

from engine.cli.live import LiveShow
from engine.cli.play import play_live
from engine.cli.status import StatusLine
from engine.settings import ShowSettings, load_show
from engine.stage import Cast
from engine.types import TRIGGER_CHANNEL, NoteEvent, OutputEvent

_RECEIVER = """
    import contextlib, json, os, socket, sys, time
    from pythonosc.osc_packet import OscPacket
    from tests.bridges.midi_receiver import SocketReceiver
    with contextlib.suppress(OSError, AttributeError):  # it stands for another machine: its own delays are not ours
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    midi = SocketReceiver()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(0.5)
    print(sock.getsockname()[1], midi.target, flush=True)
    received, quiet = [], 0
    while quiet < 8:
        try:
            packet, at = sock.recv(65536), time.perf_counter_ns()
            quiet = 0
        except TimeoutError:
            quiet += 1 if received else 0
            continue
        received.append((at, packet))
    notes = [
        (at, *message.message.params[:3])
        for at, packet in received
        for message in OscPacket(packet).messages
        if message.message.address == "/pdd/note"
    ]
    heard = [(h.at_ns, h.message.channel, h.message.note, h.message.velocity) for h in midi.of("note_on")]
    print(json.dumps({"OSC": notes, "MIDI": heard}))
"""


def measure(source: str, seconds: float, settings: ShowSettings) -> dict[str, object]:
    """Run a show and return percentiles [ms] of what the receiver saw."""
    receiver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_RECEIVER)], stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None
    port, midi_target = receiver.stdout.readline().split()
    osc = settings.osc.model_copy(update={"targets": (f"127.0.0.1:{port}",)})
    midi = settings.midi.model_copy(update={"targets": (midi_target,)})
    settings = settings.model_copy(update={"osc": osc, "midi": midi})
    live = LiveShow(settings, cast=Cast.BAND)
    origin_ns = time.perf_counter_ns() - live.clock.now_ns()
    emitted: list[NoteEvent] = []
    original = StatusLine.see

    def see(status: StatusLine, events: Sequence[OutputEvent]) -> None:
        emitted.extend(event for event in events if isinstance(event, NoteEvent))
        original(status, events)

    StatusLine.see = see  # type: ignore[method-assign]
    try:
        show = threading.Thread(
            target=play_live, args=(live, settings, Cast.BAND, source, None, True, seconds), name="show"
        )
        show.start()
        show.join()
    finally:
        StatusLine.see = original  # type: ignore[method-assign]
    received = json.loads(receiver.communicate(timeout=60)[0])
    summary = live.metrics.summary()
    parts = {name: round(summary[name]["p95_ms"], 1) for name in ("pose", "pose_latency", "core") if name in summary}
    report: dict[str, object] = {name: _judge(heard, emitted, origin_ns) for name, heard in received.items()}
    return report | {"inside, p95": parts}


def _judge(heard: list[list[int]], emitted: list[NoteEvent], origin_ns: int) -> dict[str, object]:
    """Match what was heard with what was emitted, in order, and return how late it was [ms]."""
    waiting: dict[tuple[int, ...], deque[NoteEvent]] = defaultdict(deque)
    begun = sorted((note for note in emitted if note.velocity > 0), key=lambda n: n.time_ns)
    for note in begun:
        waiting[note.channel, note.pitch, note.velocity].append(note)
    triggered, late = [], []
    for at_ns, *key in heard:
        queue = waiting[tuple(key)]
        if not queue:
            continue
        note = queue.popleft()
        if note.channel == TRIGGER_CHANNEL:
            triggered.append((at_ns - origin_ns - note.source_ns) / 1e6)
        else:
            late.append((at_ns - origin_ns - note.time_ns) / 1e6)
    return {
        "frame to triggered note": _percentiles(triggered),
        "note after its place on the grid": _percentiles(late),
        "matched": len(triggered) + len(late),
        "emitted": len(begun),
    }


def _percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    names = (5, 50, 95, 99, 100)
    return {"count": len(values)} | {
        f"p{name}": round(float(value), 2) for name, value in zip(names, np.percentile(values, names), strict=True)
    }


def main() -> None:
    """Measure with the settings of the command line and print the figures."""
    source, *rest = sys.argv[1:]
    seconds = float(rest[0]) if rest else 30.0
    defaults = ("triggers.mode=free", "triggers.sensitivity=0.9", "camera.model=lite", "web.ports=[]")
    settings = load_show(None, rest[1:], defaults)
    print(json.dumps(measure(source, seconds, settings), indent=1))


if __name__ == "__main__":
    main()
