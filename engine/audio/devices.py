"""Sound devices by name: what there is, and which one the performer means."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from engine.errors import UserError
from engine.features import SAMPLE_RATE_HZ

_log = logging.getLogger(__name__)

# PortAudio has no list of the rates that a device accepts; it is asked rate by rate.
_USUAL_RATES_HZ = (44_100, 48_000, 88_200, 96_000, 192_000)

_CLOSE_S = 2.0

# PortAudio is one library with one state per process, and so is what guards it.
_lock = threading.Lock()
_open_streams: set[Any] = set()


@dataclass(frozen=True, slots=True)
class AudioDevice:
    """A sound device as PortAudio sees it.

    Attributes:
        name: what the user writes in a show file; a part of it will do.
        host: the sound system behind it (ALSA, Core Audio, WASAPI, ...).
        rates_hz: the usual sample rates that it accepts for its inputs, or its outputs if it has none.
    """

    name: str
    index: int
    host: str
    inputs: int
    outputs: int
    default_input: bool
    default_output: bool
    default_rate_hz: int
    rates_hz: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceList:
    """The devices, or why there are none: `problem` and `remedy` are empty if all is well."""

    devices: tuple[AudioDevice, ...]
    problem: str = ""
    remedy: str = ""


def portaudio() -> ModuleType:
    """Return the `sounddevice` module. Raises `UserError` if it or PortAudio's library is missing."""
    try:
        import sounddevice
    except ImportError:
        raise UserError("the package sounddevice is not installed", "pip install sounddevice") from None
    except OSError as error:
        remedy = "install it (Debian, Ubuntu: apt install libportaudio2; Fedora: dnf install portaudio)"
        raise UserError(f"PortAudio's library cannot be loaded ({error})", remedy) from None
    module: ModuleType = sounddevice
    return module


def list_devices(with_rates: bool = False) -> DeviceList:
    """Return every sound device; never raises.

    Args:
        with_rates: also try the usual sample rates, which opens each device for a moment.
    """
    try:
        sounddevice = portaudio()
        devices = _query(sounddevice)
    except UserError as error:
        return DeviceList((), error.problem, error.remedy)
    except Exception as error:  # PortAudio reports a broken sound system in many ways; the list must not fail
        return DeviceList((), f"the sound system does not answer ({error})", "check that the sound server runs")
    if not devices:
        remedy = "plug in an audio interface or start the sound server, then ask again"
        return DeviceList((), "PortAudio finds no sound device", remedy)
    if with_rates:
        devices = tuple(_with_rates(sounddevice, device) for device in devices)
    return DeviceList(devices)


def find_device(wanted: str | int | None, *, output: bool = False) -> AudioDevice:
    """Return the device meant by a name, an index or None (the default one).

    A name is looked for exactly, then as a part of a name, both without regard to case.

    Raises:
        UserError: no such device, or none with the wanted direction.
    """
    listed = list_devices()
    if listed.problem:
        raise UserError(listed.problem, listed.remedy)
    kind = "output" if output else "input"
    usable = [device for device in listed.devices if (device.outputs if output else device.inputs) > 0]
    if not usable:
        raise UserError(f"there is no sound {kind}", "plug in an audio interface, or give an audio file")
    if wanted is None:
        for device in usable:
            if device.default_output if output else device.default_input:
                return device
        return usable[0]
    if isinstance(wanted, int) or wanted.strip().isdecimal():
        for device in usable:
            if device.index == int(wanted):
                return device
    else:
        text = wanted.strip().casefold()
        for device in usable:
            if device.name.casefold() == text:
                return device
        for device in usable:
            if text in device.name.casefold():
                return device
    names = ", ".join(f"{device.index}: {device.name}" for device in usable)
    raise UserError(f"no sound {kind} is called {str(wanted)!r}", f"take one of these: {names}")


def stream_rate(device: AudioDevice, *, output: bool = False) -> int:
    """Return the rate [Hz] to open a device at: its own.

    ALSA has no such thing and PortAudio says 44,100 for want of it; there 48 kHz is taken if it is accepted, which
    is what sound servers run at and what the analysis wants. Elsewhere asking for another rate could switch the
    device under a running DAW.
    """
    if device.host != "ALSA":
        return device.default_rate_hz
    sounddevice = portaudio()
    check = sounddevice.check_output_settings if output else sounddevice.check_input_settings
    with suppress(sounddevice.PortAudioError, ValueError):
        check(device=device.index, channels=1, samplerate=SAMPLE_RATE_HZ)
        return SAMPLE_RATE_HZ
    return device.default_rate_hz


def open_stream(make: Callable[[], Any]) -> Any:
    """Open a PortAudio stream (`make` constructs it) and keep `rescan` away from it. Threads: any."""
    with _lock:
        stream = make()
        _open_streams.add(stream)
    return stream


def close_stream(stream: Any) -> None:
    """Abort and close a stream of `open_stream`; a device that is gone already is no error. Threads: any.

    A driver may never return from this when its sound server has died (seen with ALSA's Pulse plug-in, one time in
    twenty): after 2 s the stream is left to itself. While it hangs PortAudio cannot be initialised anew, so `rescan`
    does nothing, nor be terminated, so that is not tried when the program ends.
    """

    def close() -> None:
        with suppress(Exception):  # PortAudio may fail in any way on a device that is no more
            stream.abort(ignore_errors=True)
            stream.close(ignore_errors=True)
        with _lock:
            _open_streams.discard(stream)

    closing = threading.Thread(target=close, name="close stream", daemon=True)
    closing.start()
    closing.join(_CLOSE_S)
    if closing.is_alive():
        _log.warning("the sound driver does not close its stream; it is left open")
        atexit.unregister(portaudio()._exit_handler)


def rescan() -> None:
    """Make PortAudio look for devices anew, unless a stream is open (that would kill it). Threads: any.

    PortAudio lists the devices once, when it is initialised: an interface that comes back is not seen before this.
    """
    sounddevice = portaudio()
    with _lock:
        if _open_streams:
            return
        with suppress(sounddevice.PortAudioError):
            sounddevice._terminate()
        sounddevice._initialize()


def _query(sounddevice: ModuleType) -> tuple[AudioDevice, ...]:
    hosts = [str(host["name"]) for host in sounddevice.query_hostapis()]
    defaults = {}
    for kind in ("input", "output"):
        with suppress(sounddevice.PortAudioError, ValueError):  # there is none
            defaults[kind] = int(sounddevice.query_devices(kind=kind)["index"])
    return tuple(
        AudioDevice(
            name=str(info["name"]),
            index=index,
            host=hosts[int(info["hostapi"])],
            inputs=int(info["max_input_channels"]),
            outputs=int(info["max_output_channels"]),
            default_input=index == defaults.get("input"),
            default_output=index == defaults.get("output"),
            default_rate_hz=round(float(info["default_samplerate"])),
        )
        for index, info in enumerate(sounddevice.query_devices())
    )


def _with_rates(sounddevice: ModuleType, device: AudioDevice) -> AudioDevice:
    check = sounddevice.check_input_settings if device.inputs else sounddevice.check_output_settings
    rates = []
    for rate in _USUAL_RATES_HZ:
        with suppress(sounddevice.PortAudioError, ValueError):
            check(device=device.index, channels=1, samplerate=rate)
            rates.append(rate)
    return replace(device, rates_hz=tuple(rates))
