"""Trained models on disk: what a folder of weights must hold, and the refusal of one that does not fit.

A folder has a `manifest.json` that names its files with their SHA-256 and says what the model was trained on (feature
spec, skeleton, ticks). All of it is checked when the model is loaded, before the show, never on stage.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from engine.errors import UserError
from engine.skeleton import JOINT_NAMES, PARENTS, REST_OFFSETS_M
from engine.types import TICKS_PER_BEAT

MANIFEST = "manifest.json"
GMD_FOLDER = Path(__file__).parent / "weights" / "gmd"
"""The music -> dance model that comes with the package."""


def skeleton_digest() -> str:
    """Return a short digest of the skeleton's names, parents and bones (to a micrometre)."""
    offsets = np.round(REST_OFFSETS_M * 1e6).astype("<i8").tobytes()
    content = ",".join(JOINT_NAMES).encode() + np.asarray(PARENTS, "<i8").tobytes() + offsets
    return hashlib.sha256(content).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class GmdManifest:
    """Facts about an exported music -> dance model.

    Attributes:
        name: of the model.
        feature_spec: digest of the features it was trained on.
        feature_count: F.
        skeleton: digest of the skeleton it was trained on.
        ticks_per_beat: of its musical time.
        chunk_ticks: C.
        lookahead_ticks: how long before its first tick a chunk is asked for.
        styles: names it knows, in order.
        tempo_range_bpm: that it was trained on.
        latent_size, condition_size: L and K.
        attentions, heads, window, head_size: shape of the key/value rings.
        rotary_base: of the rotary embedding.
        history_noise: level of history noise it is told on the stage.
        temperature: deviation of the flow's noise on the stage.
        parameters: number of weights.
        parity: largest difference between the torch model and the exported one, measured at export.
        training_steps, training_hours: of the run.
        training_set: one line on the data.
        files: SHA-256 by file name.
    """

    name: str
    feature_spec: str
    feature_count: int
    skeleton: str
    ticks_per_beat: int
    chunk_ticks: int
    lookahead_ticks: int
    styles: tuple[str, ...]
    tempo_range_bpm: tuple[float, float]
    latent_size: int
    condition_size: int
    attentions: int
    heads: int
    window: int
    head_size: int
    rotary_base: float
    history_noise: float
    temperature: float
    parameters: int
    parity: float
    training_steps: int
    training_hours: float
    training_set: str
    files: dict[str, str]

    def save(self, folder: Path) -> None:
        """Write the manifest."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def load(folder: Path) -> GmdManifest:
        """Read and verify a model folder.

        Raises:
            UserError: something is missing, changed, or made for other features, another skeleton or other ticks.
        """
        retrain = "use the weights that came with this version, or train and export again"
        try:
            content = json.loads((folder / MANIFEST).read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"model {folder}: {error}", "give a folder made by 'pasdedeux export'") from error
        names = {f.name for f in fields(GmdManifest)}
        if not isinstance(content, dict) or set(content) != names:
            raise UserError(f"model {folder}: its manifest is of another version", retrain)
        content |= {name: tuple(content[name]) for name in ("styles", "tempo_range_bpm")}
        manifest = GmdManifest(**content)
        for file, digest in manifest.files.items():
            path = folder / file
            if not path.is_file():
                raise UserError(f"model {folder}: {file} is missing", "copy the whole folder again")
            if file_digest(path) != digest:
                raise UserError(f"model {folder}: {file} is damaged or was changed", "copy the whole folder again")
        if manifest.skeleton != skeleton_digest():
            raise UserError(f"model {folder}: trained on another skeleton ({manifest.skeleton})", retrain)
        if manifest.ticks_per_beat != TICKS_PER_BEAT:
            raise UserError(f"model {folder}: trained on {manifest.ticks_per_beat} ticks a beat", retrain)
        return manifest

    def require_features(self, digest: str) -> None:
        """Refuse another feature extractor. Raises UserError."""
        if digest != self.feature_spec:
            raise UserError(
                f"model '{self.name}': trained on music features {self.feature_spec}, this engine computes {digest}",
                "use the weights that came with this version, or train and export again",
            )
