"""Offline rendering: the same core as live, as fast as it goes, into files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.body.bvh import write_bvh
from engine.body.skeleton import forward_kinematics
from engine.errors import UserError
from engine.pipeline import Pipeline
from engine.session import OutputDigest
from engine.types import NS_PER_S, BeatEvent, Observation, PoseFrame, StatusEvent
from engine.whole_files import all_or_nothing

BEAT_COLUMNS = ("time_s", "beat_index", "bar_beat", "tempo_bpm", "confidence")


@dataclass(frozen=True, slots=True)
class Rendering:
    """What a rendering produced: number of poses and beats, length [s], digest of the poses, and what went wrong."""

    poses: int
    beats: int
    duration_s: float
    digest: str
    problems: tuple[str, ...]


def collect(
    pipeline: Pipeline, observations: Iterable[Observation], on_time: Callable[[float], None] | None = None
) -> tuple[list[PoseFrame], list[BeatEvent], Rendering]:
    """Run the core over observations and keep what it emits up to the last observation.

    Args:
        pipeline: fresh.
        observations: in order.
        on_time: called with the session time reached [s].
    """
    poses: list[PoseFrame] = []
    beats: list[BeatEvent] = []
    problems: list[str] = []
    digest = OutputDigest()
    end_ns = 0
    for observation in observations:
        events = pipeline.push(observation)
        digest.add(events)
        for event in events:
            if isinstance(event, PoseFrame):
                poses.append(event)
            elif isinstance(event, BeatEvent):
                beats.append(event)
            elif isinstance(event, StatusEvent) and event.level != "info":
                problems.append(f"{event.component}: {event.message}")
        end_ns = max(end_ns, observation.time_ns)
        if on_time is not None:
            on_time(end_ns / NS_PER_S)
    poses = [pose for pose in poses if pose.time_ns <= end_ns]
    beats = [beat for beat in beats if 0 <= beat.time_ns <= end_ns]
    report = Rendering(
        sum(not pose.performer for pose in poses), len(beats), end_ns / NS_PER_S, digest.hexdigest(), tuple(problems)
    )
    return poses, beats, report


def write_dance(folder: Path, poses: list[PoseFrame], beats: list[BeatEvent], fps: float) -> None:
    """Write `dance.npz`, `dance.bvh` and `beats.csv`; with a crowd also `crowd.npz`; all or none.

    `crowd.npz` has `time_s (T,)`, `rotations (T, N, 24, 3)` and `translation_m (T, N, 3)`: N dancers in their places.

    Raises:
        UserError: the folder cannot be written, or there is nothing to write.
    """
    crowd = [pose for pose in poses if pose.performer]
    poses = [pose for pose in poses if not pose.performer]
    if not poses:
        raise UserError("nothing to render", "the input holds less than one frame of audio")
    rotations = np.stack([pose.rotations for pose in poses])
    translation_m = np.stack([pose.translation_m for pose in poses])
    joints_m, _ = forward_kinematics(rotations, translation_m)
    try:
        with all_or_nothing(folder) as place:
            np.savez(
                place / "dance.npz",
                time_s=np.array([pose.time_ns for pose in poses]) / NS_PER_S,
                rotations=rotations,
                translation_m=translation_m,
                joints_m=joints_m.astype(np.float32),
            )
            if crowd:
                names = sorted({pose.performer for pose in crowd}, key=int)
                rows = {name: [pose for pose in crowd if pose.performer == name] for name in names}
                np.savez(
                    place / "crowd.npz",
                    time_s=np.array([pose.time_ns for pose in rows[names[0]]]) / NS_PER_S,
                    rotations=np.stack([[pose.rotations for pose in rows[name]] for name in names], axis=1),
                    translation_m=np.stack([[pose.translation_m for pose in rows[name]] for name in names], axis=1),
                )
            write_bvh(place / "dance.bvh", rotations, translation_m, 1.0 / fps)
            with (place / "beats.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(BEAT_COLUMNS)
                for beat in beats:
                    writer.writerow(
                        (
                            f"{beat.time_ns / NS_PER_S:.6f}",
                            beat.beat_index,
                            beat.bar_beat,
                            f"{beat.tempo_bpm:.3f}",
                            f"{beat.confidence:.3f}",
                        )
                    )
    except OSError as error:
        raise UserError(f"cannot write into {folder}", error.strerror or str(error)) from error
