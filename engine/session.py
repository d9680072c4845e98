"""Recorded sessions: every observation as the core saw it, so that a show can be replayed to the same bytes.

A session is a folder:

- `session.json`: engine version, the settings, who was on the stage, and at the end the digest of all poses and notes;
- `observations.jsonl`: one line an observation, in order (camera frames as landmarks, no pictures);
- `audio-NNN.wav`: 32-bit float samples; a new file whenever rate or channel count change.

Once a second all of it is on the disk and readable, so that a show that is cut off keeps what was recorded until then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from engine import __version__
from engine.errors import UserError
from engine.session_lines import from_line, to_line
from engine.settings import ShowSettings
from engine.types import NS_PER_S, AudioBlock, NoteEvent, Observation, OutputEvent, PoseFrame

_log = logging.getLogger(__name__)
_QUEUE_LIMIT = 4096
# At most so much of a show is lost with the power, or with the process.
_SAVE_NS = NS_PER_S
# A disk that works writes what is left of a show in less. One that hangs must not keep the stage from closing.
_END_S = 4.0
DANCE = "dance"
"""The cast of a show in which music drives the dancer; the others are those of `engine.stage.Cast`."""


class OutputDigest:
    """A running SHA-256 over everything in the PoseFrames and NoteEvents of a session.

    Without the crowd, which in a live show is computed elsewhere and does not come out of the core.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.frames = 0

    def add(self, events: Iterable[OutputEvent]) -> None:
        """Take the PoseFrames and NoteEvents among some events."""
        for event in events:
            if isinstance(event, NoteEvent):
                numbers = (event.channel, event.pitch, event.velocity, event.duration_ns)
                self._hash.update(np.array([event.time_ns, event.source_ns, *numbers], dtype="<i8").tobytes())
            if isinstance(event, PoseFrame) and not event.performer.isdecimal():
                self._hash.update(np.array([event.time_ns, event.source_ns], dtype="<i8").tobytes())
                for array in (event.rotations, event.translation_m, event.contacts):
                    self._hash.update(array.astype("<f4").tobytes())
                self.frames += 1

    def hexdigest(self) -> str:
        """Return the digest so far."""
        return self._hash.hexdigest()


