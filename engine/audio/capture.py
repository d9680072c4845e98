"""The microphone, line input or interface that the band plays into."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.audio.devices import AudioDevice, close_stream, find_device, open_stream, portaudio, rescan, stream_rate
from engine.audio.sample_clock import SampleClock
from engine.clock import Clock
from engine.errors import UserError
from engine.protocols import Deliver, Report
from engine.types import NS_PER_S, AudioBlock, StatusEvent

# Without a callback for so long the device is taken for gone; drivers pause for 0.1 s or so at worst, but a sound
# server may take two seconds to wake up.
_SILENT_NS = NS_PER_S
_WAKING_NS = 4 * NS_PER_S
_RETRY_S = (0.25, 0.5, 1.0, 2.0)
_RING_S = 4
_LARGEST_BLOCK = 16_384
# A microphone is never exactly zero; a muted or forbidden one is.
_MUTED_NS = 5 * NS_PER_S
_REPORT_EVERY_NS = 10 * NS_PER_S


class _Arrival(NamedTuple):
    """What the callback notes: where its samples lie, when they came, whether the driver lost some before them."""

    start: int
    frames: int
    time_ns: int
    overflowed: bool


class _Ring:
    """Samples on their way from the audio callback to the pump; nothing is allocated in the callback but the note.

    Threads: `write` in the callback, the rest in one other.
    """

    def __init__(self, frames: int, channels: int) -> None:
        self._arrivals: SimpleQueue[_Arrival] = SimpleQueue()
        self._samples = np.zeros((frames, channels), np.float32)
        self._written = 0

    def write(self, samples: NDArray[np.float32], time_ns: int, overflowed: bool) -> None:
        """Copy `samples` (n, channels), n at most the ring's length."""
        size, frames = len(self._samples), len(samples)
        at = self._written % size
        head = min(frames, size - at)
        self._samples[at : at + head] = samples[:head]
        self._samples[: frames - head] = samples[head:]
        self._arrivals.put(_Arrival(self._written, frames, time_ns, overflowed))
        self._written += frames

    def wait(self, timeout_s: float) -> _Arrival | None:
        """Return the next note, or None if none comes in time."""
        try:
            return self._arrivals.get(timeout=timeout_s)
        except Empty:
            return None

    def read(self, arrival: _Arrival) -> NDArray[np.float32] | None:
        """Return the samples (n, channels) of a note, or None if the reader came too late for them."""
        size = len(self._samples)
        at = arrival.start % size
        head = min(arrival.frames, size - at)
        samples = np.concatenate([self._samples[at : at + head], self._samples[: arrival.frames - head]])
        # Checked after the copy, and with room for a block that the callback may be writing now.
        return samples if self._written + arrival.frames - arrival.start <= size else None


class _Capture:
    """One open input stream, from opening until the device goes."""

    def __init__(self, device: AudioDevice, clock: Clock, channels: int | None, block_frames: int) -> None:
        sounddevice = portaudio()
        self.rate_hz = stream_rate(device)
        self.delivered = 0
        self.clock = SampleClock(self.rate_hz)
        self.ended = False
        wanted = min(channels or 2, device.inputs)
        ring = self.ring = _Ring(max(_RING_S * self.rate_hz, 2 * _LARGEST_BLOCK), wanted)

        def callback(samples: NDArray[np.float32], frames: int, times: object, status: Any) -> None:
            ring.write(samples, clock.now_ns(), bool(status.input_overflow))

        def finished() -> None:
            self.ended = True

        def make() -> Any:
            stream = sounddevice.InputStream(
                samplerate=self.rate_hz,
                blocksize=block_frames,
                device=device.index,
                channels=wanted,
                dtype="float32",
                latency="low",
                callback=callback,
                finished_callback=finished,
            )
            stream.start()
            return stream

        try:
            self._stream = open_stream(make)
        except (sounddevice.PortAudioError, ValueError) as error:
            remedy = "close other programs that use it, or choose another one (pasdedeux devices)"
            raise UserError(f"the sound input {device.name!r} cannot be opened ({error})", remedy) from None

    def close(self) -> None:
        close_stream(self._stream)


