"""`check --for play` and `duet`: whether a dancer can be seen, and a band can play."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np

from engine.cli.inspect import Findings, check_bridges, check_sound
from engine.cli.play import hears_room
from engine.cli.sources import POSES_SUFFIX, dancer_file, dancer_sensor, refuse_song
from engine.clock import SessionClock
from engine.errors import UserError
from engine.metrics import Metrics
from engine.settings import ShowSettings
from engine.stage import Cast, build_playing, build_tempo_sensor, warm_up_playing
from engine.types import Observation, PoseLandmarks, StatusEvent

_LOOK_S = 3.0
# A camera below this many frames a second makes accents late by more than two of them: triggers feel sluggish.
_SLOW_FPS = 24.0


def check_playing(settings: ShowSettings, cast: Cast, source: str | None, audio: str | None) -> int:
    """Try everything a show needs that a dancer plays, strictly; return the exit code: 0, or 2."""
    report = Findings()
    report.good("settings", "every setting is known and within its range")
    _check_core(settings, cast, report)
    _check_pose_model(settings, source, report)
    check_bridges(settings, report, partial(build_playing, cast=cast))
    _check_tempo(settings, report)
    _check_dancer(settings, source, report)
    try:
        if hears_room(settings, cast, audio):
            check_sound(settings, audio, report)
    except UserError as error:
        report.bad("sound", str(error))
    return report.verdict()


def _check_core(settings: ShowSettings, cast: Cast, report: Findings) -> None:
    start = time.perf_counter()
    try:
        problems = warm_up_playing(settings, cast, ticks=100)
    except UserError as error:
        report.bad("composer and beats", str(error))
        return
    elapsed = time.perf_counter() - start
    for problem in problems:
        report.bad("100 ticks", problem)
    if not problems:
        leads = settings.band.leader
        report.good("composer and beats", f"{settings.band.model} ran 100 ticks in {elapsed:.1f} s; {leads} leads")


def _check_pose_model(settings: ShowSettings, source: str | None, report: Findings) -> None:
    path = dancer_file(source)
    if path is not None and path.suffix.lower() == POSES_SUFFIX:
        return
    try:
        from engine.seeing.landmarker import Landmarker, landmarker_path

        model = landmarker_path(settings.camera)
        picture = np.zeros((settings.camera.height, settings.camera.width, 3), np.uint8)
        with Landmarker(model, settings.camera.people) as landmarker:
            landmarker.detect(picture, 1)
    except UserError as error:
        report.bad("pose model", str(error))
        return
    report.good("pose model", model.name)


def _check_tempo(settings: ShowSettings, report: Findings) -> None:
    """Open the clock of the program that leads."""
    try:
        sensor = build_tempo_sensor(settings, SessionClock())
        if sensor is None:
            return
        sensor.start(lambda observation: None, lambda event: None)
        sensor.stop()
        report.good("tempo", sensor.name)
    except UserError as error:
        report.bad("tempo", str(error))


def _check_dancer(settings: ShowSettings, source: str | None, report: Findings) -> None:
    """Look at the dancer, or for one."""
    path = dancer_file(source)
    try:
        if path is not None:
            refuse_song(path)
            _check_file(settings, source, report)
            return
        _look(settings, source, report)
    except UserError as error:
        report.bad("dancer", str(error))


def _check_file(settings: ShowSettings, source: str | None, report: Findings) -> None:
    path = dancer_file(source)
    assert path is not None
    if path.suffix.lower() == POSES_SUFFIX:
        from engine.seeing.poses_file import read_poses

        poses = read_poses(path)
        report.good("dancer", f"{path}: {len(poses.time_s)} poses, {poses.time_s[-1] - poses.time_s[0]:.1f} s")
        return
    from engine.seeing.video import open_video

    with open_video(path) as video:
        while video.read() is not None:
            pass
        detail = f"{path}: {video.pictures_read} pictures of {video.width} x {video.height} at {video.fps:.0f} fps"
        if video.truncated:
            report.bad("dancer", f"{detail}, of {video.frames} promised: the file is damaged")
        else:
            report.good("dancer", detail)


def _look(settings: ShowSettings, source: str | None, report: Findings) -> None:
    metrics, clock = Metrics(), SessionClock()
    sensor = dancer_sensor(source, settings, clock, metrics, loop=False, on_end=lambda: None)
    frames: list[PoseLandmarks] = []
    warned: list[StatusEvent] = []

    def deliver(observation: Observation) -> None:
        if isinstance(observation, PoseLandmarks):
            frames.append(observation)

    sensor.start(deliver, warned.append)
    threading.Event().wait(_LOOK_S)
    sensor.stop()
    for event in warned:
        if event.level != "info":
            report.bad("camera", event.message)
    if len(frames) < 2:
        report.bad("camera", f"{sensor.name} opens, but no picture comes: is another program using it?")
        return
    fps = (len(frames) - 1) * 1e9 / (frames[-1].time_ns - frames[0].time_ns)
    latency_ms = metrics.histogram("pose_latency").percentile_ms(95)
    detail = f"{sensor.name}: {fps:.0f} poses a second, {latency_ms:.0f} ms after the picture (95 %)"
    if fps < _SLOW_FPS:
        report.note("camera", f"{detail}; slow: more light, --set camera.model=lite, or a faster machine")
    else:
        report.good("camera", detail)
    if not any(frame.visibility.any() for frame in frames):
        report.note("camera", "nobody was in view while it was checked")