class SessionRecorder:
    """Writes observations on a thread of its own; the core never waits for the disk.

    Threads: `record` by the core thread; the folder belongs to the writer thread from then on, for a disk may hang.

    Args:
        folder: where it goes; made if it is not there.
        settings: of the show.
        cast: who is on the stage.

    Attributes:
        failure: why something is not on the disk; None: all is.

    Raises:
        UserError: it cannot be written there, or there already is a session.
    """

    def __init__(self, folder: Path, settings: ShowSettings, cast: str = DANCE) -> None:
        if (folder / "session.json").exists():
            raise UserError(f"{folder} already holds a session", "give another folder, nothing is overwritten")
        self._folder = folder
        self._made_folder = not folder.exists()
        self.failure: str | None = None
        self._waiting_lines: list[str] = []
        self._saved_ns: int | None = None
        self._about: dict[str, Any] = {
            "version": __version__,
            "cast": cast,
            "settings": settings.model_dump(mode="json"),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write_about()
            self._lines = (folder / "observations.jsonl").open("w", encoding="utf-8")
        except OSError as error:
            self._take_away("session.json")
            raise UserError(f"cannot record into {folder}", error.strerror or str(error)) from error
        self._digest = OutputDigest()
        # Its length is limited where observations come in; that there is no more can always be said.
        self._queue: queue.SimpleQueue[Observation | None] = queue.SimpleQueue()
        self._audio: soundfile.SoundFile | None = None
        self._files = 0
        self._given = self._saved = 0
        self._kept = True
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def record(self, observation: Observation, events: Iterable[OutputEvent]) -> None:
        """Record one observation and what the core made of it."""
        self._digest.add(events)
        self._given += 1
        if self._queue.qsize() < _QUEUE_LIMIT:
            self._queue.put(observation)

    @property
    def lost(self) -> int:
        """Observations that are not on the disk, or not yet."""
        return self._given - self._saved

    def close(self) -> None:
        """Write what is left and the digest, within seconds or not at all; `failure` says what came of it."""
        self._end()
        if self.failure is None and (self.lost or self._thread.is_alive()):
            missing = f"{self.lost} of {self._given} observations are not on it"
            self.failure = f"the disk is too slow, or hangs; {missing}"

    def discard(self) -> None:
        """End the record of a show that did not take place, and leave nothing of it behind."""
        self._kept = False
        self._end()

    def _take_away(self, *names: str) -> None:
        with suppress(OSError):
            for name in names:
                (self._folder / name).unlink(missing_ok=True)
            if self._made_folder:
                self._folder.rmdir()

    def _end(self) -> None:
        self._queue.put(None)
        self._thread.join(timeout=_END_S)

    def _write_about(self) -> None:
        # In one piece: cut off in the middle it would take the settings, and all the record, with it.
        new = self._folder / "session.json.new"
        try:
            new.write_text(json.dumps(self._about, indent=1) + "\n", encoding="utf-8")
            _onto_disk(new)
            new.replace(self._folder / "session.json")
        except OSError:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise

    def _fail(self, error: Exception) -> None:
        _log.error("recording stopped: %s", error)
        # libsndfile tells no more than "System error."
        reason = "the disk takes no more sound" if isinstance(error, soundfile.LibsndfileError) else str(error)
        self.failure = self.failure or getattr(error, "strerror", None) or reason

    def _run(self) -> None:
        stopped = False
        while (observation := self._queue.get()) is not None:
            stopped = stopped or not self._attempt(partial(self._take, observation))
        stopped = stopped or not self._attempt(self._save)
        # What they could not write has been told.
        with suppress(OSError):
            self._lines.close()
        with suppress(OSError, RuntimeError):
            if self._audio is not None:
                self._audio.close()
        if self._kept:
            self._about["lost"] = self.lost
            if not stopped:
                # Without a digest it is a show that was cut off, which is read as far as it is whole.
                self._about |= {"poses": self._digest.frames, "digest": self._digest.hexdigest()}
            self._attempt(self._write_about)
        else:
            self._take_away("session.json", "observations.jsonl", *map(_audio_name, range(self._files)))

    def _attempt(self, act: Callable[[], None]) -> bool:
        """Do something with the disk; return whether that has gone well."""
        try:
            act()
        except Exception as error:  # whatever it is, the show goes on
            self._fail(error)
            return False
        return True

    def _take(self, observation: Observation) -> None:
        """Write an observation, and once a second save."""
        self._write(observation)
        self._saved_ns = observation.time_ns if self._saved_ns is None else self._saved_ns
        if observation.time_ns - self._saved_ns >= _SAVE_NS:
            self._save()
            self._saved_ns = observation.time_ns

    def _write(self, observation: Observation) -> None:
        if isinstance(observation, AudioBlock):
            rate, channels = observation.sample_rate_hz, observation.samples.shape[1]
            if self._audio is None or (self._audio.samplerate, self._audio.channels) != (rate, channels):
                self._finish_audio()
                name = self._folder / _audio_name(self._files)
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
        self._waiting_lines.append(json.dumps(line) + "\n")

    def _save(self) -> None:
        """Bring all that waits onto the disk: sound before lines, so that no line is there without its sound."""
        if self._audio is not None:
            # A header says how much follows, and is written when the file is closed.
            self._finish_audio()
            self._audio = soundfile.SoundFile(self._folder / _audio_name(self._files - 1), "r+")
            self._audio.seek(0, soundfile.SEEK_END)
        self._lines.writelines(self._waiting_lines)
        self._lines.flush()
        os.fsync(self._lines.fileno())
        self._saved += len(self._waiting_lines)
        self._waiting_lines.clear()

    def _finish_audio(self) -> None:
        if self._audio is not None:
            self._audio.close()
            _onto_disk(self._folder / _audio_name(self._files - 1))


def _audio_name(number: int) -> str:
    return f"audio-{number:03d}.wav"


def _onto_disk(path: Path) -> None:
    """Wait until what was written to a file would survive the loss of power."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


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
        return (self._folder / _audio_name(0)).exists()

    @property
    def cut_off(self) -> bool:
        """Whether the show ended before its record was closed: the process was killed, or the power was lost."""
        return self.digest is None

    @property
    def length_s(self) -> float:
        """How much of the show is on record [s]."""
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
            with (self._folder / "observations.jsonl").open(encoding="utf-8") as file:
                lines = (line for line in file if line.endswith("\n"))
                ends = [int(json.loads(line)["time_ns"]) for line in (*islice(lines, 1), *deque(lines, maxlen=1))]
            return (ends[-1] - ends[0]) / NS_PER_S if ends else 0.0
        return 0.0

    def observations(self) -> Iterator[Observation]:
        """Yield the observations in the order in which the core saw them; of a show that was cut off, what is whole.

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
                    if audio is None or int(entry["audio"]) != opened:
                        if audio is not None:
                            audio.close()
                        opened = int(entry["audio"])
                        audio = soundfile.SoundFile(self._folder / _audio_name(opened))
                    samples = audio.read(int(entry["frames"]), dtype="float32", always_2d=True)
                    if len(samples) < int(entry["frames"]):
                        raise ValueError("audio ends early")
                    yield AudioBlock(
                        int(entry["index"]), int(entry["time_ns"]), samples, audio.samplerate, int(entry["gap"])
                    )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
            if self.cut_off:
                return
            raise UserError(f"the session in {self._folder} is damaged", str(error)) from error
        finally:
            if audio is not None:
                audio.close()
