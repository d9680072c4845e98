"""The losses of the dance -> music model: how surprised it is by what real bands played, voice by voice.

Nats a step. A voice that a source does not have is never learnt as silence: its terms are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.types import VOICES
from models.dance_to_music.network import VoiceHeads
from models.dance_to_music.sequences import MusicBatch
from models.learning.launch import LEAST_COUNT, mean_of_all


@dataclass
class GdmBatch:
    """`models.dance_to_music.sequences.MusicBatch` as tensors."""

    dance: Tensor | None
    dance_known: Tensor
    condition: Tensor
    history: Tensor
    drums: Tensor
    voices: Tensor
    levels: Tensor
    known: Tensor

    @staticmethod
    def of(batch: MusicBatch) -> GdmBatch:
        """Convert."""
        dance = None if batch.dance is None else torch.from_numpy(batch.dance)
        return GdmBatch(dance, *(torch.from_numpy(getattr(batch, f.name)) for f in fields(GdmBatch)[1:]))

    def to(self, device: torch.device) -> GdmBatch:
        """Return the batch on a device."""
        dance = None if self.dance is None else self.dance.to(device, non_blocking=True)
        others = (getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)[1:])
        return GdmBatch(dance, *others)


class Player(Protocol):
    """A network that plays, as `models.dance_to_music.network.Gdm` does."""

    heads: VoiceHeads

    def __call__(self, dance: Tensor | None, known: Tensor, condition: Tensor, history: Tensor) -> Tensor:
        """Return the states (B, N, width) from which the heads choose; see
        `models.dance_to_music.network.Gdm.forward`."""
        ...


class GdmObjective(nn.Module):
    """The losses of a batch, by voice, and of their velocities.

    Args:
        model: that learns.
        velocity: weight of the velocities of bass, chords and lead (those of the drums are part of the drums).
    """

    def __init__(self, model: Player, velocity: float) -> None:
        super().__init__()
        self.model, self.velocity = model, velocity

    def forward(self, batch: GdmBatch) -> dict[str, Tensor]:
        """Return the weighted losses by name."""
        context = self.model(batch.dance, batch.dance_known, batch.condition, batch.history)
        logits = self.model.heads(context, batch.drums, batch.voices)
        steps = batch.voices.shape[1]
        known = batch.known[:, :1].expand(-1, steps)
        losses = {"drums": self._mean(_surprise(logits.drums, batch.drums).sum(-1), known)}
        level_sum, level_count = context.new_zeros(()), context.new_zeros(())
        for voice, name in enumerate(VOICES[1:]):
            known = batch.known[:, voice + 1 : voice + 2].expand(-1, steps)
            losses[name] = self._mean(_surprise(logits.voices[voice], batch.voices[..., voice]), known)
            level = batch.levels[..., voice]
            begins = known * (level >= 0)
            level_sum = level_sum + (begins * _surprise(logits.levels[voice], level.clamp(min=0))).sum()
            level_count = level_count + begins.sum()
        losses["velocity"] = self.velocity * level_sum / self._whole(level_count)
        return losses

    def _mean(self, values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum() / self._whole(weights.sum())

    def _whole(self, count: Tensor) -> Tensor:
        """Return what a sum over so many is divided by: few of a batch's sequences may have a voice, on one process."""
        return (mean_of_all(count) if self.training else count).clamp(min=LEAST_COUNT)


def _surprise(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log p (...) of targets (...) under logits (..., n)."""
    flat = functional.cross_entropy(logits.float().flatten(0, -2), target.flatten(), reduction="none")
    return flat.view(target.shape)
