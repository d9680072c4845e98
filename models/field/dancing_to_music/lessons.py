"""The two lessons: units and the style of music first, then the composition of units over what was learnt."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from models.field.dancing_to_music.compose import UnitDancer, UnitPlan, dance_through
from models.field.dancing_to_music.data import UnitBank
from models.field.dancing_to_music.mm_gan import CompositionBatch
from models.field.dancing_to_music.network import DancingToMusic, Decomposition, TorchUnits
from models.field.dancing_to_music.settings import DancingToMusicSettings, LossSettings
from models.learning.randomness import sequence_random
from models.music_to_dance.rollout import Piece, RealDance, piece_of, show
from models.music_to_dance.sequences import DanceClip

log = logging.getLogger(__name__)

_DANCE_BEATS = 90
_SEEDS_PER_SONG = 4
_VALIDATION_UNITS = 256
_VALIDATION_DRAWS = 1 << 31
"""Beyond any step: validation draws the same units and noise each time, and no training step draws them."""


@dataclass
class DecompositionBatch:
    """B units (B, poses, 152) with their noise (B, i) and (B, m), music (B, W, M) of styles (B,), and the share of the
    first stage that is over."""

    units: Tensor
    initial_noise: Tensor
    movement_noise: Tensor
    music: Tensor
    styles: Tensor
    progress: float = 1.0

    def to(self, device: torch.device) -> DecompositionBatch:
        """Return the batch on a device."""
        parts = (self.units, self.initial_noise, self.movement_noise, self.music, self.styles)
        return DecompositionBatch(*(part.to(device) for part in parts), self.progress)


class DecompositionObjective(nn.Module):
    """Losses of the units and of the classifier, which share no weights."""

    def __init__(self, model: Decomposition, weights: LossSettings) -> None:
        super().__init__()
        self.model, self._weights = model, weights

    def forward(self, batch: DecompositionBatch) -> dict[str, Tensor]:
        """Return the weighted losses by name."""
        w = self._weights
        risen = min(1.0, batch.progress / w.divergence_rise) if w.divergence_rise else 1.0
        losses = self.model.units.losses(batch.units, batch.initial_noise, batch.movement_noise)
        return {
            "unit": w.reconstruction * losses["unit"],
            "kl_initial": risen * w.divergence_initial * losses["kl_initial"],
            "kl_movement": risen * w.divergence_movement * losses["kl_movement"],
            "music_style": self.model.classifier.loss(batch.music, batch.styles),
        }


class DecompositionLesson:
    """Units and styles; see `models.learning.loop.Lesson`.

    Args:
        bank: of the training dances.
        settings: of the run.
        held_out: of the validation dances; None: nothing to evaluate.
    """

    def __init__(self, bank: UnitBank, settings: DancingToMusicSettings, held_out: UnitBank | None = None) -> None:
        self.bank, self.settings, self._held_out = bank, settings, held_out
        torch.manual_seed(settings.seed)
        self.model = Decomposition(settings, bank.tables.music_size)
        self.objective = DecompositionObjective(self.model, settings.loss)

    @property
    def fitted(self) -> dict[str, NDArray[np.float32]]:
        """Return what was fitted to the training data; see `models.learning.loop.Lesson`."""
        return self.bank.tables.fitted

    def batch(self, step: int, places: Sequence[int], device: torch.device) -> DecompositionBatch:
        """Draw the units and the music at some places of a step's global batch."""
        batch = self._draw(self.bank, [sequence_random(self.settings.seed, step, p) for p in places])
        batch.progress = step / self.settings.optimiser.steps
        return batch.to(device)

    def before(self, step: int) -> None:
        """Nothing is refitted."""

    @torch.no_grad()
    def evaluate(self, average: nn.Module, step: int, folder: Path) -> dict[str, float]:
        """Measure units and styles of the validation dances; write the weights."""
        assert isinstance(average, Decomposition)
        save_file(_whole(average), folder / f"average-{step}.safetensors")
        if self._held_out is None:
            return {}
        model = average.cpu().eval()
        randoms = [sequence_random(self.settings.seed, _VALIDATION_DRAWS, p) for p in range(_VALIDATION_UNITS)]
        losses = DecompositionObjective(model, self.settings.loss)(self._draw(self._held_out, randoms))
        figures = {f"val_{name}": float(value) for name, value in losses.items()}
        music, styles = self._held_out.music(self._held_out.every_place(self.settings.unit.beats))
        figures["val_style_accuracy"] = model.classifier.accuracy(music, styles)
        return figures

    def _draw(self, bank: UnitBank, randoms: Sequence[np.random.Generator]) -> DecompositionBatch:
        sizes = self.settings.network
        units = bank.units(randoms)
        music, styles = bank.music(bank.places(randoms), randoms)
        noise = _noise(randoms, sizes.initial + sizes.movement)
        return DecompositionBatch(units, noise[:, : sizes.initial], noise[:, sizes.initial :], music, styles)


