"""Export a trained system of the field: torch -> one ONNX graph of a frame with explicit state, tables, manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from engine.errors import UserError
from models.artifacts import file_digest, skeleton_digest
from models.field.artifact import FRAMES_KIND, MODEL_FILE, TABLES_FILE, FrameManifest, FrameTables, state_name
from models.field.frame_model import FrameModel
from models.field.frames import BEAT_SIZE, FrameScales, StartPoses
from models.field.onnx_frames import OnnxDancing
from models.music_to_dance.conditioning import STYLES

TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime over a dance that is let through; poses are about 1."""
_PARITY_FRAMES = 300
_TEMPO_RANGE_BPM = (60.0, 140.0)
"""As our own model's; what is faster or slower is danced in half or double time."""


@dataclass(frozen=True)
class ExportFacts:
    """What the manifest says and the network does not know; see `FrameManifest`."""

    name: str
    model: str
    feature_spec: str
    protocol: str
    training_steps: int
    training_hours: float
    training_seed: int
    training_set: str


def export_frames(
    model: FrameModel, scales: FrameScales, starts: StartPoses, facts: ExportFacts, folder: Path
) -> FrameManifest:
    """Write `model.onnx`, `tables.safetensors` and `manifest.json` into `folder`.

    Args:
        model: trained; its averaged weights.
        scales: of the training split.
        starts: of the training split.
        facts: for the manifest.
        folder: is made if need be.

    Raises:
        UserError: the exported graph does not compute what the model does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = model.cpu().eval()
    write_graph(model, folder / MODEL_FILE)
    state = tuple(part.detach().numpy() for part in model.start(1))
    FrameTables(scales, starts, state).save(folder)
    parity = measure_parity(model, folder / MODEL_FILE)
    if not parity < TOLERANCE:
        raise UserError(f"export to {folder}: the graph differs from the model by {parity:.2g}", "report this as a bug")
    manifest = FrameManifest(
        kind=FRAMES_KIND,
        name=facts.name,
        model=facts.model,
        feature_spec=facts.feature_spec,
        feature_count=scales.music_size - BEAT_SIZE,
        skeleton=skeleton_digest(),
        frame_rate_hz=model.sizes.frame_rate_hz,
        lookahead_frames=model.lookahead_frames,
        music_size=model.sizes.music,
        pose_size=model.sizes.pose,
        noise_size=model.noise_size,
        state_shapes=tuple(part.shape for part in state),
        styles=tuple(name for index, name in enumerate(STYLES) if index in starts.styles),
        tempo_range_bpm=_TEMPO_RANGE_BPM,
        parameters=_weights(folder / MODEL_FILE),
        parity=parity,
        training_steps=facts.training_steps,
        training_hours=round(facts.training_hours, 3),
        training_seed=facts.training_seed,
        training_set=facts.training_set,
        protocol=facts.protocol,
        files={name: file_digest(folder / name) for name in (MODEL_FILE, TABLES_FILE)},
    )
    manifest.save(folder)
    return manifest


class _Step(nn.Module):
    """One frame of one dancer, with tensors for arguments and nothing else."""

    def __init__(self, model: FrameModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, music: Tensor, pose: Tensor, noise: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return self.model.step(music, pose, noise, *state)


def write_graph(model: FrameModel, path: Path) -> None:
    """Export the step of one dancer as ONNX. Inputs that the network does not use are left out of the graph."""
    state = model.start(1)
    example = (
        torch.zeros(1, model.sizes.music),
        torch.zeros(1, model.sizes.pose),
        torch.zeros(1, model.noise_size),
    )
    names = [state_name(index) for index in range(len(state))]
    torch.onnx.export(
        _Step(model),
        (*example, *state),
        str(path),
        dynamo=True,
        opset_version=20,
        input_names=["music", "pose", "noise", *names],
        output_names=["next_pose", *(f"next_{name}" for name in names)],
        external_data=False,
        optimize=True,
        verbose=False,
    )
    graph = onnx.load(str(path))
    used = {name for node in graph.graph.node for name in node.input}
    kept = [given for given in graph.graph.input if given.name in used]
    del graph.graph.input[:]
    graph.graph.input.extend(kept)
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))


def measure_parity(model: FrameModel, path: Path, frames: int = _PARITY_FRAMES) -> float:
    """Return the largest difference between torch and ONNX Runtime over a dance; both go on from torch's poses."""
    state = model.start(1)
    dancing = OnnxDancing(path, [part.detach().numpy() for part in state])
    random = np.random.Generator(np.random.PCG64(0))
    sizes = (model.sizes.music, model.sizes.pose, model.noise_size)
    pose, worst = torch.zeros(1, model.sizes.pose), 0.0
    with torch.no_grad():
        for _ in range(frames):
            music, _, noise = (random.standard_normal((1, size), np.float32) for size in sizes)
            exported = dancing(music, pose.numpy(), noise)
            pose, *state = model.step(torch.from_numpy(music), pose, torch.from_numpy(noise), *state)
            worst = max(worst, float(np.abs(pose.numpy() - exported).max()))
    return worst


def _weights(path: Path) -> int:
    graph = onnx.load(str(path)).graph
    return sum(int(np.prod(part.dims)) for part in graph.initializer if part.data_type == onnx.TensorProto.FLOAT)
