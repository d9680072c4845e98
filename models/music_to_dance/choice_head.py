"""The head that makes the dance: it *chooses* one of many chunks of real dance, then *corrects* it.

After the Behavior Transformer (Shafiullah et al. 2022, "Behavior Transformers: Cloning k modes with one stone"): the
chunks of the training dances are gathered in clusters; the head gives each cluster a chance, one is drawn, and what
the drawn chunk lacks in this place (after this history, to this music) is added by a second small network. What could
go on in many ways is decided by the draw, so the correction has one answer and is learned by plain regression; a
regression alone dances the mean of all ways, which stands still.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from torch.nn import functional

from models.transformer import FeedForward

if TYPE_CHECKING:
    from models.music_to_dance.sequences import SequenceSampler

CORRECTION_SPREAD = 0.4
"""Usual deviation of what is left to correct; keeps the network's own output near unit deviation."""
NEARNESS = 2.0
"""A cluster is e times less right than another for every so much of squared distance in the latent. Neighbours are a
few of these apart: a chunk at the border of two is taught as either."""
_ROUNDS = 20
"""Of Lloyd's algorithm; the mean distance changes by less than 1 % after these."""
_RIDGE = 0.1
_RARE = 0.001
"""Share of the real chunks, at either end of each value of the latent, that are beyond what may be danced: a network
that goes over from one rare figure to another exaggerates it (a kick three times as quick as any dancer's was seen)."""
_UNSEEN = 0.05
"""Chunks that a choice counts as danced beside those that were seen: no chance is nothing."""
_CHUNKS_A_CHOICE = 4
"""Fewer chunks than these do not make a cluster."""


class ChoiceSizes(Protocol):
    """What the head must know of the network's sizes."""

    latent_size: int
    width: int
    choices: int
    head_width: int
    head_blocks: int


