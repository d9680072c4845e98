"""How both directions are learned together: the batches of each step, and what is measured on the validation dances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.dance_to_music.lesson import GdmLesson
from models.dance_to_music.network import NOISE_SIZE
from models.dance_to_music.objective import GdmBatch, GdmObjective
from models.dual.gromov import exact_discrepancy, paired_discrepancy
from models.dual.objective import Bridges, Couple, DualBatch, DualObjective, PairBatch, Weights
from models.dual.pairs import PairSampler
from models.dual.settings import DualSettings
from models.dual.sound import Sound
from models.learning.randomness import sequence_random
from models.music_to_dance.lesson import GmdLesson
from models.music_to_dance.objective import GmdObjective, Noise, make_batch

_PAIRS = 1 << 33
"""Pairs are drawn apart from the sequences of the single tasks, whose draws stay those of their own runs."""
_VALIDATION_DRAWS = 1 << 31
_VALIDATION_BATCHES, _VALIDATION_BATCH = 4, 4


class DualLesson:
    """See `models.learning.loop.Lesson`.

    Args:
        dance: the single task of G_MD, with its data.
        music: that of G_DM.
        pairs: training dances with their written music.
        held_out: the same of the validation split; None: nothing is measured on pairs.
        settings: of the run.
    """

    def __init__(
        self,
        dance: GmdLesson,
        music: GdmLesson,
        pairs: PairSampler,
        held_out: PairSampler | None,
        settings: DualSettings,
    ) -> None:
        self._dance, self._music, self._pairs, self._held_out = dance, music, pairs, held_out
        self.settings = settings
        torch.manual_seed(settings.seed)
        self.model = Couple(dance.model, music.model, Sound(dance.sampler.music_mean, dance.sampler.music_scale))
        self.objective = self._objective_of(self.model)

    @property
    def fitted(self) -> dict[str, NDArray[np.float32]]:
        """Return what was fitted to the training data; see `models.learning.loop.Lesson`."""
        return {**self._dance.fitted, **self._music.fitted}

    def batch(self, step: int, places: Sequence[int], device: torch.device) -> DualBatch:
        """Draw what the terms of a step need, at some places of its global batch."""
        terms = self.settings.terms
        weights = Weights(**{name: getattr(terms, name).at(step) for name in asdict(terms)})
        return DualBatch(
            weights,
            self._dance.batch(step, places, device) if weights.dance else None,
            self._music.batch(step, places, device) if weights.music else None,
            self._draw(self._pairs, step, places).to(device) if weights.pairs else None,
        )

    def before(self, step: int) -> None:
        """Do what is due in the single tasks."""
        self._dance.before(step)
        self._music.before(step)

    def evaluate(self, average: nn.Module, step: int, folder: Path) -> dict[str, float]:
        """Measure both single tasks, the alignment and the cycles; write the weights of both networks."""
        assert isinstance(average, Couple)
        figures: dict[str, float] = {}
        for name, lesson, model in (("dance", self._dance, average.gmd), ("music", self._music, average.gdm)):
            place = folder / ("gmd" if name == "dance" else "gdm")
            place.mkdir(exist_ok=True)
            figures |= {f"{name}_{key}": value for key, value in lesson.evaluate(model, step, place).items()}
        if self._held_out is not None:
            figures |= self._measure(average)
        return figures

    @torch.no_grad()
    def _measure(self, average: Couple) -> Mapping[str, float]:
        assert self._held_out is not None
        objective = self._objective_of(average).eval()
        device = next(average.parameters()).device
        rows = []
        for draw in range(_VALIDATION_BATCHES):
            pairs = self._draw(self._held_out, _VALIDATION_DRAWS + draw, range(_VALIDATION_BATCH)).to(device)
            music, dance = objective.embeddings(pairs)
            each = list(zip(music, dance, strict=True))
            rows.append(
                {
                    "alignment": float(paired_discrepancy(music.flatten(0, 1), dance.flatten(0, 1))),
                    "alignment_paired": float(np.mean([float(paired_discrepancy(m, d)) for m, d in each])),
                    "alignment_exact": float(np.mean([float(exact_discrepancy(m, d)) for m, d in each])),
                    "cycle_music": float(objective.cycle_music(pairs)),
                    "cycle_dance": float(objective.cycle_dance(pairs)),
                    "bridge": float(objective.sound_error(pairs)),
                }
            )
        return {f"pairs_{name}": float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _draw(self, sampler: PairSampler, step: int, places: Sequence[int]) -> PairBatch:
        s = self.settings
        randoms = [sequence_random(s.seed, step, _PAIRS + place) for place in places]
        drawn = sampler.sequences(randoms)
        chunks = drawn.dance.history.shape[1]
        noises = [Noise.draw(random, chunks, s.gmd.network.latent_size, s.gmd.loss.share) for random in randoms]
        gumbel = np.stack([random.gumbel(size=(sampler.steps, NOISE_SIZE)) for random in randoms])
        return PairBatch(
            make_batch(drawn.dance, noises, np.zeros((len(randoms), chunks), bool)),
            GdmBatch.of(drawn.music),
            *(
                torch.from_numpy(array)
                for array in (
                    drawn.ticks_before,
                    drawn.interval_s,
                    drawn.energies,
                    drawn.features,
                    drawn.shift,
                    gumbel.astype(np.float32),
                )
            ),
        )

    def _objective_of(self, couple: Couple) -> DualObjective:
        s = self.settings
        own = s.gmd.own_history
        temperature = s.gmd.optimiser.own_history_temperature
        bridges = Bridges(
            self._music.sampler.pose_mean,
            self._music.sampler.pose_scale,
            self._pairs.music_lookahead,
            self._pairs.dance_lookahead,
            s.dance_temperature,
            s.token_temperature,
        )
        representation = self._dance.sampler.representation
        return DualObjective(
            couple,
            GmdObjective(couple.gmd, representation, s.gmd.loss, temperature, own.passes),
            GdmObjective(couple.gdm, s.gdm.velocity),
            bridges,
            s.alignment_moves,
        )
