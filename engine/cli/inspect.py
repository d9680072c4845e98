"""`devices` and `check`: what there is, and whether the show can go on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.audio.devices import list_devices
from engine.cli import sources
from engine.clock import SessionClock
from engine.errors import UserError
from engine.features import FeatureExtractor
from engine.pipeline import Pipeline
from engine.playing.pipeline import PlayingPipeline
from engine.seeing.camera import list_cameras
from engine.seeing.landmarker import quiet_stderr
from engine.settings import ShowSettings
from engine.stage import build_bridges, build_generator, build_pipeline, midi_ports, warm_up
from engine.types import AudioBlock, Observation, StatusEvent

_LISTEN_S = 2.0


def print_devices() -> None:
    """Print cameras, MIDI ports and sound devices. Raises `UserError` if sound devices cannot be had at all."""
    console = Console()
    cameras = ", ".join(f"{camera.index}: {camera.name}" for camera in list_cameras())
    console.print(f"Cameras: {escape(cameras) or 'none'}", highlight=False)
    try:
        with quiet_stderr():  # ALSA has opinions of its own
            ports = midi_ports()
        for kind, names in ports.items():
            console.print(f"MIDI {kind}: {escape(', '.join(names)) or 'none'}", highlight=False)
    except UserError as error:
        console.print(f"MIDI: none ({escape(error.problem)})", highlight=False)
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
            str(device.index),
            escape(device.name),
            escape(device.host),
            str(device.inputs),
            str(device.outputs),
            rates,
            default,
        )
    console.print(table)


class Findings:
    """Prints one line a check and remembers whether any failed."""

    def __init__(self) -> None:
        self._console = Console()
        self.failed = 0

    def good(self, what: str, detail: str) -> None:
        self._console.print(f"[green]ok[/]    {what}: {escape(detail)}", highlight=False, soft_wrap=True)

    def note(self, what: str, detail: str) -> None:
        self._console.print(f"[yellow]note[/]  {what}: {escape(detail)}", highlight=False, soft_wrap=True)

    def verdict(self) -> int:
        """Say whether doors may open; return the exit code."""
        if self.failed:
            self.bad("result", f"{self.failed} to fix before doors")
            return 2
        self.good("result", "ready")
        return 0

    def bad(self, what: str, detail: str) -> None:
        self.failed += 1
        self._console.print(f"[bold red]fix[/]   {what}: {escape(detail)}", highlight=False, soft_wrap=True)


def check_show(settings: ShowSettings, source: str | None) -> int:
    """Try everything a show needs, strictly; return the exit code: 0, or 2 if something is to be fixed."""
    report = Findings()
    report.good("settings", "every setting is known and within its range")
    _check_core(settings, report)
    check_bridges(settings, report, build_pipeline)
    check_sound(settings, source, report)
    return report.verdict()


def _check_core(settings: ShowSettings, report: Findings) -> None:
    start = time.perf_counter()
    try:
        generator = build_generator(settings, FeatureExtractor())
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
    backend = getattr(generator, "backend", None)
    if backend is not None:
        report.good("back end", backend)


def check_bridges(
    settings: ShowSettings, report: Findings, build: Callable[[ShowSettings], Pipeline | PlayingPipeline]
) -> None:
    """Open every bridge of a show."""
    try:
        bridges = build_bridges(settings, SessionClock(), build(settings))
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


def check_sound(settings: ShowSettings, source: str | None, report: Findings) -> None:
    """Open what is heard, and listen for two seconds."""
    try:
        path = sources.audio_file(source)
        if path is not None:
            from engine.audio.files import open_audio

            with open_audio(path) as audio:
                frames = sum(len(block.samples) for block in audio.blocks())
                report.good("input", f"{path}: {frames / audio.sample_rate_hz:.1f} s at {audio.sample_rate_hz} Hz")
            return
        sensor = sources.microphone_sensor(source, settings, SessionClock())
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


def _judge_input(name: str, heard: list[AudioBlock], warned: list[StatusEvent], report: Findings) -> None:
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
