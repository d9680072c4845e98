"""`pasdedeux train` and `export` of the recurrent player: the same data and losses as for G_DM, another network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from engine.types import TICKS_PER_STEP
from models.artifacts import GdmManifest
from models.dance_to_music.conditioning import MUSIC_CONDITION_SIZE
from models.dance_to_music.export import GdmExportFacts
from models.dance_to_music.lesson import PlayerLesson
from models.dance_to_music.run import CUTOFF, TEMPERATURE, learnt_from, load_data, samplers
from models.dance_to_music.sequences import MusicSampler
from models.dance_to_music.settings import PlayerTrainingSettings
from models.dance_to_music.tokens import HISTORY_SIZE
from models.learning.finished import FinishedRun
from models.learning.launch import open_fabric
from models.learning.loop import Learning
from models.learning.settings import build, load_recipe
from models.players.recurrent_export import export_recurrent
from models.players.recurrent_player import RecurrentPlayer, RecurrentPlayerConfig


@dataclass(frozen=True)
class RecurrentNetworkSettings:
    """Sizes that a run may choose; see `models.players.recurrent_player.RecurrentPlayerConfig`."""

    width: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 2
    voice_width: int = 192
    dropout: float = 0.1


@dataclass(frozen=True)
class RecurrentTrainingSettings(PlayerTrainingSettings):
    """A training run as data; `task` says what is learned."""

    task: Literal["recurrent_player"] = "recurrent_player"
    name: str = "recurrent_player"
    network: RecurrentNetworkSettings = field(default_factory=RecurrentNetworkSettings)

    @staticmethod
    def load(path: Path) -> RecurrentTrainingSettings:
        """Read a TOML file. Raises UserError for a missing file, bad TOML, an unknown name or a wrong value."""
        return RecurrentTrainingSettings.of(load_recipe(path), path.name)

    @staticmethod
    def of(content: dict[str, Any], where: str = "training settings") -> RecurrentTrainingSettings:
        """Build from nested tables. Raises UserError for an unknown name or a wrong value."""
        return build(RecurrentTrainingSettings, content, where)


def player(sampler: MusicSampler, settings: RecurrentTrainingSettings) -> RecurrentPlayer:
    """Return the network of a run, before it has learnt anything."""
    torch.manual_seed(settings.seed)
    dance_size = TICKS_PER_STEP * len(sampler.pose_mean)
    sizes = asdict(settings.network)
    return RecurrentPlayer(RecurrentPlayerConfig(dance_size, MUSIC_CONDITION_SIZE, HISTORY_SIZE, **sizes))


def train(
    settings: RecurrentTrainingSettings,
    prepared: Path | None,
    corpora: Path,
    out: Path,
    *,
    resume: bool = False,
    minutes: float | None = None,
) -> Path:
    """Train; return the folder of the run. Arguments and errors as of `models.dance_to_music.run.train`."""
    fabric = open_fabric(settings.device, bfloat16=settings.bfloat16)
    sampler, validation = samplers(load_data(prepared, corpora, out.parent / "grids"), settings)
    learning = Learning(PlayerLesson(player(sampler, settings), sampler, settings, validation), settings, fabric)
    if resume:
        learning.resume(out)
    learning.run(out, minutes)
    return out


def export(run: Path, prepared: Path | None, corpora: Path, folder: Path, *, step: int | None = None) -> GdmManifest:
    """Export the weights of a run at a step (the newest if None) for the stage. Raises UserError."""
    finished = FinishedRun.find(run)
    chosen, weights = finished.weights(step)
    settings = RecurrentTrainingSettings.of(finished.settings)
    data = load_data(prepared, corpora, run.parent / "grids")
    sampler, _ = samplers(data, settings)
    finished.require_same(sampler.fitted)
    model = player(sampler, settings).eval()
    model.load_state_dict(weights)
    said = learnt_from(data, prepared)
    facts = GdmExportFacts(settings.name, TEMPERATURE, CUTOFF, chosen, finished.hours_until(chosen), said)
    return export_recurrent(model, sampler, facts, folder)
