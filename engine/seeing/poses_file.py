"""Recorded poses (`poses.npz`) in the camera's place: no video, no landmarker, the same dance every time."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import contact_points, forward_kinematics
from engine.clock import Clock
from engine.errors import UserError
from engine.protocols import Deliver, Report
from engine.types import NS_PER_S, PoseFrame, StatusEvent

_FORMATS = "give a poses.npz that `pasdedeux play --render` wrote"
_LARGEST_BYTES = 2 << 30
"""An archive that unpacks to more than 2 GiB (twenty hours of poses) is a mistake or an attack."""
_MOST_FRAMES = 10_000_000
_FARTHEST_M = 1000.0
_LONGEST_S = 1e6
_FASTEST_HZ = 10_000.0
"""Ten times what the fastest motion capture gives: faster times are of another unit, or none at all."""
_LONGEST_REST_S = 3600.0
"""Nobody is waited for so long: where the file's time leaps by more, it was stuck together."""
_LONGEST_SLEEP_NS = 20_000_000
_LATE_NS = NS_PER_S // 2
_DOWN_M, _OFF_M = 0.03, 0.08
"""A file without contacts: a point this low carries the dancer, one this high does not."""


@dataclass(frozen=True, slots=True)
class RecordedPoses:
    """Poses of a file.

    Attributes:
        time_s: (T,) seconds, increasing.
        rotations: (T, 24, 3) axis-angle [rad].
        translation_m: (T, 3).
        contacts: (T, 4).
        visibility: (T,) how well the dancer was seen, 0 to 1; 0 where nobody was.
    """

    time_s: NDArray[np.float64]
    rotations: NDArray[np.float32]
    translation_m: NDArray[np.float32]
    contacts: NDArray[np.float32]
    visibility: NDArray[np.float32]

    def frames(self, start_ns: int = 0) -> list[PoseFrame]:
        """Return what a sensor would deliver: the first at `start_ns`, none where nobody was seen."""
        times = np.round((self.time_s - self.time_s[0]) * NS_PER_S).astype(np.int64) + start_ns
        return [
            PoseFrame(time, time, self.rotations[k], self.translation_m[k], self.contacts[k], "camera")
            for k, time in enumerate(times.tolist())
            if self.visibility[k] > 0.0
        ]


def write_poses(path: Path, poses: Sequence[PoseFrame], visibility: Sequence[float] | None = None) -> None:
    """Write poses as `read_poses` reads them, with the joints (T, 24, 3) added for other programs.

    Args:
        path: of the file.
        poses: in order of time; at least one.
        visibility: how well the dancer was seen in each, 0 to 1; None: fully.

    Raises:
        UserError: there is nothing to write, or the file cannot be written.
    """
    if not poses:
        raise UserError("no poses to write", "was anybody seen?")
    rotations = np.stack([pose.rotations for pose in poses])
    translation_m = np.stack([pose.translation_m for pose in poses])
    joints_m, _ = forward_kinematics(rotations, translation_m)
    try:
        np.savez(
            path,
            time_s=np.array([pose.time_ns for pose in poses], np.float64) / NS_PER_S,
            rotations=rotations,
            translation_m=translation_m,
            joints_m=joints_m.astype(np.float32),
            contacts=np.stack([pose.contacts for pose in poses]),
            visibility=np.ones(len(poses), np.float32) if visibility is None else np.array(visibility, np.float32),
        )
    except OSError as error:
        raise UserError(f"cannot write {path}", error.strerror or str(error)) from error


