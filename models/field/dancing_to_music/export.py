"""Export the trained system: torch -> two ONNX graphs (a sequence's movements, a unit's poses), tables, manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.features import FeatureSpec
from engine.types import TICKS_PER_BEAT
from models.artifacts import file_digest, skeleton_digest
from models.data.dataset import PreparedData
from models.field.dancing_to_music.artifact import COMPOSE_FILE, TABLES_FILE, UNIT_FILE, UNITS_KIND, UnitManifest
from models.field.dancing_to_music.data import UnitBank, UnitData
from models.field.dancing_to_music.du_vae import DuVae
from models.field.dancing_to_music.network import DancingToMusic, Decomposition, TorchUnits
from models.field.dancing_to_music.onnx_units import OnnxUnits
from models.field.dancing_to_music.settings import UNITS_FOLDER, DancingToMusicSettings
from models.field.dancing_to_music.tables import UnitTables
from models.learning.finished import FinishedRun
from models.music_to_dance.conditioning import STYLES
from models.music_to_dance.unseen_movement import learnt_from

TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime that is let through; movements and poses are about 1."""
_PROBES = 16
_TEMPO_RANGE_BPM = (60.0, 140.0)
"""As our own model's; what is faster or slower is danced in half or double time."""


def export(run: Path, prepared: Path, folder: Path, *, step: int | None = None) -> UnitManifest:
    """Export the weights of a run at a step (the newest if None); write graphs, tables and manifest into `folder`.

    Raises:
        UserError: there is no such run, or a graph does not compute what the model does.
    """
    model, settings, bank, finished, chosen = load_model(run, prepared, step)
    folder.mkdir(parents=True, exist_ok=True)
    write_graphs(model, settings, bank.tables, folder)
    bank.tables.save(folder / TABLES_FILE)
    parity = measure_parity(model, settings, bank.tables, folder)
    if not parity < TOLERANCE:
        raise UserError(f"export to {folder}: a graph differs from the model by {parity:.2g}", "report this as a bug")
    sizes = settings.network
    manifest = UnitManifest(
        kind=UNITS_KIND,
        name=settings.name,
        model=settings.model,
        feature_spec=FeatureSpec().digest,
        feature_count=len(bank.tables.music_mean),
        skeleton=skeleton_digest(),
        ticks_per_beat=TICKS_PER_BEAT,
        lookahead_ticks=settings.hearing.lookahead_ticks,
        unit_beats=settings.unit.beats,
        unit_poses=settings.unit.poses,
        units=sizes.units,
        heard_ticks=settings.hearing.ticks,
        movement_size=sizes.movement,
        initial_size=sizes.initial,
        noise_size=sizes.noise,
        styles=tuple(name for index, name in enumerate(STYLES) if index in bank.tables.start_styles),
        tempo_range_bpm=_TEMPO_RANGE_BPM,
        parameters=sum(_weights(folder / name) for name in (COMPOSE_FILE, UNIT_FILE)),
        parity=parity,
        training_steps=chosen,
        training_hours=round(finished.hours_until(chosen) + FinishedRun.find(run / UNITS_FOLDER).seconds / 3600.0, 3),
        training_seed=settings.seed,
        training_set=learnt_from(PreparedData.load(prepared), settings.protocol),
        protocol=settings.protocol,
        files={name: file_digest(folder / name) for name in (COMPOSE_FILE, UNIT_FILE, TABLES_FILE)},
    )
    manifest.save(folder)
    return manifest


def load_model(
    run: Path, prepared: Path, step: int | None = None
) -> tuple[DancingToMusic, DancingToMusicSettings, UnitBank, FinishedRun, int]:
    """Return a trained system, its settings, its training units, its run and the step it is of (the newest if None)."""
    finished = FinishedRun.find(run)
    settings = DancingToMusicSettings.of(finished.settings, str(run))
    chosen, weights = finished.weights(step)
    data = UnitData.load(settings, prepared)
    finished.require_same(data.bank.tables.fitted)
    model = DancingToMusic(settings, Decomposition(settings, data.bank.tables.music_size)).eval()
    model.load_state_dict(weights)
    return model, settings, data.bank, finished, chosen


class _Compose(nn.Module):
    def __init__(self, model: DancingToMusic) -> None:
        super().__init__()
        self.model = model

    def forward(self, music: Tensor, noise: Tensor) -> Tensor:
        return self.model.compose(music, noise)


class _NextUnit(nn.Module):
    def __init__(self, units: DuVae) -> None:
        super().__init__()
        self.units = units

    def forward(self, pose: Tensor, movement: Tensor, noise: Tensor) -> Tensor:
        return self.units.next_unit(pose, movement, noise)


def write_graphs(model: DancingToMusic, settings: DancingToMusicSettings, tables: UnitTables, folder: Path) -> None:
    """Export both graphs for one dancer."""
    sizes, model = settings.network, model.cpu().eval()
    music = torch.zeros(1, settings.hearing.ticks, tables.music_size)
    _write(_Compose(model), {"music": music, "noise": torch.zeros(1, sizes.noise)}, folder / COMPOSE_FILE)
    inputs = {
        "pose": torch.zeros(1, len(tables.pose_mean)),
        "movement": torch.zeros(1, sizes.movement),
        "noise": torch.zeros(1, sizes.initial),
    }
    _write(_NextUnit(model.decomposition.units), inputs, folder / UNIT_FILE)


def measure_parity(model: DancingToMusic, settings: DancingToMusicSettings, tables: UnitTables, folder: Path) -> float:
    """Return the largest difference between torch and ONNX Runtime over random music, poses and movements."""
    exported, torch_units = OnnxUnits(folder), TorchUnits(model)
    random = np.random.Generator(np.random.PCG64(0))
    sizes, worst = settings.network, 0.0
    for _ in range(_PROBES):
        music = random.standard_normal((settings.hearing.ticks, tables.music_size), np.float32)
        noise = random.standard_normal(sizes.noise, np.float32)
        movements = torch_units.compose(music, noise)
        worst = max(worst, float(np.abs(exported.compose(music, noise) - movements).max()))
        pose = random.standard_normal(len(tables.pose_mean), np.float32)
        noise = random.standard_normal(sizes.initial, np.float32)
        unit = torch_units.next_unit(pose, movements[0], noise)
        worst = max(worst, float(np.abs(exported.next_unit(pose, movements[0], noise) - unit).max()))
    return worst


def _write(graph: nn.Module, inputs: dict[str, Tensor], path: Path) -> None:
    torch.onnx.export(
        graph.eval(),
        tuple(inputs.values()),
        str(path),
        dynamo=True,
        opset_version=20,
        input_names=list(inputs),
        output_names=["out"],
        external_data=False,
        optimize=True,
        verbose=False,
    )


def _weights(path: Path) -> int:
    graph = onnx.load(str(path)).graph
    return sum(int(np.prod(part.dims)) for part in graph.initializer if part.data_type == onnx.TensorProto.FLOAT)
