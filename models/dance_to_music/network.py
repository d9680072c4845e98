"""G_DM: the causal dance -> music transformer.

The dual of G_MD (`models.music_to_dance.network`): an encoder-decoder transformer (Wu et al. 2021) made causal, over
*steps* (sixteenths):

- the **dance encoder** reads one token per step (the pose features of three ticks and the conditions) with causal
  self-attention; without a dance a learnt embedding stands in its place, so that musicianship can be learnt from
  music alone;
- the **music decoder** reads the step before, attends to its own past and, by cross-attention, to the dance;
- **voice heads** choose what the four voices do in the step in a chain, drums -> bass -> chord -> lead, each seeing
  what was chosen before it, so that they fit.

`forward` is used for learning, `step` on the stage; they are the same function within 1e-5, and `VoiceHeads.sample`
chooses from the distributions that `VoiceHeads.forward` learns (Gumbel-max: all randomness is an input).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.types import DRUMS
from models.dance_to_music.tokens import DRUM_LEVELS, LEVELS, PITCHED
from models.transformer import (
    DecoderLayer,
    EncoderDecoderSizes,
    EncoderLayer,
    RingState,
    RingStep,
    rotary_angles,
    sequence_geometry,
)

_DRUM_SIZE = len(DRUMS) * DRUM_LEVELS
NOISE_SIZE = _DRUM_SIZE + sum(PITCHED) + LEVELS * len(PITCHED)
"""Gumbel numbers that one step is sampled with."""
_NEVER = -1e9


@dataclass(frozen=True)
class GdmConfig(EncoderDecoderSizes):
    """Sizes of the network.

    Attributes:
        dance_size: values of the dance per step (three ticks x pose features).
        condition_size: values of the condition vector (`models.dance_to_music.conditioning`).
        history_size: values of a step as history (`models.dance_to_music.tokens`).
        width: of the transformer.
        heads: attention heads; `width / heads` must be even.
        encoder_layers: of the dance encoder.
        decoder_layers: of the music decoder.
        window: how many past steps each attention sees besides the current one.
        voice_width: width of the voices' heads.
        dropout: in the residual branches, while learning.
    """

    dance_size: int
    condition_size: int
    history_size: int
    width: int = 192
    heads: int = 6
    encoder_layers: int = 2
    decoder_layers: int = 3
    window: int = 128
    voice_width: int = 192
    dropout: float = 0.1


@dataclass(frozen=True)
class VoiceLogits:
    """Unnormalised log-probabilities of a step's choices.

    Attributes:
        drums: (..., 9, 6) of each drum's level, given the drums before it.
        voices: (..., tokens) of bass, chord and lead, each given all voices before it.
        levels: (..., 5) of their velocities, given what begins.
    """

    drums: Tensor
    voices: tuple[Tensor, ...]
    levels: tuple[Tensor, ...]


class VoiceSizes(Protocol):
    """What the heads must know of a network."""

    @property
    def width(self) -> int:
        """Of its decoder's states."""
        ...

    @property
    def voice_width(self) -> int:
        """Of the heads."""
        ...


