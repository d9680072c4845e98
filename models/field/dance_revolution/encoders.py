"""The music encoders that Dance Revolution compares (Huang et al. 2021, section 4.4), as streams.

The published ones hear the whole piece. Here each says how many frames it looks ahead (`lookahead`), and `step` is
`forward` one frame at a time, from a state of fixed shape whose first axis is the dancers.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from models.field.dance_revolution.settings import DanceRevolutionSettings
from models.field.stacked_lstm import StackedLstm

_MASKED = -1e9
"""Added to the attention scores of what may not be seen: zero after the softmax, and finite in every format."""


class MusicEncoder(Protocol):
    """Music in, as many embeddings out."""

    lookahead: int

    def __call__(self, music: Tensor) -> Tensor:
        """Return the embeddings (B, N, width) of music (B, N, M); the last `lookahead` lack some of their future."""
        ...

    def start(self, dancers: int) -> tuple[Tensor, ...]:
        """Return the state before the first frame."""
        ...

    def step(self, music: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding (B, width) of the frame `lookahead` before this one (B, M), and the new state."""
        ...


def make_encoder(music: int, settings: DanceRevolutionSettings) -> MusicEncoder:
    """Return the encoder that the settings name, of frames of `music` values."""
    kinds = {"attention": AttentionEncoder, "lstm": LstmEncoder, "convolution": ConvolutionEncoder}
    return kinds[settings.encoder](music, settings)


