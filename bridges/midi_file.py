"""Records a live show as a Standard MIDI File.

Of such a file nothing can be written before all of it is known, and an evening's takes seconds to make. So what is
heard is noted line by line while the show runs, which costs the same at any hour, and made into the file at its end.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from bridges.midi_notes import Hush
from engine.errors import Trouble, UserError
from engine.playing.score_file import TempoPoint, without_overlaps, write_midi
from engine.types import NS_PER_S, ClockEvent, ControlEvent, NoteEvent, OutputEvent

_log = logging.getLogger(__name__)

# What a crash of the whole process may cost.
_SAVE_EVERY_S = 10.0
# The timeline is bent by less than this [beats] between two points that are kept: a sixteenth is told by its ends.
_POINT_EVERY_BEATS = 0.25
_CLOSE_TIMEOUT_S = 10.0
# Lines of a `.partial` file: "note" begin [ns], duration [ns], channel, pitch, velocity; "tempo" time [ns], beat, tempo
# [bpm]; "cut" time [ns]: what sounds then ends.
_NOTE, _TEMPO, _CUT = "note", "tempo", "cut"


class MidiRecorder:
    """Keeps every note and the tempo, and writes them as one file when the show ends.

    While it runs, what is new is added every ten seconds to `<file>.partial`. A show that was killed leaves that; the
    next recording into the same file makes it into `<file>-recovered.mid` before it begins.

    Args:
        path: the file; an existing one is replaced at the end of a show in which anything was heard, its folder must
            exist.
        programs: General MIDI program (from 0) by voice.

    Threads: `open`, `send` and `close` on one; the partial file is written by one of its own.
    """

    def __init__(self, path: Path, programs: Mapping[str, int] | None = None) -> None:
        self.name = f"midi-file {path}"
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._programs = dict(programs or {})
        self._lock = threading.Lock()
        self._lines: list[str] = []
        """What is not saved yet."""
        self._saved_bytes = 0
        self._trouble: str | None = None
        """What is wrong and has not been reported yet."""
        self._last_beat: float | None = None
        self._shown_ns: int | None = None
        """What the audience has come to, to a frame: everything leaves `output.latency_ms` before they hear it."""
        self._hush = Hush()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, on_control: Callable[[ControlEvent], None]) -> None:
        """Begin a recording; nothing comes back.

        Raises:
            UserError: the file could not be written at the end.
        """
        self._lines, self._saved_bytes, self._trouble = [], 0, None
        self._last_beat, self._shown_ns, self._hush = None, None, Hush()
        try:
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._recover()
            self._partial.write_bytes(b"")
        except OSError as error:
            remedy = f"{error.strerror or error}; choose another place for the recording (midi.record)"
            raise UserError(f"cannot write {self._path}", remedy) from error
        self._closing.clear()
        self._thread = threading.Thread(target=self._save_now_and_then, name="midi-recorder", daemon=True)
        self._thread.start()

    def send(self, event: OutputEvent) -> None:
        """Take note of one event. Raises `Trouble` once when what is noted can no longer be saved."""
        if self._thread is None:
            return
        if isinstance(event, NoteEvent):
            if not self._hush.dark:
                self._note(_NOTE, event.time_ns, event.duration_ns, event.channel, event.pitch, event.velocity)
        elif isinstance(event, ClockEvent):
            self._shown_ns = event.time_ns
            if self._last_beat is None or abs(event.beat - self._last_beat) >= _POINT_EVERY_BEATS:
                self._last_beat = event.beat
                self._note(_TEMPO, event.time_ns, event.beat, event.tempo_bpm)
        elif isinstance(event, ControlEvent) and self._hush.hear(event):
            # What is silenced now has been heard up to then.
            self._note(_CUT, max(event.time_ns, self._shown_ns or event.time_ns))
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise Trouble(trouble)

    def close(self) -> None:
        """Write the file; idempotent.

        Raises:
            UserError: it cannot be written; what could be saved is kept for the next show's `open`.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._closing.set()
        thread.join(_CLOSE_TIMEOUT_S)
        if self._shown_ns is not None:
            self._note(_CUT, self._shown_ns)  # what still sounds ends with the show
        try:
            self._save()
            if self._saved_bytes:
                _make(self._partial, self._path, self._programs)
                _log.info("recorded %s", self._path)
            self._partial.unlink()
        except OSError as error:
            remedy = f"{error.strerror or error}; what could be saved is in {self._partial}"
            raise UserError(f"the recording {self._path} cannot be written", remedy) from error

    def _note(self, *words: str | float) -> None:
        line = " ".join(map(str, words)) + "\n"
        with self._lock:
            self._lines.append(line)

    def _save_now_and_then(self) -> None:
        failing = False
        while not self._closing.wait(_SAVE_EVERY_S):
            try:
                self._save()
                failing = False
            except OSError as error:
                if not failing:
                    reason = error.strerror or error
                    self._trouble = f"the recording cannot be saved ({reason}); it is kept in memory and tried again"
                failing = True

    def _save(self) -> None:
        """Add what is new to the partial file; what cannot be written is tried again by the next."""
        with self._lock:
            lines = self._lines[:]
        with self._partial.open("r+b") as file:
            file.seek(self._saved_bytes)  # over what a full disk has left of the last attempt
            file.write("".join(lines).encode("ascii"))
            file.flush()
            self._saved_bytes = file.tell()
        with self._lock:
            del self._lines[: len(lines)]

    def _recover(self) -> None:
        """Make what a show that was killed has left into a file beside ours."""
        if not self._partial.exists() or not self._partial.stat().st_size:
            return
        place, number = self._path.with_name(f"{self._path.stem}-recovered.mid"), 1
        while place.exists():
            number += 1
            place = self._path.with_name(f"{self._path.stem}-recovered-{number}.mid")
        _make(self._partial, place, self._programs)
        _log.warning("the last recording was not ended; what was saved of it is in %s", place)


