"""Settings of a training run of the dance -> music model (`config/training/gdm.toml`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.dance_to_music.sequences import MusicSequenceSettings
from models.learning.settings import OptimiserSettings, RunSettings, build, load_recipe


@dataclass(frozen=True)
class GdmNetworkSettings:
    """Sizes that a run may choose; see `models.dance_to_music.network.GdmConfig`."""

    width: int = 192
    heads: int = 6
    encoder_layers: int = 2
    decoder_layers: int = 3
    window: int = 128
    voice_width: int = 192
    dropout: float = 0.1


@dataclass(frozen=True)
class PlayerTrainingSettings:
    """What the runs of all networks that play to a dance say.

    Attributes:
        name: of the model, in its manifest.
        seed: of everything random.
        device: "auto": a GPU where there is one.
        bfloat16: matrix products in bfloat16 (weights, norms and losses stay in float32).
        dances_from: step from which dances with their music are learnt from, beside music alone.
        velocity: weight of the loss of velocities.
    """

    name: str = "gdm"
    seed: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bfloat16: bool = True
    dances_from: int = 0
    velocity: float = 0.3
    sequence: MusicSequenceSettings = field(default_factory=MusicSequenceSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=lambda: RunSettings(watch="val_total", sheets=False))


@dataclass(frozen=True)
class GdmTrainingSettings(PlayerTrainingSettings):
    """A training run as data; `task` says what is learned."""

    task: Literal["gdm"] = "gdm"
    network: GdmNetworkSettings = field(default_factory=GdmNetworkSettings)

    @staticmethod
    def load(path: Path) -> GdmTrainingSettings:
        """Read a TOML file. Raises UserError for a missing file, bad TOML, an unknown name or a wrong value."""
        return GdmTrainingSettings.of(load_recipe(path), path.name)

    @staticmethod
    def of(content: dict[str, Any], where: str = "training settings") -> GdmTrainingSettings:
        """Build from nested tables. Raises UserError for an unknown name or a wrong value."""
        return build(GdmTrainingSettings, content, where)
