"""Offline playing: the same core as live, as fast as it goes, from a video or recorded poses into files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.errors import UserError
from engine.features import HOP_NS
from engine.playing.score_file import TempoPoint, tempo_points, write_music
from engine.protocols import Core
from engine.seeing.poses_file import write_poses
from engine.session import OutputDigest
from engine.types import NS_PER_S, ClockEvent, Heartbeat, NoteEvent, Observation, PoseFrame, PoseLandmarks, StatusEvent
from engine.whole_files import all_or_nothing


@dataclass(slots=True)
class Performance:
    """What a rendering produced.

    Attributes:
        notes: in order of emission, ends (velocity 0) included.
        poses: of the dancer before the camera.
        visibility: how well the dancer was seen in each pose, 0 to 1.
        tempo: where the timeline was.
        duration_s: how far it went.
        digest: of all poses and notes.
        problems: what went wrong.
    """

    notes: list[NoteEvent] = field(default_factory=list)
    poses: list[PoseFrame] = field(default_factory=list)
    visibility: list[float] = field(default_factory=list)
    tempo: list[TempoPoint] = field(default_factory=list)
    duration_s: float = 0.0
    digest: str = ""
    problems: list[str] = field(default_factory=list)


def with_heartbeats(observations: Iterable[Observation]) -> Iterator[Observation]:
    """Yield observations in order of time with a heartbeat every 10 ms between them, as a live show has."""
    next_ns = HOP_NS
    for observation in observations:
        while next_ns <= observation.time_ns:
            yield Heartbeat(next_ns)
            next_ns += HOP_NS
        yield observation


def together(seen: Iterable[Observation], heard: Iterable[Observation]) -> Iterator[Observation]:
    """Merge what is seen and what is heard, each in order of time, until either ends."""
    streams = iter(seen), iter(heard)
    heads = [next(stream, None) for stream in streams]
    while heads[0] is not None and heads[1] is not None:
        # Of what comes at one time, the picture first: what is heard moves time on.
        turn = 0 if heads[0].time_ns <= heads[1].time_ns else 1
        head = heads[turn]
        assert head is not None
        yield head
        heads[turn] = next(streams[turn], None)


def perform(
    core: Core, observations: Iterable[Observation], on_time: Callable[[float], None] | None = None
) -> Performance:
    """Run a fresh core over observations and keep what it plays up to the last one.

    Args:
        core: fresh.
        observations: in order, heartbeats or sound among them.
        on_time: called with the session time reached [s].
    """
    result = Performance()
    digest = OutputDigest()
    clocks: list[ClockEvent] = []
    end_ns = 0
    for observation in observations:
        events = core.push(observation)
        digest.add(events)
        end_ns = max(end_ns, observation.time_ns)
        for event in events:
            if isinstance(event, NoteEvent):
                result.notes.append(event)
            elif isinstance(event, ClockEvent):
                clocks.append(event)
            elif isinstance(event, PoseFrame) and event.performer == "camera":
                result.poses.append(event)
                result.visibility.append(_visibility(observation))
            elif isinstance(event, StatusEvent) and event.level != "info":
                result.problems.append(f"{event.component}: {event.message}")
        if on_time is not None:
            on_time(end_ns / NS_PER_S)
    result.notes = [_until(note, end_ns) for note in result.notes if note.time_ns < end_ns]
    result.tempo = tempo_points(clock for clock in clocks if clock.time_ns <= end_ns)
    result.duration_s = end_ns / NS_PER_S
    result.digest = digest.hexdigest()
    return result


def write_performance(folder: Path, performance: Performance, programs: Mapping[str, int]) -> list[NoteEvent]:
    """Write `music.mid`, `notes.csv` and `poses.npz`, all or none; return the notes as written.

    Raises:
        UserError: the folder cannot be written, or nobody was seen.
    """
    try:
        with all_or_nothing(folder) as place:
            written = write_music(place, performance.notes, performance.tempo, programs)
            write_poses(place / "poses.npz", performance.poses, performance.visibility)
    except OSError as error:
        raise UserError(f"cannot write into {folder}", error.strerror or str(error)) from error
    return written


def _visibility(observation: Observation) -> float:
    return float(observation.visibility.mean()) if isinstance(observation, PoseLandmarks) else 1.0


def _until(note: NoteEvent, end_ns: int) -> NoteEvent:
    """End a note with the show."""
    return replace(note, duration_ns=min(note.duration_ns, end_ns - note.time_ns))