def _make(partial: Path, path: Path, programs: Mapping[str, int]) -> None:
    """Make a partial file into a Standard MIDI File. Raises OSError; nothing half written is left."""
    notes, tempo = _read(partial.read_text(encoding="ascii", errors="replace"))
    fresh = path.with_name(path.name + ".new")
    try:
        write_midi(fresh, without_overlaps(notes), tempo, programs)
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def _read(text: str) -> tuple[list[NoteEvent], list[TempoPoint]]:
    """Return the notes, as they were heard to end, and the tempo of a partial file.

    What cannot be read is left out: the last line of a file whose writer was killed, or what a disk has lost.
    """
    notes: list[NoteEvent] = []
    tempo: list[TempoPoint] = []
    for line in text.split("\n")[:-1]:
        kind, *words = line.split(" ")
        try:
            if kind == _NOTE:
                begin_ns, duration_ns, channel, pitch, velocity = map(int, words)
                notes.append(NoteEvent(begin_ns, begin_ns, channel, pitch, velocity, duration_ns))
            elif kind == _TEMPO:
                time_ns, beat, bpm = words
                tempo.append(TempoPoint(int(time_ns), float(beat), float(bpm)))
            elif kind == _CUT:
                (time_ns,) = words
                _cut(notes, int(time_ns))
        except ValueError:
            _log.warning("a line of the recording cannot be read: %s", ascii(line[:80]))
    return notes, tempo


def _cut(notes: list[NoteEvent], time_ns: int) -> None:
    """End what sounds at a time; notes are in order of their beginnings."""
    for index in range(len(notes) - 1, -1, -1):
        note = notes[index]
        if note.time_ns < time_ns - 60 * NS_PER_S:
            return  # no note of ours is so long
        if note.time_ns + note.duration_ns > time_ns:
            notes[index] = replace(note, duration_ns=max(time_ns - note.time_ns, 1))
