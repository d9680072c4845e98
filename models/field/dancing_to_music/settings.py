"""Settings of a training run of Dancing to Music (`config/training/field/dancing_to_music.toml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.field.dancing_to_music.kinematic_beats import BeatSettings
from models.field.dancing_to_music.units import UnitShape
from models.learning.settings import OptimiserSettings, RunSettings, build

UNITS_FOLDER = "units"
"""Of a run, holds its first stage."""


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the networks.

    Attributes:
        initial, movement, dance: of z_ini, z_mov and z_dan.
        style: of the style vector, and of the layer that listens.
        style_noise: Gaussian numbers beside the style.
        unit_width: of the recurrent layers of the units.
        dance_width: of the recurrent layers and the discriminators of the composition.
        units: in a sequence that is composed at once.
    """

    initial: int = 10
    movement: int = 64
    dance: int = 32
    style: int = 30
    style_noise: int = 30
    unit_width: int = 192
    dance_width: int = 192
    units: int = 3

    @property
    def noise(self) -> int:
        """Return the Gaussian numbers that a sequence takes: beside the style, and of z_dan."""
        return self.style_noise + self.dance


@dataclass(frozen=True)
class HearingSettings:
    """What of the music is heard before a sequence of units.

    Attributes:
        ticks: of music up to it.
        lookahead_ticks: the newest music ends so many ticks before its first tick, as on the stage.
        noise: largest deviation of the noise on the normalised features, while learning.
        tempo_jitter: largest relative error of the tempo, while learning.
        balance: styles are drawn with probability ~ (their length) ** balance.
    """

    ticks: int = 96
    lookahead_ticks: int = 2
    noise: float = 0.6
    tempo_jitter: float = 0.06
    balance: float = 0.6

    def __post_init__(self) -> None:
        if self.ticks < 1 or self.lookahead_ticks < 0:
            raise ValueError("some music must be heard, and none of the future")


@dataclass(frozen=True)
class LossSettings:
    """Weights of the losses.

    Attributes:
        reconstruction: on mean absolute errors of units and of movements.
        divergence: on the divergence of z_dan [nats].
        divergence_movement: on that of z_mov.
        divergence_initial: on that of z_ini. Smaller, so that what both could say is said by z_ini: whatever z_mov says
            of the initial pose, the unit jumps to (the published code teaches it by exchanging z_ini between copies of
            a unit at other places, but poses here have no place).
        divergence_rise: share of the first stage in which the divergences of units come up to their weights in a line.
            The published code raises them along a logistic curve about step 15,000.
        adversarial: on what the discriminators say of what is made; their own losses count one.
        style: on mean absolute errors of the style read off a dance.
    """

    reconstruction: float = 10.0
    divergence: float = 0.01
    divergence_movement: float = 0.001
    divergence_initial: float = 0.0001
    divergence_rise: float = 0.5
    adversarial: float = 1.0
    style: float = 1.0


@dataclass(frozen=True)
class DancingToMusicSettings:
    """A training run as data.

    Attributes:
        task: what is learned.
        model: the system.
        name: of the model, in its manifest and in tables.
        seed: of everything random.
        device: "auto": a GPU where there is one.
        bfloat16: matrix products in bfloat16.
        protocol: "A": all training dances; "B": only what no held-out clip repeats
            (`models.music_to_dance.unseen_movement`).
        beats: what counts as a kinematic beat.
        unit: how units are cut.
        network: sizes.
        hearing: what of the music is heard.
        loss: weights.
        decomposition: how the weights of the units and of the style classifier move.
        optimiser: how the weights of the composition move, which is learnt after them.
        run: what is done beside, in both stages.
    """

    task: Literal["field"] = "field"
    model: Literal["dancing_to_music"] = "dancing_to_music"
    name: str = "dancing_to_music"
    seed: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bfloat16: bool = False
    protocol: Literal["A", "B"] = "A"
    beats: BeatSettings = field(default_factory=BeatSettings)
    unit: UnitShape = field(default_factory=UnitShape)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    hearing: HearingSettings = field(default_factory=HearingSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    decomposition: OptimiserSettings = field(default_factory=OptimiserSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    @staticmethod
    def of(content: Mapping[str, Any], where: str = "training settings") -> DancingToMusicSettings:
        """Build from nested tables. Raises UserError for an unknown name or a wrong value."""
        return build(DancingToMusicSettings, content, where)
