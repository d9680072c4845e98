"""A show on this machine's devices, from opening to closing."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from engine.cli.console import show_console
from engine.cli.figures import check_place, write_figures
from engine.cli.status import StatusLine
from engine.clock import SessionClock
from engine.errors import UserError
from engine.metrics import Metrics
from engine.protocols import Bridge, Sensor
from engine.runner import LiveRunner, live_values
from engine.scheduler import OutputScheduler
from engine.session import DANCE, SessionRecorder
from engine.settings import ShowSettings
from engine.signals import Signals
from engine.stage import (
    Cast,
    build_bridges,
    build_crowd,
    build_pipeline,
    build_playing,
    output_timing,
    warm_up,
    warm_up_playing,
)
from engine.types import NS_PER_S, ControlEvent


class LiveShow:
    """A show on this machine's devices, from opening to closing.

    Everything that can fail for a reason the user can mend fails before the first sound is heard.

    Args:
        settings: of the show.
        record: folder for a session that `replay` runs again.
        report: file for the figures at the end.
        browser: open the web stage.
        cast: who is on the stage when a dancer before the camera plays; None: music drives the dancer.
    """

    def __init__(
        self,
        settings: ShowSettings,
        record: Path | None = None,
        report: Path | None = None,
        browser: bool = False,
        cast: Cast | None = None,
    ) -> None:
        self._settings = settings
        self._report = report
        self._browser = browser
        self._record = record
        self._console = show_console()
        self._stop = threading.Event()
        self._cast = cast
        self._lost: list[UserError] = []
        """What could not be kept of the show."""
        self.clock = SessionClock()
        self.metrics = Metrics()

    def end(self) -> None:
        """Say that the input has ended. Threads: any."""
        self._stop.set()

    def run(self, sensors: Sequence[Sensor], duration_s: float | None, heartbeat: bool = False) -> None:
        """Run until the input ends, `duration_s` is over, or the user stops it.

        Args:
            sensors: what is heard and seen.
            duration_s: None: as long as the input lasts.
            heartbeat: no sensor brings sound, which otherwise moves time on.

        Raises:
            UserError: something cannot be had; or, when all is over, something could not be kept of the show.
        """
        check_place(self._report)
        console, clock, metrics = self._console, self.clock, self.metrics
        status = StatusLine(console, playing=self._cast is not None)
        with Signals(self._stop) as signals:
            with ExitStack() as stack:
                with signals.interrupting():
                    bridges = self._begin(stack, signals, sensors, status, heartbeat)
                self._announce(sensors, bridges)
                # The first second pays for caches and pages; what is reported is the show.
                warm_until_ns = clock.now_ns() + NS_PER_S
                end_ns = clock.now_ns() + round(duration_s * NS_PER_S) if duration_s is not None else None
                with status:
                    while not self._stop.is_set() and (end_ns is None or clock.now_ns() < end_ns):
                        left_s = 0.25 if end_ns is None else (end_ns - clock.now_ns()) * 1e-9
                        self._stop.wait(min(0.25, max(left_s, 0.0)))
                        if warm_until_ns and clock.now_ns() >= warm_until_ns:
                            metrics.reset()
                            warm_until_ns = 0
                        status.refresh(clock.now_ns(), lambda: live_values(metrics))
            _print_summary(console, metrics)
            if self._report is not None:
                content = {"sections": metrics.summary(), "counters": metrics.counters, "values": live_values(metrics)}
                with self._noted():
                    write_figures(self._report, content)
        if self._lost:
            raise UserError("; ".join(map(str, self._lost)), "")

    def _begin(
        self, stack: ExitStack, signals: Signals, sensors: Sequence[Sensor], status: StatusLine, heartbeat: bool
    ) -> list[Bridge]:
        """Open and warm up everything, then start; return the bridges. The stack closes what has come to be open."""
        settings, clock, metrics, cast = self._settings, self.clock, self.metrics, self._cast
        troupe = None
        if cast is None and settings.crowd.size:
            # On other cores, so that the crowd can be late without the lead.
            troupe = build_crowd(settings, clock, metrics)
        pipeline = build_pipeline(settings, metrics, troupe) if cast is None else build_playing(settings, metrics, cast)
        bridges = build_bridges(settings, clock, pipeline)
        runner: LiveRunner | None = None

        def on_control(event: ControlEvent) -> None:
            if runner is not None:
                runner.control(event)

        for bridge in bridges:
            stack.callback(self._close, bridge)
            bridge.open(on_control)
        label = DANCE if cast is None else cast.value
        scheduler = OutputScheduler(clock, bridges, metrics, output_timing(settings))
        with signals.held():  # what is on the disk is never without who takes it away
            recorder = SessionRecorder(self._record, settings, label) if self._record else None
            if recorder is not None:
                stack.callback(self._note_failure, recorder)
            runner = LiveRunner(
                pipeline,
                scheduler,
                sensors,
                clock,
                metrics,
                recorder,
                status.see,
                heartbeat,
                settings.output.real_time,
                round(settings.audio.latency_ms * 1e6),
            )
            stack.callback(runner.stop)
        if troupe is not None:
            stack.callback(troupe.stop)
            troupe.start(scheduler.put, runner.report)
        if cast is None:
            warm_up(settings, ticks=24)
        else:
            warm_up_playing(settings, cast, ticks=24)
        runner.start()
        return bridges

    def _note_failure(self, recorder: SessionRecorder) -> None:
        if recorder.failure is not None:
            self._lost.append(UserError(f"the recording in {self._record} is incomplete", recorder.failure))

    def _close(self, bridge: Bridge) -> None:
        with self._noted():
            bridge.close()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Go on if something cannot be kept of the show: it is told when all else is."""
        try:
            yield
        except UserError as error:
            self._lost.append(error)

    def _announce(self, sensors: Sequence[Sensor], bridges: list[Bridge]) -> None:
        console = self._console
        names = " and ".join(sensor.name for sensor in sensors)
        does = {None: "dances to", Cast.BAND: "plays to"}.get(self._cast, "dances and plays with")
        console.print(f"[bold]Pas de Deux[/] {does} {escape(names)}", highlight=False)
        pages = []
        for bridge in bridges:
            url: str | None = getattr(bridge, "url", None)
            if url is None:
                console.print(Text(f"  {bridge.name}"))
            else:
                pages.append(url)
                console.print(Text.assemble("  stage: ", (url, f"link {url}")))
        if pages and self._browser and _has_display():
            threading.Thread(target=webbrowser.open, args=(pages[0],), daemon=True).start()


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
