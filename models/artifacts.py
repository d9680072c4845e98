"""Trained models on disk: what a folder of weights must hold, and the refusal of one that does not fit.

A folder has a `manifest.json` that names its files with their SHA-256 and says what the model was trained on (feature
spec, skeleton, ticks). All of it is checked when the model is loaded, before the show, never on stage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from engine.body.skeleton import JOINT_NAMES, PARENTS, REST_OFFSETS_M
from engine.errors import UserError
from engine.types import TICKS_PER_BEAT
from models.backends.step_memory import StepShapes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MANIFEST = "manifest.json"
GMD_FOLDER = Path(__file__).parent / "weights" / "gmd"
"""The music -> dance model that comes with the package."""
GDM_FOLDER = Path(__file__).parent / "weights" / "gdm"
"""The dance -> music model that comes with the package."""
RETRAIN = "use the weights that came with this version, or train and export again"


def skeleton_digest() -> str:
    """Return a short digest of the skeleton's names, parents and bones (to a micrometre)."""
    offsets = np.round(REST_OFFSETS_M * 1e6).astype("<i8").tobytes()
    content = ",".join(JOINT_NAMES).encode() + np.asarray(PARENTS, "<i8").tobytes() + offsets
    return hashlib.sha256(content).hexdigest()[:16]


def kind_of(folder: Path) -> str:
    """Return what a folder of weights holds, "gmd" if it does not say. Raises UserError if it is none."""
    return str(_content(folder).get("kind", "gmd"))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_key(files: Mapping[str, str]) -> str:
    """Return a short name of a folder's files, given their SHA-256 by name: what a model's output depends on."""
    return "-".join(digest[:8] for digest in files.values())


def save_manifest(manifest: DataclassInstance, folder: Path) -> None:
    """Write a manifest, of any kind, into its folder."""
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")


