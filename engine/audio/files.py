"""Audio files as a source: streamed for offline work, or played in real time in the band's place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.audio.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, HopStream
from engine.errors import UserError
from engine.types import NS_PER_S, AudioBlock

_FORMATS = "give a WAV, FLAC, OGG or MP3 file"
_MOST_CHANNELS = 64


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
