"""`devices` and `check`: what there is, and whether the show can go on."""

from __future__ import annotations

import socket
import threading
import time

from rich.console import Console
from rich.table import Table

from engine.audio.devices import list_devices
from engine.cli import show as shows
from engine.clock import SessionClock
from engine.errors import UserError
from engine.settings import ShowSettings
from engine.stage import build_bridges, build_pipeline, warm_up
from engine.types import AudioBlock, Observation, StatusEvent

_LISTEN_S = 2.0


def print_devices() -> None:
    """Print the sound devices. Raises `UserError` if there are none to be had."""
    listed = list_devices(with_rates=True)
    if listed.problem:
        raise UserError(listed.problem, listed.remedy)
    table = Table(title="Sound devices", title_justify="left")
    for column in ("#", "name", "system", "in", "out", "rates [Hz]", "default"):
        table.add_column(column)
    for device in listed.devices:
        default = " ".join(w for w, on in (("in", device.default_input), ("out", device.default_output)) if on)
        rates = ", ".join(str(rate) for rate in device.rates_hz) or str(device.default_rate_hz)
        table.add_row(
            str(device.index), device.name, device.host, str(device.inputs), str(device.outputs), rates, default
        )
    Console().print(table)


class _Report:
    """Prints one line a check and remembers whether any failed."""

    def __init__(self) -> None:
        self._console = Console()
        self.failed = 0

    def good(self, what: str, detail: str) -> None:
        self._console.print(f"[green]ok[/]    {what}: {detail}", highlight=False, soft_wrap=True)

    def note(self, what: str, detail: str) -> None:
        self._console.print(f"[yellow]note[/]  {what}: {detail}", highlight=False, soft_wrap=True)

    def bad(self, what: str, detail: str) -> None:
        self.failed += 1
        self._console.print(f"[bold red]fix[/]   {what}: {detail}", highlight=False, soft_wrap=True)


def check_show(settings: ShowSettings, source: str | None) -> int:
    """Try everything a show needs, strictly; return the exit code: 0, or 2 if something is to be fixed."""
    report = _Report()
    report.good("settings", "every setting is known and within its range")
    _check_core(settings, report)
    _check_bridges(settings, report)
    _check_input(settings, source, report)
    if report.failed:
        report.bad("result", f"{report.failed} to fix before doors")
        return 2
    report.good("result", "ready")
    return 0


def _check_core(settings: ShowSettings, report: _Report) -> None:
    start = time.perf_counter()
    try:
        problems = warm_up(settings, ticks=100)
    except UserError as error:
        report.bad("model and beats", str(error))
        return
    elapsed = time.perf_counter() - start
    for problem in problems:
        report.bad("100 ticks", problem)
    if not problems:
        report.good(
            "model and beats",
            f"{settings.dancer.model} and the {settings.beats.tracker} tracker ran 100 ticks in {elapsed:.1f} s",
        )


def _check_bridges(settings: ShowSettings, report: _Report) -> None:
    try:
        bridges = build_bridges(settings, SessionClock(), build_pipeline(settings))
    except UserError as error:
        report.bad("bridges", str(error))
        return
    for bridge in bridges:
        try:
            bridge.open(lambda event: None)
            report.good("bridge", bridge.name)
        except UserError as error:
            report.bad("bridge", str(error))
        finally:
            bridge.close()
    hosts = [settings.web.host, *(settings.osc.listen or "127.0.0.1").rsplit(":", 1)[:1]]
    if any(not _is_loopback(host) for host in hosts):
        report.note("network", "something listens beyond this machine; is the network of the venue yours alone?")


def _is_loopback(host: str) -> bool:
    try:
        return socket.gethostbyname(host.strip("[]")).startswith("127.") or host.strip("[]") == "::1"
    except OSError:
        return False


def _check_input(settings: ShowSettings, source: str | None, report: _Report) -> None:
    try:
        path = shows.audio_file(source)
        if path is not None:
            from engine.audio.files import open_audio

            with open_audio(path) as audio:
                frames = sum(len(block.samples) for block in audio.blocks())
                report.good("input", f"{path}: {frames / audio.sample_rate_hz:.1f} s at {audio.sample_rate_hz} Hz")
            return
        sensor = shows.microphone_sensor(source, settings, SessionClock())
        heard: list[AudioBlock] = []
        warned: list[StatusEvent] = []
        enough = threading.Event()

        def deliver(observation: Observation) -> None:
            if isinstance(observation, AudioBlock):
                heard.append(observation)
                if observation.time_ns - heard[0].time_ns > _LISTEN_S * 1e9:
                    enough.set()

        sensor.start(deliver, warned.append)
        enough.wait(2.0 * _LISTEN_S)
        sensor.stop()
    except UserError as error:
        report.bad("input", str(error))
        return
    _judge_input(sensor.name, heard, warned, report)


def _judge_input(name: str, heard: list[AudioBlock], warned: list[StatusEvent], report: _Report) -> None:
    """Say how the input sounds."""
    for event in warned:
        if event.level != "info":
            report.bad("input", event.message)
    if not heard:
        report.bad("input", f"{name} opens, but no sound comes: check cable, phantom power and permissions")
        return
    peak = max(float(abs(block.samples).max()) for block in heard if len(block.samples))
    lost = sum(block.gap_samples for block in heard)
    rate = heard[0].sample_rate_hz
    if lost:
        report.bad("input", f"{name} lost {lost} samples in {_LISTEN_S:.0f} s: raise audio.block_samples")
    elif peak == 0.0:
        report.note("input", f"{name} at {rate} Hz gives digital silence: is something muted?")
    elif peak >= 0.999:
        report.note("input", f"{name} at {rate} Hz clips: turn the input gain down")
    else:
        report.good("input", f"{name} at {rate} Hz, nothing lost")
