"""Records a live show as a Standard MIDI File."""

from __future__ import annotations

import contextlib
import logging
import threading
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path

from bridges.midi_notes import Hush
from engine.errors import UserError
from engine.playing.score_file import TempoPoint, without_overlaps, write_midi
from engine.types import NS_PER_S, ClockEvent, ControlEvent, NoteEvent, OutputEvent

_log = logging.getLogger(__name__)

# What a crash of the whole process may cost.
_SAVE_EVERY_S = 10.0
# The timeline is bent by less than this [beats] between two points that are kept: a sixteenth is told by its ends.
_POINT_EVERY_BEATS = 0.25
_CLOSE_TIMEOUT_S = 10.0


class MidiRecorder:
    """Keeps every note and the tempo, and writes them as one file when the show ends.

    While it runs, what has been played so far is written every ten seconds to `<file>.partial`, so that a crash leaves
    most of it.

    Args:
        path: the file; an existing one is replaced at the end of the show, its folder must exist.
        programs: General MIDI program (from 0) by voice.

    Threads: `open`, `send` and `close` on one; the partial file is written by one of its own.
    """

    def __init__(self, path: Path, programs: Mapping[str, int] | None = None) -> None:
        self.name = f"midi-file {path}"
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._programs = dict(programs or {})
        self._lock = threading.Lock()
        # Five numbers a note and two a point: an evening is a few megabytes.
        self._notes = array("q")
        self._times = array("q")
        self._beats = array("d")
        self._tempos = array("d")
        self._last: TempoPoint | None = None
        self._shown_ns: int | None = None
        self._hush = Hush()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, on_control: Callable[[ControlEvent], None]) -> None:
        """Begin a recording; nothing comes back.

        Raises:
            UserError: the file could not be written at the end.
        """
        for column in (self._notes, self._times, self._beats, self._tempos):
            del column[:]
        self._last, self._shown_ns, self._hush = None, None, Hush()
        try:
            self._save(self._partial)
        except OSError as error:
            remedy = f"{error.strerror or error}; choose another place for the recording (midi.record)"
            raise UserError(f"cannot write {self._path}", remedy) from error
        self._closing.clear()
        self._thread = threading.Thread(target=self._save_now_and_then, name="midi-recorder", daemon=True)
        self._thread.start()

    def send(self, event: OutputEvent) -> None:
        """Take note of one event."""
        if self._thread is None:
            return
        if isinstance(event, NoteEvent):
            if not self._hush.dark:
                row = (event.time_ns, event.duration_ns, event.channel, event.pitch, event.velocity)
                with self._lock:
                    self._notes.extend(row)
        elif isinstance(event, ClockEvent):
            self._shown_ns = event.time_ns
            self._take_point(TempoPoint(event.time_ns, event.beat, event.tempo_bpm))
        elif isinstance(event, ControlEvent) and self._hush.hear(event):
            self._cut(event.time_ns)

    def close(self) -> None:
        """Write the file; idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._closing.set()
        thread.join(_CLOSE_TIMEOUT_S)
        if self._shown_ns is not None:
            self._cut(self._shown_ns)  # what still sounds ends with the show
        try:
            self._save(self._partial)
            self._partial.replace(self._path)
            _log.info("recorded %s", self._path)
        except OSError as error:
            _log.error("the recording %s cannot be written: %s", self._path, error)

    def _take_point(self, point: TempoPoint) -> None:
        last = self._last
        if last is not None and abs(point.beat - last.beat) < _POINT_EVERY_BEATS:
            return
        self._last = point
        with self._lock:
            self._times.append(point.time_ns)
            self._beats.append(point.beat)
            self._tempos.append(point.tempo_bpm)

    def _cut(self, time_ns: int) -> None:
        """End what sounds, as it was heard to end."""
        with self._lock:
            for row in range(len(self._notes) - 5, -5, -5):
                begin_ns, duration_ns = self._notes[row], self._notes[row + 1]
                if begin_ns < time_ns - 60 * NS_PER_S:
                    return  # no note of ours is so long
                if begin_ns + duration_ns > time_ns:
                    self._notes[row + 1] = max(time_ns - begin_ns, 1)

    def _save_now_and_then(self) -> None:
        while not self._closing.wait(_SAVE_EVERY_S):
            try:
                self._save(self._partial)
            except OSError as error:
                _log.warning("the recording cannot be saved now: %s", error)

    def _save(self, path: Path) -> None:
        with self._lock:
            rows, times = self._notes[:], self._times[:]
            beats, tempos = self._beats[:], self._tempos[:]
        notes = [
            NoteEvent(rows[i], rows[i], rows[i + 2], rows[i + 3], rows[i + 4], rows[i + 1])
            for i in range(0, len(rows), 5)
        ]
        points = [TempoPoint(*row) for row in zip(times, beats, tempos, strict=True)]
        fresh = path.with_name(path.name + ".new")
        try:
            write_midi(fresh, without_overlaps(notes), points, self._programs)
            fresh.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
