"""An exported system of the field on disk: its manifest and tables, verified when it is loaded, before the show."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engine.errors import UserError
from models.artifacts import RETRAIN, require_features, save_manifest, skeleton_digest, verified_content, write_tables
from models.field.frames import POSE_SIZE, FrameScales, StartPoses

FRAMES_KIND = "frames"
MODEL_FILE = "model.onnx"
TABLES_FILE = "tables.safetensors"


@dataclass(frozen=True)
class FrameManifest:
    """Facts about an exported system of the field.

    Attributes:
        kind: `FRAMES_KIND`.
        name: in tables.
        model: name of the system in `models.field.registry`.
        feature_spec: digest of the features it was trained on.
        feature_count: F.
        skeleton: digest of the skeleton it was trained on.
        frame_rate_hz: of its poses and its music.
        lookahead_frames: of music after a pose's own frame that it waits for.
        music_size, pose_size, noise_size: M, P and Z, of its inputs.
        state_shapes: of one dancer; the first axis is 1.
        styles: it has start poses of.
        tempo_range_bpm: of the stage; the frames have no tempo.
        parameters: weights in the exported graph.
        parity: largest difference between the torch model and the exported one, measured at export.
        training_steps, training_hours, training_seed: of the run.
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
    frame_rate_hz: float
    lookahead_frames: int
    music_size: int
    pose_size: int
    noise_size: int
    state_shapes: tuple[tuple[int, ...], ...]
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

    def save(self, folder: Path) -> None:
        """Write the manifest."""
        save_manifest(self, folder)

    @staticmethod
    def load(folder: Path) -> FrameManifest:
        """Read and verify a model folder.

        Raises:
            UserError: something is missing, changed, or made for another skeleton or another kind of pose.
        """
        content = verified_content(folder, {f.name for f in fields(FrameManifest)})
        content |= {name: tuple(content[name]) for name in ("styles", "tempo_range_bpm")}
        content["state_shapes"] = tuple(tuple(shape) for shape in content["state_shapes"])
        manifest = FrameManifest(**content)
        if manifest.kind != FRAMES_KIND:
            raise UserError(f"model {folder}: of kind '{manifest.kind}', not '{FRAMES_KIND}'", RETRAIN)
        if manifest.skeleton != skeleton_digest() or manifest.pose_size != POSE_SIZE:
            raise UserError(f"model {folder}: trained on another skeleton ({manifest.skeleton})", RETRAIN)
        return manifest

    def require_features(self, digest: str) -> None:
        """Refuse another feature extractor. Raises UserError."""
        require_features(self.name, self.feature_spec, digest)


@dataclass(frozen=True)
class FrameTables:
    """What a model's folder holds beside the graph: normalisation, poses and the state to begin from."""

    scales: FrameScales
    starts: StartPoses
    state: tuple[NDArray[Any], ...]

    def save(self, folder: Path) -> None:
        """Write the tables."""
        parts = {**asdict(self.scales), "start_poses": self.starts.poses, "start_styles": self.starts.styles}
        parts |= {state_name(index): np.ascontiguousarray(part) for index, part in enumerate(self.state)}
        write_tables(parts, folder / TABLES_FILE)

    @staticmethod
    def load(folder: Path) -> FrameTables:
        """Read the tables of a model folder (verified by its manifest)."""
        parts = load_file(folder / TABLES_FILE)
        scales = FrameScales(**{f.name: parts[f.name] for f in fields(FrameScales)})
        count = sum(name.startswith(state_name("")) for name in parts)
        state = tuple(parts[state_name(index)] for index in range(count))
        return FrameTables(scales, StartPoses(parts["start_poses"], parts["start_styles"]), state)


def state_name(part: int | str) -> str:
    """Return the name of a part of the state in the tables and among the graph's inputs; its outputs have `next_`."""
    return f"state_{part}"
