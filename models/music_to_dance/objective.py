"""The losses of the music -> dance model, as a module over it.

What the choice head is taught (`models.music_to_dance.choice_head`): which choices are right, and the latent that a
right one is to be corrected to; and of the decoded chunk the error of joints, of their velocities, and of the speed of
feet that should stand (forward kinematics; cf. EDGE, Tseng et al. 2023, eq. 3 to 5).

And, once the model learns from its own history, that what it *draws* goes on smoothly from what it drew before. Nothing
else teaches that: the right chunk goes on from the real one before it, and after an own one it is a jump.

What is random has been drawn before: the same batch gives the same losses, on any number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.learning.launch import LEAST_COUNT, mean_of_all
from models.motion.kinematics import place_run
from models.motion.representation import CONTACTS, TICK_SIZE, MotionRepresentation
from models.music_to_dance.choice_head import evenly, pick
from models.music_to_dance.network import Gmd
from models.music_to_dance.sequences import Batch
from models.music_to_dance.settings import LossSettings


@dataclass
class GmdBatch:
    """B sequences of N chunks, and all that is random about their losses; P picks a sequence.

    Attributes:
        music: (B, N, C F).
        condition: (B, N, K).
        history: (B, N, L).
        target: (B, N, L).
        ticks: (B, N, 1 + C, 152).
        even: (B, N, 1) in [0, 1): which of the right choices is taught.
        picks: (B, P) int64 in [0, N): where the body losses are computed.
        own: (B, N) bool: whose history is the model's own output.
        own_noise: (B, N, L): of the draws in it.
    """

    music: Tensor
    condition: Tensor
    history: Tensor
    target: Tensor
    ticks: Tensor
    even: Tensor
    picks: Tensor
    own: Tensor
    own_noise: Tensor

    def to(self, device: torch.device) -> GmdBatch:
        """Return the batch on a device."""
        return GmdBatch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


@dataclass(frozen=True)
class Noise:
    """What is random about the losses of one sequence; see `GmdBatch`."""

    even: NDArray[np.float32]
    picks: NDArray[np.int64]
    own_noise: NDArray[np.float32]

    @staticmethod
    def draw(random: np.random.Generator, chunks: int, latent_size: int, share: float) -> Noise:
        """Draw for one sequence; `share` of its chunks are picked."""
        return Noise(
            random.random((chunks, 1), np.float32),
            np.argsort(random.random(chunks))[: max(1, int(share * chunks))],
            random.standard_normal((chunks, latent_size), np.float32),
        )


def make_batch(sequences: Batch, noises: list[Noise], own: NDArray[np.bool_]) -> GmdBatch:
    """Put sequences and what is random about them together."""
    return GmdBatch(
        music=torch.from_numpy(sequences.music),
        condition=torch.from_numpy(sequences.condition),
        history=torch.from_numpy(sequences.history),
        target=torch.from_numpy(sequences.target),
        ticks=torch.from_numpy(sequences.ticks),
        even=torch.from_numpy(np.stack([n.even for n in noises])),
        picks=torch.from_numpy(np.stack([n.picks for n in noises])),
        own=torch.from_numpy(own),
        own_noise=torch.from_numpy(np.stack([n.own_noise for n in noises])),
    )


class LatentDecoder(nn.Module):
    """`MotionRepresentation.decode` in torch, differentiable."""

    mean: Tensor
    decoder: Tensor

    def __init__(self, representation: MotionRepresentation) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(representation.mean), persistent=False)
        self.register_buffer("decoder", torch.from_numpy(representation.decoder), persistent=False)

    def forward(self, latents: Tensor) -> Tensor:
        """Return tick vectors (..., C, 152) of latents (..., L)."""
        ticks = latents @ self.decoder + self.mean
        return ticks.reshape(*ticks.shape[:-1], -1, TICK_SIZE)


class GmdObjective(nn.Module):
    """The weighted losses of a batch.

    Args:
        model: that learns.
        representation: of its latents.
        weights: of the losses.
        temperature: of the draws in own history.
        passes: of the network that make own history; see `models.learning.own_history`.
    """

    def __init__(
        self,
        model: Gmd,
        representation: MotionRepresentation,
        weights: LossSettings,
        temperature: float = 1.0,
        passes: int = 1,
    ) -> None:
        super().__init__()
        self.model, self.weights, self.temperature, self.passes = model, weights, temperature, passes
        self.decoder = LatentDecoder(representation)

    def forward(self, batch: GmdBatch) -> dict[str, Tensor]:
        """Return the losses by name."""
        history = self.own_history(batch) if bool(batch.own.any()) else batch.history
        context = self.model(batch.music, batch.condition, history)
        return self.losses_of(context, history, batch)

    def losses_of(self, context: Tensor, history: Tensor, batch: GmdBatch) -> dict[str, Tensor]:
        """Return the losses of decoder states (B, N, width) under histories (B, N, L)."""
        head = self.model.head
        with torch.autocast(context.device.type, enabled=False):
            right = head.nearness(batch.target)
            choice = pick(right, batch.even)
        logits, latents = head.logits(context), head.correct(choice, context, history)
        with torch.autocast(context.device.type, enabled=False):
            seam = self._seam(logits.float(), context.float(), history, batch)
            surprise = torch.special.xlogy(right, right) - right * torch.log_softmax(logits.float(), dim=-1)
            latents = latents.float()
            return {
                "choice": self.weights.choice * surprise.sum(-1).mean(),
                "latent": self.weights.latent * ((latents - batch.target) ** 2).mean(),
                **self._body(latents, batch),
                **seam,
            }

    def _seam(self, logits: Tensor, context: Tensor, history: Tensor, batch: GmdBatch) -> dict[str, Tensor]:
        """Compare how abruptly drawn chunks follow own ones with how abruptly the real dance moves, where picked."""
        if not self.weights.seam:
            return {}
        row = torch.arange(len(history), device=history.device)[:, None].expand_as(batch.picks)
        own, before = batch.own[row, batch.picks].flatten(), history[row, batch.picks].flatten(0, 1)
        counts = torch.stack([batch.own.sum(), own.sum()]).float()
        anywhere, picked = mean_of_all(counts) if self.training else counts
        # A process without own history has this loss all the same if another has: all of them add up the same terms.
        if not anywhere:
            return {}
        with torch.no_grad():
            chances = torch.softmax(logits[row, batch.picks].flatten(0, 1) / self.temperature, dim=-1)
            drawn = pick(chances, evenly(batch.own_noise[row, batch.picks].flatten(0, 1)[:, :1]))
            real, _ = place_run(batch.ticks[row, batch.picks].flatten(0, 1))
            usual = _abruptness(real)
        latents = self.model.head.correct(drawn, context[row, batch.picks].flatten(0, 1), before)
        latents = self.model.joined(latents, before)
        joints, _ = place_run(torch.cat([self.decoder(before)[:, -2:], self.decoder(latents)[:, :2]], dim=1))
        excess = (_abruptness(joints) - usual).relu().sum(-1)
        return {"seam": self.weights.seam * (excess * own).sum() / picked.clamp(min=LEAST_COUNT)}

    def _body(self, latents: Tensor, batch: GmdBatch) -> dict[str, Tensor]:
        """Compare the bodies that predicted latents (B, N, L) decode to with the real ones, where picked."""
        row = torch.arange(len(latents), device=latents.device)[:, None].expand_as(batch.picks)
        real = batch.ticks[row, batch.picks].flatten(0, 1)
        predicted = torch.cat([real[:, :1], self.decoder(latents[row, batch.picks].flatten(0, 1))], dim=1)
        joints, feet = place_run(predicted)
        with torch.no_grad():
            real_joints, _ = place_run(real)
        contacts = torch.minimum(real[:, 1:, CONTACTS], real[:, :-1, CONTACTS])
        away = joints - real_joints
        return {
            "joints": self.weights.joints * (away**2).sum(-1).mean(),
            "velocity": self.weights.velocity * (away.diff(dim=1) ** 2).sum(-1).mean(),
            "feet": self.weights.feet * (contacts * (feet.diff(dim=1) ** 2).sum(-1)).mean(),
        }

    @torch.no_grad()
    def own_history(self, batch: GmdBatch) -> Tensor:
        """Return histories (B, N, L), in part what the model itself would have danced there (auto-conditioning)."""
        own = batch.history
        for _ in range(self.passes):
            context = self.model(batch.music, batch.condition, own)
            danced = self.model.sample(context, own, batch.own_noise, self.temperature).float()
            danced = torch.cat([batch.history[:, :1], danced[:, :-1]], dim=1)
            own = torch.where(batch.own[..., None], danced, batch.history)
        return own


def _abruptness(joints: Tensor) -> Tensor:
    """Return the mean squared acceleration (n, 24) [m^2 a tick^2] of joints (n, T, 24, 3) once a tick."""
    squares: Tensor = (joints.diff(n=2, dim=1) ** 2).sum(-1)
    return squares.mean(dim=1)
