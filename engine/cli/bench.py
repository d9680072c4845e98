"""`bench`: what this machine gives, measured on the demo song through the whole live path."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from engine import __version__
from engine.audio.files import open_audio
from engine.cli.backends import bench_steps, print_steps
from engine.cli.figures import check_place, write_figures
from engine.cli.scaling import print_scaling, run_scaling
from engine.cli.sources import DEMO_SONG
from engine.clock import SessionClock
from engine.errors import UserError
from engine.machine import busy_process, machine_kind, resident_mb, source_commit
from engine.metrics import Metrics
from engine.protocols import Deliver, Report
from engine.render import collect
from engine.runner import LiveRunner
from engine.scheduler import OutputScheduler
from engine.settings import ShowSettings
from engine.stage import build_bridges, build_pipeline, output_timing, warm_up
from engine.types import NS_PER_S, AudioBlock

_SECTIONS = {
    "features": "features of a hop",
    "beats": "beat tracking of a hop",
    "model_step": "one model step (a chunk)",
    "frame": "one pose, guarded",
    "core": "audio block in to its poses queued",
    "output_jitter": "pose due to pose sent",
    "output_send": "sending one pose to every bridge",
    "sample_to_output": "newest sample to OSC out, look-ahead included",
}


_PACED = ("live", "live_beside_a_busy_process")
"""The runs at the live rate, in what is written."""


@dataclass(frozen=True, slots=True)
class _Paced:
    """What the paced run gave."""

    summary: dict[str, dict[str, float]]
    counters: dict[str, int]
    received: int
    rss_start_mb: float
    rss_end_mb: float


def run_bench(settings: ShowSettings, seconds: float, json_path: Path | None, compare: Path | None, load: bool) -> None:
    """Measure and print; write JSON if asked. Raises `UserError` if OLD cannot be read, or JSON not written."""
    console = Console()
    check_place(json_path)
    old = _read(compare) if compare is not None else None
    result: dict[str, Any] = {"version": __version__, "commit": source_commit(), "machine": machine_kind()}
    result["cold_start_s"] = _cold_start(settings)
    result["offline_x_real_time"] = _offline(settings)
    result["model"] = bench_steps(settings, seconds, busy_process if load else None)
    result["live"] = _as_json(_paced(settings, seconds, "live"))
    if load:
        with busy_process():
            result["live_beside_a_busy_process"] = _as_json(_paced(settings, seconds, "live, machine busy"))
    _print(console, result, old)
    if json_path is not None:
        write_figures(json_path, result)


def run_scaling_bench(settings: ShowSettings, json_path: Path | None) -> None:
    """Measure how cost grows with dancers, memory, targets and time; print, and write JSON if asked.

    Raises:
        UserError: JSON cannot be written.
    """
    check_place(json_path)
    result: dict[str, Any] = {"version": __version__, "commit": source_commit(), "machine": machine_kind()}
    result["scaling"] = run_scaling(settings)
    console = Console()
    console.print(f"{result['machine']}; commit {result['commit']}", highlight=False)
    print_scaling(console, result["scaling"])
    if json_path is not None:
        write_figures(json_path, result)


def _read(path: Path) -> dict[str, Any]:
    remedy = "give a file made by bench --json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}", f"{remedy} ({error})") from error
    try:
        # All that is compared.
        rows = content["model"]["steps"]
        times = list({(row["backend"], row["batch"], row["paced"]): row["p99_ms"] for row in rows}.values())
        runs = [content[key] for key in _PACED if key in content]
        times += [section["p99_ms"] for run in runs for section in run["sections"].values()]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{path} holds no figures of bench", remedy) from error
    if not runs or not all(isinstance(time_ms, int | float) for time_ms in times):
        raise UserError(f"{path} holds no figures of bench", remedy)
    return dict(content)


def _cold_start(settings: ShowSettings) -> float:
    """Return how long a fresh process takes from its start to the first pose [s]."""
    code = (
        "from engine.settings import ShowSettings\n"
        "from engine.stage import warm_up\n"
        f"warm_up(ShowSettings.model_validate({settings.model_dump(mode='json')!r}), ticks=1)\n"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    return time.perf_counter() - start


def _offline(settings: ShowSettings) -> float:
    """Return how many times faster than real time the demo song is rendered."""
    pipeline = build_pipeline(settings)
    with open_audio(DEMO_SONG) as audio:
        length_s = min(30.0, audio.duration_s)
        start = time.perf_counter()
        collect(pipeline, (block for block in audio.blocks() if block.time_ns <= length_s * NS_PER_S))
    return float(length_s) / (time.perf_counter() - start)


class _PacedSource:
    """The demo song, over and over, block by block at the times at which a sound card would bring it."""

    name = "the demo song"

    def __init__(self, clock: SessionClock, block_samples: int) -> None:
        self._clock = clock
        self._block = block_samples
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, deliver: Deliver, report: Report) -> None:
        self._thread = threading.Thread(target=self._run, args=(deliver,), name="bench source", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _run(self, deliver: Deliver) -> None:
        start_ns, index = self._clock.now_ns(), 0
        with open_audio(DEMO_SONG) as audio:
            rate = audio.sample_rate_hz
            while not self._stopping.is_set():
                samples = audio.read(self._block)
                if not len(samples):
                    audio.rewind()
                    continue
                index += len(samples)
                time_ns = start_ns + index * NS_PER_S // rate
                self._clock.sleep_until(time_ns)
                deliver(AudioBlock(index - len(samples), time_ns, samples, rate))


def _paced(settings: ShowSettings, seconds: float, label: str) -> _Paced:
    """Run the live path for a while at the live rate, with OSC to a socket of our own."""
    metrics, clock = Metrics(), SessionClock()
    with _listener() as (port, received):
        osc = settings.osc.model_copy(update={"targets": (f"127.0.0.1:{port}",)})
        settings = settings.model_copy(update={"osc": osc})
        pipeline = build_pipeline(settings, metrics)
        bridges = build_bridges(settings, clock, pipeline)
        warm_up(settings, ticks=24)
        for bridge in bridges:
            bridge.open(lambda event: None)
        scheduler = OutputScheduler(clock, bridges, metrics, output_timing(settings))
        source, real_time = _PacedSource(clock, settings.audio.block_samples), settings.output.real_time
        runner = LiveRunner(pipeline, scheduler, [source], clock, metrics, real_time=real_time)
        runner.start()
        try:
            time.sleep(2.0)
            metrics.reset()
            rss_start = resident_mb()
            before = received[0]
            for _ in track(range(max(1, round(seconds))), description=label, transient=True):
                time.sleep(1.0)
            summary, counters = metrics.summary(), dict(metrics.counters)
            rss_end, count = resident_mb(), received[0] - before
        finally:
            runner.stop()
            for bridge in bridges:
                bridge.close()
    return _Paced(summary, counters, count, rss_start, rss_end)


@contextmanager
def _listener() -> Iterator[tuple[int, list[int]]]:
    """Receive datagrams on a loopback port; count the bundles that begin a pose."""
    count = [0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.2)
        stopping = threading.Event()

        def listen() -> None:
            while not stopping.is_set():
                try:
                    count[0] += b"/pdd/frame" in sock.recv(2048)
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen, name="bench listener", daemon=True)
        thread.start()
        try:
            yield sock.getsockname()[1], count
        finally:
            stopping.set()
            thread.join(timeout=2.0)


def _as_json(run: _Paced) -> dict[str, Any]:
    return {
        "sections": {name: run.summary[name] for name in _SECTIONS if name in run.summary},
        "counters": run.counters,
        "poses_received": run.received,
        "rss_mb": [run.rss_start_mb, run.rss_end_mb],
    }


def _print(console: Console, result: dict[str, Any], old: dict[str, Any] | None) -> None:
    console.print(f"{result['machine']}; commit {result['commit']}", highlight=False)
    console.print(
        f"cold start to first pose {result['cold_start_s']:.2f} s; rendering {result['offline_x_real_time']:.1f} x "
        "real time",
        highlight=False,
    )
    print_steps(console, result["model"], (old or {}).get("model"))
    for key in _PACED:
        if key not in result:
            continue
        table = Table(title=key.replace("_", " "), title_justify="left")
        for column in ("stage", "p50 ms", "p95 ms", "p99 ms", "max ms", "count", *(["p99, new / old"] if old else [])):
            table.add_column(column, justify="left" if column == "stage" else "right")
        for name, label in _SECTIONS.items():
            section = result[key]["sections"].get(name)
            if section is None:
                continue
            cells = [f"{section[p]:.3f}" for p in ("p50_ms", "p95_ms", "p99_ms", "max_ms")]
            cells.append(f"{section['count']:.0f}")
            if old:
                before = old.get(key, {}).get("sections", {}).get(name, {}).get("p99_ms")
                cells.append(f"{section['p99_ms'] / before:.2f}" if before else "-")
            table.add_row(label, *cells)
        console.print(table)
        run = result[key]
        counters = run["counters"]
        console.print(
            f"poses {counters.get('frames', 0)}, received {run['poses_received']}, late "
            f"{counters.get('frames_late', 0)}, carried on {counters.get('frames_carried', 0)} in "
            f"{counters.get('late_episodes', 0)} episodes, xruns {counters.get('xruns', 0)}; memory "
            f"{run['rss_mb'][0]:.0f} -> {run['rss_mb'][1]:.0f} MB",
            highlight=False,
        )
