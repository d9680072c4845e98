"""How the dance -> music model is learned: its batches, and what is measured on the validation pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from engine.types import TICKS_PER_STEP
from models.dance_to_music.conditioning import MUSIC_CONDITION_SIZE
from models.dance_to_music.network import Gdm, GdmConfig
from models.dance_to_music.objective import GdmBatch, GdmObjective, Player
from models.dance_to_music.sequences import MusicSampler
from models.dance_to_music.settings import GdmTrainingSettings, PlayerTrainingSettings
from models.dance_to_music.tokens import HISTORY_SIZE
from models.learning.randomness import sequence_random

_VALIDATION_BATCHES, _VALIDATION_BATCH = 4, 12
_VALIDATION_DRAWS = 1 << 31
"""Beyond any step: validation draws the same sequences each time, and no training step draws them."""


class PlayerLesson:
    """How a network that plays to a dance is learned; see `models.learning.loop.Lesson`.

    Args:
        model: the network.
        sampler: of the training pieces.
        settings: of the run.
        validation: samplers of what is measured, by name; their losses are summed up as `val_total`.
    """

    def __init__(
        self,
        model: nn.Module,
        sampler: MusicSampler,
        settings: PlayerTrainingSettings,
        validation: dict[str, MusicSampler] | None = None,
    ) -> None:
        self.model, self.sampler, self.settings, self._validation = model, sampler, settings, validation or {}
        self.objective = GdmObjective(cast(Player, model), settings.velocity)

    @property
    def fitted(self) -> dict[str, NDArray[np.float32]]:
        """Return what was fitted to the training data; see `models.learning.loop.Lesson`."""
        return self.sampler.fitted

    def batch(self, step: int, places: Sequence[int], device: torch.device) -> GdmBatch:
        """Draw the sequences at some places of a step's global batch."""
        randoms = [sequence_random(self.settings.seed, step, place) for place in places]
        dances = step >= self.settings.dances_from
        return GdmBatch.of(self.sampler.sequences(randoms, dances=dances)).to(device)

    def before(self, step: int) -> None:
        """Nothing is due before a step."""

    @torch.no_grad()
    def evaluate(self, average: nn.Module, step: int, folder: Path) -> dict[str, float]:
        """Measure the losses on the validation pieces; write the weights."""
        save_file(average.state_dict(), folder / f"average-{step}.safetensors")
        objective = GdmObjective(cast(Player, average), self.settings.velocity).eval()
        device = next(average.parameters()).device
        figures: dict[str, float] = {}
        total = 0.0
        for name, sampler in self._validation.items():
            rows = []
            for draw in range(_VALIDATION_BATCHES):
                step_of_draw = _VALIDATION_DRAWS + draw
                randoms = [sequence_random(self.settings.seed, step_of_draw, p) for p in range(_VALIDATION_BATCH)]
                losses = objective(GdmBatch.of(sampler.sequences(randoms, dances=True)).to(device))
                rows.append({key: float(value) for key, value in losses.items()})
            means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
            total += sum(means.values())
            figures |= {f"val_{name}_{key}": value for key, value in means.items()}
        return {"val_total": total, **figures} if self._validation else {}


class GdmLesson(PlayerLesson):
    """The same for G_DM, whose network follows from the settings.

    Args:
        sampler: of the training pieces.
        settings: of the run.
        validation: see `PlayerLesson`.
    """

    def __init__(
        self, sampler: MusicSampler, settings: GdmTrainingSettings, validation: dict[str, MusicSampler] | None = None
    ) -> None:
        torch.manual_seed(settings.seed)
        super().__init__(Gdm(gdm_config(sampler, settings)), sampler, settings, validation)


def gdm_config(sampler: MusicSampler, settings: GdmTrainingSettings) -> GdmConfig:
    """Return the sizes of the network that a run learns."""
    return GdmConfig(
        dance_size=TICKS_PER_STEP * len(sampler.pose_mean),
        condition_size=MUSIC_CONDITION_SIZE,
        history_size=HISTORY_SIZE,
        **asdict(settings.network),
    )
