"""Export a trained music -> dance model: torch -> ONNX with explicit state, with its tables and its manifest."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import Dim

from engine.errors import UserError
from engine.types import TICKS_PER_BEAT
from models.artifacts import GmdManifest, file_digest, skeleton_digest, write_tables
from models.backends.choose import MODEL_FILE
from models.backends.ort_backend import BATCH_DIMENSION, OrtBackend
from models.backends.parity import probe
from models.backends.step_memory import RINGS, VECTORS, StepMemory, StepShapes
from models.music_to_dance.choice_head import evenly
from models.music_to_dance.compact import Piece, add_compact_graphs
from models.music_to_dance.conditioning import CONDITION_SIZE, STYLES
from models.music_to_dance.lone_graph import LoneStep
from models.music_to_dance.network import ROTARY_BASE, Gmd, GmdConfig, GmdState
from models.music_to_dance.plan import TABLES_FILE
from models.music_to_dance.sequences import OTHER_STYLE, DanceClip, SequenceSampler
from models.music_to_dance.stage_graph import StageStep

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime over a run of chunks that is let through; latents are about 1."""
_BORDER = 1e-5
"""Of cumulated chances: sums of two thousand of them differ by a tenth of this between torch and ONNX Runtime."""
_TEMPO_RANGE_BPM = (60.0, 140.0)


@dataclass(frozen=True)
class ExportFacts:
    """What the manifest says and the network does not know.

    Attributes:
        name: of the model.
        feature_spec: digest of the features.
        history_noise: level told on the stage.
        temperature: of the draw on the stage.
        energy_middle: what the network is told for an energy of 1/2.
        training_steps, training_hours: of the run.
        training_set: one line on the data.
    """

    name: str
    feature_spec: str
    history_noise: float
    temperature: float
    energy_middle: float
    training_steps: int
    training_hours: float
    training_set: str


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
    step = StageStep(model, facts.temperature).eval()
    weight_bytes, multiply_adds = step.cost()
    write_graph(step, config, folder / MODEL_FILE)
    table, starts = sampler.table(), sampler.starts()
    write_tables(
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
            "probe": probe_graph(folder / MODEL_FILE, step_shapes(config)),
        },
        folder / TABLES_FILE,
    )
    parity = measure_parity(model, folder / MODEL_FILE, facts.temperature)
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
        energy_middle=facts.energy_middle,
        parameters=sum(p.numel() for p in model.parameters()),
        weight_bytes=weight_bytes,
        multiply_adds=multiply_adds,
        parity=float(parity),
        training_steps=facts.training_steps,
        training_hours=round(facts.training_hours, 2),
        training_set=facts.training_set,
        files={name: file_digest(folder / name) for name in (MODEL_FILE, TABLES_FILE)},
    )
    manifest.save(folder)
    musics = [prepared.clip for prepared in sampler.clips if prepared.clip.music is not None]
    with TemporaryDirectory() as passing:
        lone = Path(passing) / MODEL_FILE
        write_graph(LoneStep(model, facts.temperature).eval(), config, lone)
        return add_compact_graphs(folder, lone, [_piece(clip) for clip in musics])


def _piece(clip: DanceClip) -> Piece:
    style = None if clip.style == OTHER_STYLE else clip.style
    music = np.empty((0, 0), np.float32) if clip.music is None else clip.music
    return Piece(music, float(np.median(clip.tempo_bpm)), clip.beats_per_bar, style)


def write_graph(step: StageStep, config: GmdConfig, path: Path) -> None:
    """Export the step as ONNX; its batch, the number of dancers, is left open and fixed by whoever loads it."""
    # Three, because torch takes a batch of one or two for a constant or for another dimension.
    shapes = step_shapes(config, 3)
    dancers, many = {0: Dim(BATCH_DIMENSION)}, config.attentions
    example: dict[str, Any] = {name: torch.zeros(shape) for name, shape in shapes.inputs().items()}
    free: dict[str, Any] = {name: dancers if name in (*VECTORS, "mask") else {} for name in example}
    for name in RINGS:
        example[name], free[name] = list(example[name]), [dancers] * many
    torch.onnx.export(
        step,
        tuple(example.values()),
        str(path),
        dynamo=True,
        opset_version=20,
        input_names=list(shapes.graph_inputs()),
        output_names=list(step_shapes(config).outputs()),
        dynamic_shapes=tuple(free.values()),
        external_data=False,
        verbose=False,
    )


def probe_graph(path: Path, shapes: StepShapes) -> NDArray[np.float32]:
    """Return the latents (steps, 1, L) by which other back ends are judged."""
    backend = OrtBackend("cpu", path, StepMemory(shapes))
    latents = probe(backend)
    backend.close()
    return latents


def step_shapes(config: GmdConfig, batch: int = 1) -> StepShapes:
    """Return the sizes of the exported step."""
    return StepShapes(
        batch=batch,
        music=config.music_size,
        condition=config.condition_size,
        latent=config.latent_size,
        attentions=config.attentions,
        heads=config.heads,
        window=config.window,
        head_size=config.head_size,
        rotary_base=ROTARY_BASE,
    )


def measure_parity(model: Gmd, path: Path, temperature: float, chunks: int = 60) -> float:
    """Return the largest latent difference between torch and ONNX Runtime over a run, beyond a full ring.

    A draw that falls on the border of two choices is drawn again: there rounding alone decides, and both are right.
    """
    backend = OrtBackend("cpu", path, StepMemory(step_shapes(model.config)))
    inputs = backend.memory.inputs
    state, worst = GmdState.empty(model.config), 0.0
    random = np.random.Generator(np.random.PCG64(0))
    with torch.no_grad():
        for _ in range(chunks):
            for name in VECTORS:
                inputs[name][0] = random.standard_normal(inputs[name].shape[1], np.float32)
            vectors = {name: torch.from_numpy(inputs[name].copy()) for name in VECTORS}
            context, state = model.step(vectors["music"], vectors["condition"], vectors["history"], state)
            borders = model.head.chances(context, temperature).cumsum(dim=-1)
            while float((borders - evenly(vectors["noise"][:, :1])).abs().min()) < _BORDER:
                inputs["noise"][0] = random.standard_normal(inputs["noise"].shape[1], np.float32)
                vectors["noise"] = torch.from_numpy(inputs["noise"].copy())
            latent = model.sample(context, vectors["history"], vectors["noise"], temperature)
            backend.run()
            worst = max(worst, float(np.abs(latent.numpy() - backend.memory.outputs["latent"]).max()))
    return worst