class MicrophoneSensor:
    """Capture from a sound device through PortAudio.

    The audio callback copies and stamps; a pump thread makes `AudioBlock`s of what it left, timed by a regression
    over the arrivals (`SampleClock`). Lost samples become `gap_samples`. A device that vanishes is reported and
    looked for, by name, with growing pauses; when it is back the missing time is a gap.

    Threads: the callback (PortAudio's) and one of its own, which calls `deliver` and `report`.

    Args:
        device: name or a part of one, index, or None for the default input.
        clock: session time.
        channels: 1 or 2; None for two where the device has them.
        block_frames: samples per callback; 256 is 5.3 ms at 48 kHz.
        latency_ms: what passes between sound and arrival (converter, driver), if it was measured.

    Attributes:
        overflows: callbacks before which the driver says it lost samples.
        lost_samples: samples that never came while a device was open.
        reconnects: times a vanished device came back.
    """

    def __init__(
        self,
        device: str | int | None,
        clock: Clock,
        *,
        channels: int | None = None,
        block_frames: int = 256,
        latency_ms: float = 0.0,
    ) -> None:
        if channels not in (None, 1, 2):
            raise UserError(f"{channels} input channels", "a microphone is captured with 1 or 2 channels")
        if not 0 <= block_frames <= _LARGEST_BLOCK:
            raise UserError(f"an audio block of {block_frames} samples", f"choose 0 (automatic) to {_LARGEST_BLOCK}")
        self.name = "sound input"
        self.overflows = 0
        self.lost_samples = 0
        self.reconnects = 0
        self._wanted = device
        self._clock = clock
        self._channels = channels
        self._block_frames = block_frames
        self._latency_ns = round(latency_ms * 1e6)
        self._capture: _Capture | None = None
        self._device_name = ""
        self._drift_ppm = 0.0
        self._sample_index = 0
        self._rate_hz = 0
        self._end_ns: int | None = None
        self._away = False
        self._heard_ns = 0
        self._muted_reported = False
        self._loss_reported_ns: int | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._deliver: Deliver
        self._report: Report

    @property
    def device_name(self) -> str:
        """Full name of the device in use, empty before `start`."""
        return self._device_name

    @property
    def drift_ppm(self) -> float:
        """How much slower than stated the device runs, in parts per million."""
        return self._drift_ppm

    def start(self, deliver: Deliver, report: Report) -> None:
        """Open the device and begin to deliver. Raises `UserError` if it cannot be opened."""
        self._deliver, self._report = deliver, report
        self._stopping.clear()
        self._capture = self._open(self._wanted)
        self._heard_ns = self._clock.now_ns()
        self._thread = threading.Thread(target=self._pump, name="microphone", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering and release the device; idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10.0)
            self._thread = None

    def _open(self, wanted: str | int | None) -> _Capture:
        device = find_device(wanted)
        self._device_name = device.name
        self.name = f"sound input {device.name!r}"
        return _Capture(device, self._clock, self._channels, self._block_frames)

    def _pump(self) -> None:
        """Deliver what arrives until stopped; the thread's main function."""
        last_ns = self._clock.now_ns()
        while not self._stopping.is_set():
            capture = self._capture
            if capture is None:
                self._reconnect()
                last_ns = self._clock.now_ns()
                continue
            arrival = capture.ring.wait(0.1)
            patience_ns = _SILENT_NS if capture.delivered else _WAKING_NS
            if arrival is not None:
                last_ns = arrival.time_ns
                self._take(capture, arrival)
            elif capture.ended or self._clock.now_ns() - last_ns > patience_ns:
                if not self._away:
                    self._away = True
                    self._say("warning", f"the sound input {self._device_name!r} is gone; looking for it")
                capture.close()
                self._capture = None
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    def _take(self, capture: _Capture, arrival: _Arrival) -> None:
        """Deliver one block."""
        samples = capture.ring.read(arrival)
        if self._away:
            self._away = False
            self.reconnects += 1
            self._heard_ns = arrival.time_ns
            self._say("info", f"the sound input {self._device_name!r} is back")
        if arrival.overflowed:
            self.overflows += 1
        lost_before = capture.clock.lost_samples
        capture.delivered += arrival.frames
        end_ns = capture.clock.observe(capture.delivered, arrival.time_ns, arrival.overflowed) - self._latency_ns
        self._drift_ppm = capture.clock.drift_ppm
        gap = capture.clock.lost_samples - lost_before
        if capture.delivered == arrival.frames and self._end_ns is not None and capture.rate_hz == self._rate_hz:
            # The first block after a reconnection: all that passed since the last one is missing.
            missing_ns = end_ns - self._end_ns - arrival.frames * NS_PER_S // capture.rate_hz
            gap = max(0, missing_ns * capture.rate_hz // NS_PER_S)
        elif gap:
            self._count_loss(gap)
        if samples is None:
            # Its time has passed but its sound is lost: silence takes its place.
            self._count_loss(arrival.frames)
            samples = np.zeros((arrival.frames, 1), np.float32)
        self._watch_mute(samples, arrival.time_ns)
        self._sample_index += gap
        block = AudioBlock(self._sample_index, end_ns, samples, capture.rate_hz, gap)
        self._sample_index += arrival.frames
        self._rate_hz, self._end_ns = capture.rate_hz, end_ns
        self._deliver(block)

    def _reconnect(self) -> None:
        """Try to open the vanished device by its name until it is back or the sensor is stopped."""
        # Indices shift when devices come and go, so the device is asked for by name; the default stays the default.
        wanted = None if self._wanted is None else self._device_name
        name, attempt = self._device_name, 0
        while not self._stopping.wait(_RETRY_S[min(attempt, len(_RETRY_S) - 1)]):
            attempt += 1
            try:
                rescan()
                self._capture = self._open(wanted)
            except Exception:  # whatever the sound system says, the show goes on and it is asked again
                self._device_name = name
            else:
                return

    def _count_loss(self, samples: int) -> None:
        self.lost_samples += samples
        now_ns = self._clock.now_ns()
        if self._loss_reported_ns is None or now_ns - self._loss_reported_ns > _REPORT_EVERY_NS:
            self._loss_reported_ns = now_ns
            self._say("warning", f"{self.lost_samples} samples lost so far: a larger audio block may help")

    def _watch_mute(self, samples: NDArray[np.float32], now_ns: int) -> None:
        if samples.any():
            self._heard_ns = now_ns
            self._muted_reported = False
        elif now_ns - self._heard_ns > _MUTED_NS and not self._muted_reported:
            self._muted_reported = True
            remedy = "check mute, cable and the system's permission to use the microphone"
            self._say("warning", f"{self._device_name!r} sends digital silence: {remedy}")

    def _say(self, level: str, message: str) -> None:
        self._report(StatusEvent(self._clock.now_ns(), "audio", level, message))
