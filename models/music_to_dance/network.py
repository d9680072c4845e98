"""G_MD: the causal music -> dance transformer.

A dual encoder-decoder transformer (Wu et al. 2021) made causal, over *chunks* of ticks:

- the **music encoder** reads one token per chunk (the chunk's music features and the beat's conditions) with causal
  self-attention;
- the **motion decoder** reads the previous chunk's motion latent, attends to its own past and, by cross-attention,
  to the music embeddings of the same window;
- a **choice head** (`models.music_to_dance.choice_head`) turns the decoder's state and a random number into the next
chunk's motion
  latent: it draws one of many chunks of real dance and corrects it. A regression head freezes; a generative head does
  not. (A rectified-flow head did not either, but took fifteen times the training for a dance as near to real.)

`forward` is used for learning, `step` on the stage; they are the same function within 1e-5. The state of `step` is
explicit and of fixed shape: a ring of rotated keys and values per attention, whose order does not matter because
keys are rotated when they are written (rotary embedding, Su et al. 2021). The caller owns the ring.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.music_to_dance.choice_head import ChoiceHead, evenly, pick
from models.transformer import (
    ROTARY_BASE,
    Attention,
    DecoderLayer,
    EncoderDecoderSizes,
    EncoderLayer,
    RingState,
    RingStep,
    rotary_angles,
    sequence_geometry,
)

__all__ = ["ROTARY_BASE", "Attention", "Gmd", "GmdConfig", "GmdState", "rotary_angles"]

GmdState = RingState
"""What `step` carries from chunk to chunk."""


@dataclass(frozen=True)
class GmdConfig(EncoderDecoderSizes):
    """Sizes of the network.

    Attributes:
        music_size: values of music per chunk (chunk ticks x features).
        condition_size: values of the condition vector (`models.music_to_dance.conditioning`).
        latent_size: values of a chunk's motion latent (`models.motion.representation`).
        width: of the transformer.
        heads: attention heads; `width / heads` must be even.
        encoder_layers: of the music encoder.
        decoder_layers: of the motion decoder.
        window: how many past chunks each attention sees besides the current one.
        choices: chunks of real dance that the head chooses from.
        head_width: width of the choice head.
        head_blocks: residual blocks of its correction.
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
    choices: int = 2048
    head_width: int = 256
    head_blocks: int = 3
    dropout: float = 0.1


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
        self.head = ChoiceHead(config)
        self.register_buffer("continuity_keep", torch.eye(config.latent_size))
        self.register_buffer("continuity_history", torch.zeros(config.latent_size, config.latent_size))
        self.register_buffer("continuity_offset", torch.zeros(config.latent_size))

    def reset_continuity(self) -> None:
        """Leave sampled chunks as they are; see `models.music_to_dance.continuity`."""
        self.continuity_keep.copy_(torch.eye(self.config.latent_size))
        self.continuity_history.zero_()
        self.continuity_offset.zero_()

    def encode(self, music: Tensor, condition: Tensor) -> Tensor:
        """Return the music embeddings (B, N, width): the space that is aligned with the dance's."""
        cos, sin, mask = sequence_geometry(self.config, music.shape[1], music.device)
        x = self.music_in(torch.cat([music, condition], dim=-1))
        for layer in self.encoder:
            x = layer(x, cos, sin, mask)
        return self.encoder_norm(x)

    def forward(self, music: Tensor, condition: Tensor, history: Tensor) -> Tensor:
        """Return the decoder's states (B, N, width), each of which decides its own chunk.

        Args:
            music: (B, N, music_size).
            condition: (B, N, condition_size).
            history: (B, N, latent_size): the latent of the chunk before each.
        """
        embedding = self.encode(music, condition)
        cos, sin, mask = sequence_geometry(self.config, music.shape[1], music.device)
        x = self.motion_in(torch.cat([history, condition], dim=-1))
        for layer in self.decoder:
            x = layer(x, embedding, cos, sin, mask)
        return self.decoder_norm(x)

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
        token = RingStep(keys, values, mask, cos, sin)
        x = token.encode(self.encoder, self.music_in(torch.cat([music, condition], dim=-1))[:, None])
        embedding = self.encoder_norm(x)
        x = token.decode(self.decoder, self.motion_in(torch.cat([history, condition], dim=-1))[:, None], embedding)
        return self.decoder_norm(x)[:, 0], *token.fresh()

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

    def sample(self, context: Tensor, history: Tensor, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """Draw a choice, correct it, join it on.

        Args:
            context: decoder's states (..., width).
            history: (..., L).
            noise: Gaussian (..., L); the first number decides.
            temperature: of the draw; 1 draws as it was learned, less holds to what is likely.

        Returns:
            Latents (..., L).
        """
        chances = self.head.chances(context, temperature)
        return self.joined(self.head.correct(pick(chances, evenly(noise[..., :1])), context, history), history)

    def sample_through(self, context: Tensor, history: Tensor, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """Return what `sample` returns, with the gradient of the choices' chances: straight-through (Bengio et al.
        2013, "Estimating or propagating gradients through stochastic neurons")."""
        chances = self.head.chances(context, temperature)
        chosen = functional.one_hot(pick(chances, evenly(noise[..., :1])), chances.shape[-1])
        return self.joined(self.head.correct_mixed(chosen + chances - chances.detach(), context, history), history)

    def joined(self, latents: Tensor, history: Tensor) -> Tensor:
        """Return latents (..., L) joined on to the chunks (..., L) before them, within the limits of real dance; see
        `models.music_to_dance.continuity`."""
        keep, before = self.continuity_keep.transpose(0, 1), self.continuity_history.transpose(0, 1)
        joined = torch.matmul(latents, keep) + torch.matmul(history, before) + self.continuity_offset
        return torch.minimum(torch.maximum(joined, self.head.low), self.head.high)
