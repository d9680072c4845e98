"""Export a trained dance -> music model: torch -> ONNX with explicit state, with its tables and its manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.body.pose_features import PoseFeatureSpec
from engine.errors import UserError
from engine.types import TICKS_PER_BEAT
from models.artifacts import GdmManifest, file_digest, write_tables
from models.dance_to_music.composer import MODEL_FILE, TABLES_FILE
from models.dance_to_music.conditioning import MUSIC_CONDITION_SIZE
from models.dance_to_music.network import NOISE_SIZE, Gdm
from models.dance_to_music.sequences import MusicSampler
from models.transformer import ROTARY_BASE, RingState, rotary_angles

TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime over a run of steps that is let through; keys are about 1."""
_TEMPO_RANGE_BPM = (60.0, 180.0)
"""The corpora's songs and grooves, nearly all of them."""
_PHRASES = 1500
"""Enough that a show does not hear one twice, and less than 100 kB."""
_INPUTS = (
    *("dance", "known", "condition", "history", "noise", "temperature", "cutoff"),
    *("keys", "values", "mask", "cos", "sin"),
)
_OUTPUTS = ("drums", "voices", "levels", "new_keys", "new_values")


@dataclass(frozen=True)
class GdmExportFacts:
    """What the manifest says and the network does not know.

    Attributes:
        name: of the model.
        temperature: of drums, bass, chord and lead on the stage.
        cutoff: see `models.dance_to_music.network.VoiceHeads.sample`.
        training_steps, training_hours: of the run.
        training_set: one line on the data.
    """

    name: str
    temperature: tuple[float, float, float, float]
    cutoff: float
    training_steps: int
    training_hours: float
    training_set: str


class _Step(nn.Module):
    """One step: transformer and voices, as one graph."""

    def __init__(self, model: Gdm) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        dance: Tensor,
        known: Tensor,
        condition: Tensor,
        history: Tensor,
        noise: Tensor,
        temperature: Tensor,
        cutoff: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        context, new_keys, new_values = self.model.step_tensors(
            dance, known, condition, history, keys, values, mask, cos, sin
        )
        drums, voices, levels = self.model.heads.sample(context, noise, temperature, cutoff)
        return drums, voices, levels, new_keys, new_values


def export_gdm(model: Gdm, sampler: MusicSampler, facts: GdmExportFacts, folder: Path) -> GdmManifest:
    """Write `model.onnx`, `tables.safetensors` and `manifest.json` into `folder`.

    Args:
        model: trained; its averaged weights.
        sampler: of the TRAINING pieces: normalisation and phrases come from it.
        facts: for the manifest.
        folder: is made if need be.

    Raises:
        UserError: the exported graph does not compute what the model does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    example = tuple(torch.from_numpy(a) for a in _example(model, 0, RingState.empty(config)).values())
    torch.onnx.export(
        _Step(model).eval(),
        example,
        str(folder / MODEL_FILE),
        dynamo=True,
        opset_version=20,
        input_names=_INPUTS,
        output_names=_OUTPUTS,
        external_data=False,
        verbose=False,
    )
    save_tables(sampler, folder)
    parity = measure_parity(model, folder / MODEL_FILE)
    require_parity(parity, folder)
    manifest = replace(
        composer_manifest(model, sampler, facts, parity, folder, history=config.history_size),
        attentions=config.attentions,
        heads=config.heads,
        window=config.window,
        head_size=config.head_size,
    )
    manifest.save(folder)
    return manifest


def save_tables(sampler: MusicSampler, folder: Path) -> None:
    """Write the tables that a composer on stage needs beside its network: normalisation and phrases."""
    table = sampler.table(np.random.Generator(np.random.PCG64(0)), _PHRASES)
    write_tables(
        {
            "pose_mean": sampler.pose_mean,
            "pose_scale": sampler.pose_scale,
            "phrase_descriptors": table.descriptors,
            "phrase_metres": table.styles,
            "phrase_energies": table.energies,
        },
        folder / TABLES_FILE,
    )


def require_parity(parity: float, folder: Path) -> None:
    """Raise UserError if a graph differs from its model by too much, or by what is no number."""
    if not parity < TOLERANCE:
        raise UserError(f"export to {folder}: the graph differs from the model by {parity:.2g}", "report this as a bug")


def composer_manifest(
    model: nn.Module,
    sampler: MusicSampler,
    facts: GdmExportFacts,
    parity: float,
    folder: Path,
    *,
    history: int,
    recurrent: tuple[int, int] | None = None,
) -> GdmManifest:
    """Return the manifest of an exported network, without rings; its files are in the folder."""
    return GdmManifest(
        name=facts.name,
        pose_spec=PoseFeatureSpec().digest,
        pose_count=len(sampler.pose_mean),
        ticks_per_beat=TICKS_PER_BEAT,
        lookahead_ticks=sampler.settings.lookahead_ticks,
        tempo_range_bpm=_TEMPO_RANGE_BPM,
        condition_size=MUSIC_CONDITION_SIZE,
        history_size=history,
        noise_size=NOISE_SIZE,
        attentions=0,
        heads=0,
        window=0,
        head_size=0,
        rotary_base=ROTARY_BASE,
        temperature=facts.temperature,
        cutoff=facts.cutoff,
        parameters=sum(p.numel() for p in model.parameters()),
        parity=float(parity),
        training_steps=facts.training_steps,
        training_hours=round(facts.training_hours, 2),
        training_set=facts.training_set,
        files={name: file_digest(folder / name) for name in (MODEL_FILE, TABLES_FILE)},
        recurrent=recurrent,
    )


def measure_parity(model: Gdm, path: Path, steps: int = 160) -> float:
    """Return the largest difference of keys and values between torch and ONNX Runtime over a run, beyond a full ring.

    A different choice of a voice counts as 1.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    state, worst = RingState.empty(model.config), 0.0
    step = _Step(model).eval()
    random = np.random.Generator(np.random.PCG64(0))
    with torch.no_grad():
        for index in range(steps):
            inputs = _example(model, index, state, random)
            ours = step(*(torch.from_numpy(a) for a in inputs.values()))
            theirs = session.run(list(_OUTPUTS), inputs)
            for mine, other in zip(ours, theirs, strict=True):
                gap = np.abs(mine.numpy().astype(np.float64) - other)
                worst = max(worst, float(gap.max() if mine.is_floating_point() else (gap > 0).max()))
            state.write(ours[3], ours[4])
    return worst


def _example(
    model: Gdm, position: int, state: RingState, random: np.random.Generator | None = None
) -> dict[str, NDArray[np.float32]]:
    config = model.config
    random = random or np.random.Generator(np.random.PCG64(0))
    angles = rotary_angles(torch.tensor(position), config.head_size)
    return {
        "dance": random.standard_normal((1, config.dance_size), np.float32),
        "known": np.array([float(position % 5 > 0)], np.float32),
        "condition": random.standard_normal((1, config.condition_size), np.float32),
        "history": random.standard_normal((1, config.history_size), np.float32),
        "noise": random.gumbel(size=(1, NOISE_SIZE)).astype(np.float32),
        "temperature": np.array([1.0, 0.9, 0.8, 0.7], np.float32),
        "cutoff": np.array([4.0], np.float32),
        "keys": state.keys.numpy(),
        "values": state.values.numpy(),
        "mask": state.mask().numpy(),
        "cos": angles.cos().float().numpy(),
        "sin": angles.sin().float().numpy(),
    }
