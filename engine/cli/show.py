"""Running a show from the command line: live, from a recorded session, or into files."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from engine.cli.options import CommonOptions
from engine.cli.status import StatusLine
from engine.clock import Clock, SessionClock
from engine.errors import UserError
from engine.metrics import Metrics
from engine.protocols import Bridge, Deliver, Report, Sensor
from engine.render import Rendering, collect, write_dance
from engine.runner import LiveRunner, live_values
from engine.scheduler import OutputScheduler
from engine.session import Session, SessionRecorder
from engine.settings import ShowSettings
from engine.stage import build_bridges, build_pipeline, output_timing, warm_up
from engine.types import NS_PER_S, AudioBlock, ControlEvent, Observation, StatusEvent

_log = logging.getLogger(__name__)

DEMO_SONG = Path(__file__).parents[2] / "config" / "demo" / "demo.ogg"
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".caf", ".au", ".rf64"})


def audio_file(source: str | None) -> Path | None:
    """Return the path if the input is an audio file (or is plainly meant to be one), None for a device."""
    if source is None:
        return None
    path = Path(source)
    if path.exists() or path.suffix.lower() in AUDIO_SUFFIXES or path.parent != Path():
        return path
    return None


def file_sensor(path: Path, settings: ShowSettings, clock: Clock, loop: bool, on_end: Callable[[], None]) -> Sensor:
    """Return a sensor that plays a file in real time. Raises `UserError` if it cannot be read."""
    from engine.audio.files import AudioFileSensor

    return AudioFileSensor(path, clock, device=settings.audio.output_device, loop=loop, on_end=on_end)


def microphone_sensor(source: str | None, settings: ShowSettings, clock: Clock) -> Sensor:
    """Return a sensor on an input device, by name or index. Raises `UserError` if there is none."""
    from engine.audio.capture import MicrophoneSensor

    audio = settings.audio
    device = source if source is not None else audio.device
    return MicrophoneSensor(device, clock, block_frames=audio.block_samples, latency_ms=audio.latency_ms)


class LiveShow:
    """A show on this machine's devices, from opening to closing.

    Everything that can fail for a reason the user can mend fails before the first sound is heard.
    """

    def __init__(
        self,
        settings: ShowSettings,
        record: Path | None = None,
        report: Path | None = None,
        browser: bool = False,
    ) -> None:
        self._settings = settings
        self._report = report
        self._browser = browser
        self._record = record
        self._console = Console(stderr=True)
        self._stop = threading.Event()
        self.clock = SessionClock()

    def end(self) -> None:
        """Say that the input has ended. Threads: any."""
        self._stop.set()

    def run(self, sensor: Sensor, duration_s: float | None) -> None:
        """Run until the input ends, `duration_s` is over, or the user stops it."""
        settings, console = self._settings, self._console
        clock, metrics = self.clock, Metrics()
        pipeline = build_pipeline(settings, metrics)
        bridges = build_bridges(settings, clock, pipeline)
        status = StatusLine(console)
        with ExitStack() as stack:
            runner: LiveRunner | None = None

            def on_control(event: ControlEvent) -> None:
                if runner is not None:
                    runner.control(event)

            for bridge in bridges:
                bridge.open(on_control)
                stack.callback(bridge.close)
            recorder = SessionRecorder(self._record, settings) if self._record else None
            scheduler = OutputScheduler(clock, bridges, metrics, output_timing(settings))
            runner = LiveRunner(pipeline, scheduler, [sensor], clock, metrics, recorder, status.see)
            stack.callback(runner.stop)
            warm_up(settings, ticks=24)
            self._announce(sensor, bridges)
            self._catch_signals(stack)
            runner.start()
            # The first second pays for caches and pages; what is reported is the show.
            warm_until_ns = clock.now_ns() + NS_PER_S
            end_ns = clock.now_ns() + round(duration_s * NS_PER_S) if duration_s is not None else None
            with status:
                while not self._stop.is_set() and (end_ns is None or clock.now_ns() < end_ns):
                    self._stop.wait(0.25 if end_ns is None else min(0.25, max((end_ns - clock.now_ns()) * 1e-9, 0.0)))
                    if warm_until_ns and clock.now_ns() >= warm_until_ns:
                        metrics.reset()
                        warm_until_ns = 0
                    status.refresh(clock.now_ns(), lambda: live_values(metrics))
        _print_summary(console, metrics)
        if self._report is not None:
            content = {"sections": metrics.summary(), "counters": metrics.counters, "values": live_values(metrics)}
            try:
                self._report.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            except OSError as error:
                raise UserError(f"cannot write {self._report}", error.strerror or str(error)) from error

    def _announce(self, sensor: Sensor, bridges: list[Bridge]) -> None:
        console = self._console
        console.print(f"[bold]Pas de Deux[/] dances to {sensor.name}", highlight=False)
        for bridge in bridges:
            console.print(f"  {bridge.name}", highlight=False)
        if self._settings.web.ports:
            url = f"http://{self._settings.web.host}:{self._settings.web.ports[0]}"
            console.print(f"  stage: [link={url}]{url}[/link]", highlight=False)
            if self._browser and _has_display():
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    def _catch_signals(self, stack: ExitStack) -> None:
        """Let ctrl-c and a polite kill end the show in order; only possible on the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: self._stop.set()))


