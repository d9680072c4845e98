"""The graph of one step as it is exported: what `Gmd.step_tensors` and `Gmd.sample` compute, in half the operations.

On a CPU a step of this size is bound by the number of operations and by how often the weights are read, not by
arithmetic. So, with nothing learned anew: query, key and value of a token are one product; the keys and values that
every decoder layer makes of the music are one product for all layers; the rotary embedding is one gather and one sum;
and what is linear in the head is multiplied out. For a crowd a step is bound by the copying of rings: so each ring is
an input of its own, read where it lies, and the new key and value meet it only in the scores and in the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.music_to_dance.choice_stage import StageChoice, linear_of
from models.music_to_dance.network import Gmd
from models.transformer import Attention


class StageStep(nn.Module):
    """One chunk: transformer step and choice. Inputs and outputs as `Gmd.step_tensors`, with the draw's noise.

    Unlike there, the mask is (B, window): dancers of a batch share the rings' slots, but may have forgotten.

    Args:
        model: trained; its weights are copied.
        temperature: of the choice head's draw.
    """

    def __init__(self, model: Gmd, temperature: float = 1.0) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self.encoder_attention = nn.ModuleList(_SelfAttention(layer.attention) for layer in model.encoder)
        self.decoder_attention = nn.ModuleList(_SelfAttention(layer.attention) for layer in model.decoder)
        cross = [layer.cross_attention for layer in model.decoder]
        self.cross_query = nn.ModuleList(_scaled_query(attention) for attention in cross)
        self.cross_out = nn.ModuleList(attention.out for attention in cross)
        # All keys, then all values: the keys of every layer are rotated at once.
        keys, values = zip(*(attention.memory.weight.chunk(2) for attention in cross), strict=True)
        key_biases, value_biases = zip(*(attention.memory.bias.chunk(2) for attention in cross), strict=True)
        self.cross_memory = linear_of(torch.cat([*keys, *values]), torch.cat([*key_biases, *value_biases]))
        self.rotary = _Rotary(config.heads, config.head_size)
        self.head = StageChoice(model, temperature)

    def forward(
        self,
        music: Tensor,
        condition: Tensor,
        history: Tensor,
        noise: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        mask: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the latent (B, L) and the new keys and values (attentions, B, heads, head_size).

        Keys and values are one ring (B, heads, window, head_size) an attention.
        """
        model, config = self.model, self.model.config
        # Each dancer of a batch has a mask of their own; the token itself is always seen.
        mask = mask[:, None, None]
        turn = self.rotary.angles(cos, sin, turned=2, straight=1)
        new_keys: list[Tensor] = []
        new_values: list[Tensor] = []

        x = model.music_in(torch.cat([music, condition], dim=-1))
        for index, (layer, attention) in enumerate(zip(model.encoder, self.encoder_attention, strict=True)):
            query, key, value = attention(layer.norms[0](x), self.rotary, turn)
            x = x + attention.out(_attend(query, key, value, mask, keys[index], values[index]))
            x = x + layer.feed_forward(layer.norms[1](x))
            new_keys.append(key)
            new_values.append(value)
        layers = len(self.decoder_attention)
        memory = self.rotary(
            self.cross_memory(model.encoder_norm(x)), self.rotary.angles(cos, sin, turned=layers, straight=layers)
        )
        memories = [self.rotary.heads(part) for part in memory.chunk(2 * layers, dim=1)]
        turn_one = self.rotary.angles(cos, sin, turned=1, straight=0)

        x = model.motion_in(torch.cat([history, condition], dim=-1))
        for index, (layer, attention) in enumerate(zip(model.decoder, self.decoder_attention, strict=True)):
            ring = len(self.encoder_attention) + 2 * index
            query, key, value = attention(layer.norms[0](x), self.rotary, turn)
            x = x + attention.out(_attend(query, key, value, mask, keys[ring], values[ring]))
            query = self.rotary.heads(self.rotary(self.cross_query[index](layer.norms[1](x)), turn_one))
            cross_key, cross_value = memories[index], memories[layers + index]
            mixed = _attend(query, cross_key, cross_value, mask, keys[ring + 1], values[ring + 1])
            x = x + self.cross_out[index](mixed)
            x = x + layer.feed_forward(layer.norms[2](x))
            new_keys += [key, cross_key]
            new_values += [value, cross_value]
        latent = self.head(model.decoder_norm(x), history, noise)
        fresh = (len(new_keys), -1, self.rotary.count, config.head_size)
        return latent, torch.cat(new_keys).reshape(fresh), torch.cat(new_values).reshape(fresh)

    def cost(self) -> tuple[int, int]:
        """Return the bytes of the weights that a step reads, and its multiply-adds for one dancer."""
        config = self.model.config
        used = self.encoder_attention, self.decoder_attention, self.cross_query, self.cross_out, self.cross_memory
        layers = [layer.feed_forward for layer in (*self.model.encoder, *self.model.decoder)]
        parts = [*used, *layers, self.model.music_in, self.model.motion_in, self.head]
        weights = sum(_weights(part) for part in parts)
        attention = config.attentions * 2 * (config.window + 1) * config.width
        rings = config.attentions * 2 * config.window * config.width
        return 4 * (weights + rings), weights + attention


