"""DU-VAE: a dance unit as its initial pose and its movement, and back (Lee et al. 2019, section 3.2).

Everything random comes in as noise, so that a batch decides it, as on stage a dancer's seed does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.motion.representation import TICK_SIZE

_POSE_WIDTH = 64
"""Of the layers that read a single pose; as in the published code."""

_PLACE_SIZE = 16
"""Numbers by which the decoder is told which pose of the unit it writes. The published one has to count by itself."""

_FIRST_LOG_VARIANCE = -4.0
"""An encoder that is nearly sure of itself at first is listened to from the first step; the divergence then loosens it.
From 0, where nothing can be told from noise, the same reconstruction takes several times as many steps."""


@dataclass(frozen=True)
class Gaussian:
    """Independent normal distributions: mean (..., d) and logarithm of the variance (..., d)."""

    mean: Tensor
    log_variance: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """Return the sample that standard normal noise (..., d) stands for."""
        return self.mean + noise * (0.5 * self.log_variance).exp()

    def divergence(self) -> Tensor:
        """Return the mean Kullback-Leibler divergence to N(0, I) [nats] (Kingma & Welling 2014, appendix B)."""
        inside = 1.0 + self.log_variance - self.mean.square() - self.log_variance.exp()
        return -0.5 * inside.sum(dim=-1).mean()


class GaussianHead(nn.Module):
    """Reads a distribution off features."""

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        self.mean = nn.Linear(features, size)
        self.log_variance = nn.Linear(features, size)
        nn.init.constant_(self.log_variance.bias, _FIRST_LOG_VARIANCE)

    def forward(self, features: Tensor) -> Gaussian:
        """Return the distribution (..., size) of features (..., n)."""
        # Bounded: beyond e^3 in either direction a deviation is no longer learnt but lost.
        return Gaussian(self.mean(features), 6.0 * torch.tanh(self.log_variance(features) / 6.0))


class InitialPoseEncoder(nn.Module):
    """E_ini: a pose (B, 152) to its latent z_ini."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.Linear(TICK_SIZE, _POSE_WIDTH),
            nn.LayerNorm(_POSE_WIDTH),
            nn.LeakyReLU(0.2),
            nn.Linear(_POSE_WIDTH, _POSE_WIDTH),
            nn.LayerNorm(_POSE_WIDTH),
            nn.LeakyReLU(0.2),
        )
        self.head = GaussianHead(_POSE_WIDTH, latent)

    def forward(self, pose: Tensor) -> Gaussian:
        """Return the distribution of z_ini of poses (B, 152)."""
        return self.head(self.read(pose))


class MovementEncoder(nn.Module):
    """E_mov: a unit (B, poses, 152) to its latent z_mov, read in both directions."""

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.read = nn.GRU(TICK_SIZE, width, batch_first=True, bidirectional=True)
        self.head = GaussianHead(2 * width, latent)

    def forward(self, unit: Tensor) -> Gaussian:
        """Return the distribution of z_mov of units (B, poses, 152)."""
        _, last = self.read(unit)
        return self.head(torch.cat([last[0], last[1]], dim=-1))


class UnitDecoder(nn.Module):
    """G_uni: an initial pose's latent and a movement's to a unit (B, poses, 152)."""

    def __init__(self, poses: int, initial: int, movement: int, width: int) -> None:
        super().__init__()
        self.place = nn.Parameter(0.5 * torch.randn(poses, _PLACE_SIZE))
        self.begin = nn.Linear(initial + movement, width)
        self.move = nn.GRU(movement + _PLACE_SIZE, width, batch_first=True)
        self.write = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, TICK_SIZE))

    def forward(self, initial: Tensor, movement: Tensor) -> Tensor:
        """Return units (B, poses, 152) of z_ini (B, i) and z_mov (B, m)."""
        state = self.begin(torch.cat([initial, movement], dim=-1))
        count, poses = len(movement), len(self.place)
        given = [movement[:, None].expand(-1, poses, -1), self.place.expand(count, -1, -1)]
        moved, _ = self.move(torch.cat(given, dim=-1), state[None])
        written: Tensor = self.write(moved)
        return written


class DuVae(nn.Module):
    """The unit's variational autoencoder; poses are normalised.

    Args:
        poses: in a unit.
        initial: size of z_ini.
        movement: size of z_mov.
        width: of the recurrent layers.
    """

    def __init__(self, poses: int, initial: int, movement: int, width: int) -> None:
        super().__init__()
        self.initial_size, self.movement_size = initial, movement
        self.encode_initial = InitialPoseEncoder(initial)
        self.encode_movement = MovementEncoder(width, movement)
        self.decode = UnitDecoder(poses, initial, movement, width)

    def losses(self, units: Tensor, initial_noise: Tensor, movement_noise: Tensor) -> dict[str, Tensor]:
        """Return reconstruction (mean absolute error) and both divergences, not weighted.

        Args:
            units: (B, poses, 152).
            initial_noise: (B, i).
            movement_noise: (B, m).
        """
        initial, movement = self.encode_initial(units[:, 0]), self.encode_movement(units)
        rebuilt = self.decode(initial.draw(initial_noise), movement.draw(movement_noise))
        return {
            "unit": (rebuilt - units).abs().mean(),
            "kl_initial": initial.divergence(),
            "kl_movement": movement.divergence(),
        }

    def next_unit(self, last_pose: Tensor, movement: Tensor, noise: Tensor) -> Tensor:
        """Return u^i = G_uni(z_ini^{i-1}, z_mov^i), where z_ini^{i-1} is of the last pose danced (section 3.4).

        Args:
            last_pose: (B, 152).
            movement: (B, m).
            noise: (B, i), of z_ini.
        """
        return self.decode(self.encode_initial(last_pose).draw(noise), movement)
