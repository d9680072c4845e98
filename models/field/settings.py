"""Settings of a training run of one of the systems of the field (`config/training/field/*.toml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from engine.errors import UserError
from models.field.registry import SYSTEMS, entry
from models.learning.settings import OptimiserSettings, RunSettings, build

_WATCH = "val_loss"
"""The sum of a system's losses on the validation songs: every system has it."""


@dataclass(frozen=True)
class FieldTrainingSettings:
    """A training run as data.

    Attributes:
        task: what is learned.
        model: name of the system in `models.field.registry`.
        name: in its manifest and in tables; the system's if empty.
        seed: of everything random.
        device: "auto": a GPU where there is one.
        bfloat16: matrix products in bfloat16 (weights, norms and losses stay in float32).
        protocol: "A": all training dances; "B": only what no held-out clip repeats
            (`models.music_to_dance.unseen_movement`).
        frame_rate_hz: of poses and music.
        window_frames: T, frames of a training window.
        epoch_steps: steps of the optimiser that count as one epoch of the system's curricula.
        network: of the system's own class of settings.
    """

    task: Literal["field"] = "field"
    model: str = ""
    name: str = ""
    seed: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bfloat16: bool = False
    protocol: Literal["A", "B"] = "A"
    frame_rate_hz: float = 15.0
    window_frames: int = 60
    epoch_steps: int = 10
    network: Any = None
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=lambda: RunSettings(watch=_WATCH))

    def __post_init__(self) -> None:
        if self.frame_rate_hz <= 0.0 or self.window_frames < 2 or self.epoch_steps < 1:
            raise ValueError("frame_rate_hz over 0, window_frames from 2, epoch_steps from 1")

    @staticmethod
    def of(content: Mapping[str, Any], where: str = "training settings") -> FieldTrainingSettings:
        """Build from nested tables.

        Raises:
            UserError: no system, an unknown one, or an unknown name or wrong value.
        """
        content = dict(content)
        if not content.get("model"):
            raise UserError(f"{where}: it does not say which system", f"set model to one of: {', '.join(SYSTEMS)}")
        found = entry(str(content["model"]))
        network = content.pop("network", {})
        if not isinstance(network, Mapping):
            raise UserError(f"{where}: 'network' is a section", "write it as [network]")
        run = content.get("run", {})
        if isinstance(run, Mapping):
            content["run"] = {"watch": _WATCH, **run}
        settings = build(FieldTrainingSettings, content, where)
        settings = replace(settings, network=build(found.settings_class(), network, f"{where} [network]"))
        return settings if settings.name else replace(settings, name=settings.model)