def read_poses(path: str | Path) -> RecordedPoses:
    """Read recorded poses: `time_s`, `rotations` and `translation_m`; `contacts` and `visibility` if there are any.

    The file may come from anywhere: it is read without pickles, its size is checked before it is unpacked, and its
    values before they are used.

    Raises:
        UserError: it is missing or not such a file; says which array is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}" if not path.exists() else f"not a file: {path}", _FORMATS)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _LARGEST_BYTES:
            raise UserError(f"{path} unpacks to {unpacked / 2**30:.1f} GiB", _FORMATS)
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in _SHAPES if name in content.files}
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read as poses ({str(error)[:120]})", _FORMATS) from None
    return _checked(path, arrays)


_SHAPES: dict[str, tuple[int, ...]] = {
    "time_s": (),
    "rotations": (24, 3),
    "translation_m": (3,),
    "contacts": (4,),
    "visibility": (),
}
_NEEDED = ("time_s", "rotations", "translation_m")


def _checked(path: Path, arrays: dict[str, NDArray[np.generic]]) -> RecordedPoses:
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise UserError(f"{path} has no {' or '.join(missing)}", _FORMATS)
    if arrays["time_s"].ndim != 1 or not 1 <= len(arrays["time_s"]) <= _MOST_FRAMES:
        raise UserError(f"{path}: 'time_s' is not a list of times", _FORMATS)
    frames = len(arrays["time_s"])
    values: dict[str, NDArray[np.float64]] = {}
    for name, array in arrays.items():
        shape = (frames, *_SHAPES[name])
        if name == "visibility" and array.ndim == 2 and array.shape[0] == frames and array.size:
            array = array.astype(np.float64).mean(axis=1) if array.dtype.kind in "fiu" else array
        if array.dtype.kind not in "fiu" or array.shape != shape:
            raise UserError(f"{path}: '{name}' is {array.dtype} {array.shape}, expected numbers {shape}", _FORMATS)
        values[name] = array.astype(np.float64)
        if not np.isfinite(values[name]).all():
            raise UserError(f"{path}: '{name}' holds values that are not finite", _FORMATS)
    time_s = values["time_s"]
    if np.abs(time_s).max() > _LONGEST_S or (np.diff(time_s) <= 0.0).any():
        raise UserError(f"{path}: 'time_s' does not increase", _FORMATS)
    if frames > 1 and (frames - 1) / (time_s[-1] - time_s[0]) > _FASTEST_HZ:
        raise UserError(f"{path}: 'time_s' holds more than {_FASTEST_HZ:.0f} poses a second", "give it in seconds")
    if np.abs(values["translation_m"]).max() > _FARTHEST_M or np.abs(values["rotations"]).max() > _FARTHEST_M:
        raise UserError(f"{path}: poses beyond {_FARTHEST_M:.0f} m or rad", _FORMATS)
    rotations = values["rotations"].astype(np.float32)
    translation_m = values["translation_m"].astype(np.float32)
    if "contacts" not in values:
        values["contacts"] = _contacts(rotations, translation_m)
    return RecordedPoses(
        _without_leaps(time_s),
        rotations,
        translation_m,
        np.clip(values["contacts"], 0.0, 1.0).astype(np.float32),
        np.clip(values.get("visibility", np.ones(frames)), 0.0, 1.0).astype(np.float32),
    )


def _without_leaps(time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the times of a file that was stuck together as of one dance."""
    steps = np.diff(time_s)
    leaps = steps > _LONGEST_REST_S
    if not leaps.any():
        return time_s
    steps[leaps] = 1.0 if leaps.all() else np.median(steps[~leaps])
    return np.concatenate([time_s[:1], time_s[0] + np.cumsum(steps)])


def _contacts(rotations: NDArray[np.float32], translation_m: NDArray[np.float32]) -> NDArray[np.float64]:
    positions, world = forward_kinematics(rotations, translation_m)
    height = contact_points(positions, world)[..., 1].astype(np.float64)
    return np.clip((_OFF_M - height) / (_OFF_M - _DOWN_M), 0.0, 1.0)


class PosesFileSensor:
    """Play recorded poses in real time: delivers `PoseFrame`s of the performer "camera", stamped when they are due.

    Threads: one of its own, which calls `deliver`, `report` and `on_end`.

    Args:
        path: of the file, read by `start`.
        clock: session time.
        loop: begin again at the end, without a gap.
        on_end: called when the file is over.
    """

    def __init__(
        self, path: str | Path, clock: Clock, *, loop: bool = False, on_end: Callable[[], None] | None = None
    ) -> None:
        self.name = f"poses {Path(path).name}"
        self._path = Path(path)
        self._clock = clock
        self._loop = loop
        self._on_end = on_end
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._deliver: Deliver
        self._report: Report

    def start(self, deliver: Deliver, report: Report) -> None:
        """Read the file and begin. Raises `UserError` for a bad file."""
        self._deliver, self._report = deliver, report
        self._stopping.clear()
        poses = read_poses(self._path)
        self._thread = threading.Thread(target=self._play, args=(poses,), name="poses file", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering; idempotent."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)
            self._thread = None

    def _play(self, poses: RecordedPoses) -> None:
        """Deliver the poses when they are due until they end or the sensor is stopped; the thread's main function."""
        frames = poses.frames()
        usual_ns = round(float(np.median(np.diff(poses.time_s))) * NS_PER_S) if len(poses.time_s) > 1 else NS_PER_S
        length_ns = round(float(poses.time_s[-1] - poses.time_s[0]) * NS_PER_S) + usual_ns
        origin_ns = self._clock.now_ns()
        # Whether it is stopped is asked before each pose: who is stopped between two rounds is not over.
        while frames:
            for frame in frames:
                due_ns = origin_ns + frame.time_ns
                late_ns = self._clock.now_ns() - due_ns
                if late_ns > _LATE_NS:
                    origin_ns, due_ns = origin_ns + late_ns, due_ns + late_ns
                self._wait_until(due_ns)
                if self._stopping.is_set():
                    return
                self._deliver(replace(frame, time_ns=due_ns, source_ns=due_ns))
            origin_ns += length_ns
            if not self._loop:
                break
        self._report(StatusEvent(self._clock.now_ns(), "camera", "info", f"{self._path.name} is over"))
        if self._on_end is not None:
            self._on_end()

    def _wait_until(self, due_ns: int) -> None:
        while not self._stopping.is_set():
            now_ns = self._clock.now_ns()
            if now_ns >= due_ns:
                return
            self._clock.sleep_until(min(due_ns, now_ns + _LONGEST_SLEEP_NS))