def _weights(part: nn.Module) -> int:
    return sum(layer.weight.numel() for layer in part.modules() if isinstance(layer, nn.Linear))


def _scaled_query(attention: Attention) -> nn.Linear:
    """Return the query's map with the scores' scale in it."""
    scale = 1.0 / math.sqrt(attention.head_size)
    return linear_of(attention.query.weight * scale, attention.query.bias * scale)


class _Rotary(nn.Module):
    """Rotation of the halves of each head against each other, as `models.music_to_dance.network.rotate`, of whole
    projections at once."""

    def __init__(self, heads: int, head_size: int) -> None:
        super().__init__()
        self.count, self.half = heads, head_size // 2
        self.register_buffer("swapped", torch.tensor([1, 0]))

    def angles(self, cos: Tensor, sin: Tensor, turned: int, straight: int) -> tuple[Tensor, Tensor]:
        """Return the factors of values and swapped values for `turned` projections and `straight` ones after them."""
        rest = (0, 0, 0, 0, 0, straight * self.count)
        keep = torch.stack([cos, cos]).expand(turned * self.count, 2, self.half)
        swap = torch.stack([-sin, sin]).expand(turned * self.count, 2, self.half)
        return functional.pad(keep, rest, value=1.0), functional.pad(swap, rest)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Return projections (B, n * width) turned, as (B, n * heads, 2, half)."""
        x = x.reshape(x.shape[0], -1, 2, self.half)
        return x * angles[0] + x.index_select(2, self.swapped) * angles[1]

    def heads(self, x: Tensor) -> Tensor:
        """Return one projection (B, heads, 2, half) as (B, heads, 1, head_size)."""
        return x.reshape(-1, self.count, 1, 2 * self.half)


class _SelfAttention(nn.Module):
    """Query, key and value of a token in one product."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        query = _scaled_query(attention)
        self.joint = linear_of(
            torch.cat([query.weight, attention.memory.weight]), torch.cat([query.bias, attention.memory.bias])
        )
        self.out = attention.out

    def forward(self, x: Tensor, rotary: _Rotary, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = rotary(self.joint(x), turn).chunk(3, dim=1)
        return rotary.heads(query), rotary.heads(key), rotary.heads(value)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return (B, width): attention of a token (B, heads, 1, size) over a ring (B, heads, W, size) and itself."""
    past = torch.matmul(query, keys.transpose(-1, -2)) + mask
    now = torch.matmul(query, key.transpose(-1, -2))
    weights = torch.softmax(torch.cat([past, now], dim=-1), dim=-1)
    past, now = weights.split([keys.shape[2], 1], dim=-1)
    return (torch.matmul(past, values) + now * value).reshape(query.shape[0], -1)
