"""What can be given as INPUT: songs and microphones to be heard; cameras, videos and recorded poses to be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.clock import Clock
from engine.errors import UserError
from engine.metrics import Metrics
from engine.protocols import Sensor
from engine.settings import ShowSettings

DEMO_SONG = Path(__file__).parents[2] / "config" / "demo" / "demo.ogg"
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".caf", ".au", ".rf64"})


def audio_file(source: str | None) -> Path | None:
    """Return the path if the input is an audio file (or is plainly meant to be one), None for a device."""
    if source is None:
        return None
    path = Path(source)
    if path.exists() or path.suffix.lower() in AUDIO_SUFFIXES or path.parent != Path():
        return path
    return None


def file_sensor(path: Path, settings: ShowSettings, clock: Clock, loop: bool, on_end: Callable[[], None]) -> Sensor:
    """Return a sensor that plays a file in real time. Raises `UserError` if it cannot be read."""
    from engine.audio.files import AudioFileSensor

    return AudioFileSensor(path, clock, device=settings.audio.output_device, loop=loop, on_end=on_end)


def microphone_sensor(source: str | None, settings: ShowSettings, clock: Clock) -> Sensor:
    """Return a sensor on an input device, by name or index. Raises `UserError` if there is none."""
    from engine.audio.capture import MicrophoneSensor

    audio = settings.audio
    device = source if source is not None else audio.device
    return MicrophoneSensor(device, clock, block_frames=audio.block_samples, latency_ms=audio.latency_ms)


# -- who is seen ------------------------------------------------------------------------------------------------------

POSES_SUFFIX = ".npz"
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".ogv", ".ts"})


def dancer_file(source: str | None) -> Path | None:
    """Return the path if the input is a video or recorded poses (or is plainly meant to be), None for a camera."""
    if source is None:
        return None
    path = Path(source)
    suffix = path.suffix.lower()
    known = suffix in VIDEO_SUFFIXES or suffix == POSES_SUFFIX or suffix in AUDIO_SUFFIXES
    # A camera is "0": a file of that name must be given as "./0".
    if known or path.parent != Path() or (path.exists() and not source.isdigit()):
        return path
    return None


def dancer_sensor(
    source: str | None,
    settings: ShowSettings,
    clock: Clock,
    metrics: Metrics,
    loop: bool,
    on_end: Callable[[], None],
) -> Sensor:
    """Return a sensor that watches a camera, or plays a video or recorded poses in real time.

    Args:
        source: camera by index or name, a file, or None: the camera of the settings.
        loop: a file begins again at its end.
        on_end: called when a file has ended.

    Raises:
        UserError: it is plainly not a dancer.
    """
    path = dancer_file(source)
    if path is None:
        from engine.seeing.camera import CameraSensor

        wished = settings.camera.device if source is None else source
        return CameraSensor(settings.camera.model_copy(update={"device": wished}), clock, metrics)
    refuse_song(path)
    if path.suffix.lower() == POSES_SUFFIX:
        from engine.seeing.poses_file import PosesFileSensor

        return PosesFileSensor(path, clock, loop=loop, on_end=on_end)
    from engine.seeing.video import VideoFileSensor

    return VideoFileSensor(path, settings.camera, clock, loop=loop, on_end=on_end, metrics=metrics)


def refuse_song(path: Path) -> None:
    """Raise `UserError` for a song where a dancer is expected."""
    if path.suffix.lower() in AUDIO_SUFFIXES:
        raise UserError(f"{path} is sound, not a dancer", "give a camera, a video or a poses.npz; songs go to --audio")
