"""The exported system as one that is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.errors import UserError
from models.evaluation.facts import SystemFacts
from models.field.dancing_to_music.artifact import TABLES_FILE, UnitManifest
from models.field.dancing_to_music.compose import UnitDancer, dance_through
from models.field.dancing_to_music.generator import UnitGenerator
from models.field.dancing_to_music.onnx_units import OnnxUnits
from models.field.dancing_to_music.tables import UnitTables
from models.rivals.gmd_dancer import ShownDancer
from models.rivals.song import COURSES, Dance, Song


class UnitSystem:
    """One system, trained once or several times: dance seed k is danced by training k mod n.

    It dances by the code of the stage, chunk by chunk, and hears no more than there.

    Args:
        folders: exported from runs of one system, which differ in their training seed.

    Raises:
        UserError: a folder does not fit, or the folders hold different systems.
    """

    seeded, endless, courses = True, True, COURSES

    def __init__(self, folders: Sequence[Path]) -> None:
        self.manifests = [UnitManifest.load(folder) for folder in folders]
        if len({(m.name, m.plan, m.units) for m in self.manifests}) != 1:
            raise UserError(f"several systems of the name {self.manifests[0].name}", "export them under own names")
        self._dancers = [
            UnitDancer(OnnxUnits(folder), UnitTables.load(folder / TABLES_FILE), manifest.plan)
            for folder, manifest in zip(folders, self.manifests, strict=True)
        ]
        self.name = self.manifests[0].name
        self.facts = _facts(self.manifests)
        self.key = "-".join(digest[:8] for manifest in self.manifests for digest in manifest.files.values())

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the whole dance."""
        chosen = seed % len(self.manifests)
        look = self.manifests[chosen].lookahead_ticks
        ticks = dance_through(self._dancers[chosen], song.music, song.tempo_bpm, look, seed, song.style)
        return Dance.of_ticks(ticks, song.tick_s, song.beats_s)

    def joins_s(self, song: Song) -> np.ndarray:
        """Return the times [s] at which, in a dance to a song, one unit ends and another begins."""
        return song.beats_s[:: self.manifests[0].unit_beats][1:]


class ShownUnits:
    """The system as the audience would see it: dance seed k is danced by training k mod n, by the engine's dancer.

    Args:
        folders: as for `UnitSystem`.
    """

    seeded, endless, courses = True, True, COURSES

    def __init__(self, folders: Sequence[Path]) -> None:
        raw = UnitSystem(folders)
        self.name, self.key, self.facts = f"{raw.name} as shown", f"shown-{raw.key}", raw.facts
        self._dancers = [ShownDancer(UnitGenerator(folder), self.name, self.key, self.facts) for folder in folders]

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the whole dance."""
        return self._dancers[seed % len(self._dancers)].dance(song, seed)


def _facts(manifests: Sequence[UnitManifest]) -> SystemFacts:
    one = manifests[0]
    return SystemFacts(
        parameters=one.parameters,
        lookahead=f"none: {one.unit_beats} beats at a time, composed {one.units * one.unit_beats} beats at once",
        training_seeds=tuple(manifest.training_seed for manifest in manifests),
    )
