"""What the operator sees while a show runs: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from engine.types import NS_PER_S, ClockEvent, MetricsEvent, OutputEvent, StatusEvent

_PLAIN_INTERVAL_NS = 10 * NS_PER_S
_STYLES = {"info": "cyan", "warning": "yellow", "error": "bold red"}


class StatusLine:
    """Shows tempo and confidence, then how the dancer is shown, or how the camera sees and what is played; prints
    what happens above it.

    Threads: `see` by the core, output and sensor threads; the rest by the main thread.
    """

    def __init__(self, console: Console, stop_hint: str = "ctrl-c stops", playing: bool = False) -> None:
        self._console = console
        self._counted = ("camera_frames", "notes") if playing else ("frames",)
        self._playing = playing
        self._hint = stop_hint
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._lock = threading.Lock()
        self._tempo_bpm = 0.0
        self._confidence = 0.0
        self._beat = 0.0
        self._values: dict[str, float] = {}
        self._rates_ns = 0
        self._counts: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self._messages: list[StatusEvent] = []
        self._plain_ns = 0

    def see(self, events: Sequence[OutputEvent]) -> None:
        """Take what the show emits."""
        with self._lock:
            for event in events:
                if isinstance(event, ClockEvent):
                    self._tempo_bpm, self._confidence, self._beat = event.tempo_bpm, event.confidence, event.beat
                elif isinstance(event, StatusEvent):
                    self._messages.append(event)
                elif isinstance(event, MetricsEvent):
                    self._values = dict(event.values)

    def __enter__(self) -> StatusLine:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self, now_ns: int, values: Callable[[], dict[str, float]]) -> None:
        """Print new messages and redraw; called a few times a second."""
        with self._lock:
            messages, self._messages = self._messages, []
        for message in messages:
            style = _STYLES.get(message.level, "")
            self._console.print(Text(f"{message.component}: {message.message}", style=style), soft_wrap=True)
        figures = values()
        passed_s = (now_ns - self._rates_ns) / NS_PER_S
        if passed_s >= 1.0:
            before = self._counts
            self._counts = {name: figures[name] for name in self._counted}
            # A count that has gone down was begun anew after the warm-up.
            self._rates = {name: max(n - before.get(name, n), 0.0) / passed_s for name, n in self._counts.items()}
            self._rates_ns = now_ns
        text = f"{self._tempo_bpm:6.1f} bpm  confidence {100 * self._confidence:3.0f} %  "
        if self._playing:
            text += (
                f"camera {self._rates.get('camera_frames', 0.0):4.1f} fps  pose p50 {figures['pose_p50_ms']:.0f} "
                f"p95 {figures['pose_p95_ms']:.0f} ms  {self._rates.get('notes', 0.0):4.1f} notes/s"
            )
        else:
            text += (
                f"{self._rates.get('frames', 0.0):4.1f} fps  latency p99 {figures['latency_p99_ms']:.1f} ms  "
                f"late {figures['frames_late']:.0f}  xruns {figures['xruns']:.0f}"
            )
        if self._live is not None:
            dot = "●" if self._beat % 1.0 < 0.25 else "○"
            self._live.update(Text(f"{dot} {text}   {self._hint}", no_wrap=True, overflow="ellipsis"))
        elif now_ns - self._plain_ns >= _PLAIN_INTERVAL_NS:
            self._plain_ns = now_ns
            self._console.print(text, highlight=False)
