"""The parts both dual networks are made of: causal rotary attention over a sequence, and the same one step at a time.

`forward` is used for learning, `step` on the stage; they are the same function within 1e-5. The state of `step` is
explicit and of fixed shape: a ring of rotated keys and values per attention, whose order does not matter because
keys are rotated when they are written (rotary embedding, Su et al. 2021). The caller owns the ring.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

_MASKED = -1e9
"""Added to the attention scores of what may not be seen: zero after the softmax, and finite in every format."""

ROTARY_BASE = 100.0
"""The slowest rotary component turns once in about 470 tokens, well beyond the window."""


class TransformerShape(Protocol):
    """The sizes that the parts need of a network's configuration."""

    @property
    def width(self) -> int:
        """Of the transformer."""
        ...

    @property
    def heads(self) -> int:
        """Attention heads."""
        ...

    @property
    def head_size(self) -> int:
        """Values per attention head; even."""
        ...

    @property
    def attentions(self) -> int:
        """Number of key/value rings: encoder self, then for each decoder layer its self and its cross attention."""
        ...

    @property
    def window(self) -> int:
        """How many past tokens each attention sees besides the current one."""
        ...

    @property
    def dropout(self) -> float:
        """In the residual branches, while learning."""
        ...


class EncoderDecoderSizes:
    """What follows from the sizes of an encoder-decoder; a base of both networks' configurations."""

    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int

    @property
    def head_size(self) -> int:
        """Values per attention head."""
        return self.width // self.heads

    @property
    def attentions(self) -> int:
        """Number of key/value rings: encoder self, decoder self and decoder cross attentions, in this order."""
        return self.encoder_layers + 2 * self.decoder_layers


@dataclass
class RingState:
    """What `step` carries from token to token.

    Attributes:
        keys: (attentions, B, heads, window, head_size), rotated at write time.
        values: the same shape.
        count: tokens seen so far; the next is written to slot `count % window`.
    """

    keys: Tensor
    values: Tensor
    count: int = 0

    @staticmethod
    def empty(shape: TransformerShape, batch: int = 1) -> RingState:
        """Return the state before the first token."""
        size = (shape.attentions, batch, shape.heads, shape.window, shape.head_size)
        return RingState(torch.zeros(size), torch.zeros(size))

    def mask(self) -> Tensor:
        """Return the additive attention mask (window,): 0 where a slot is written, very low where it is not."""
        window = self.keys.shape[3]
        return torch.where(torch.arange(window) < self.count, 0.0, _MASKED)

    def write(self, keys: Tensor, values: Tensor) -> None:
        """Write one token's (attentions, B, heads, head_size) into the ring, in place."""
        slot = self.count % self.keys.shape[3]
        self.keys[:, :, :, slot] = keys
        self.values[:, :, :, slot] = values
        self.count += 1