class VoiceHeads(nn.Module):
    """What the voices do in a step, in a chain: drums one by one, then bass, chord and lead."""

    def __init__(self, config: VoiceSizes) -> None:
        super().__init__()
        width = config.voice_width
        self.context = nn.Linear(config.width, width)
        self.drums = nn.Linear(width, _DRUM_SIZE)
        # How the level of one drum bears on the drums after it: (drum, its level, later drum, that one's level).
        self.drum_chain = nn.Parameter(torch.zeros(len(DRUMS), DRUM_LEVELS, len(DRUMS), DRUM_LEVELS))
        self.drums_in = nn.Linear(_DRUM_SIZE, width, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in PITCHED)
        self.out = nn.ModuleList(nn.Linear(width, count) for count in PITCHED)
        self.level = nn.ModuleList(nn.Linear(width, LEVELS) for _ in PITCHED)
        self.chosen = nn.ModuleList(nn.Embedding(count, width) for count in PITCHED)
        self.norm = nn.LayerNorm(width)

    def _chain(self) -> Tensor:
        order = torch.arange(len(DRUMS), device=self.drum_chain.device)
        return self.drum_chain * (order[:, None] < order)[:, None, :, None]

    def forward(self, context: Tensor, drums: Tensor, voices: Tensor) -> VoiceLogits:
        """Return the logits of every choice, given the true ones before it.

        Args:
            context: (..., width) decoder states.
            drums: (..., 9) true levels, int64.
            voices: (..., 3) true tokens of bass, chord and lead, int64.
        """
        x = self.context(context)
        struck = functional.one_hot(drums, DRUM_LEVELS).to(x.dtype)
        drum_logits = self.drums(functional.gelu(x)).unflatten(-1, (len(DRUMS), DRUM_LEVELS))
        chained = struck.flatten(-2) @ self._chain().to(x.dtype).reshape(_DRUM_SIZE, _DRUM_SIZE)
        drum_logits = drum_logits + chained.unflatten(-1, (len(DRUMS), DRUM_LEVELS))
        x = x + self.drums_in(struck.flatten(-2))
        logits, levels = [], []
        for voice, (hidden, out, level, chosen) in enumerate(self._voices()):
            y = functional.gelu(hidden(self.norm(x)))
            logits.append(out(y))
            embedding = chosen(voices[..., voice])
            levels.append(level(functional.gelu(y + embedding)))
            x = x + embedding
        return VoiceLogits(drum_logits, tuple(logits), tuple(levels))

    def _voices(self) -> list[tuple[nn.Module, nn.Module, nn.Module, nn.Module]]:
        return list(zip(self.hidden, self.out, self.level, self.chosen, strict=True))

    def sample(
        self, context: Tensor, noise: Tensor, temperature: Tensor, cutoff: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose a step: drums (B, 9) levels, voices (B, 3) tokens and their velocity levels (B, 3), all int64.

        Args:
            context: (B, width).
            noise: (B, NOISE_SIZE) standard Gumbel numbers.
            temperature: (4,) of drums, bass, chord and lead; near 0: the likeliest.
            cutoff: (1,) a choice this much less likely than the likeliest (log) is never made.
        """
        drum_noise, *voice_noise = noise.split([_DRUM_SIZE, *(n for t in PITCHED for n in (t, LEVELS))], dim=-1)
        drum_noise = drum_noise.unflatten(-1, (len(DRUMS), DRUM_LEVELS))
        x = self.context(context)
        logits = self.drums(functional.gelu(x)).unflatten(-1, (len(DRUMS), DRUM_LEVELS))
        chain = self._chain()
        drums, struck = [], []
        for drum in range(len(DRUMS)):
            level = _choose(logits[:, drum], drum_noise[:, drum], temperature[0], cutoff)
            one = functional.one_hot(level, DRUM_LEVELS).to(x.dtype)
            logits = logits + torch.matmul(one, chain[drum].flatten(1)).unflatten(-1, (len(DRUMS), DRUM_LEVELS))
            drums.append(level)
            struck.append(one)
        x = x + self.drums_in(torch.cat(struck, dim=-1))
        voices, levels = [], []
        for voice, (hidden, out, level_out, chosen) in enumerate(self._voices()):
            heat = temperature[1 + voice]
            y = functional.gelu(hidden(self.norm(x)))
            token = _choose(out(y), voice_noise[2 * voice], heat, cutoff)
            embedding = chosen(token)
            levels.append(_choose(level_out(functional.gelu(y + embedding)), voice_noise[2 * voice + 1], heat, cutoff))
            voices.append(token)
            x = x + embedding
        return torch.stack(drums, dim=-1), torch.stack(voices, dim=-1), torch.stack(levels, dim=-1)


def _choose(logits: Tensor, noise: Tensor, temperature: Tensor, cutoff: Tensor) -> Tensor:
    """Draw from a categorical distribution (B, n) by the Gumbel-max trick, its unlikely tail cut off."""
    best = logits.max(dim=-1, keepdim=True).values
    kept = torch.where(logits >= best - cutoff, logits, torch.full_like(logits, _NEVER))
    return (kept + temperature * noise).argmax(dim=-1)


class Gdm(nn.Module):
    """The network; see the module's description."""

    def __init__(self, config: GdmConfig) -> None:
        super().__init__()
        self.config = config
        self.dance_in = nn.Linear(config.dance_size + config.condition_size, config.width)
        self.music_in = nn.Linear(config.history_size + config.condition_size, config.width)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.encoder_norm = nn.LayerNorm(config.width)
        self.decoder_norm = nn.LayerNorm(config.width)
        self.no_dance = nn.Parameter(0.02 * torch.randn(config.width))
        self.heads = VoiceHeads(config)

    def encode(self, dance: Tensor, condition: Tensor) -> Tensor:
        """Return the dance embeddings (B, N, width): the space that is aligned with the music's; see `pool_beats`."""
        cos, sin, mask = sequence_geometry(self.config, dance.shape[1], dance.device)
        x = self.dance_in(torch.cat([dance, condition], dim=-1))
        for layer in self.encoder:
            x = layer(x, cos, sin, mask)
        normed: Tensor = self.encoder_norm(x)
        return normed

    def forward(self, dance: Tensor | None, known: Tensor, condition: Tensor, history: Tensor) -> Tensor:
        """Return the decoder's states (B, N, width), from which the heads choose each step.

        Args:
            dance: (B, N, dance_size); None: no sequence has a dance.
            known: (B,) 1 where the dance is known, 0 where it is withheld.
            condition: (B, N, condition_size).
            history: (B, N, history_size): of the step before each.
        """
        embedding = self.no_dance.expand(*condition.shape[:2], -1)
        if dance is not None:
            embedding = self._seen(self.encode(dance, condition), known[:, None, None])
        cos, sin, mask = sequence_geometry(self.config, condition.shape[1], condition.device)
        x = self.music_in(torch.cat([history, condition], dim=-1))
        for layer in self.decoder:
            x = layer(x, embedding, cos, sin, mask)
        normed: Tensor = self.decoder_norm(x)
        return normed

    def _seen(self, embedding: Tensor, known: Tensor) -> Tensor:
        return known * embedding + (1.0 - known) * self.no_dance

    def step_tensors(
        self,
        dance: Tensor,
        known: Tensor,
        condition: Tensor,
        history: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor,
        cos: Tensor,
        sin: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run one step with all state as tensors (this is what is exported).

        Args:
            dance: (B, dance_size).
            known: (B,).
            condition: (B, condition_size).
            history: (B, history_size).
            keys: (attentions, B, heads, window, head_size).
            values: the same.
            mask: (window,) additive.
            cos: (head_size / 2,) of this step's rotary angles.
            sin: the same.

        Returns:
            The decoder's state (B, width) and the new keys and values (attentions, B, heads, head_size).
        """
        token = RingStep(keys, values, mask, cos, sin)
        x = token.encode(self.encoder, self.dance_in(torch.cat([dance, condition], dim=-1))[:, None])
        embedding = self._seen(self.encoder_norm(x), known[:, None, None])
        x = token.decode(self.decoder, self.music_in(torch.cat([history, condition], dim=-1))[:, None], embedding)
        return self.decoder_norm(x)[:, 0], *token.fresh()

    def step(
        self, dance: Tensor, known: Tensor, condition: Tensor, history: Tensor, state: RingState
    ) -> tuple[Tensor, RingState]:
        """Return the decoder's state (B, width) for one more step, and the advanced state (the same object)."""
        angles = rotary_angles(torch.tensor(state.count), self.config.head_size)
        cos, sin = angles.cos().float(), angles.sin().float()
        mask = state.mask()
        context, keys, values = self.step_tensors(
            dance, known, condition, history, state.keys, state.values, mask, cos, sin
        )
        state.write(keys, values)
        return context, state


def pool_beats(embedding: Tensor, first_step: int, steps_per_beat: int = 4) -> Tensor:
    """Return the mean embedding (B, beats, width) of each whole beat of (B, N, width) that begins at `first_step`."""
    skip = -first_step % steps_per_beat
    whole = (embedding.shape[1] - skip) // steps_per_beat
    beats = embedding[:, skip : skip + whole * steps_per_beat]
    return beats.unflatten(1, (whole, steps_per_beat)).mean(dim=2)
