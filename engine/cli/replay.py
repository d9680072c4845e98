"""`replay`: a recorded session once more, live or into files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from engine.cli.console import show_console
from engine.cli.live import LiveShow
from engine.cli.options import CommonOptions
from engine.cli.play import play_observations
from engine.cli.show import render_observations
from engine.clock import Clock
from engine.errors import UserError
from engine.protocols import Deliver, Report
from engine.session import DANCE, Session
from engine.stage import Cast
from engine.types import NS_PER_S, Heartbeat, Observation, PoseFrame, StatusEvent


class _SessionSensor:
    """Plays a recorded session's observations at the times at which they were observed."""

    def __init__(self, session: Session, name: str, clock: Clock, on_end: Callable[[], None]) -> None:
        self.name = name
        self._session = session
        self._clock = clock
        self._on_end = on_end
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, deliver: Deliver, report: Report) -> None:
        self._thread = threading.Thread(target=self._run, args=(deliver, report), name="replay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _run(self, deliver: Deliver, report: Report) -> None:
        shift_ns: int | None = None
        try:
            for observation in self._session.observations():
                if shift_ns is None:
                    shift_ns = self._clock.now_ns() - observation.time_ns
                if isinstance(observation, Heartbeat):
                    continue  # the show has a pulse of its own
                if isinstance(observation, PoseFrame):
                    observation = replace(observation, source_ns=observation.source_ns + shift_ns)
                observation = replace(observation, time_ns=observation.time_ns + shift_ns)
                wait_ns = observation.time_ns - self._clock.now_ns()
                if wait_ns > 0 and self._stopping.wait(wait_ns / NS_PER_S):
                    return
                deliver(observation)
        except UserError as error:
            report(StatusEvent(self._clock.now_ns(), "replay", "error", str(error)))
        self._on_end()


def replay_session(folder: Path, options: CommonOptions, render: Path | None, duration_s: float | None) -> None:
    """Replay a session live, or render it and compare poses and notes with those of the show.

    Raises:
        UserError: it is not a session, or damaged; what comes before the damage is rendered all the same.
    """
    console = show_console()
    session = Session(folder)
    settings = session.settings
    flags = options.settings()
    midi = settings.midi.model_copy(update={"targets": flags.midi.targets, "clock_input": None, "record": None})
    settings = settings.model_copy(update={"osc": flags.osc, "vmc": flags.vmc, "web": flags.web, "midi": midi})
    try:
        cast = None if session.cast == DANCE else Cast(session.cast)
    except ValueError as error:
        raise UserError(f"{folder} was recorded with '{session.cast}' on the stage", "use a newer version") from error
    if session.cut_off:
        message = f"the show was cut off: {session.length_s:.1f} s of it are there"
        console.print(f"[yellow]{message}[/]", highlight=False)
    if render is None:
        live = LiveShow(settings, cast=cast)
        sensor = _SessionSensor(session, f"the session in {folder}", live.clock, live.end)
        live.run([sensor], duration_s, heartbeat=cast is not None and not session.has_sound)
        return
    damage: list[UserError] = []
    observations = _part(session, duration_s, damage)
    try:
        if cast is None:
            digest = render_observations(settings, observations, render, 0.0).digest
        else:
            digest = play_observations(settings, cast, observations, render, 0.0).digest
    except UserError as error:
        # Where nothing comes before the damage, that is what is wrong.
        raise damage[0] if damage else error from None
    if damage:
        raise UserError(damage[0].problem, f"{damage[0].remedy}; what comes before is in {render}")
    if session.lost:
        console.print(f"[yellow]{session.lost} observations were not recorded (slow disk): the output differs[/]")
    elif session.digest is not None and duration_s is None:
        same = digest == session.digest
        console.print("identical to the show" if same else "[red]not identical to the show[/] (other weights or code?)")


def _part(session: Session, duration_s: float | None, damage: list[UserError]) -> Iterator[Observation]:
    """Yield the first `duration_s` seconds of a session (None: all of it), until its damage, which is then noted."""
    begin_ns: int | None = None
    try:
        for observation in session.observations():
            begin_ns = observation.time_ns if begin_ns is None else begin_ns
            if duration_s is not None and observation.time_ns - begin_ns > duration_s * NS_PER_S:
                return
            yield observation
    except UserError as error:
        damage.append(error)
