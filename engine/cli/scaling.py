"""`bench --scaling`: how the cost grows with dancers, memory, targets and the length of the show.

Every curve is processor time of the thread that does the work, not time on the wall: what else runs on the machine
then matters little. The exponent is the slope through the upper half of the sizes, logarithm against logarithm: 1 is
linear, less is better, 0 is flat.
"""

from __future__ import annotations

import importlib
import math
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from engine.audio.files import open_audio
from engine.cli.sources import DEMO_SONG
from engine.clock import SessionClock
from engine.crowds.process import Hop
from engine.features import FeatureSpec
from engine.machine import resident_mb
from engine.metrics import Metrics
from engine.settings import ShowSettings
from engine.stage import build_bridges, build_pipeline, build_troupe, dance_model
from engine.types import NS_PER_S, AudioBlock, BeatState, BeatTimeline, PoseFrame

_HOP_NS = 10_000_000
_WARM_HOPS, _COUNTED_HOPS = 150, 200
"""A second and a half to begin with (the first chunk, the first poses), and two that count."""


@dataclass(frozen=True)
class ScalingPlan:
    """Which sizes are tried, and for how long.

    Attributes:
        dancers, windows, targets: sizes of the curves.
        minutes: of the show.
        minute_s: how long a minute is, for who cannot wait.
        poses: sent to each number of targets.
    """

    dancers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    windows: tuple[int, ...] = (24, 48, 96, 192)
    targets: tuple[int, ...] = (1, 2, 4, 8, 16)
    minutes: int = 10
    minute_s: float = 60.0
    poses: int = 600


def run_scaling(settings: ShowSettings, plan: ScalingPlan | None = None) -> dict[str, Any]:
    """Measure every curve.

    Raises:
        UserError: the model cannot be loaded.
    """
    plan = plan or ScalingPlan()
    measure, folder = importlib.import_module("models.backends.measure"), dance_model(settings.dancer.model)
    steps = [{"dancers": n, "step_ms": measure.step_cost_ms(folder, n)} for n in plan.dancers]
    crowds = [crowd_cost(settings, n) for n in plan.dancers]
    return {
        "step_by_dancers": _curve(steps, "dancers", "step_ms"),
        "crowd_by_dancers": _curve(crowds, "dancers", "core_share"),
        "step_by_window": _windows(plan.windows),
        "send_by_targets": _curve(list(_targets(settings, plan)), "targets", "send_ms"),
        "show_by_minutes": _show(settings, plan),
    }


def print_scaling(console: Console, result: dict[str, Any]) -> None:
    """Print the curves as a Markdown table, and their exponents."""
    table = Table(title="cost by size (processor time)", title_justify="left")
    for column in ("what", "sizes", "cost", "exponent"):
        table.add_column(column)
    labels = {
        "step_by_dancers": "a step of the model by dancers [ms]",
        "crowd_by_dancers": "a crowd with its bodies by dancers [cores]",
        "step_by_window": "a step by the window of its memory [ms]",
        "send_by_targets": "sending a pose by OSC targets [ms]",
        "show_by_minutes": "the whole core by the minute of the show [cores]",
    }
    for name, label in labels.items():
        curve = result[name]
        if "missing" in curve:
            table.add_row(label, curve["missing"], "", "")
            continue
        cost = " ".join(f"{row[curve['cost']]:.3g}" for row in curve["rows"])
        table.add_row(
            label, " ".join(str(row[curve["size"]]) for row in curve["rows"]), cost, f"{curve['exponent']:.2f}"
        )
    console.print(table)
    show, crowd = result["show_by_minutes"], result["crowd_by_dancers"]["rows"][-1]
    console.print(
        f"one core holds {crowd['dancers_held']:.0f} dancers at {crowd['fps']:.0f} poses a second (crowd of "
        f"{crowd['dancers']}); memory from the second minute on: {show['rss_mb_a_minute']:+.2f} MB a minute",
        highlight=False,
    )


