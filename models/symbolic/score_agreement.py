"""How far two step grids of one piece agree, voice by voice: the measures of a transcription."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.types import DRUMS
from models.symbolic.step_grid import HOLD, StepGrid


@dataclass(slots=True)
class Counts:
    """Hits, what was said and what was there; `f1`, `precision` and `recall` of them."""

    hits: int = 0
    said: int = 0
    there: int = 0

    def add(self, said: NDArray[np.bool_], there: NDArray[np.bool_]) -> None:
        """Count positions."""
        self.hits += int((said & there).sum())
        self.said += int(said.sum())
        self.there += int(there.sum())

    @property
    def precision(self) -> float:
        """Return hits over what was said; NaN if nothing was."""
        return self.hits / self.said if self.said else float("nan")

    @property
    def recall(self) -> float:
        """Return hits over what was there; NaN if nothing was."""
        return self.hits / self.there if self.there else float("nan")

    @property
    def f1(self) -> float:
        """Return 2 hits / (said + there); NaN if there was nothing on either side."""
        return 2.0 * self.hits / (self.said + self.there) if self.said + self.there else float("nan")


@dataclass(slots=True)
class Share:
    """How often something was right: `right` of `asked`."""

    right: int = 0
    asked: int = 0

    def add(self, right: NDArray[np.bool_]) -> None:
        """Count questions and right answers."""
        self.right += int(right.sum())
        self.asked += len(right)

    @property
    def value(self) -> float:
        """Return the share; NaN if nothing was asked."""
        return self.right / self.asked if self.asked else float("nan")


@dataclass(slots=True)
class Agreement:
    """Agreement over any number of pieces; all on the exact step.

    Attributes:
        drums: of each of `DRUMS`. bass_onsets, lead_onsets, chord_onsets: steps at which one begins.
        bass_notes, lead_notes: step and pitch both right.
        bass_pitch, lead_pitch: over steps in which both sound, same pitch; `*_class`: same pitch class.
        chord_root, chord_class: over steps in which the truth has a chord.
        bar_phase: pieces whose bars begin on the right beat.
        key: pieces whose key is right.
    """

    drums: dict[str, Counts] = field(default_factory=lambda: {name: Counts() for name in DRUMS})
    bass_onsets: Counts = field(default_factory=Counts)
    lead_onsets: Counts = field(default_factory=Counts)
    chord_onsets: Counts = field(default_factory=Counts)
    bass_notes: Counts = field(default_factory=Counts)
    lead_notes: Counts = field(default_factory=Counts)
    bass_pitch: Share = field(default_factory=Share)
    bass_class: Share = field(default_factory=Share)
    lead_pitch: Share = field(default_factory=Share)
    lead_class: Share = field(default_factory=Share)
    chord_root: Share = field(default_factory=Share)
    chord_class: Share = field(default_factory=Share)
    bar_phase: Share = field(default_factory=Share)
    key: Share = field(default_factory=Share)

    def add(self, said: StepGrid, truth: StepGrid) -> None:
        """Count one piece; the grids must be equally long."""
        for drum, name in enumerate(DRUMS):
            self.drums[name].add(said.drums[:, drum] > 0.0, truth.drums[:, drum] > 0.0)
        for voice, onsets in (("bass", self.bass_onsets), ("lead", self.lead_onsets), ("chord", self.chord_onsets)):
            onsets.add(getattr(said, voice) >= 0, getattr(truth, voice) >= 0)
        for voice, notes, same_pitch, same_class in (
            ("bass", self.bass_notes, self.bass_pitch, self.bass_class),
            ("lead", self.lead_notes, self.lead_pitch, self.lead_class),
        ):
            ours, theirs = getattr(said, voice), getattr(truth, voice)
            right = (ours == theirs) & (ours >= 0)
            notes.hits += int(right.sum())
            notes.said += int((ours >= 0).sum())
            notes.there += int((theirs >= 0).sum())
            a, b = sounding(ours), sounding(theirs)
            both = (a >= 0) & (b >= 0)
            same_pitch.add(a[both] == b[both])
            same_class.add(a[both] % 12 == b[both] % 12)
        a, b = sounding(said.chord), sounding(truth.chord)
        asked = b >= 0
        self.chord_root.add((a[asked] >= 0) & (a[asked] // 8 == b[asked] // 8))
        self.chord_class.add(a[asked] == b[asked])
        self.bar_phase.add(np.array([(said.bar_step - truth.bar_step) % truth.steps_per_bar == 0]))
        if truth.key is not None:
            self.key.add(np.array([said.key == truth.key]))


def sounding(voice: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return (S,) the pitch or chord that sounds in each step, -1 where none does."""
    begun = np.maximum.accumulate(np.where(voice >= 0, np.arange(len(voice)), 0))
    return np.where(voice == HOLD, voice[begun], np.maximum(voice, -1)).astype(np.int64)


def agreement(pairs: Iterable[tuple[StepGrid, StepGrid]]) -> Agreement:
    """Return the agreement over pairs of (said, truth)."""
    total = Agreement()
    for said, truth in pairs:
        total.add(said, truth)
    return total
