"""A recurrent sequence-to-sequence player: the baseline of the dance -> music direction.

Sequence to sequence with gated recurrent units (Cho et al. 2014, "Learning phrase representations using RNN
encoder-decoder"), made causal step by step: an encoder reads the dance, a decoder reads the step before, the conditions
and what the encoder has come to. It stands where G_DM's transformer stands: it learns from the same sequences with the
same losses, and the same heads choose what the voices do, so that the two differ in how they remember.

`forward` is used for learning, `step` on the stage; they are the same function within 1e-5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.dance_to_music.network import VoiceHeads


@dataclass(frozen=True)
class RecurrentPlayerConfig:
    """Sizes of the network.

    Attributes:
        dance_size: values of the dance per step (three ticks x pose features).
        condition_size: values of the condition vector (`models.dance_to_music.conditioning`).
        history_size: values of a step as history (`models.dance_to_music.tokens`).
        width: of both recurrent networks.
        encoder_layers: of the dance encoder.
        decoder_layers: of the music decoder.
        voice_width: width of the voices' heads.
        dropout: before the heads and between layers, while learning.
    """

    dance_size: int
    condition_size: int
    history_size: int
    width: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 2
    voice_width: int = 192
    dropout: float = 0.1

    @property
    def layers(self) -> int:
        """Of encoder and decoder together."""
        return self.encoder_layers + self.decoder_layers


class RecurrentPlayer(nn.Module):
    """The network; see the module's description."""

    def __init__(self, config: RecurrentPlayerConfig) -> None:
        super().__init__()
        self.config = config
        self.dance_in = nn.Linear(config.dance_size + config.condition_size, config.width)
        self.music_in = nn.Linear(config.history_size + config.condition_size + config.width, config.width)
        self.encoder = _recurrent(config.width, config.encoder_layers, config.dropout)
        self.decoder = _recurrent(config.width, config.decoder_layers, config.dropout)
        self.no_dance = nn.Parameter(0.02 * torch.randn(config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.heads = VoiceHeads(config)

    def forward(self, dance: Tensor | None, known: Tensor, condition: Tensor, history: Tensor) -> Tensor:
        """Return the decoder's states (B, N, width), from which the heads choose each step; begins from nothing.

        Args:
            dance: (B, N, dance_size); None: no sequence has a dance.
            known: (B,) 1 where the dance is known, 0 where it is withheld.
            condition: (B, N, condition_size).
            history: (B, N, history_size): of the step before each.
        """
        seen = self.no_dance.expand(*condition.shape[:2], -1)
        if dance is not None:
            encoded, _ = self.encoder(self._dance(dance, condition))
            seen = self._seen(encoded, known[:, None, None])
        states, _ = self.decoder(self._music(history, condition, seen))
        kept: Tensor = self.dropout(states)
        return kept

    def start(self, players: int) -> Tensor:
        """Return the state (players, layers, width) before the first step."""
        return torch.zeros(players, self.config.layers, self.config.width)

    def step(
        self, dance: Tensor, known: Tensor, condition: Tensor, history: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the decoder's state (B, width) for one more step, and the new state (B, layers, width).

        Args:
            dance: (B, dance_size).
            known: (B,).
            condition: (B, condition_size).
            history: (B, history_size).
            state: (B, layers, width).
        """
        before = state.transpose(0, 1)
        first = self.config.encoder_layers
        encoded, seen_state = self.encoder(self._dance(dance, condition)[:, None], before[:first].contiguous())
        seen = self._seen(encoded, known[:, None, None])[:, 0]
        states, music_state = self.decoder(self._music(history, condition, seen)[:, None], before[first:].contiguous())
        return states[:, 0], torch.cat([seen_state, music_state]).transpose(0, 1)

    def _dance(self, dance: Tensor, condition: Tensor) -> Tensor:
        return torch.tanh(self.dance_in(torch.cat([dance, condition], dim=-1)))

    def _music(self, history: Tensor, condition: Tensor, seen: Tensor) -> Tensor:
        return torch.tanh(self.music_in(torch.cat([history, condition, seen], dim=-1)))

    def _seen(self, encoded: Tensor, known: Tensor) -> Tensor:
        return known * encoded + (1.0 - known) * self.no_dance


def _recurrent(width: int, layers: int, dropout: float) -> nn.GRU:
    return nn.GRU(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
