"""The step grid: what the four voices of a band do in each sixteenth of a piece, as arrays to learn from."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import UserError
from engine.types import DRUMS, VOICES, Key
from engine.whole_files import whole_file

REST, HOLD = -1, -2
"""In a pitched voice: nothing sounds; what began goes on."""
STEPS_PER_BEAT = 4
CHORD_CLASSES = 96
"""8 * root pitch class + quality, see `models.symbolic.chords`."""
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class StepGrid:
    """A piece of S steps; a step is 1/4 beat. Arrays are checked and made read-only.

    Attributes:
        drums: (S, 9) float32 velocity 0 to 1 in the order of `engine.types.DRUMS`; 0: not struck.
        bass: (S,) int16: `REST`, `HOLD`, or the MIDI pitch that begins.
        chord: (S,) int16: `REST`, `HOLD`, or the chord class 8 * root + quality that begins.
        lead: (S,) int16, like `bass`.
        bass_velocity, chord_velocity, lead_velocity: (S,) float32, above 0 to 1 where something begins, else 0.
        tempo_bpm: (S,) float32, > 0.
        beats_per_bar: 1 to 16.
        bar_step: index of a step that begins a bar (any; may lie outside).
        key: None while unknown.
        known: (4,) bool, which of `engine.types.VOICES` the source really has; the others are all rest and mean
            nothing.
        name: of the piece.
        source: of the corpus: "pop909", "groove", "abc", "transcription", ...
        split: "train", "val" or "test".

    Raises:
        ValueError: a shape, a value or a hold after nothing.
    """

    drums: NDArray[np.float32]
    bass: NDArray[np.int16]
    chord: NDArray[np.int16]
    lead: NDArray[np.int16]
    bass_velocity: NDArray[np.float32]
    chord_velocity: NDArray[np.float32]
    lead_velocity: NDArray[np.float32]
    tempo_bpm: NDArray[np.float32]
    beats_per_bar: int
    bar_step: int
    key: Key | None
    known: NDArray[np.bool_]
    name: str
    source: str
    split: str

    def __post_init__(self) -> None:
        steps = len(self.drums)
        self._freeze("drums", np.float32, (steps, len(DRUMS)))
        self._freeze("tempo_bpm", np.float32, (steps,))
        self._freeze("known", np.bool_, (len(VOICES),))
        if not steps:
            raise ValueError("a grid has at least one step")
        if not (np.isfinite(self.drums).all() and self.drums.min() >= 0.0 and self.drums.max() <= 1.0):
            raise ValueError("drums: a velocity is outside 0 to 1")
        if not (np.isfinite(self.tempo_bpm).all() and self.tempo_bpm.min() > 0.0):
            raise ValueError("tempo_bpm: not positive")
        for voice, top in (("bass", 128), ("chord", CHORD_CLASSES), ("lead", 128)):
            self._freeze(voice, np.int16, (steps,))
            self._freeze(f"{voice}_velocity", np.float32, (steps,))
            self._check_voice(voice, top)
        for voice, known in zip(VOICES, self.known, strict=True):
            values = getattr(self, voice)
            if not known and bool((values > 0.0 if voice == "drums" else values != REST).any()):
                raise ValueError(f"{voice}: said to be unknown, but something sounds")
        if not 1 <= self.beats_per_bar <= 16:
            raise ValueError(f"beats_per_bar {self.beats_per_bar}")
        if self.split not in SPLITS:
            raise ValueError(f"split {self.split!r}")

    def _freeze(self, name: str, dtype: type, shape: tuple[int, ...]) -> None:
        array: NDArray[Any] = np.array(getattr(self, name), dtype=dtype)
        if array.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def _check_voice(self, voice: str, top: int) -> None:
        values: NDArray[np.int16] = getattr(self, voice)
        velocity: NDArray[np.float32] = getattr(self, f"{voice}_velocity")
        if values.min() < HOLD or values.max() >= top:
            raise ValueError(f"{voice}: a value is outside {HOLD} to {top - 1}")
        before = np.concatenate([[REST], values[:-1]])
        if bool(((values == HOLD) & (before == REST)).any()):
            raise ValueError(f"{voice}: a hold with nothing to hold")
        begins = values >= 0
        if not (np.isfinite(velocity).all() and bool(((velocity > 0.0) == begins).all()) and velocity.max() <= 1.0):
            raise ValueError(f"{voice}_velocity: must be above 0 to 1 where something begins, 0 elsewhere")

    @property
    def steps(self) -> int:
        """Return S."""
        return len(self.drums)

    @property
    def steps_per_bar(self) -> int:
        """Return the steps of a bar."""
        return self.beats_per_bar * STEPS_PER_BEAT

    def bar_positions(self) -> NDArray[np.int64]:
        """Return (S,) the step within the bar, 0 at its beginning."""
        return np.asarray((np.arange(self.steps) - self.bar_step) % self.steps_per_bar)

    def cut(self, start: int, stop: int) -> StepGrid:
        """Return steps [start, stop) as a grid of its own; what began before is left out.

        Raises:
            ValueError: nothing is left.
        """
        start, stop = max(0, start), min(self.steps, stop)
        parts = {name: getattr(self, name)[start:stop] for name in _ARRAYS}
        for voice in VOICES[1:]:
            parts[voice] = without_leading_hold(parts[voice])
        return dataclasses.replace(self, bar_step=(self.bar_step - start) % self.steps_per_bar, **parts)

    def save(self, path: Path) -> None:
        """Write an .npz without pickles; the name appears only when the file is whole."""
        arrays = {name: getattr(self, name) for name in (*_ARRAYS, "known")}
        with whole_file(path) as partial:
            np.savez_compressed(partial, facts=np.array(json.dumps(facts_of(self))), **arrays)

    @staticmethod
    def load(path: Path) -> StepGrid:
        """Read what `save` wrote. Raises UserError if it cannot."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in (*_ARRAYS, "known")}
                return from_facts(json.loads(str(archive["facts"])), arrays)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise UserError(f"cannot read the step grid {path.name} ({error})", "make it again") from error


