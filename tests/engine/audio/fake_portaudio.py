"""A stand-in for the `sounddevice` module: devices that the test invents, callbacks that the test makes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

OK = SimpleNamespace(input_overflow=False, output_underflow=False)
OVERFLOW = SimpleNamespace(input_overflow=True, output_underflow=False)


class PortAudioError(Exception):
    pass


class Stream:
    """An opened stream; the test calls `callback`."""

    def __init__(self, fake: FakePortAudio, settings: dict[str, Any]) -> None:
        if fake.refuse:
            raise PortAudioError("Device unavailable")
        self.settings = settings
        self.callback: Callable[..., None] = settings["callback"]
        self.latency = 0.02
        self.closed = False
        self._fake = fake
        fake.streams.append(self)

    def start(self) -> None:
        pass

    def abort(self, ignore_errors: bool) -> None:
        self._fake.on_abort()

    def close(self, ignore_errors: bool) -> None:
        self.closed = True

    def capture(self, samples: np.ndarray, status: SimpleNamespace = OK) -> None:
        self.callback(samples, len(samples), None, status)

    def play(self, frames: int, status: SimpleNamespace = OK) -> np.ndarray:
        out = np.full((frames, self.settings["channels"]), np.nan, np.float32)
        self.callback(out, frames, None, status)
        return out


class FakePortAudio:
    """What the engine uses of `sounddevice`; `names` are the devices, the first one is the default."""

    PortAudioError = PortAudioError

    def __init__(self, names: tuple[str, ...] = ("Mixer USB",), host: str = "Core Audio", rate: float = 48_000) -> None:
        self.names = names
        self.host = host
        self.rate = rate
        self.refuse = False
        self.rescans = 0
        self.streams: list[Stream] = []
        self.on_abort: Callable[[], None] = lambda: None

    def query_hostapis(self) -> tuple[dict[str, str], ...]:
        return ({"name": self.host},)

    def query_devices(self, kind: str | None = None) -> Any:
        devices = [
            {
                "name": name,
                "index": index,
                "hostapi": 0,
                "max_input_channels": 0 if "Speaker" in name else 4,
                "max_output_channels": 0 if "Mic" in name else 2,
                "default_samplerate": self.rate,
            }
            for index, name in enumerate(self.names)
        ]
        if kind is None:
            return devices
        for device in devices:
            if device[f"max_{kind}_channels"]:
                return device
        raise PortAudioError("no default device")

    def check_input_settings(self, device: int, channels: int, samplerate: int) -> None:
        if samplerate > 96_000:
            raise PortAudioError("Invalid sample rate")

    check_output_settings = check_input_settings

    def InputStream(self, **settings: Any) -> Stream:
        return Stream(self, settings)

    OutputStream = InputStream

    def _terminate(self) -> None:
        self.rescans += 1

    def _initialize(self) -> None:
        pass

    def _exit_handler(self) -> None:
        pass
