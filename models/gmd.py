"""G_MD: the causal music -> dance transformer.

A dual encoder-decoder transformer (Wu et al. 2021) made causal, over *chunks* of ticks:

- the **music encoder** reads one token per chunk (the chunk's music features and the beat's conditions) with causal
  self-attention;
- the **motion decoder** reads the previous chunk's motion latent, attends to its own past and, by cross-attention,
  to the music embeddings of the same window;
- a **rectified-flow head** (Liu et al. 2022, "Flow straight and fast", with the network predicting the clean end
  point) turns the decoder's state and Gaussian noise into the next chunk's motion latent in a few Euler steps. A
  regression head freezes; a generative head does not.

`forward` is used for learning, `step` on the stage; they are the same function within 1e-5. The state of `step` is
explicit and of fixed shape: a ring of rotated keys and values per attention, whose order does not matter because
keys are rotated when they are written (rotary embedding, Su et al. 2021). The caller owns the ring.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_MASKED = -1e9
"""Added to the attention scores of what may not be seen: zero after the softmax, and finite in every format."""

ROTARY_BASE = 100.0
"""The slowest rotary component turns once in about 470 chunks, well beyond the window."""

LATENT_SPREAD = 0.5
"""Usual deviation of a latent from how the last would go on; sets the flow's preconditioning, not its result."""


@dataclass(frozen=True)
class GmdConfig:
    """Sizes of the network.

    Attributes:
        music_size: values of music per chunk (chunk ticks x features).
        condition_size: values of the condition vector (`models.conditioning`).
        latent_size: values of a chunk's motion latent (`models.motion_representation`).
        width: of the transformer.
        heads: attention heads; `width / heads` must be even.
        encoder_layers: of the music encoder.
        decoder_layers: of the motion decoder.
        window: how many past chunks each attention sees besides the current one.
        flow_width: width of the flow head.
        flow_blocks: residual blocks of the flow head.
        flow_steps: Euler steps on the stage.
        dropout: in the residual branches, while learning.
    """

    music_size: int
    condition_size: int
    latent_size: int
    width: int = 192
    heads: int = 6
    encoder_layers: int = 2
    decoder_layers: int = 4
    window: int = 48
    flow_width: int = 256
    flow_blocks: int = 3
    flow_steps: int = 4
    dropout: float = 0.1

    @property
    def head_size(self) -> int:
        """Values per attention head."""
        return self.width // self.heads

    @property
    def attentions(self) -> int:
        """Number of key/value rings: encoder self, decoder self and decoder cross attentions, in this order."""
        return self.encoder_layers + 2 * self.decoder_layers


@dataclass
class GmdState:
    """What `step` carries from chunk to chunk.

    Attributes:
        keys: (attentions, B, heads, window, head_size), rotated at write time.
        values: the same shape.
        count: chunks seen so far; the next is written to slot `count % window`.
    """

    keys: Tensor
    values: Tensor
    count: int = 0

    @staticmethod
    def empty(config: GmdConfig, batch: int = 1) -> GmdState:
        """Return the state before the first chunk."""
        shape = (config.attentions, batch, config.heads, config.window, config.head_size)
        return GmdState(torch.zeros(shape), torch.zeros(shape))

    def mask(self) -> Tensor:
        """Return the additive attention mask (window,): 0 where a slot is written, very low where it is not."""
        window = self.keys.shape[3]
        return torch.where(torch.arange(window) < self.count, 0.0, _MASKED)

    def write(self, keys: Tensor, values: Tensor) -> None:
        """Write one chunk's (attentions, B, heads, head_size) into the ring, in place."""
        slot = self.count % self.keys.shape[3]
        self.keys[:, :, :, slot] = keys
        self.values[:, :, :, slot] = values
        self.count += 1


def flow_times(even: Tensor) -> Tensor:
    """Return the flow times of evenly spaced numbers in [0, 1]: closer together at the end, where detail is decided."""
    return 1.0 - (1.0 - even) ** 2