class CompositionObjective(nn.Module):
    """Losses of the composition."""

    def __init__(self, model: DancingToMusic, weights: LossSettings) -> None:
        super().__init__()
        self.model, self._weights = model, weights

    def forward(self, batch: CompositionBatch) -> dict[str, Tensor]:
        """Return the weighted losses by name; the judges' own count one."""
        w = self._weights
        factors = {
            "movements": w.reconstruction,
            "style": w.style,
            "kl_dance": w.divergence,
            "fool_movements": w.adversarial,
            "fool_dance": w.adversarial,
        }
        return {name: factors.get(name, 1.0) * value for name, value in self.model.gan.losses(batch).items()}


class CompositionLesson:
    """Sequences of units; the decomposition stays as it was learnt. See `models.learning.loop.Lesson`.

    Args:
        bank: of the training dances.
        settings: of the run.
        decomposition: averaged weights of the first lesson.
        songs: dances to whose music it dances at each evaluation.
        real: what those dances are compared with.
    """

    def __init__(
        self,
        bank: UnitBank,
        settings: DancingToMusicSettings,
        decomposition: Decomposition,
        songs: Sequence[DanceClip] = (),
        real: RealDance | None = None,
    ) -> None:
        self.bank, self.settings, self._real = bank, settings, real
        self._songs = [song for song in songs if song.music is not None]
        torch.manual_seed(settings.seed)
        self.model = DancingToMusic(settings, decomposition)
        for parameter in decomposition.parameters():
            parameter.requires_grad_(False)
        self.objective = CompositionObjective(self.model, settings.loss)
        self._movements = self._encoded(decomposition)

    @property
    def fitted(self) -> dict[str, NDArray[np.float32]]:
        """Return what was fitted to the training data; see `models.learning.loop.Lesson`."""
        return self.bank.tables.fitted

    def batch(self, step: int, places: Sequence[int], device: torch.device) -> CompositionBatch:
        """Draw the sequences at some places of a step's global batch."""
        sizes, apart = self.settings.network, self.settings.unit.beats
        randoms = [sequence_random(self.settings.seed, step, place) for place in places]
        found = self.bank.places(randoms)
        rows = [self._movements[p.dance][p.unit : p.unit + sizes.units * apart : apart] for p in found]
        music, _ = self.bank.music(found, randoms)
        with torch.no_grad():
            style = self.model.decomposition.classifier.style(music.to(device))
        noise = _noise(randoms, sizes.dance + sizes.noise).to(device)
        return CompositionBatch(torch.stack(rows).to(device), style, noise[:, : sizes.dance], noise[:, sizes.dance :])

    def before(self, step: int) -> None:
        """Nothing is refitted."""

    def evaluate(self, average: nn.Module, step: int, folder: Path) -> dict[str, float]:
        """Measure minutes of dance on the validation songs; write the weights and a contact sheet."""
        assert isinstance(average, DancingToMusic)
        save_file(_whole(average), folder / f"average-{step}.safetensors")
        if not self._songs or self._real is None:
            return {}
        model = TorchUnits(average.cpu())
        pieces = [piece_of(song, _DANCE_BEATS) for song in self._songs for _ in range(_SEEDS_PER_SONG)]
        dancer = UnitDancer(model, self.bank.tables, unit_plan(self.settings))
        motions = [show(self._dance(dancer, piece, seed), piece.tempo_bpm) for seed, piece in enumerate(pieces)]
        found = self._real.judge(motions)
        log.info("step %d: %s", step, found)
        if self.settings.run.sheets:
            from models.motion.sheets import contact_sheet  # matplotlib is slow to import and not needed otherwise

            contact_sheet(
                motions[0].joints,
                folder / "sheets" / f"step-{step:06d}.png",
                np.arange(len(motions[0].joints)) / 60.0,
                title=f"step {step}: {self._songs[0].name}",
            )
        return asdict(found)

    def _dance(self, dancer: UnitDancer, piece: Piece, seed: int) -> np.ndarray:
        tempo_bpm = np.full(len(piece.music), piece.tempo_bpm)
        look = self.settings.hearing.lookahead_ticks
        return dance_through(dancer, piece.music, tempo_bpm, look, seed, piece.style)

    @torch.no_grad()
    def _encoded(self, decomposition: Decomposition) -> list[Tensor]:
        """Return, for each dance of the bank, the means of z_mov of all its units."""
        encoder = decomposition.units.encode_movement.eval()
        return [encoder(units).mean for units in self.bank.all_units()]


def unit_plan(settings: DancingToMusicSettings) -> UnitPlan:
    """Return the sizes that a dancer of a run needs."""
    sizes = settings.network
    return UnitPlan(settings.unit.beats, settings.hearing.ticks, sizes.noise, sizes.initial)


def _noise(randoms: Sequence[np.random.Generator], size: int) -> Tensor:
    return torch.from_numpy(np.stack([random.standard_normal(size, np.float32) for random in randoms]))


def _whole(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
