"""Recorded sessions: every observation as the core saw it, so that a show can be replayed to the same bytes.

A session is a folder:

- `session.json`: engine version, the settings, who was on the stage, and at the end the digest of all poses and notes;
- `observations.jsonl`: one line an observation, in order (camera frames as landmarks, no pictures);
- `audio-NNN.wav`: 32-bit float samples; a new file whenever rate or channel count change.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from engine import __version__
from engine.errors import UserError
from engine.session_lines import from_line, to_line
from engine.settings import ShowSettings
from engine.types import AudioBlock, NoteEvent, Observation, OutputEvent, PoseFrame

_log = logging.getLogger(__name__)
_QUEUE_LIMIT = 4096
DANCE = "dance"
"""The cast of a show in which music drives the dancer; the others are those of `engine.stage.Cast`."""


class OutputDigest:
    """A running SHA-256 over everything in the PoseFrames and NoteEvents of a session."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.frames = 0

    def add(self, events: Iterable[OutputEvent]) -> None:
        """Take the PoseFrames and NoteEvents among some events."""
        for event in events:
            if isinstance(event, NoteEvent):
                numbers = (event.channel, event.pitch, event.velocity, event.duration_ns)
                self._hash.update(np.array([event.time_ns, event.source_ns, *numbers], dtype="<i8").tobytes())
            if isinstance(event, PoseFrame):
                self._hash.update(np.array([event.time_ns, event.source_ns], dtype="<i8").tobytes())
                for array in (event.rotations, event.translation_m, event.contacts):
                    self._hash.update(array.astype("<f4").tobytes())
                self.frames += 1

    def hexdigest(self) -> str:
        """Return the digest so far."""
        return self._hash.hexdigest()


class SessionRecorder:
    """Writes observations on a thread of its own; the core never waits for the disk.

    Threads: `record` by the core thread; the file belongs to the writer thread.

    Args:
        folder: where it goes; made if it is not there.
        settings: of the show.
        cast: who is on the stage.

    Raises:
        UserError: the folder cannot be made, or already holds a session.
    """

    def __init__(self, folder: Path, settings: ShowSettings, cast: str = DANCE) -> None:
        if (folder / "session.json").exists():
            raise UserError(f"{folder} already holds a session", "give another folder, nothing is overwritten")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lines = (folder / "observations.jsonl").open("w", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot record into {folder}", error.strerror or str(error)) from error
        self._folder = folder
        self._about: dict[str, Any] = {
            "version": __version__,
            "cast": cast,
            "settings": settings.model_dump(mode="json"),
        }
        self._write_about()
        self._digest = OutputDigest()
        self._queue: queue.Queue[Observation | None] = queue.Queue(_QUEUE_LIMIT)
        self._audio: soundfile.SoundFile | None = None
        self._files = 0
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def record(self, observation: Observation, events: Iterable[OutputEvent]) -> None:
        """Record one observation and what the core made of it."""
        self._digest.add(events)
        try:
            self._queue.put_nowait(observation)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write what is left and the digest."""
        self._queue.put(None)
        self._thread.join(timeout=10.0)
        self._about |= {"poses": self._digest.frames, "digest": self._digest.hexdigest(), "lost": self.lost}
        self._write_about()

    def _write_about(self) -> None:
        text = json.dumps(self._about, indent=1)
        (self._folder / "session.json").write_text(text + "\n", encoding="utf-8")

    def _run(self) -> None:
        try:
            while (observation := self._queue.get()) is not None:
                self._write(observation)
        except (OSError, RuntimeError) as error:
            _log.error("recording stopped: %s", error)
            self.lost += 1
            while self._queue.get() is not None:
                self.lost += 1
        finally:
            self._lines.close()
            if self._audio is not None:
                self._audio.close()

    def _write(self, observation: Observation) -> None:
        if isinstance(observation, AudioBlock):
            rate, channels = observation.sample_rate_hz, observation.samples.shape[1]
            if self._audio is None or (self._audio.samplerate, self._audio.channels) != (rate, channels):
                if self._audio is not None:
                    self._audio.close()
                name = self._folder / f"audio-{self._files:03d}.wav"
                self._audio = soundfile.SoundFile(name, "w", rate, channels, subtype="FLOAT", format="RF64")
                self._files += 1
            self._audio.write(observation.samples)
            line: dict[str, Any] | None = {
                "audio": self._files - 1,
                "frames": len(observation.samples),
                "index": observation.sample_index,
                "time_ns": observation.time_ns,
                "gap": observation.gap_samples,
            }
        else:
            line = to_line(observation)
        self._lines.write(json.dumps(line) + "\n")


class Session:
    """A recorded session, opened for replay.

    Raises:
        UserError: not a session, or made by something else.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            about = json.loads((folder / "session.json").read_text(encoding="utf-8"))
            self.settings = ShowSettings.model_validate(about["settings"])
            self.cast = str(about.get("cast", DANCE))
            self.digest: str | None = about.get("digest")
            self.lost = int(about.get("lost", 0))
        except OSError as error:
            raise UserError(f"{folder} is not a recorded session", "give a folder made by --record") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder}/session.json cannot be read", str(error).splitlines()[0]) from error

    @property
    def has_sound(self) -> bool:
        """Whether sound was heard."""
        return (self._folder / "audio-000.wav").exists()

    def observations(self) -> Iterator[Observation]:
        """Yield the observations in the order in which the core saw them.

        Raises:
            UserError: the record is damaged; what comes before the damage has been yielded.
        """
        audio: soundfile.SoundFile | None = None
        opened = -1
        try:
            with (self._folder / "observations.jsonl").open(encoding="utf-8") as lines:
                for line in lines:
                    entry = json.loads(line)
                    observation = from_line(entry)
                    if observation is not None:
                        yield observation
                        continue
                    if int(entry["audio"]) != opened:
                        if audio is not None:
                            audio.close()
                        opened = int(entry["audio"])
                        audio = soundfile.SoundFile(self._folder / f"audio-{opened:03d}.wav")
                    assert audio is not None
                    samples = audio.read(int(entry["frames"]), dtype="float32", always_2d=True)
                    if len(samples) < int(entry["frames"]):
                        raise ValueError("audio ends early")
                    yield AudioBlock(
                        int(entry["index"]), int(entry["time_ns"]), samples, audio.samplerate, int(entry["gap"])
                    )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise UserError(f"the session in {self._folder} is damaged", str(error)) from error
        finally:
            if audio is not None:
                audio.close()