class LocalAttention(nn.Module):
    """One layer of the paper's encoder: self-attention in a band, and a perceptron, each normalised after it is added.

    The published layers tell frames apart by absolute positions, which end where the training music did; here a
    learned number per head and distance does (Shaw et al. 2018; Raffel et al. 2020).
    """

    def __init__(self, settings: DanceRevolutionSettings) -> None:
        super().__init__()
        width, self.heads, self.ahead = settings.width, settings.heads, settings.lookahead
        self.past = settings.window - settings.lookahead
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.nearness = nn.Parameter(torch.zeros(self.heads, settings.window + 1))
        self.perceptron = nn.Sequential(
            nn.Linear(width, settings.feed_forward), nn.ReLU(), nn.Linear(settings.feed_forward, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Run over a sequence (B, N, width)."""
        at = torch.arange(x.shape[1], device=x.device)
        slot = at - at[:, None] + self.past
        seen = (slot >= 0) & (slot <= self.past + self.ahead)
        bias = self.nearness[:, slot.clamp(0, self.past + self.ahead)]
        return self._run(x, x, torch.where(seen, bias, _MASKED))

    def step(self, x: Tensor, heard: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run one frame.

        Args:
            x: (B, width), the newest.
            heard: (B, 1), 1 if the frame exists, 0 if it lies before the beginning.
            memory: (B, window + 1, width + 1), the newest frames before and whether each exists.

        Returns:
            The same three, of the frame `ahead` before.
        """
        memory = torch.cat([memory[:, 1:], torch.cat([x, heard], dim=-1)[:, None]], dim=1)
        frames, exists = memory[..., :-1], memory[..., -1]
        bias = self.nearness + (1.0 - exists)[:, None] * _MASKED
        own = slice(self.past, self.past + 1)
        return self._run(frames[:, own], frames, bias[:, :, None])[:, 0], exists[:, own], memory

    def _run(self, x: Tensor, frames: Tensor, bias: Tensor) -> Tensor:
        """Return the layer's output (B, n, width) for x (B, n, width), which sees frames (B, m, width) with a bias on
        the scores (..., heads, n, m)."""
        key, value = self.memory(frames).chunk(2, dim=-1)
        query = self._split(self.query(x)) * (1.0 / math.sqrt(x.shape[-1] // self.heads))
        weights = torch.softmax(torch.matmul(query, self._split(key).transpose(-1, -2)) + bias, dim=-1)
        mixed = torch.matmul(weights, self._split(value)).transpose(1, 2).flatten(2)
        x = self.norms[0](x + self.dropout(self.out(mixed)))
        return self.norms[1](x + self.dropout(self.perceptron(x)))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class AttentionEncoder(nn.Module):
    """Local self-attention over the newest `window` frames; with a window that long, over the whole sequence."""

    def __init__(self, music: int, settings: DanceRevolutionSettings) -> None:
        super().__init__()
        self.lookahead = settings.layers * settings.lookahead
        self.embed = nn.Linear(music, settings.width)
        self.layers = nn.ModuleList(LocalAttention(settings) for _ in range(settings.layers))
        self._memory = (settings.window + 1, settings.width + 1)

    def forward(self, music: Tensor) -> Tensor:
        """See `MusicEncoder`."""
        x = self.embed(music)
        for layer in self.layers:
            x = layer(x)
        return x

    def start(self, dancers: int) -> tuple[Tensor, ...]:
        """See `MusicEncoder`."""
        return tuple(self.embed.weight.new_zeros(dancers, *self._memory) for _ in self.layers)

    def step(self, music: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `MusicEncoder`."""
        x, heard = self.embed(music), torch.ones_like(music[:, :1])
        memories = []
        for layer, memory in zip(self.layers, state, strict=True):
            assert isinstance(layer, LocalAttention)
            x, heard, memory = layer.step(x, heard, memory)
            memories.append(memory)
        return x, *memories


class LstmEncoder(nn.Module):
    """The paper's first ablation: an LSTM in the encoder's place."""

    lookahead = 0

    def __init__(self, music: int, settings: DanceRevolutionSettings) -> None:
        super().__init__()
        self.embed = nn.Linear(music, settings.width)
        self.dropout = nn.Dropout(settings.dropout)
        self.lstm = StackedLstm(settings.width, settings.width, settings.layers)

    def forward(self, music: Tensor) -> Tensor:
        """See `MusicEncoder`."""
        return self.lstm(self.dropout(self.embed(music)), self.lstm.start(len(music)))

    def start(self, dancers: int) -> tuple[Tensor, ...]:
        """See `MusicEncoder`."""
        return (self.lstm.start(dancers),)

    def step(self, music: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `MusicEncoder`."""
        return self.lstm.step(self.embed(music), *state)


class ConvolutionEncoder(nn.Module):
    """The paper's second ablation: ConvS2S (Gehring et al. 2017, section 3.1), made causal and without positions.

    Each layer is a convolution over the newest `kernel` frames into a gated linear unit, added to its input.
    """

    lookahead = 0

    def __init__(self, music: int, settings: DanceRevolutionSettings) -> None:
        super().__init__()
        self.before = settings.kernel - 1
        self.embed = nn.Linear(music, settings.width)
        self.layers = nn.ModuleList(
            nn.Conv1d(settings.width, 2 * settings.width, settings.kernel) for _ in range(settings.layers)
        )
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, music: Tensor) -> Tensor:
        """See `MusicEncoder`."""
        x = self.embed(music)
        for layer, memory in zip(self.layers, self.start(len(music)), strict=True):
            x = self._run(layer, x, torch.cat([memory, self.dropout(x)], dim=1))
        return x

    def start(self, dancers: int) -> tuple[Tensor, ...]:
        """See `MusicEncoder`."""
        return tuple(self.embed.weight.new_zeros(dancers, self.before, self.embed.out_features) for _ in self.layers)

    def step(self, music: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `MusicEncoder`."""
        x = self.embed(music)[:, None]
        memories = []
        for layer, memory in zip(self.layers, state, strict=True):
            frames = torch.cat([memory, x], dim=1)
            x = self._run(layer, x, frames)
            memories.append(frames[:, 1:])
        return x[:, 0], *memories

    def _run(self, layer: nn.Module, x: Tensor, frames: Tensor) -> Tensor:
        new, gate = layer(frames.transpose(1, 2)).transpose(1, 2).chunk(2, dim=-1)
        return (x + new * torch.sigmoid(gate)) * math.sqrt(0.5)
