"""The exported system on disk: its manifest, verified when it is loaded, before the show."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from engine.errors import UserError
from models.artifacts import (
    RETRAIN,
    require_features,
    require_skeleton,
    require_ticks,
    save_manifest,
    verified_content,
)
from models.field.dancing_to_music.compose import UnitPlan

UNITS_KIND = "units"
COMPOSE_FILE, UNIT_FILE, TABLES_FILE = "compose.onnx", "unit.onnx", "tables.safetensors"


@dataclass(frozen=True)
class UnitManifest:
    """Facts about an exported system that dances in units.

    Attributes:
        kind: `UNITS_KIND`.
        name: in tables.
        model: name of the system in `models.field.registry`.
        feature_spec: digest of the features it was trained on.
        feature_count: F.
        skeleton: digest of the skeleton it was trained on.
        ticks_per_beat: of its musical time.
        lookahead_ticks: how long before its first tick a chunk is asked for.
        unit_beats, unit_poses: of music that a unit lasts, and in it.
        units: composed at once; a change in the music is danced after so many.
        heard_ticks: of music that they are composed to.
        movement_size, initial_size, noise_size: of z_mov, of z_ini, and of the noise that a sequence takes.
        styles: it has start poses of.
        tempo_range_bpm: of the stage.
        parameters: weights in the exported graphs.
        parity: largest difference between the torch model and the exported one, measured at export.
        training_steps, training_hours, training_seed: of the run; the steps are those of the composition.
        training_set: one line on the data.
        protocol: "A": all training dances; "B": movement that no held-out clip repeats.
        files: SHA-256 by file name.
    """

    kind: str
    name: str
    model: str
    feature_spec: str
    feature_count: int
    skeleton: str
    ticks_per_beat: int
    lookahead_ticks: int
    unit_beats: int
    unit_poses: int
    units: int
    heard_ticks: int
    movement_size: int
    initial_size: int
    noise_size: int
    styles: tuple[str, ...]
    tempo_range_bpm: tuple[float, float]
    parameters: int
    parity: float
    training_steps: int
    training_hours: float
    training_seed: int
    training_set: str
    protocol: str
    files: dict[str, str]

    @property
    def plan(self) -> UnitPlan:
        """Return the sizes that a dancer needs."""
        return UnitPlan(self.unit_beats, self.heard_ticks, self.noise_size, self.initial_size)

    def save(self, folder: Path) -> None:
        """Write the manifest."""
        save_manifest(self, folder)

    @staticmethod
    def load(folder: Path) -> UnitManifest:
        """Read and verify a model folder.

        Raises:
            UserError: something is missing, changed, or made for another skeleton, other ticks or another kind.
        """
        content = verified_content(folder, {f.name for f in fields(UnitManifest)})
        content |= {name: tuple(content[name]) for name in ("styles", "tempo_range_bpm")}
        manifest = UnitManifest(**content)
        if manifest.kind != UNITS_KIND:
            raise UserError(f"model {folder}: of kind '{manifest.kind}', not '{UNITS_KIND}'", RETRAIN)
        require_skeleton(folder, manifest.skeleton)
        require_ticks(folder, manifest.ticks_per_beat)
        return manifest

    def require_features(self, digest: str) -> None:
        """Refuse another feature extractor. Raises UserError."""
        require_features(self.name, self.feature_spec, digest)
