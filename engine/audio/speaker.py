"""A sound output that knows when each of its samples is heard."""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from engine.audio.devices import close_stream, find_device, open_stream, portaudio, stream_rate
from engine.audio.sample_clock import SampleClock
from engine.clock import Clock
from engine.errors import UserError
from engine.types import NS_PER_S

# As for capture: drivers pause for 0.1 s at worst, sound servers take up to two seconds to wake up.
_SILENT_NS = NS_PER_S
_WAKING_NS = 4 * NS_PER_S
# A file can wait: a tenth of a second survives a busy machine (at 9 ms an overloaded one underran three times a
# second), and since blocks are delivered when they are heard it costs nothing.
_LATENCY_S = 0.1
# What PortAudio says of an output's latency is believed up to here; some hosts state nonsense.
_LARGEST_LATENCY_S = 0.5


class Speaker:
    """Play samples of any rate and channel count through the default or a named device.

    Threads: the callback (PortAudio's) and one that calls the methods; they meet in two queues.

    Args:
        device: name or a part of one, index, or None for the default output.
        clock: session time.
        rate_hz: of the samples that will be written.

    Attributes:
        device_name: full name of the device.
        latency_s: between a callback and the sound, as the driver states it.
        underruns: callbacks that found too little to play, or whose driver says that it had.

    Raises:
        UserError: there is no such output or it cannot be opened.
    """

    def __init__(self, device: str | int | None, clock: Clock, rate_hz: int) -> None:
        sounddevice = portaudio()
        found = find_device(device, output=True)
        self.device_name = found.name
        self.underruns = 0
        self._clock = clock
        self._rate_hz = stream_rate(found, output=True)
        self._channels = min(2, found.outputs)
        self._ratio = self._rate_hz / rate_hz
        self._resampler: Any = None
        if rate_hz != self._rate_hz:
            self._resampler = soxr.ResampleStream(rate_hz, self._rate_hz, self._channels, dtype="float32")
        self._sample_clock = SampleClock(self._rate_hz)
        self._queue: SimpleQueue[NDArray[np.float32]] = SimpleQueue()
        self._current = np.zeros((0, self._channels), np.float32)
        self._stamps: deque[tuple[int, int, int, bool]] = deque(maxlen=4096)
        self._written = 0
        self._played = 0
        self._total = 0
        self._draining = False
        self._ended = False
        self._opened_ns = clock.now_ns()
        self._newest: tuple[int, int, int] | None = None
        # (samples played, silence filled in so far) wherever silence was filled in
        self._fillers: deque[tuple[int, int]] = deque([(-1, 0)])

        def make() -> Any:
            stream = sounddevice.OutputStream(
                samplerate=self._rate_hz,
                device=found.index,
                channels=self._channels,
                dtype="float32",
                latency=_LATENCY_S,
                callback=self._callback,
                finished_callback=self._finished,
            )
            stream.start()
            return stream

        try:
            self._stream = open_stream(make)
        except (sounddevice.PortAudioError, ValueError) as error:
            remedy = "close other programs that use it, or choose another one (pasdedeux devices)"
            raise UserError(f"the sound output {found.name!r} cannot be opened ({error})", remedy) from None
        self.latency_s = min(max(float(self._stream.latency), 0.0), _LARGEST_LATENCY_S)

    @property
    def queued_s(self) -> float:
        """Seconds of sound written and not yet taken by the device."""
        return (self._written - self._played) / self._rate_hz

    @property
    def gone(self) -> bool:
        """Whether the device stopped asking for samples."""
        if self._ended:
            return True
        if self._newest is None:
            return self._clock.now_ns() - self._opened_ns > _WAKING_NS
        return not self._stamps and self._clock.now_ns() - self._newest[2] > _SILENT_NS

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append (n, channels) samples."""
        if samples.shape[1] != self._channels:
            mono = samples.mean(axis=1, dtype=np.float32)[:, None]
            samples = np.repeat(mono, self._channels, axis=1)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        if len(samples):
            self._written += len(samples)
            self._queue.put(samples)

    def drain(self) -> None:
        """Announce that nothing more will be written, so that the silence at the end counts as no underrun."""
        if self._resampler is not None:
            rest = self._resampler.resample_chunk(np.zeros((0, self._channels), np.float32), last=True)
            self._written += len(rest)
            self._queue.put(rest)
        self._draining = True

    def audible_ns(self, frames: int) -> int | None:
        """Return the session time at which the first `frames` samples written have sounded.

        `frames` counts samples as written, at their own rate, and must not decrease. Silence that the callback had to
        fill in before them delays them. None until the device has begun to play.
        """
        fillers = self._fillers
        while self._stamps:
            total, played, now_ns, underflow = self._stamps.popleft()
            self._newest = (total, self._sample_clock.observe(total, now_ns, underflow), now_ns)
            if total - played != fillers[-1][1]:
                fillers.append((played, total - played))
        if self._newest is None:
            return None
        position = frames * self._ratio
        if self._draining:
            # Rounding must not put the end of the file after the silence that follows it.
            position = min(position, float(self._written))
        while len(fillers) > 1 and fillers[1][0] < position:
            fillers.popleft()
        total, time_ns, _ = self._newest
        ahead = position + fillers[0][1] - total
        return time_ns + round((ahead / self._rate_hz + self.latency_s) * NS_PER_S)

    def close(self) -> None:
        """Stop and release the device; idempotent."""
        close_stream(self._stream)

    def _callback(self, out: NDArray[np.float32], frames: int, times: object, status: Any) -> None:
        underflow = bool(status.output_underflow)
        self.underruns += underflow
        self._stamps.append((self._total, self._played, self._clock.now_ns(), underflow))
        done = 0
        while done < frames:
            if not len(self._current):
                if self._queue.empty():
                    break
                self._current = self._queue.get_nowait()
            count = min(frames - done, len(self._current))
            out[done : done + count] = self._current[:count]
            self._current = self._current[count:]
            done += count
        if done < frames:
            out[done:] = 0.0
            self.underruns += self._played > 0 and not self._draining
        self._played += done
        self._total += frames

    def _finished(self) -> None:
        self._ended = True
