"""`play` and `duet`: a dancer before a camera (or in a file) plays the band, live or into files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path

from rich.markup import escape

from engine.cli.console import show_console
from engine.cli.live import LiveShow
from engine.cli.show import progress_bar
from engine.cli.sources import (
    POSES_SUFFIX,
    audio_file,
    dancer_file,
    dancer_sensor,
    file_sensor,
    microphone_sensor,
    refuse_song,
)
from engine.errors import UserError
from engine.playing.render import Performance, perform, together, with_heartbeats, write_performance
from engine.protocols import Sensor
from engine.settings import ShowSettings
from engine.stage import Cast, build_playing, build_tempo_sensor
from engine.types import NS_PER_S, Observation

SOUND_OFF = "off"


def leader_default(cast: Cast, audio: str | None) -> tuple[str, ...]:
    """Return the default settings of a command: whoever brings sound into the room leads."""
    heard = audio != SOUND_OFF if cast is not Cast.BAND else audio is not None
    return ("band.leader=audio",) if heard else ()


def cast_of_duet(audio: str | None) -> Cast:
    """Return who is on the stage: without sound in the room, the virtual dancer answers to the band alone."""
    return Cast.ANSWER if audio == SOUND_OFF else Cast.DUET


def play_live(
    live: LiveShow,
    settings: ShowSettings,
    cast: Cast,
    source: str | None,
    audio: str | None,
    loop: bool,
    duration_s: float | None,
) -> None:
    """Run a show that a dancer plays, from sensors until its end."""
    hears = hears_room(settings, cast, audio)
    sensors: list[Sensor] = [dancer_sensor(source, settings, live.clock, live.metrics, loop, live.end)]
    if hears:
        path = audio_file(audio)
        if path is not None:
            sensors.append(file_sensor(path, settings, live.clock, loop, live.end))
        else:
            sensors.append(microphone_sensor(audio, settings, live.clock))
    tempo = build_tempo_sensor(settings, live.clock)
    if tempo is not None:
        sensors.append(tempo)
    live.run(sensors, duration_s, heartbeat=not hears)


def render_playing(
    settings: ShowSettings, cast: Cast, source: str | None, audio: str | None, folder: Path, duration_s: float | None
) -> None:
    """Play a video or recorded poses into `music.mid`, `notes.csv` and `poses.npz`.

    Raises:
        UserError: a file cannot be read or written, or nobody was seen.
    """
    path = dancer_file(source)
    if path is None:
        raise UserError("--render needs a video or a poses.npz", "give one: pasdedeux play VIDEO --render DIR")
    if settings.band.leader in ("link", "midi-clock"):
        raise UserError(f"band.leader {settings.band.leader} is live only", "render with dancer, audio or tap")
    seen, length_s = _seen(path, settings)
    with ExitStack() as stack:
        if hears_room(settings, cast, audio):
            song = audio_file(audio)
            if song is None:
                raise UserError("--render cannot listen to a microphone", "give a song: --audio SONG")
            from engine.audio.files import open_audio

            opened = stack.enter_context(open_audio(song))
            length_s = min(length_s, opened.duration_s)
            observations: Iterator[Observation] = together(seen, opened.blocks())
        else:
            observations = with_heartbeats(seen)
        if duration_s is not None:
            length_s = min(length_s, duration_s)
            end_ns = round(duration_s * NS_PER_S)
            observations = takewhile(lambda observation: observation.time_ns <= end_ns, observations)
        play_observations(settings, cast, observations, folder, length_s)


def play_observations(
    settings: ShowSettings, cast: Cast, observations: Iterable[Observation], folder: Path, length_s: float
) -> Performance:
    """Run observations through a fresh core, with a progress bar; write the files and say what came of it."""
    console = show_console()
    core = build_playing(settings, cast=cast)
    start = time.perf_counter()
    with progress_bar(console) as progress:
        task = progress.add_task("rendering", total=length_s)
        performance = perform(core, observations, lambda t: progress.update(task, completed=t))
    written = write_performance(folder, performance, settings.midi.programs.sent())
    elapsed = time.perf_counter() - start
    for problem in dict.fromkeys(performance.problems):
        console.print(f"[yellow]{escape(problem)}[/]", highlight=False)
    console.print(
        f"{len(written)} notes to {len(performance.poses)} poses of {performance.duration_s:.1f} s in "
        f"{escape(str(folder))} ({performance.duration_s / elapsed:.1f} x real time)",
        highlight=False,
    )
    return performance


def _seen(path: Path, settings: ShowSettings) -> tuple[Iterator[Observation], float]:
    """Return what a file shows, and its length [s]. Raises `UserError` if it cannot be read."""
    refuse_song(path)
    if path.suffix.lower() == POSES_SUFFIX:
        from engine.seeing.poses_file import read_poses

        frames = read_poses(path).frames()
        if not frames:
            raise UserError(f"{path} shows nobody", "give poses in which somebody was seen")
        return iter(frames), frames[-1].time_ns / NS_PER_S
    from engine.seeing.video import open_video, read_landmarks

    with open_video(path) as video:
        length_s = video.frames / video.fps
    return read_landmarks(path, settings.camera), length_s


def hears_room(settings: ShowSettings, cast: Cast, audio: str | None) -> bool:
    """Say whether sound is listened to. Raises `UserError` where the flags contradict each other."""
    leads = settings.band.leader == "audio"
    if audio == SOUND_OFF:
        if leads:
            raise UserError("band.leader is audio, but --audio is off", "choose another leader, or give sound")
        return False
    if cast is Cast.BAND and not leads:
        if audio is not None:
            raise UserError(
                f"--audio is given, but band.leader is {settings.band.leader}",
                "set band.leader to audio, or leave --audio out",
            )
        return False
    return True
