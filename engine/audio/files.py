"""Audio files as a source: streamed for offline work, or played in real time in the band's place."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.audio.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, HopStream
from engine.audio.speaker import Speaker
from engine.clock import Clock
from engine.errors import UserError
from engine.protocols import Deliver, Report
from engine.types import NS_PER_S, AudioBlock, StatusEvent

_FORMATS = "give a WAV, FLAC, OGG or MP3 file"
_MOST_CHANNELS = 64
# So much is queued in the speaker: a slow disk is bridged, stopping is still at once.
_AHEAD_S = 0.2
# `stop` is noticed within this time.
_LONGEST_SLEEP_NS = 20_000_000
# Corrections of the speaker's clock are smaller than this, an underrun is a device buffer (5 to 50 ms).
_AUDIBLE_PAUSE_NS = 20_000_000


class AudioFile:
    """An open audio file; a context manager. See `open_audio`.

    Attributes:
        path: of the file.
        sample_rate_hz: its own rate.
        channels: 1 to 64.
        duration_s: as the file's header states it; a truncated file ends sooner.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self.sample_rate_hz = int(file.samplerate)
        self.channels = int(file.channels)
        self.duration_s = max(0, file.frames) / file.samplerate
        self._file = file

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

    def rewind(self) -> None:
        """Go back to the beginning. Raises `UserError` if the file cannot be read again."""
        try:
            self._file.seek(0)
        except _soundfile().LibsndfileError as error:
            raise _broken(self.path, error) from None

    def read(self, frames: int) -> NDArray[np.float32]:
        """Return the next (n, channels) samples, n <= frames, none at the end. Raises `UserError` if it is broken."""
        try:
            samples: NDArray[np.float32] = self._file.read(frames, dtype="float32", always_2d=True)
        except _soundfile().LibsndfileError as error:
            raise _broken(self.path, error) from None
        return samples

    def blocks(self, block_frames: int = 480, start_ns: int = 0) -> Iterator[AudioBlock]:
        """Yield the rest of the file as blocks in virtual time, as fast as they are asked for.

        The first sample begins at `start_ns`. Raises `UserError` if the file turns out to be broken.
        """
        index = 0
        while len(samples := self.read(block_frames)):
            end_ns = start_ns + (index + len(samples)) * NS_PER_S // self.sample_rate_hz
            yield AudioBlock(index, end_ns, samples, self.sample_rate_hz)
            index += len(samples)


def open_audio(path: str | Path) -> AudioFile:
    """Open a WAV, FLAC, OGG or MP3 file of any rate from 4 to 768 kHz and up to 64 channels.

    Raises:
        UserError: the file is missing, a folder, empty, broken or of another kind.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"no such file: {path}", _FORMATS)
    if not path.is_file():
        raise UserError(f"not a file: {path}", _FORMATS)
    soundfile = _soundfile()
    try:
        file = soundfile.SoundFile(str(path))
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError) as error:
        # soundfile answers a RAW extension with TypeError and some broken headers with ValueError.
        raise _broken(path, error) from None
    try:
        audio = AudioFile(path, file)
        if not LOWEST_RATE_HZ <= audio.sample_rate_hz <= HIGHEST_RATE_HZ or not 1 <= audio.channels <= _MOST_CHANNELS:
            stated = f"{audio.sample_rate_hz} Hz, {audio.channels} channels"
            raise UserError(f"{path} states an impossible format ({stated})", "convert it to 48 kHz stereo")
        if len(audio.read(1)) == 0:
            raise UserError(f"{path} contains no sound", _FORMATS)
        audio.rewind()
    except UserError:
        file.close()
        raise
    return audio


def read_hops(path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read a whole file through the same `HopStream` as the stage.

    Returns:
        hops (n, 480) float32 at 48 kHz, and the time of each hop's end (n,) in seconds from the file's start.

    Raises:
        UserError: see `open_audio`.
    """
    stream = HopStream()
    with open_audio(path) as audio:
        hops = [hop for block in audio.blocks(4096) for hop in stream.push(block)]
    samples = np.stack([hop.samples for hop in hops]) if hops else np.empty((0, 480), np.float32)
    return samples, np.array([hop.end_ns for hop in hops], np.float64) / NS_PER_S


class _Piece(NamedTuple):
    """Samples (n, channels) of a file that wait for their time; `start` is the index of the first."""

    start: int
    samples: NDArray[np.float32]