def write_tables(tables: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write tables as safetensors that whoever may read the other files of the folder may read.

    Its own way of writing gives them to their owner alone, and the stage may run as somebody else.
    """
    path.write_bytes(save(dict(tables)))


def require_skeleton(folder: Path, trained: str) -> None:
    """Refuse a model of another skeleton, by its digest. Raises UserError."""
    if trained != skeleton_digest():
        raise UserError(f"model {folder}: trained on another skeleton ({trained})", RETRAIN)


def require_ticks(folder: Path, trained: int) -> None:
    """Refuse a model of other ticks a beat. Raises UserError."""
    if trained != TICKS_PER_BEAT:
        raise UserError(f"model {folder}: trained on {trained} ticks a beat", RETRAIN)


def require_features(name: str, trained: str, present: str) -> None:
    """Refuse a model of other music features, by their digests. Raises UserError."""
    if trained != present:
        raise UserError(f"model '{name}': trained on music features {trained}, this engine computes {present}", RETRAIN)


@dataclass(frozen=True)
class CompactGraph:
    """Facts about the CPU's graph with smaller weights (`models.music_to_dance.compact`), measured on music against the
    whole one.

    Attributes:
        precision: "int8".
        weight_bytes: of the weights that a step reads.
        rms, largest: relative root mean square, and largest, difference of a latent of one step.
        apart: share of the steps in which another choice was drawn.
        steps: measured.
    """

    precision: str
    weight_bytes: int
    rms: float
    largest: float
    apart: float
    steps: int


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
        temperature: of the draw among the choices; it is in the graph.
        energy_middle: what the network is told for an energy of 1/2 (`models.music_to_dance.plan.stretch`).
        parameters: number of weights.
        weight_bytes: of the weights that a step reads.
        multiply_adds: of a step of one dancer.
        parity: largest difference between the torch model and the exported one, measured at export.
        training_steps, training_hours: of the run.
        training_set: one line on the data.
        files: SHA-256 by file name.
        compact: the graph that the CPU takes, if there is one.
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
    energy_middle: float
    parameters: int
    weight_bytes: int
    multiply_adds: int
    parity: float
    training_steps: int
    training_hours: float
    training_set: str
    files: dict[str, str]
    compact: CompactGraph | None = None

    def step_shapes(self, batch: int) -> StepShapes:
        """Return the sizes of the exported step for a batch of dancers."""
        return StepShapes(
            batch=batch,
            music=self.chunk_ticks * self.feature_count,
            condition=self.condition_size,
            latent=self.latent_size,
            attentions=self.attentions,
            heads=self.heads,
            window=self.window,
            head_size=self.head_size,
            rotary_base=self.rotary_base,
        )

    def save(self, folder: Path) -> None:
        """Write the manifest."""
        save_manifest(self, folder)

    @staticmethod
    def load(folder: Path) -> GmdManifest:
        """Read and verify a model folder.

        Raises:
            UserError: something is missing, changed, or made for other features, another skeleton or other ticks.
        """
        if (kind := kind_of(folder)) != "gmd":
            raise UserError(f"model {folder} is of kind '{kind}', not ours", "give gmd, or another export of it")
        content = verified_content(folder, {f.name for f in fields(GmdManifest)}, {"compact"})
        content |= {name: tuple(content[name]) for name in ("styles", "tempo_range_bpm")}
        if content.get("compact"):
            content["compact"] = _compact(folder, content["compact"])
        manifest = GmdManifest(**content)
        require_skeleton(folder, manifest.skeleton)
        require_ticks(folder, manifest.ticks_per_beat)
        return manifest

    def require_features(self, digest: str) -> None:
        """Refuse another feature extractor. Raises UserError."""
        require_features(self.name, self.feature_spec, digest)


@dataclass(frozen=True)
class GdmManifest:
    """Facts about an exported dance -> music model.

    Attributes:
        name: of the model.
        pose_spec: digest of the pose features it was trained on.
        pose_count: P.
        ticks_per_beat: of its musical time.
        lookahead_ticks: how long before a step it is asked for.
        tempo_range_bpm: that it was trained on.
        condition_size, history_size, noise_size: of its inputs.
        attentions, heads, window, head_size: shape of the key/value rings; 0 where there are none.
        rotary_base: of the rotary embedding.
        temperature: of drums, bass, chord and lead on the stage.
        cutoff: choices this much less likely (log) than the likeliest are not made.
        parameters: number of weights.
        parity: largest difference between the torch model and the exported one, measured at export.
        training_steps, training_hours: of the run.
        training_set: one line on the data.
        files: SHA-256 by file name.
        recurrent: layers and width of the state of a recurrent network, which has no rings.
    """

    name: str
    pose_spec: str
    pose_count: int
    ticks_per_beat: int
    lookahead_ticks: int
    tempo_range_bpm: tuple[float, float]
    condition_size: int
    history_size: int
    noise_size: int
    attentions: int
    heads: int
    window: int
    head_size: int
    rotary_base: float
    temperature: tuple[float, float, float, float]
    cutoff: float
    parameters: int
    parity: float
    training_steps: int
    training_hours: float
    training_set: str
    files: dict[str, str]
    recurrent: tuple[int, int] | None = None

    def save(self, folder: Path) -> None:
        """Write the manifest."""
        save_manifest(self, folder)

    @staticmethod
    def load(folder: Path) -> GdmManifest:
        """Read and verify a model folder.

        Raises:
            UserError: something is missing, changed, or made for other ticks.
        """
        content = verified_content(folder, {f.name for f in fields(GdmManifest)}, {"recurrent"})
        content |= {name: tuple(content[name]) for name in ("temperature", "tempo_range_bpm")}
        if content.get("recurrent"):
            content["recurrent"] = tuple(content["recurrent"])
        manifest = GdmManifest(**content)
        require_ticks(folder, manifest.ticks_per_beat)
        return manifest

    def require(self, pose_spec: str, sizes: tuple[int, int]) -> None:
        """Refuse other pose features, or other conditions and history. Raises UserError."""
        if pose_spec != self.pose_spec:
            raise UserError(
                f"model '{self.name}': trained on pose features {self.pose_spec}, this engine computes {pose_spec}",
                RETRAIN,
            )
        if sizes != (self.condition_size, self.history_size):
            raise UserError(f"model '{self.name}': made for another way of writing music", RETRAIN)


def _compact(folder: Path, content: Any) -> CompactGraph:
    if not isinstance(content, dict) or set(content) != {f.name for f in fields(CompactGraph)}:
        raise UserError(f"model {folder}: its manifest is of another version", RETRAIN)
    return CompactGraph(**content)


def verified_content(folder: Path, names: set[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """Return a manifest with exactly these names (some optional) whose files are whole. Raises UserError."""
    content = _content(folder)
    if set(content) | set(optional) != names:
        raise UserError(f"model {folder}: its manifest is of another version", RETRAIN)
    for file, digest in content["files"].items():
        path = folder / file
        if not path.is_file():
            raise UserError(f"model {folder}: {file} is missing", "copy the whole folder again")
        if file_digest(path) != digest:
            raise UserError(f"model {folder}: {file} is damaged or was changed", "copy the whole folder again")
    return content


def _content(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"model {folder}: {error}", "give a folder made by 'pasdedeux export'") from error
    if not isinstance(content, dict):
        raise UserError(f"model {folder}: its manifest is of another version", RETRAIN)
    return content
