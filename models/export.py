"""Export a trained music -> dance model: torch -> ONNX with explicit state, with its tables and its manifest."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from engine.errors import UserError
from engine.types import TICKS_PER_BEAT
from models.artifacts import GmdManifest, file_digest, skeleton_digest
from models.conditioning import CONDITION_SIZE, STYLES
from models.gmd import ROTARY_BASE, Gmd, GmdState, rotary_angles
from models.gmd_sequences import SequenceSampler
from models.onnx_generator import MODEL_FILE, TABLES_FILE

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime over a run of chunks that is let through; latents are about 1."""
_TEMPO_RANGE_BPM = (60.0, 140.0)
_INPUTS = ("music", "condition", "history", "noise", "keys", "values", "mask", "cos", "sin")
_OUTPUTS = ("latent", "new_keys", "new_values")


@dataclass(frozen=True)
class ExportFacts:
    """What the manifest says and the network does not know.

    Attributes:
        name: of the model.
        feature_spec: digest of the features.
        history_noise: level told on the stage.
        temperature: of the flow's noise on the stage.
        training_steps, training_hours: of the run.
        training_set: one line on the data.
    """

    name: str
    feature_spec: str
    history_noise: float
    temperature: float
    training_steps: int
    training_hours: float
    training_set: str


class _Step(nn.Module):
    """One chunk: transformer step and flow, as one graph."""

    def __init__(self, model: Gmd) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        music: Tensor,
        condition: Tensor,
        history: Tensor,
        noise: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        context, new_keys, new_values = self.model.step_tensors(music, condition, history, keys, values, mask, cos, sin)
        return self.model.sample(context, history, noise), new_keys, new_values


def export_gmd(model: Gmd, sampler: SequenceSampler, facts: ExportFacts, folder: Path) -> GmdManifest:
    """Write `model.onnx`, `tables.safetensors` and `manifest.json` into `folder`.

    Args:
        model: trained; its averaged weights.
        sampler: of the TRAINING clips: normalisation, representation, phrases and start poses come from it.
        facts: for the manifest.
        folder: is made if need be.

    Raises:
        UserError: the exported graph does not compute what the model does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    example = tuple(torch.from_numpy(a) for a in _example(model, 0, GmdState.empty(config)).values())
    step = _Step(model).eval()
    torch.onnx.export(
        step,
        example,
        str(folder / MODEL_FILE),
        dynamo=True,
        opset_version=20,
        input_names=_INPUTS,
        output_names=_OUTPUTS,
        external_data=False,
        verbose=False,
    )
    table, starts = sampler.table(), sampler.starts()
    save_file(
        {
            "music_mean": sampler.music_mean,
            "music_scale": sampler.music_scale,
            "motion_mean": sampler.representation.mean,
            "motion_decoder": np.ascontiguousarray(sampler.representation.decoder),
            "start_latents": starts.latents,
            "start_styles": starts.styles,
            "phrase_descriptors": table.descriptors,
            "phrase_styles": table.styles,
            "phrase_energies": table.energies,
        },
        folder / TABLES_FILE,
    )
    parity = measure_parity(model, folder / MODEL_FILE)
    if not parity < TOLERANCE:
        raise UserError(f"export to {folder}: the graph differs from the model by {parity:.2g}", "report this as a bug")
    manifest = GmdManifest(
        name=facts.name,
        feature_spec=facts.feature_spec,
        feature_count=len(sampler.music_mean),
        skeleton=skeleton_digest(),
        ticks_per_beat=TICKS_PER_BEAT,
        chunk_ticks=sampler.representation.chunk_ticks,
        lookahead_ticks=sampler.settings.lookahead_ticks,
        styles=STYLES,
        tempo_range_bpm=_TEMPO_RANGE_BPM,
        latent_size=config.latent_size,
        condition_size=CONDITION_SIZE,
        attentions=config.attentions,
        heads=config.heads,
        window=config.window,
        head_size=config.head_size,
        rotary_base=ROTARY_BASE,
        history_noise=facts.history_noise,
        temperature=facts.temperature,
        parameters=sum(p.numel() for p in model.parameters()),
        parity=float(parity),
        training_steps=facts.training_steps,
        training_hours=round(facts.training_hours, 2),
        training_set=facts.training_set,
        files={name: file_digest(folder / name) for name in (MODEL_FILE, TABLES_FILE)},
    )
    manifest.save(folder)
    return manifest


def measure_parity(model: Gmd, path: Path, chunks: int = 60) -> float:
    """Return the largest latent difference between torch and ONNX Runtime over a run, beyond a full ring."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    state, worst = GmdState.empty(model.config), 0.0
    step = _Step(model).eval()
    random = np.random.Generator(np.random.PCG64(0))
    with torch.no_grad():
        for index in range(chunks):
            inputs = _example(model, index, state, random)
            ours = step(*(torch.from_numpy(a) for a in inputs.values()))
            theirs = session.run(list(_OUTPUTS), inputs)
            worst = max(worst, float(np.abs(ours[0].numpy() - theirs[0]).max()))
            state.write(ours[1], ours[2])
    return worst


def _example(
    model: Gmd, position: int, state: GmdState, random: np.random.Generator | None = None
) -> dict[str, NDArray[np.float32]]:
    config = model.config
    random = random or np.random.Generator(np.random.PCG64(0))
    angles = rotary_angles(torch.tensor(position), config.head_size)
    sizes = {
        "music": config.music_size,
        "condition": config.condition_size,
        "history": config.latent_size,
        "noise": config.latent_size,
    }
    return {
        **{name: random.standard_normal((1, size), np.float32) for name, size in sizes.items()},
        "keys": state.keys.numpy(),
        "values": state.values.numpy(),
        "mask": state.mask().numpy(),
        "cos": angles.cos().float().numpy(),
        "sin": angles.sin().float().numpy(),
    }