def _has_display() -> bool:
    """Return whether a graphical browser can be opened (a text browser must not take over the terminal)."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _print_summary(console: Console, metrics: Metrics) -> None:
    values = live_values(metrics)
    if values["frames"]:
        console.print(
            f"{values['frames']:.0f} poses, {values['frames_late']:.0f} late, latency p50 "
            f"{values['latency_p50_ms']:.1f} ms, p99 {values['latency_p99_ms']:.1f} ms, xruns {values['xruns']:.0f}",
            highlight=False,
        )


# -- into files -------------------------------------------------------------------------------------------------------


def render_file(settings: ShowSettings, path: Path, folder: Path, duration_s: float | None) -> None:
    """Render an audio file and write what design section 7 promises."""
    from engine.audio.files import open_audio

    source = open_audio(path)
    length_s = source.duration_s if duration_s is None else min(duration_s, source.duration_s)
    with source:
        blocks: Iterable[Observation] = _until(source.blocks(), duration_s)
        _render(settings, blocks, folder, length_s)


def _until(blocks: Iterable[AudioBlock], duration_s: float | None) -> Iterator[AudioBlock]:
    for block in blocks:
        if duration_s is not None and block.time_ns > duration_s * NS_PER_S:
            return
        yield block


def _render(settings: ShowSettings, observations: Iterable[Observation], folder: Path, length_s: float) -> Rendering:
    console = Console(stderr=True)
    pipeline = build_pipeline(settings)
    start = time.perf_counter()
    columns = (TextColumn("rendering"), BarColumn(), TextColumn("{task.completed:.0f} s"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("rendering", total=length_s)
        poses, beats, report = collect(pipeline, observations, lambda t: progress.update(task, completed=t))
    write_dance(folder, poses, beats, settings.output.fps)
    elapsed = time.perf_counter() - start
    for problem in dict.fromkeys(report.problems):
        console.print(f"[yellow]{problem}[/]", highlight=False)
    console.print(
        f"{report.poses} poses and {report.beats} beats of {report.duration_s:.1f} s in {folder} "
        f"({report.duration_s / elapsed:.1f} x real time)",
        highlight=False,
    )
    return report


# -- recorded sessions ------------------------------------------------------------------------------------------------


class _SessionSensor:
    """Plays a recorded session's observations at the times at which they were observed."""

    def __init__(self, session: Session, name: str, clock: Clock, on_end: Callable[[], None]) -> None:
        self.name = name
        self._session = session
        self._clock = clock
        self._on_end = on_end
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, deliver: Deliver, report: Report) -> None:
        self._thread = threading.Thread(target=self._run, args=(deliver, report), name="replay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _run(self, deliver: Deliver, report: Report) -> None:
        shift_ns: int | None = None
        try:
            for observation in self._session.observations():
                if shift_ns is None:
                    shift_ns = self._clock.now_ns() - observation.time_ns
                observation = replace(observation, time_ns=observation.time_ns + shift_ns)
                wait_ns = observation.time_ns - self._clock.now_ns()
                if wait_ns > 0 and self._stopping.wait(wait_ns / NS_PER_S):
                    return
                deliver(observation)
        except UserError as error:
            report(StatusEvent(self._clock.now_ns(), "replay", "error", str(error)))
        self._on_end()


def replay_session(folder: Path, options: CommonOptions, render: Path | None, duration_s: float | None) -> None:
    """Replay a session live, or render it and compare the poses with those of the show."""
    session = Session(folder)
    settings = session.settings
    flags = options.settings()
    settings = settings.model_copy(update={"osc": flags.osc, "vmc": flags.vmc, "web": flags.web})
    if render is None:
        live = LiveShow(settings)
        sensor = _SessionSensor(session, f"the session in {folder}", live.clock, live.end)
        live.run(sensor, duration_s)
        return
    report = _render(settings, session.observations(), render, 0.0)
    console = Console(stderr=True)
    if session.lost:
        console.print(f"[yellow]{session.lost} observations were not recorded (slow disk): poses differ[/]")
    elif session.digest is not None:
        same = report.digest == session.digest
        console.print("identical to the show" if same else "[red]not identical to the show[/] (other weights or code?)")
