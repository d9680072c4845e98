"""The choice head as it is exported: what `ChoiceHead` and `Gmd.joined` compute, in few operations.

All that is linear is multiplied out beforehand: a choice's centre, its part of the base and its embedding are one row
of one table, the history's three uses one product, and the join on to the chunk before is in every one of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.music_to_dance.choice_head import CORRECTION_SPREAD, evenly, pick
from models.music_to_dance.network import Gmd


class StageChoice(nn.Module):
    """`Gmd.sample` at one temperature.

    Args:
        model: trained; its weights are copied.
        temperature: of the draw.
    """

    def __init__(self, model: Gmd, temperature: float = 1.0) -> None:
        super().__init__()
        head = model.head
        self.blocks, self.norm = head.blocks, head.norm
        self.choices = len(head.centres)
        with torch.no_grad():
            keep = model.continuity_keep
            last = head.query[2]
            warmed = linear_of(last.weight / temperature, (last.bias + head.as_danced) / temperature)
            self.query = nn.Sequential(head.query[0], head.query[1], warmed)
            base = head.centres @ head.base_choice.T @ keep.T
            self.register_buffer("table", torch.cat([base, head.choice.weight], dim=1))
            # "1 + scale" of the modulation: the one goes into the bias.
            bias = head.modulation.bias.clone().unflatten(0, (len(head.blocks), 2, -1))
            bias[:, 0] += 1.0
            self.modulation = linear_of(head.modulation.weight, bias.flatten())
            joined = keep @ head.base_history + model.continuity_history
            offset = keep @ head.base_offset + model.continuity_offset
            self.history = linear_of(torch.cat([joined, head.history.weight]), torch.cat([offset, head.history.bias]))
            self.out = linear_of(CORRECTION_SPREAD * keep @ head.out.weight, CORRECTION_SPREAD * keep @ head.out.bias)
            self.register_buffer("low", head.low.clone())
            self.register_buffer("high", head.high.clone())
        self.sizes = [base.shape[1], head.history.out_features]

    def forward(self, context: Tensor, history: Tensor, noise: Tensor) -> Tensor:
        """Return latents (B, L) of contexts (B, width), histories (B, L) and noise (B, L)."""
        chances = torch.softmax(self.query(context), dim=-1)
        row = self.table[pick(chances, evenly(noise[:, :1]))]
        base, hidden = (row + self.history(history)).split(self.sizes, dim=-1)
        parts = self.modulation(functional.gelu(context)).chunk(2 * len(self.blocks), dim=-1)
        for index, block in enumerate(self.blocks):
            scale, shift = parts[2 * index : 2 * index + 2]
            hidden = hidden + block(self.norm(hidden) * scale + shift)
        return torch.minimum(torch.maximum(base + self.out(hidden), self.low), self.high)


def linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return the linear layer of a weight (out, in) and a bias (out,), copied."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
