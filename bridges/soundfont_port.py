"""A MIDI output that is a synthesiser: the user's soundfont on a sound device. Runs in the MIDI process."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.midi_ports import Unavailable
from engine.audio.devices import AudioDevice, close_stream, find_device, open_stream, portaudio, rescan, stream_rate
from engine.audio.sample_clock import SampleClock
from engine.errors import UserError
from engine.types import TRIGGER_CHANNEL

_INSTALL = "pip install --no-deps tinysoundfont"
# What one instrument may use; older voices give way. 96 cost a tenth of a core.
_MAX_VOICES = 96
# Triggers strike drums too.
_DRUM_CHANNELS = (9, TRIGGER_CHANNEL)
_BLOCK = 256
_LATENCY_S = 0.03
# A message is placed this long after it came, plus one block: then the block it belongs to has not been made yet.
_MARGIN_S = 0.002
_SILENT_NS = 1_000_000_000
_WAKING_NS = 4_000_000_000
_MAX_WAITING = 4096
# A note that has waited this long (the device was waking up) would only sound wrong.
_STALE_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class SoundfontTarget:
    """What to sound with, and where: a .sf2 or .sf3 file, an output device (None: the default), a gain."""

    soundfont: str
    device: str | None
    gain_db: float

    def to_text(self) -> str:
        """Return it as a target for the MIDI process."""
        return json.dumps([self.soundfont, self.device, self.gain_db])

    @classmethod
    def from_text(cls, text: str) -> SoundfontTarget:
        """Read what `to_text` wrote."""
        soundfont, device, gain_db = json.loads(text)
        return cls(str(soundfont), None if device is None else str(device), float(gain_db))


class Soundfont:
    """A soundfont, loaded once, sounded at any sample rate and sample-accurately.

    Threads: one at a time.

    Raises:
        UserError: the file cannot be read, or there is no synthesiser.
    """

    def __init__(self, path: str, gain_db: float) -> None:
        try:
            import tinysoundfont
        except ImportError as error:
            raise UserError("no synthesiser without tinysoundfont", _INSTALL) from error
        if not Path(path).is_file():
            raise UserError(f"no such soundfont: {path}", "give a .sf2 or .sf3 file (synth.soundfont)")
        self._synth: Any = tinysoundfont.Synth(samplerate=48_000, gain=gain_db)
        self._output_mode: Any = tinysoundfont._tinysoundfont.OutputMode.StereoInterleaved
        self._gain_db = gain_db
        try:
            identity = self._synth.sfload(path, max_voices=_MAX_VOICES)
        except RuntimeError as error:
            raise UserError(f"{path} is not a soundfont", "give a .sf2 or .sf3 file (synth.soundfont)") from error
        self._font: Any = self._synth.soundfonts[identity]
        self.set_rate(48_000)

    def set_rate(self, rate_hz: int) -> None:
        """Sound at this rate from now on."""
        self._font.set_output(self._output_mode, rate_hz, self._gain_db)
        for channel in _DRUM_CHANNELS:
            self._synth.program_change(channel, 0, True)

    def play(self, message: bytes) -> None:
        """Take one MIDI message; what has no sound is passed over."""
        kind, channel = message[0] & 0xF0, message[0] & 0x0F
        if kind == 0x90 and message[2]:
            self._synth.noteon(channel, message[1], message[2])
        elif kind in (0x80, 0x90):
            self._synth.noteoff(channel, message[1])
        elif kind == 0xC0:
            self._synth.program_change(channel, message[1], channel in _DRUM_CHANNELS)
        elif kind == 0xB0 and message[1] == 120:
            self._synth.sounds_off(channel)
        elif kind == 0xB0 and message[1] == 123:
            self._synth.notes_off(channel)

    def render(self, frames: int) -> NDArray[np.float32]:
        """Return the next (frames, 2) samples."""
        return np.frombuffer(self._synth.generate_simple(frames), dtype=np.float32).reshape(frames, 2)


class SoundfontPort:
    """Plays what is sent through a sound device, each message at its place among the samples: as late as the others.

    Args:
        soundfont: loaded.
        device: output by name or a part of it, or index; None: the default.

    Threads: `send`, `gone` and `close` on one, the callback on PortAudio's; they meet in a queue.

    Raises:
        Unavailable: there is no such output, or it cannot be opened.
    """

    def __init__(self, soundfont: Soundfont, device: str | None) -> None:
        self._soundfont = soundfont
        self._queue: deque[tuple[int, bytes]] = deque(maxlen=_MAX_WAITING)
        self._ended = threading.Event()
        self._heard_ns: int | None = None
        self._opened_ns = time.perf_counter_ns()
        self._total = 0
        try:
            found = find_device(device, output=True)
            self._rate_hz = stream_rate(found, output=True)
            self._clock = SampleClock(self._rate_hz)
            self._channels = min(2, found.outputs)
            soundfont.set_rate(self._rate_hz)
            self.name = found.name
            self._stream = self._open(found)
        except UserError as error:
            raise Unavailable(error.problem, error.remedy) from error

    def _open(self, found: AudioDevice) -> Any:
        sounddevice = portaudio()

        def make() -> Any:
            stream = sounddevice.OutputStream(
                samplerate=self._rate_hz,
                device=found.index,
                channels=self._channels,
                dtype="float32",
                blocksize=_BLOCK,
                latency=_LATENCY_S,
                callback=self._callback,
                finished_callback=self._ended.set,
            )
            stream.start()
            return stream

        try:
            return open_stream(make)
        except (sounddevice.PortAudioError, ValueError) as error:
            remedy = "close other programs that use it, or choose another one (pasdedeux devices)"
            raise UserError(f"the sound output {found.name!r} cannot be opened ({error})", remedy) from error

    def send(self, message: bytes) -> None:
        """Play one message as soon as can be."""
        if self._ended.is_set():
            raise OSError(f"the sound output {self.name} has stopped")
        self._queue.append((time.perf_counter_ns(), message))

    def gone(self) -> bool:
        """Return whether the device asks for no more samples."""
        now_ns = time.perf_counter_ns()
        if self._heard_ns is None:
            return self._ended.is_set() or now_ns - self._opened_ns > _WAKING_NS
        return self._ended.is_set() or now_ns - self._heard_ns > _SILENT_NS

    def close(self) -> None:
        """Let the last messages (notes off) sound out for a block or two, and stop; idempotent."""
        if not self._ended.is_set():
            self._ended.wait(2 * _BLOCK / self._rate_hz + _LATENCY_S)
        close_stream(self._stream)

    def _callback(self, out: NDArray[np.float32], frames: int, times: object, status: object) -> None:
        self._heard_ns = time.perf_counter_ns()
        delay_ns = frames * 1e9 / self._rate_hz + _MARGIN_S * 1e9
        begin_ns = self._clock.observe(self._total, self._heard_ns) - delay_ns
        self._total += frames
        done = 0
        while self._queue:
            place = min(max(int((self._queue[0][0] - begin_ns) * self._rate_hz / 1e9), done), frames)
            if place == frames:
                break  # belongs to the next block
            if place > done:
                self._fill(out, done, place)
                done = place
            stamp_ns, message = self._queue.popleft()
            if message[0] & 0xF0 != 0x90 or self._heard_ns - stamp_ns < _STALE_NS:
                self._soundfont.play(message)
        if done < frames:
            self._fill(out, done, frames)

    def _fill(self, out: NDArray[np.float32], begin: int, end: int) -> None:
        sound = self._soundfont.render(end - begin)
        out[begin:end] = sound if self._channels == 2 else sound.mean(axis=1, keepdims=True)


class SoundfontOpener:
    """Opens the device of a soundfont again and again; the soundfont is loaded once.

    Raises:
        UserError: the soundfont cannot be used.
    """

    def __init__(self, target: SoundfontTarget) -> None:
        self._device = target.device
        self._soundfont = Soundfont(target.soundfont, target.gain_db)
        self._tried = False

    def __call__(self) -> SoundfontPort:
        """Return an open port. Raises `Unavailable`."""
        if self._tried:
            rescan()
        self._tried = True
        return SoundfontPort(self._soundfont, self._device)