def crowd_cost(settings: ShowSettings, size: int) -> dict[str, Any]:
    """Let a crowd dance; return its share of a core, and how many such dancers a core would hold.

    On a card the waiting for it counts, too: the larger of processor time and wall-clock time of each hop.
    """
    crowd = settings.crowd.model_copy(update={"size": size})
    troupe = build_troupe(settings.model_copy(update={"crowd": crowd}))
    on_card = settings.dancer.backend not in ("cpu", "cpu-fp32", "auto")
    random, silence = np.random.default_rng(0), FeatureSpec().silence
    beat = BeatState(BeatTimeline(110.0, 0.0, 0), 0.9, 4, 0)
    now = time.perf_counter if on_card else time.thread_time
    poses, begun = 0, 0.0
    for hop in range(_WARM_HOPS + _COUNTED_HOPS):
        if hop == _WARM_HOPS:
            poses, begun = 0, now()
        row = (silence + 0.3 * random.standard_normal(len(silence))).astype(np.float32)
        poses += len(troupe.hear(Hop((hop + 1) * _HOP_NS, beat, row, True)))
    seconds = _COUNTED_HOPS * _HOP_NS / NS_PER_S
    share = (now() - begun) / seconds
    return {"dancers": size, "core_share": share, "dancers_held": size / share, "fps": poses / seconds / size}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the slope of log cost against log size, through the upper half of the sizes."""
    upper = len(sizes) // 2
    slope, _ = np.polyfit(np.log(sizes[upper:]), np.log(costs[upper:]), 1)
    return float(slope)


def _curve(rows: list[dict[str, Any]], size: str, cost: str) -> dict[str, Any]:
    slope = exponent([row[size] for row in rows], [row[cost] for row in rows]) if len(rows) > 2 else math.nan
    return {"size": size, "cost": cost, "exponent": slope, "rows": rows}


def _windows(windows: Sequence[int]) -> dict[str, Any]:
    """Return the cost of a step by its window: of untrained networks, made here, since a window is learnt with."""
    try:
        rivals = importlib.import_module("models.backends.rivals")
        rows = [{"window": window, "step_ms": rivals.window_cost_ms(window)} for window in windows]
    except ImportError as error:
        return {"missing": f'needs pip install -e ".[train]" ({error})'}
    return _curve(rows, "window", "step_ms")


def _targets(settings: ShowSettings, plan: ScalingPlan) -> Iterator[dict[str, Any]]:
    """Yield what it costs to send a pose to so many OSC receivers."""
    still = np.zeros((24, 3), np.float32), np.zeros(3, np.float32), np.ones(4, np.float32)
    clock, pipeline = SessionClock(), build_pipeline(settings)
    for count in plan.targets:
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(count)]
            for sock in sockets:
                sock.bind(("127.0.0.1", 0))
            targets = tuple(f"127.0.0.1:{sock.getsockname()[1]}" for sock in sockets)
            osc = settings.osc.model_copy(update={"targets": targets})
            bridges = build_bridges(settings.model_copy(update={"osc": osc}), clock, pipeline)
            for bridge in bridges:
                bridge.open(lambda event: None)
                stack.callback(bridge.close)
            durations = []
            for index in range(plan.poses):
                # Each is a pose of its own: what bridges share of one, they work out anew for the next.
                frame = PoseFrame(index, 0, *still)
                begun = time.thread_time()
                for bridge in bridges:
                    bridge.send(frame)
                durations.append(time.thread_time() - begun)
        yield {"targets": count, "send_ms": 1e3 * float(np.median(durations))}


def _show(settings: ShowSettings, plan: ScalingPlan) -> dict[str, Any]:
    """Return the cost of a step and the memory, minute by minute, of a long show rendered as fast as it goes."""
    metrics = Metrics()
    pipeline = build_pipeline(settings, metrics)
    rows: list[dict[str, Any]] = []
    spent, begun = 0.0, time.thread_time()
    for block in _song_for(plan.minutes * plan.minute_s):
        for _ in pipeline.push(block):
            pass
        if block.time_ns >= (len(rows) + 1) * plan.minute_s * NS_PER_S:
            spent, begun = time.thread_time() - begun, time.thread_time()
            summary = metrics.summary()
            rows.append(
                {
                    "minute": len(rows) + 1,
                    "step_ms": summary["model_step"]["p50_ms"],
                    "core_share": spent / plan.minute_s,
                    "rss_mb": resident_mb(),
                }
            )
            metrics.reset()
    curve = _curve(rows, "minute", "core_share")
    memory = [row["rss_mb"] for row in rows][1:]
    curve["rss_mb_a_minute"] = float(np.polyfit(range(len(memory)), memory, 1)[0]) if len(memory) > 1 else 0.0
    return curve


def _song_for(seconds: float) -> Iterator[AudioBlock]:
    """Yield the demo song over and over."""
    index, end_ns = 0, round(seconds * NS_PER_S)
    with open_audio(DEMO_SONG) as audio:
        rate = audio.sample_rate_hz
        while index * NS_PER_S // rate < end_ns:
            samples = audio.read(4800)
            if not len(samples):
                audio.rewind()
                continue
            index += len(samples)
            yield AudioBlock(index - len(samples), index * NS_PER_S // rate, samples, rate)
