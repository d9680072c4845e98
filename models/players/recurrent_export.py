"""Export of the recurrent player: torch -> ONNX with its state as an input, for the stage's composer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.artifacts import GdmManifest
from models.dance_to_music.composer import MODEL_FILE
from models.dance_to_music.export import GdmExportFacts, composer_manifest, require_parity, save_tables
from models.dance_to_music.network import NOISE_SIZE
from models.dance_to_music.sequences import MusicSampler
from models.players.recurrent_player import RecurrentPlayer

_INPUTS = ("dance", "known", "condition", "history", "noise", "temperature", "cutoff", "state")
_OUTPUTS = ("drums", "voices", "levels", "new_state")


class _Step(nn.Module):
    """One step: recurrent networks and voices, as one graph."""

    def __init__(self, model: RecurrentPlayer) -> None:
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
        state: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        context, new_state = self.model.step(dance, known, condition, history, state)
        return *self.model.heads.sample(context, noise, temperature, cutoff), new_state


def export_recurrent(model: RecurrentPlayer, sampler: MusicSampler, facts: GdmExportFacts, folder: Path) -> GdmManifest:
    """Write `model.onnx`, `tables.safetensors` and `manifest.json`; see `models.dance_to_music.export.export_gdm`."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.Generator(np.random.PCG64(0))
    example = tuple(torch.from_numpy(a) for a in _example(model, random, model.start(1)).values())
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
    config = model.config
    manifest = composer_manifest(
        model, sampler, facts, parity, folder, recurrent=(config.layers, config.width), history=config.history_size
    )
    manifest.save(folder)
    return manifest


def measure_parity(model: RecurrentPlayer, path: Path, steps: int = 160) -> float:
    """Return the largest difference of a state between torch and ONNX Runtime; another choice counts as 1."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    random, state, worst = np.random.Generator(np.random.PCG64(0)), model.start(1), 0.0
    step = _Step(model).eval()
    with torch.no_grad():
        for _ in range(steps):
            inputs = _example(model, random, state)
            ours = step(*(torch.from_numpy(a) for a in inputs.values()))
            theirs = session.run(list(_OUTPUTS), inputs)
            for mine, other in zip(ours, theirs, strict=True):
                gap = np.abs(mine.numpy().astype(np.float64) - other)
                worst = max(worst, float(gap.max() if mine.is_floating_point() else (gap > 0).max()))
            state = ours[-1]
    return worst


def _example(model: RecurrentPlayer, random: np.random.Generator, state: Tensor) -> dict[str, NDArray[np.float32]]:
    config = model.config
    return {
        "dance": random.standard_normal((1, config.dance_size), np.float32),
        "known": np.array([float(random.random() < 0.8)], np.float32),
        "condition": random.standard_normal((1, config.condition_size), np.float32),
        "history": random.standard_normal((1, config.history_size), np.float32),
        "noise": random.gumbel(size=(1, NOISE_SIZE)).astype(np.float32),
        "temperature": np.array([1.0, 0.9, 0.8, 0.7], np.float32),
        "cutoff": np.array([4.0], np.float32),
        "state": state.contiguous().numpy(),
    }