def sequence_geometry(
    shape: TransformerShape, length: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cosines and sines (N, head_size / 2) of N tokens' rotary angles and their causal mask (N, N)."""
    position = torch.arange(length, device=device)
    angles = rotary_angles(position, shape.head_size)
    distance = position[:, None] - position
    mask = torch.where((distance >= 0) & (distance <= shape.window), 0.0, _MASKED)
    return angles.cos().float(), angles.sin().float(), mask


def rotary_angles(position: Tensor, head_size: int) -> Tensor:
    """Return the rotary angles [rad] (..., head_size / 2) of positions (...), in float64: a show may be long."""
    even = torch.arange(0, head_size, 2, dtype=torch.float64, device=position.device)
    rates = ROTARY_BASE ** (-even / head_size)
    return position.to(torch.float64)[..., None] * rates


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the halves of the last axis of `x` against each other; `cos`, `sin` broadcast to (..., head_size / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Multi-head attention whose queries and memory may come from different streams, aligned in time."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.heads, self.head_size = shape.heads, shape.head_size
        self.query = nn.Linear(shape.width, shape.width)
        self.memory = nn.Linear(shape.width, 2 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_size)).transpose(-3, -2)

    def project(self, x: Tensor, memory: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries, rotated keys and values, each (B, heads, N, head_size)."""
        key, value = self.memory(memory).chunk(2, dim=-1)
        return rotate(self._split(self.query(x)), cos, sin), rotate(self._split(key), cos, sin), self._split(value)

    def forward(self, x: Tensor, memory: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Attend over a sequence: x and memory (B, N, width), mask (N, N) additive."""
        query, key, value = self.project(x, memory, cos, sin)
        # By hand: for sequences this short torch's fused kernel is several times slower on the CPU.
        scores = torch.matmul(query * (1.0 / math.sqrt(self.head_size)), key.transpose(-1, -2)) + mask
        mixed = torch.matmul(torch.softmax(scores, dim=-1), value)
        return self.out(mixed.transpose(-3, -2).flatten(-2))

    def step(
        self, x: Tensor, memory: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend with one new token, x and memory (B, 1, width), over a ring and itself; return also its key, value."""
        query, key, value = self.project(x, memory, cos, sin)
        scale = 1.0 / math.sqrt(self.head_size)
        past = torch.matmul(query, keys.transpose(-1, -2)) * scale + mask
        now = (query * key).sum(-1, keepdim=True) * scale
        weights = torch.softmax(torch.cat([past, now], dim=-1), dim=-1)
        mixed = torch.matmul(weights[..., :-1], values) + weights[..., -1:] * value
        return self.out(mixed.transpose(-3, -2).flatten(-2)), key[..., 0, :], value[..., 0, :]


class FeedForward(nn.Sequential):
    """The usual two-layer perceptron."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class EncoderLayer(nn.Module):
    """Pre-norm causal self-attention and feed-forward."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.attention = Attention(shape)
        self.feed_forward = FeedForward(shape.width, 4 * shape.width)
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(2))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Run over a sequence (B, N, width)."""
        y = self.norms[0](x)
        x = x + self.dropout(self.attention(y, y, cos, sin, mask))
        return x + self.dropout(self.feed_forward(self.norms[1](x)))

    def step(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run one token (B, 1, width); return also its key and value."""
        y = self.norms[0](x)
        y, key, value = self.attention.step(y, y, cos, sin, mask, keys, values)
        x = x + y
        return x + self.feed_forward(self.norms[1](x)), key, value


class DecoderLayer(nn.Module):
    """Pre-norm causal self-attention, causal cross-attention to another stream, and feed-forward."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.attention = Attention(shape)
        self.cross_attention = Attention(shape)
        self.feed_forward = FeedForward(shape.width, 4 * shape.width)
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(3))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, other: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Run over a sequence (B, N, width)."""
        y = self.norms[0](x)
        x = x + self.dropout(self.attention(y, y, cos, sin, mask))
        x = x + self.dropout(self.cross_attention(self.norms[1](x), other, cos, sin, mask))
        return x + self.dropout(self.feed_forward(self.norms[2](x)))

    def step(
        self, x: Tensor, other: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run one token (B, 1, width) with both rings (2, ...); return also its two keys and values."""
        y = self.norms[0](x)
        y, key, value = self.attention.step(y, y, cos, sin, mask, keys[0], values[0])
        x = x + y
        y, cross_key, cross_value = self.cross_attention.step(
            self.norms[1](x), other, cos, sin, mask, keys[1], values[1]
        )
        x = x + y
        x = x + self.feed_forward(self.norms[2](x))
        return x, torch.stack([key, cross_key]), torch.stack([value, cross_value])


class RingStep:
    """One token on its way through a network: hands each layer its rings, and gathers what it adds to them.

    Args:
        keys: (attentions, B, heads, window, head_size), the encoder's first, then two a layer of the decoder.
        values: the same.
        mask: (window,) additive.
        cos: (head_size / 2,) of this token's rotary angles.
        sin: the same.
    """

    def __init__(self, keys: Tensor, values: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> None:
        self._keys, self._values, self._mask, self._cos, self._sin = keys, values, mask, cos, sin
        self._used = 0
        self._new_keys: list[Tensor] = []
        self._new_values: list[Tensor] = []

    def encode(self, layers: Iterable[EncoderLayer], x: Tensor) -> Tensor:
        """Return a token (B, 1, width) after encoder layers."""
        for layer in layers:
            keys, values = self._keys[self._used], self._values[self._used]
            x, key, value = layer.step(x, self._cos, self._sin, self._mask, keys, values)
            self._gather(key[None], value[None])
        return x

    def decode(self, layers: Iterable[DecoderLayer], x: Tensor, other: Tensor) -> Tensor:
        """Return a token (B, 1, width) after decoder layers that also see the other stream's (B, 1, width)."""
        for layer in layers:
            ring = slice(self._used, self._used + 2)
            keys, values = self._keys[ring], self._values[ring]
            x, key, value = layer.step(x, other, self._cos, self._sin, self._mask, keys, values)
            self._gather(key, value)
        return x

    def fresh(self) -> tuple[Tensor, Tensor]:
        """Return the new keys and values (attentions, B, heads, head_size)."""
        return torch.cat(self._new_keys), torch.cat(self._new_values)

    def _gather(self, key: Tensor, value: Tensor) -> None:
        self._new_keys.append(key)
        self._new_values.append(value)
        self._used += len(key)