class AudioFileSensor:
    """Play a file in real time in the band's place.

    With a sound output the file is heard, and each block is delivered when it is heard, stamped with that time: the
    pipeline gets no more of the future than a microphone beside the loudspeaker would give it. Without one, or when
    it is lost in mid-play, the clock paces the file silently.

    Threads: one of its own, which calls `deliver`, `report` and `on_end` (and the speaker's callback).

    Args:
        path: of the file, opened by `start`.
        clock: session time.
        device: output by name, part of a name or index; None for the default one.
        silent: do not look for an output.
        loop: begin again at the end, without a gap.
        on_end: called when the file is over.

    Attributes:
        output_failures: times the output was lost in mid-play.
    """

    def __init__(
        self,
        path: str | Path,
        clock: Clock,
        *,
        device: str | int | None = None,
        silent: bool = False,
        loop: bool = False,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.name = f"file {Path(path).name}"
        self.output_failures = 0
        self._path = Path(path)
        self._clock = clock
        self._device = device
        self._silent = silent
        self._loop = loop
        self._on_end = on_end
        self._speaker: Speaker | None = None
        self._read = 0
        self._gaps = 0
        self._over = False
        self._origin_ns = 0
        self._end_ns = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._deliver: Deliver
        self._report: Report

    def start(self, deliver: Deliver, report: Report) -> None:
        """Open the file and the output, and begin. Raises `UserError` for a bad file or a named output not found."""
        self._deliver, self._report = deliver, report
        self._stopping.clear()
        self._read = self._gaps = 0
        self._over = False
        audio = open_audio(self._path)
        if not self._silent:
            try:
                self._speaker = Speaker(self._device, self._clock, audio.sample_rate_hz)
            except UserError as error:
                if self._device is not None:
                    audio.close()
                    raise
                self._say("info", f"{error.problem}: {self._path.name} is played silently")
        self._thread = threading.Thread(target=self._play, args=(audio,), name="audio file", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering and release file and output; idempotent."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)
            self._thread = None

    def _play(self, audio: AudioFile) -> None:
        """Deliver the file until it ends or the sensor is stopped; the thread's main function."""
        waiting: deque[_Piece] = deque()
        self._origin_ns = self._end_ns = self._clock.now_ns()
        with audio:
            while not self._stopping.is_set():
                self._fill(waiting, audio)
                if not waiting:
                    break
                due_ns = self._due_ns(waiting[0], audio.sample_rate_hz)
                now_ns = self._clock.now_ns()
                if due_ns is None or due_ns > now_ns + _LONGEST_SLEEP_NS:
                    self._clock.sleep_until(now_ns + _LONGEST_SLEEP_NS)
                else:
                    self._clock.sleep_until(due_ns)
                    self._hand_over(waiting.popleft(), due_ns, audio.sample_rate_hz)
        if self._speaker is not None:
            self._speaker.close()
            self._speaker = None
        if not self._stopping.is_set():
            self._say("info", f"{self._path.name} is over")
            if self._on_end is not None:
                self._on_end()

    def _fill(self, waiting: deque[_Piece], audio: AudioFile) -> None:
        """Read ahead: a block, or with a speaker as much as it should have queued."""
        while not self._over and (not waiting or (self._speaker is not None and self._speaker.queued_s < _AHEAD_S)):
            try:
                samples = audio.read(max(1, audio.sample_rate_hz // 100))
                if not len(samples) and self._loop:
                    audio.rewind()
                    samples = audio.read(max(1, audio.sample_rate_hz // 100))
            except UserError as error:
                self._say("error", str(error))
                samples = np.empty((0, 1), np.float32)
            if len(samples):
                waiting.append(_Piece(self._read, samples))
                self._read += len(samples)
                if self._speaker is not None:
                    self._speaker.write(samples)
            else:
                self._over = True
                if self._speaker is not None:
                    self._speaker.drain()

    def _due_ns(self, piece: _Piece, rate: int) -> int | None:
        """Return when the piece ends for the ear, None while the speaker has not begun."""
        speaker = self._speaker
        if speaker is not None and speaker.gone:
            self.output_failures += 1
            self._say("warning", f"the sound output {speaker.device_name!r} is gone: the file goes on silently")
            speaker.close()
            speaker = self._speaker = None
            # It goes on from now: what was not heard meanwhile is a gap, not a burst of blocks from the past.
            self._origin_ns = self._clock.now_ns() - piece.start * NS_PER_S // rate
        stop = piece.start + len(piece.samples)
        return self._origin_ns + stop * NS_PER_S // rate if speaker is None else speaker.audible_ns(stop)

    def _hand_over(self, piece: _Piece, due_ns: int, rate: int) -> None:
        time_ns = max(due_ns, self._end_ns + 1)
        # Silence between two pieces (an underrun, a lost output) was heard too, and counts as lost samples.
        pause_ns = time_ns - self._end_ns - len(piece.samples) * NS_PER_S // rate
        gap = pause_ns * rate // NS_PER_S if piece.start > 0 and pause_ns > _AUDIBLE_PAUSE_NS else 0
        self._gaps += gap
        self._end_ns = time_ns
        self._deliver(AudioBlock(piece.start + self._gaps, time_ns, piece.samples, rate, gap))

    def _say(self, level: str, message: str) -> None:
        self._report(StatusEvent(self._clock.now_ns(), "audio", level, message))


def _soundfile() -> ModuleType:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise UserError(f"libsndfile cannot be loaded ({error})", "pip install soundfile") from None
    module: ModuleType = soundfile
    return module


def _broken(path: Path, error: Exception) -> UserError:
    reason = str(getattr(error, "error_string", error)).strip().rstrip(".") or type(error).__name__
    return UserError(f"{path} cannot be read as audio ({reason})", _FORMATS)
