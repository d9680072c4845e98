"""The music style classifier, whose hidden state is the style that a dance is composed to (Lee et al. 2019, 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MusicStyleClassifier(nn.Module):
    """Reads the last beats of music.

    Args:
        music: M, values of a row of music.
        style: size of the style vector; the published one is 30.
        classes: dance styles that the music is told apart by.
    """

    def __init__(self, music: int, style: int, classes: int) -> None:
        super().__init__()
        self.listen = nn.GRU(music, style, batch_first=True)
        self.classify = nn.Sequential(nn.Linear(style, style), nn.ReLU(), nn.Linear(style, classes))

    def style(self, music: Tensor) -> Tensor:
        """Return the style vectors (B, style), within -1 to 1, of music (B, W, M)."""
        _, last = self.listen(music)
        return last[0]

    def forward(self, music: Tensor) -> Tensor:
        """Return the logits (B, classes) of music (B, W, M)."""
        logits: Tensor = self.classify(self.style(music))
        return logits

    def loss(self, music: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy [nats] with the styles (B,) of the dances to the music."""
        return functional.cross_entropy(self(music), labels)

    @torch.no_grad()
    def accuracy(self, music: Tensor, labels: Tensor) -> float:
        """Return the share of the pieces recognised."""
        return float((self(music).argmax(dim=-1) == labels).float().mean())