def rotary_angles(position: Tensor, head_size: int) -> Tensor:
    """Return the rotary angles [rad] (..., head_size / 2) of positions (...), in float64: a show may be long."""
    rates = ROTARY_BASE ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    return position.to(torch.float64)[..., None] * rates


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the halves of the last axis of `x` against each other; `cos`, `sin` broadcast to (..., head_size / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Multi-head attention whose queries and memory may come from different streams, aligned in time."""

    def __init__(self, config: GmdConfig) -> None:
        super().__init__()
        self.heads, self.head_size = config.heads, config.head_size
        self.query = nn.Linear(config.width, config.width)
        self.memory = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.width)

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

    def __init__(self, config: GmdConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config.width, 4 * config.width)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)

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
    """Pre-norm causal self-attention, causal cross-attention to the music, and feed-forward."""

    def __init__(self, config: GmdConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.cross_attention = Attention(config)
        self.feed_forward = FeedForward(config.width, 4 * config.width)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, music: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Run over a sequence (B, N, width)."""
        y = self.norms[0](x)
        x = x + self.dropout(self.attention(y, y, cos, sin, mask))
        x = x + self.dropout(self.cross_attention(self.norms[1](x), music, cos, sin, mask))
        return x + self.dropout(self.feed_forward(self.norms[2](x)))

    def step(
        self, x: Tensor, music: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run one token (B, 1, width) with both rings (2, ...); return also its two keys and values."""
        y = self.norms[0](x)
        y, key, value = self.attention.step(y, y, cos, sin, mask, keys[0], values[0])
        x = x + y
        y, cross_key, cross_value = self.cross_attention.step(
            self.norms[1](x), music, cos, sin, mask, keys[1], values[1]
        )
        x = x + y
        x = x + self.feed_forward(self.norms[2](x))
        return x, torch.stack([key, cross_key]), torch.stack([value, cross_value])


class FlowHead(nn.Module):
    """Predicts the clean latent at the end of the flow from a noised one, the time and the decoder's state."""

    time_waves = 16

    def __init__(self, config: GmdConfig) -> None:
        super().__init__()
        width = config.flow_width
        self.latent = nn.Linear(2 * config.latent_size, width)
        self.time = nn.Sequential(nn.Linear(2 * self.time_waves, width), nn.GELU())
        self.context = nn.Linear(config.width, width)
        self.modulation = nn.Linear(width, 2 * width * config.flow_blocks)
        self.blocks = nn.ModuleList(FeedForward(width, 2 * width) for _ in range(config.flow_blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.register_buffer("going_on", torch.eye(config.latent_size))
        self.register_buffer("going_on_offset", torch.zeros(config.latent_size))
        self.out = nn.Linear(width, config.latent_size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, noised: Tensor, time: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """Return the clean latent (..., L) predicted from `noised` (..., L) at flow time `time` (..., 1) in [0, 1]."""
        rates = math.pi * 2.0 ** torch.linspace(-1.0, 5.0, self.time_waves, device=time.device)
        waves = torch.cat([torch.sin(time * rates), torch.cos(time * rates)], dim=-1)
        modulation = self.modulation(functional.gelu(self.context(context) + self.time(waves)))
        # Preconditioning (Karras et al. 2022, "Elucidating the Design Space", eq. 7, in flow time): what the noised
        # latent says of the clean one passes by the network, whose input and target keep unit deviation.
        rest = 1.0 - time
        spread = rest**2 + (LATENT_SPREAD * time) ** 2
        # What the body does if it just goes on as before (linear; see `models.continuity`): the network adds the dance.
        base = torch.matmul(history, self.going_on.transpose(0, 1)) + self.going_on_offset
        offset = noised - time * base
        x = self.latent(torch.cat([offset / spread.sqrt(), history], dim=-1))
        for block, parts in zip(self.blocks, modulation.chunk(len(self.blocks), dim=-1), strict=True):
            scale, shift = parts.chunk(2, dim=-1)
            x = x + block(self.norm(x) * (1.0 + scale) + shift)
        known = base + LATENT_SPREAD**2 * time / spread * offset
        return known + LATENT_SPREAD * rest / spread.sqrt() * self.out(x)


class Gmd(nn.Module):
    """The network; see the module's description."""

    def __init__(self, config: GmdConfig) -> None:
        super().__init__()
        self.config = config
        self.music_in = nn.Linear(config.music_size + config.condition_size, config.width)
        self.motion_in = nn.Linear(config.latent_size + config.condition_size, config.width)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.encoder_norm = nn.LayerNorm(config.width)
        self.decoder_norm = nn.LayerNorm(config.width)
        self.flow = FlowHead(config)
        self.register_buffer("continuity_keep", torch.eye(config.latent_size))
        self.register_buffer("continuity_history", torch.zeros(config.latent_size, config.latent_size))
        self.register_buffer("continuity_offset", torch.zeros(config.latent_size))

    def reset_continuity(self) -> None:
        """Leave sampled chunks as they are; see `models.continuity`."""
        self.continuity_keep.copy_(torch.eye(self.config.latent_size))
        self.continuity_history.zero_()
        self.continuity_offset.zero_()

    def encode(self, music: Tensor, condition: Tensor) -> Tensor:
        """Return the music embeddings (B, N, width): the space that is aligned with the dance's."""
        cos, sin, mask = self._sequence_geometry(music.shape[1])
        x = self.music_in(torch.cat([music, condition], dim=-1))
        for layer in self.encoder:
            x = layer(x, cos, sin, mask)
        return self.encoder_norm(x)

    def forward(self, music: Tensor, condition: Tensor, history: Tensor) -> Tensor:
        """Return the decoder's states (B, N, width), each of which conditions the flow of its own chunk.

        Args:
            music: (B, N, music_size).
            condition: (B, N, condition_size).
            history: (B, N, latent_size): the latent of the chunk before each.
        """
        embedding = self.encode(music, condition)
        cos, sin, mask = self._sequence_geometry(music.shape[1])
        x = self.motion_in(torch.cat([history, condition], dim=-1))
        for layer in self.decoder:
            x = layer(x, embedding, cos, sin, mask)
        return self.decoder_norm(x)

    def _sequence_geometry(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        position = torch.arange(length)
        angles = rotary_angles(position, self.config.head_size)
        distance = position[:, None] - position
        mask = torch.where((distance >= 0) & (distance <= self.config.window), 0.0, _MASKED)
        return angles.cos().float(), angles.sin().float(), mask

    def step_tensors(
        self,
        music: Tensor,
        condition: Tensor,
        history: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run one chunk with all state as tensors (this is what is exported).

        Args:
            music: (B, music_size).
            condition: (B, condition_size).
            history: (B, latent_size).
            keys: (attentions, B, heads, window, head_size).
            values: the same.
            mask: (window,) additive.
            cos: (head_size / 2,) of this chunk's rotary angles.
            sin: the same.

        Returns:
            The decoder's state (B, width) and the new keys and values (attentions, B, heads, head_size).
        """
        new_keys, new_values = [], []
        x = self.music_in(torch.cat([music, condition], dim=-1))[:, None]
        for index, layer in enumerate(self.encoder):
            x, key, value = layer.step(x, cos, sin, mask, keys[index], values[index])
            new_keys.append(key[None])
            new_values.append(value[None])
        embedding = self.encoder_norm(x)
        x = self.motion_in(torch.cat([history, condition], dim=-1))[:, None]
        for index, layer in enumerate(self.decoder):
            start = len(self.encoder) + 2 * index
            ring = slice(start, start + 2)
            x, key, value = layer.step(x, embedding, cos, sin, mask, keys[ring], values[ring])
            new_keys.append(key)
            new_values.append(value)
        return self.decoder_norm(x)[:, 0], torch.cat(new_keys), torch.cat(new_values)

    def step(self, music: Tensor, condition: Tensor, history: Tensor, state: GmdState) -> tuple[Tensor, GmdState]:
        """Return the decoder's state (B, width) for one more chunk, and the advanced state (the same object)."""
        angles = rotary_angles(torch.tensor(state.count), self.config.head_size)
        context, keys, values = self.step_tensors(
            music,
            condition,
            history,
            state.keys,
            state.values,
            state.mask(),
            angles.cos().float(),
            angles.sin().float(),
        )
        state.write(keys, values)
        return context, state

    def sample(self, context: Tensor, history: Tensor, noise: Tensor) -> Tensor:
        """Integrate the flow in `flow_steps` Euler steps from `noise` (..., L) to a latent (..., L); join it on."""
        x = noise
        times = flow_times(torch.arange(self.config.flow_steps + 1) / self.config.flow_steps).tolist()
        for time, following in itertools.pairwise(times):
            end = self.flow(x, torch.full_like(x[..., :1], time), context, history)
            # dx/dt = (end - x) / (1 - t): the last step lands exactly on the predicted clean latent.
            x = x + (end - x) * ((following - time) / (1.0 - time))
        keep, before = self.continuity_keep.transpose(0, 1), self.continuity_history.transpose(0, 1)
        return torch.matmul(x, keep) + torch.matmul(history, before) + self.continuity_offset
