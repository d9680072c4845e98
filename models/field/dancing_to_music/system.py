"""The exported system as one that is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.artifacts import files_key
from models.evaluation.facts import SystemFacts
from models.field.dancing_to_music.artifact import TABLES_FILE, UnitManifest
from models.field.dancing_to_music.compose import UnitDancer, dance_through
from models.field.dancing_to_music.onnx_units import OnnxUnits
from models.field.dancing_to_music.tables import UnitTables
from models.rivals.song import COURSES, Dance, Song


class UnitSystem:
    """One training of the system. It dances by the code of the stage, chunk by chunk, and hears no more than there.

    Args:
        folder: exported from a run.

    Raises:
        UserError: the folder does not fit.
    """

    seeded, endless, courses = True, True, COURSES

    def __init__(self, folder: Path) -> None:
        self.manifest = manifest = UnitManifest.load(folder)
        self._dancer = UnitDancer(OnnxUnits(folder), UnitTables.load(folder / TABLES_FILE), manifest.plan)
        self.name, self.facts, self.key = manifest.name, _facts(manifest), files_key(manifest.files)
        self.sort = (manifest.plan, manifest.units)

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the whole dance."""
        look = self.manifest.lookahead_ticks
        ticks = dance_through(self._dancer, song.music, song.tempo_bpm, look, seed, song.style)
        return Dance.of_ticks(ticks, song.tick_s, song.beats_s)

    def joins_s(self, song: Song) -> np.ndarray:
        """Return the times [s] at which, in a dance to a song, one unit ends and another begins."""
        return song.beats_s[:: self.manifest.unit_beats][1:]


def _facts(manifest: UnitManifest) -> SystemFacts:
    beats = manifest.unit_beats
    return SystemFacts(
        parameters=manifest.parameters,
        lookahead=f"none: {beats} beats at a time, composed {manifest.units * beats} beats at once",
        training_seeds=(manifest.training_seed,),
    )
