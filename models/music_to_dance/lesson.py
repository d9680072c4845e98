"""How the music -> dance model is learned: its batches, its refits, and what is measured on the validation songs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from models.learning.own_history import own_mask
from models.learning.randomness import sequence_random
from models.music_to_dance.choice_head import choice_count, fit_choices
from models.music_to_dance.conditioning import CONDITION_SIZE
from models.music_to_dance.continuity import fit_continuity
from models.music_to_dance.network import Gmd, GmdConfig
from models.music_to_dance.objective import GmdBatch, GmdObjective, Noise, make_batch
from models.music_to_dance.rollout import RealDance, piece_of, roll_out, show
from models.music_to_dance.sequences import DanceClip, SequenceSampler
from models.music_to_dance.settings import TrainingSettings

log = logging.getLogger(__name__)

_REFIT_STEPS = 500
"""The model's errors, by which its chunks are joined, change slowly."""
_DANCE_BEATS = 90
_SEEDS_PER_SONG = 4
_VALIDATION_BATCHES, _VALIDATION_BATCH = 4, 8
_VALIDATION_DRAWS = 1 << 31
"""Beyond any step: validation draws the same sequences and noise each time, and no training step draws them."""


class GmdLesson:
    """See `models.learning.loop.Lesson`.

    Args:
        sampler: of the training dances.
        settings: of the run.
        validation: dances to measure on; with none of them there is nothing to evaluate.
        real: what generated dances are compared with.
    """

    def __init__(
        self,
        sampler: SequenceSampler,
        settings: TrainingSettings,
        validation: Sequence[DanceClip] = (),
        real: RealDance | None = None,
    ) -> None:
        self.sampler, self.settings, self._songs, self._real = sampler, settings, tuple(validation), real
        torch.manual_seed(settings.seed)
        self.model = Gmd(gmd_config(sampler, settings))
        fit_choices(self.model.head, sampler)
        self.objective = self._objective_of(self.model)
        held_out = [clip for clip in validation if sampler.holds(clip)]
        self._held_out = sampler.over(held_out) if held_out else None

    @property
    def fitted(self) -> dict[str, NDArray[np.float32]]:
        """Return what was fitted to the training data; see `models.learning.loop.Lesson`."""
        return self.sampler.fitted

    def batch(self, step: int, places: Sequence[int], device: torch.device) -> GmdBatch:
        """Draw the sequences at some places of a step's global batch."""
        return self._draw(self.sampler, step, places, own=True).to(device)

    def before(self, step: int) -> None:
        """Refit how the model's chunks are joined while it learns from its own output."""
        begin = self.settings.optimiser.own_history_from
        if begin and step >= begin and (step - begin) % _REFIT_STEPS == 0:
            fitted = self._fitted(self.model)
            for name, buffer in self.model.named_buffers():
                buffer.copy_(fitted.get_buffer(name))

    def evaluate(self, average: nn.Module, step: int, folder: Path) -> dict[str, float]:
        """Measure the loss and minutes of dance on the validation songs; write the weights and a contact sheet."""
        model = self._fitted(average)
        save_file(model.state_dict(), folder / f"average-{step}.safetensors")
        figures: dict[str, float] = {}
        if self._held_out is not None:
            figures |= {f"val_{name}": value for name, value in self._validation_loss(model).items()}
        songs = [song for song in self._songs if song.music is not None]
        if songs and self._real is not None:
            pieces = [piece_of(song, _DANCE_BEATS) for song in songs for _ in range(_SEEDS_PER_SONG)]
            dances = roll_out(model, self.sampler, pieces, range(len(pieces)))
            motions = [show(ticks, piece.tempo_bpm) for ticks, piece in zip(dances, pieces, strict=True)]
            found = self._real.judge(motions)
            log.info("step %d: %s", step, found)
            figures |= asdict(found)
            if self.settings.run.sheets:
                from models.motion.sheets import contact_sheet  # matplotlib is slow to import and not needed otherwise

                contact_sheet(
                    motions[0].joints,
                    folder / "sheets" / f"step-{step:06d}.png",
                    np.arange(len(motions[0].joints)) / 60.0,
                    title=f"step {step}: {songs[0].name}",
                )
        return figures

    @torch.no_grad()
    def _validation_loss(self, model: Gmd) -> dict[str, float]:
        assert self._held_out is not None
        objective = self._objective_of(model).eval()
        rows = []
        for draw in range(_VALIDATION_BATCHES):
            batch = self._draw(self._held_out, _VALIDATION_DRAWS + draw, range(_VALIDATION_BATCH), own=False)
            rows.append({name: float(value) for name, value in objective(batch).items()})
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _draw(self, sampler: SequenceSampler, step: int, places: Sequence[int], *, own: bool) -> GmdBatch:
        s = self.settings
        begin, chunks = s.optimiser.own_history_from, s.sequence.chunks
        randoms = [sequence_random(s.seed, step, place) for place in places]
        sequences = sampler.sequences(randoms)
        noises = [Noise.draw(random, chunks, s.network.latent_size, s.loss.share) for random in randoms]
        mask = np.zeros((len(randoms), chunks), bool)
        if own and begin and step >= begin:
            epoch = (step - begin) / s.own_history.epoch_steps
            share = s.optimiser.own_history_share
            mask = np.stack([own_mask(s.own_history, random, chunks, epoch, share) for random in randoms])
        return make_batch(sequences, noises, mask)

    def _fitted(self, model: nn.Module) -> Gmd:
        """Return a copy of the model on the CPU whose chunks are joined as its errors now ask for."""
        fitted = copy.deepcopy(model).cpu().eval()
        assert isinstance(fitted, Gmd)
        fit_continuity(fitted, self.sampler, self.settings.optimiser.own_history_temperature)
        return fitted

    def _objective_of(self, model: Gmd) -> GmdObjective:
        s = self.settings
        return GmdObjective(
            model,
            self.sampler.representation,
            s.loss,
            s.optimiser.own_history_temperature,
            s.own_history.passes,
        )


def gmd_config(sampler: SequenceSampler, settings: TrainingSettings) -> GmdConfig:
    """Return the sizes of the network that a run learns."""
    return GmdConfig(
        music_size=settings.chunk_ticks * len(sampler.music_mean),
        condition_size=CONDITION_SIZE,
        **{**asdict(settings.network), "choices": choice_count(settings.network.choices, sampler)},
    )