class ChoiceHead(nn.Module):
    """Chances of the choices, and their correction. B.. stands for any leading axes, K for the choices.

    Args:
        config: sizes.
    """

    centres: Tensor
    base_choice: Tensor
    base_history: Tensor
    base_offset: Tensor
    low: Tensor
    high: Tensor
    as_danced: Tensor

    def __init__(self, config: ChoiceSizes) -> None:
        super().__init__()
        size, width = config.latent_size, config.head_width
        self.register_buffer("centres", torch.zeros(config.choices, size))
        # The latent that follows most likely from a choice and a history, linearly: bodies do not jump.
        self.register_buffer("base_choice", torch.eye(size))
        self.register_buffer("base_history", torch.zeros(size, size))
        self.register_buffer("base_offset", torch.zeros(size))
        # Not among the weights: they follow from the dances, see `fit_limits`.
        self.register_buffer("low", torch.full((size,), -math.inf), persistent=False)
        self.register_buffer("high", torch.full((size,), math.inf), persistent=False)
        # Nor this; see `fit_as_danced`.
        self.register_buffer("as_danced", torch.zeros(config.choices), persistent=False)
        self.query = nn.Sequential(nn.Linear(config.width, width), nn.GELU(), nn.Linear(width, config.choices))
        self.choice = nn.Embedding(config.choices, width)
        self.history = nn.Linear(size, width)
        self.modulation = nn.Linear(config.width, 2 * width * config.head_blocks)
        self.blocks = nn.ModuleList(FeedForward(width, 2 * width) for _ in range(config.head_blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, size)
        nn.init.normal_(self.choice.weight, std=0.3)
        for layer in (self.query[-1], self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def logits(self, context: Tensor) -> Tensor:
        """Return the choices' log chances (B.., K), up to a constant, of the decoder's states (B.., width)."""
        logits: Tensor = self.query(context)
        return logits

    def chances(self, context: Tensor, temperature: float) -> Tensor:
        """Return the chances (B.., K) by which a choice is drawn."""
        return torch.softmax((self.logits(context).float() + self.as_danced) / temperature, dim=-1)

    def correct(self, choice: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """Return the latents (B.., L) of choices (B..) int64 in a context (B.., width) after a history (B.., L)."""
        return self._corrected(self.centres[choice], self.choice(choice), context, history)

    def correct_mixed(self, shares: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """Return the same of choices given as shares (B.., K), through which gradients flow."""
        return self._corrected(shares @ self.centres, shares @ self.choice.weight, context, history)

    def nearness(self, latents: Tensor) -> Tensor:
        """Return how right each choice is for real latents (B, N, L): shares (B, N, K) that sum to 1."""
        squares = torch.cdist(latents.flatten(0, 1), self.centres).square()
        return torch.softmax(squares.unflatten(0, latents.shape[:2]) / -NEARNESS, dim=-1)

    def _corrected(self, centre: Tensor, embedded: Tensor, context: Tensor, history: Tensor) -> Tensor:
        base = centre @ self.base_choice.T + history @ self.base_history.T + self.base_offset
        x = embedded + self.history(history)
        modulation = self.modulation(functional.gelu(context))
        for block, parts in zip(self.blocks, modulation.chunk(len(self.blocks), dim=-1), strict=True):
            scale, shift = parts.chunk(2, dim=-1)
            x = x + block(self.norm(x) * (1.0 + scale) + shift)
        return base + CORRECTION_SPREAD * self.out(x)


def evenly(noise: Tensor) -> Tensor:
    """Return the place in [0, 1] of Gaussian numbers in their distribution: Gaussian noise, made even."""
    return 0.5 * (1.0 + torch.erf(noise * math.sqrt(0.5)))


def pick(chances: Tensor, even: Tensor) -> Tensor:
    """Return the choice (B..) int64 at a place `even` (B.., 1) in [0, 1] of the cumulated chances (B.., K)."""
    return (chances.cumsum(dim=-1) < even).sum(dim=-1).clamp(max=chances.shape[-1] - 1)


def choice_count(wished: int, sampler: SequenceSampler) -> int:
    """Return how many choices the sampler's dances can fill."""
    return max(1, min(wished, sum(len(p.latents) for p in sampler.clips) // _CHUNKS_A_CHOICE))


@torch.no_grad()
def fit_limits(head: ChoiceHead, sampler: SequenceSampler) -> None:
    """Set between what values the sampler's dances keep each value of the latent, but for rare chunks."""
    latents = np.concatenate([p.latents for p in sampler.clips])
    for limit, share in ((head.low, _RARE), (head.high, 1.0 - _RARE)):
        limit.copy_(torch.from_numpy(np.quantile(latents, share, axis=0).astype(np.float32)))


@torch.no_grad()
def fit_as_danced(head: ChoiceHead, sampler: SequenceSampler) -> None:
    """Lean the draw to how the sampler's dances were danced, away from their mirror images.

    The network learns from both, and so believes in both alike; on the stage only the performer mirrors. By Bayes' rule
    a choice's chance is to be multiplied with the share of its chunks that are not mirrored. Without it waltzers
    kicked with the foot that none of them kicks with.
    """
    both, danced = (torch.full((len(head.centres),), rows) for rows in (2.0 * _UNSEEN, _UNSEEN))
    for prepared in sampler.clips:
        rows = head.nearness(torch.from_numpy(prepared.latents)[None])[0].sum(dim=0)
        both += rows
        danced += 0.0 if prepared.clip.is_mirrored else rows
    head.as_danced.copy_((danced / both).log())


@torch.no_grad()
def fit_choices(head: ChoiceHead, sampler: SequenceSampler, seed: int = 0) -> None:
    """Set the clusters and the linear base from the sampler's dances, under the history noise it teaches with; and the
    limits."""
    fit_limits(head, sampler)
    random = np.random.Generator(np.random.PCG64(seed))
    latents = np.concatenate([p.latents for p in sampler.clips])
    with warnings.catch_warnings():
        # Dances repeat themselves: two clusters may begin on one movement, and one of them stay empty and never right.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centres, _ = kmeans2(latents, len(head.centres), iter=_ROUNDS, minit="points", seed=random)
    after = np.concatenate([p.latents[1:] for p in sampler.clips]).astype(np.float64)
    before = np.concatenate([p.latents[:-1] for p in sampler.clips]).astype(np.float64)
    level = sampler.settings.history_noise * random.random((len(before), 1))
    level *= random.random((len(before), 1)) >= sampler.settings.clean_share
    before += level * random.standard_normal(before.shape)
    chosen = centres[_nearest(after, centres)].astype(np.float64)
    design = np.concatenate([chosen, before, np.ones((len(before), 1))], axis=1)
    fit = np.linalg.solve(design.T @ design + _RIDGE * np.eye(design.shape[1]), design.T @ after)
    size = after.shape[1]
    head.centres.copy_(torch.from_numpy(centres))
    head.base_choice.copy_(torch.from_numpy(fit[:size].T))
    head.base_history.copy_(torch.from_numpy(fit[size : 2 * size].T))
    head.base_offset.copy_(torch.from_numpy(fit[-1]))


def _nearest(rows: NDArray[np.float64], centres: NDArray[np.float32]) -> NDArray[np.intp]:
    return (np.square(centres).sum(axis=1) - 2.0 * rows @ centres.T).argmin(axis=1)