_ARRAYS = ("drums", "bass", "chord", "lead", "bass_velocity", "chord_velocity", "lead_velocity", "tempo_bpm")


def facts_of(grid: StepGrid) -> dict[str, int | str | list[int] | None]:
    """Return what is not an array, for JSON."""
    key = None if grid.key is None else [grid.key.tonic, int(grid.key.minor)]
    return {
        "beats_per_bar": int(grid.beats_per_bar),
        "bar_step": int(grid.bar_step),
        "key": key,
        "name": grid.name,
        "source": grid.source,
        "split": grid.split,
    }


def from_facts(facts: dict[str, int | str | list[int] | None], arrays: dict[str, NDArray[np.generic]]) -> StepGrid:
    """Return a grid of what `facts_of` gave and its arrays. Raises ValueError, KeyError or TypeError."""
    fields = dict(facts)
    key = fields.pop("key")
    return StepGrid(**fields, **arrays, key=Key(int(key[0]), bool(key[1])) if isinstance(key, list) else None)  # type: ignore[arg-type]


def empty(
    steps: int,
    tempo_bpm: ArrayLike,
    beats_per_bar: int,
    bar_step: int,
    name: str,
    source: str,
    split: str,
    known: Sequence[bool] = (True, True, True, True),
    key: Key | None = None,
) -> StepGrid:
    """Return a grid in which nothing sounds; `dataclasses.replace` fills its voices in. Tempo: one, or one a step."""
    rest, silent = np.full(steps, REST, dtype=np.int16), np.zeros(steps, dtype=np.float32)
    tempo = np.broadcast_to(np.asarray(tempo_bpm, dtype=np.float32), (steps,))
    drums = np.zeros((steps, len(DRUMS)), dtype=np.float32)
    mask = np.array(known, dtype=bool)
    return StepGrid(
        drums, rest, rest, rest, silent, silent, silent, tempo, beats_per_bar, bar_step, key, mask, name, source, split
    )


def join(grids: Sequence[StepGrid], name: str) -> StepGrid:
    """Return grids of one metre one after the other; each is taken to begin where its predecessor's bars say.

    Raises:
        ValueError: metres, bar phases or known voices differ.
    """
    first = grids[0]
    at = 0
    for grid in grids:
        if grid.beats_per_bar != first.beats_per_bar or (grid.bar_step + at - first.bar_step) % first.steps_per_bar:
            raise ValueError(f"{grid.name}: its bars do not continue those before it")
        if not np.array_equal(grid.known, first.known):
            raise ValueError(f"{grid.name}: other voices are known")
        at += grid.steps
    parts: dict[str, Any] = {array: np.concatenate([getattr(grid, array) for grid in grids]) for array in _ARRAYS}
    return dataclasses.replace(first, name=name, **parts)


def without_leading_hold(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return a voice (S,) with holds of what began before its first step turned into rests."""
    others = np.flatnonzero(values != HOLD)
    lead_in = int(others[0]) if len(others) else len(values)
    out = values.copy()
    out[:lead_in] = REST
    return out


def voice_from_notes(
    steps: int, starts: ArrayLike, ends: ArrayLike, values: ArrayLike, velocities: ArrayLike
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Write notes into a voice of one note at a time: a note ends where the next begins.

    Of notes that begin on one step the last given wins. Notes outside [0, steps) are left out.

    Args:
        steps: S.
        starts, ends: (N,) steps; an end at or before its start counts as one step.
        values: (N,) pitch or chord class. velocities: (N,) above 0 to 1.

    Returns:
        The voice (S,) and its velocities (S,).
    """
    voice = np.full(steps, REST, dtype=np.int16)
    loud = np.zeros(steps, dtype=np.float32)
    begin, end = np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)
    value, velocity = np.asarray(values), np.asarray(velocities)
    order = np.argsort(begin, kind="stable")
    for i in order[(begin[order] >= 0) & (begin[order] < steps)]:
        voice[begin[i] :] = REST  # whatever sounded ends here
        voice[begin[i] + 1 : max(int(end[i]), int(begin[i]) + 1)] = HOLD
        voice[begin[i]], loud[begin[i]] = value[i], velocity[i]
    return voice, loud


def notes_of(voice: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return the notes (N, 3) of a voice (S,): first step, step after the last, value."""
    begins = np.flatnonzero(voice >= 0)
    stops = np.append(np.flatnonzero(voice != HOLD), len(voice))
    ends = stops[np.searchsorted(stops, begins, side="right")]
    return np.stack([begins, ends, voice[begins].astype(np.int64)], axis=1)
