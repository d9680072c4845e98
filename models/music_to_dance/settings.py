"""Settings of a training run of the music -> dance model (`config/training/*.toml`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.learning import settings as learning
from models.learning.own_history import OwnHistorySettings
from models.learning.settings import RunSettings, build, load_recipe
from models.music_to_dance.sequences import SequenceSettings


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes that a run may choose; see `models.music_to_dance.network.GmdConfig`."""

    latent_size: int = 128
    width: int = 192
    heads: int = 6
    encoder_layers: int = 2
    decoder_layers: int = 4
    window: int = 48
    choices: int = 2048
    head_width: int = 256
    head_blocks: int = 3
    dropout: float = 0.1


@dataclass(frozen=True)
class LossSettings:
    """Weights of the losses.

    Attributes:
        choice: on the surprise at the right choices [nats].
        latent: on squared errors of the latent.
        joints: on squared joint errors [m^2].
        velocity: on squared errors of the joints' displacement per tick [m^2].
        feet: on the squared displacement per tick [m^2] of contact points that should stand.
        seam: on the joints' squared acceleration [m^2 a tick^2], beyond the real dance's, where a drawn chunk follows
            one of the model's own.
        share: share of the chunks on which these last four are computed (they cost as much as the network).
    """

    choice: float = 0.15
    latent: float = 2.0
    joints: float = 20.0
    velocity: float = 200.0
    feet: float = 400.0
    seam: float = 0.0
    share: float = 0.25


@dataclass(frozen=True)
class OptimiserSettings(learning.OptimiserSettings):
    """How the weights move; see `models.learning.settings.OptimiserSettings`.

    Attributes:
        own_history_from: step from which part of the history is the model's own output (never if 0).
        own_history_share: mean share of the chunks then replaced, in the form "scattered" of [own_history].
        own_history_temperature: of the draws in it.
    """

    own_history_from: int = 0
    own_history_share: float = 0.3
    own_history_temperature: float = 1.0


@dataclass(frozen=True)
class TrainingSettings:
    """A training run as data.

    Attributes:
        task: what is learned.
        name: of the model, in its manifest and in tables.
        seed: of everything random.
        device: "auto": a GPU where there is one.
        bfloat16: matrix products in bfloat16 (weights, norms and losses stay in float32).
        chunk_ticks: C.
        time: "beats": a row of the data is a tick; "seconds": a frame at a fixed rate (`models.rivals.fixed_rate`).
        protocol: "A": all training dances; "B": only what no held-out clip repeats
        (`models.music_to_dance.unseen_movement`).
    """

    task: Literal["gmd"] = "gmd"
    name: str = "gmd"
    seed: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bfloat16: bool = True
    chunk_ticks: int = 4
    time: Literal["beats", "seconds"] = "beats"
    protocol: Literal["A", "B"] = "A"
    network: NetworkSettings = field(default_factory=NetworkSettings)
    sequence: SequenceSettings = field(default_factory=SequenceSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    own_history: OwnHistorySettings = field(default_factory=OwnHistorySettings)
    run: RunSettings = field(default_factory=RunSettings)

    @staticmethod
    def load(path: Path) -> TrainingSettings:
        """Read a TOML file. Raises UserError for a missing file, bad TOML, an unknown name or a wrong value."""
        return TrainingSettings.of(load_recipe(path), path.name)

    @staticmethod
    def of(content: dict[str, Any], where: str = "training settings") -> TrainingSettings:
        """Build from nested tables. Raises UserError for an unknown name or a wrong value."""
        return build(TrainingSettings, content, where)
