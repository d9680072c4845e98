"""Aud-MoCoGAN: MoCoGAN driven by music, the adversarial baseline of Lee et al. 2019 and of Huang et al. 2021.

MoCoGAN (Tulyakov et al. 2018, "MoCoGAN: Decomposing motion and content for video generation", CVPR) draws a content
code once a video and a motion code a frame, the latter from a recurrent network over noise; a generator makes a frame
of both. A frame discriminator judges frames (here poses), a sequence discriminator judges motion (equations 1 to 3).

Lee et al. ("Dancing to Music", NeurIPS 2019) describe their variant in a few words: the recurrent network also hears
the music's style and beat, the discriminators are multi-scale, the sequences grow longer while it learns (as we
remember it, not checked against the paper; we know of no public code). So here: the recurrent network hears the frame
of music, the sequence discriminator sees poses and music together at several scales of time, and the windows grow.
Poses are z-scored vectors, not images: the generator is a perceptron, the discriminators are a perceptron and
convolutions over time. Noise on what the discriminators see is that of the authors' code of MoCoGAN.

Generator and discriminators take their steps at once, in one optimiser: the generator's losses see the discriminators
with detached weights, theirs see detached dances. Adversarial losses need not fall: they say little of the dance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from models.field.frame_model import FrameBatch, FrameModel, FrameSizes

_SLOPE = 0.2
"""Of the leaky rectifiers, as in MoCoGAN's code."""
_STRIDES = 4
"""Each scale of the sequence discriminator halves the time twice."""


@dataclass(frozen=True)
class AudMocoganSettings:
    """Sizes and weights.

    Attributes:
        content_size: values of the content code, drawn once a dance.
        noise_size: Gaussian values a frame that the motion codes come from.
        motion_width: of the recurrent network, and of a motion code.
        generator_width: of the perceptron from codes to a pose.
        discriminator_width: of both discriminators.
        scales: of time at which the sequence discriminator looks: every frame, every other, ...
        input_noise: deviation of the noise on what discriminators see, while learning.
        frame_weight: of the losses of the frame discriminator.
        sequence_weight: of the losses of the sequence discriminator.
        start_frames: length of the sequences at the beginning.
        frames_per_epoch: by which they grow.
    """

    content_size: int = 50
    noise_size: int = 10
    motion_width: int = 128
    generator_width: int = 256
    discriminator_width: int = 128
    scales: int = 3
    input_noise: float = 0.1
    frame_weight: float = 1.0
    sequence_weight: float = 1.0
    start_frames: int = 16
    frames_per_epoch: float = 1.0

    def __post_init__(self) -> None:
        sizes = (self.content_size, self.noise_size, self.motion_width, self.generator_width, self.discriminator_width)
        if min(*sizes, self.scales) < 1:
            raise ValueError("sizes and scales from 1")
        if self.start_frames < self.shortest_frames or self.frames_per_epoch < 0.0:
            raise ValueError(f"with {self.scales} scales, start_frames from {self.shortest_frames}")

    @property
    def shortest_frames(self) -> int:
        """Of a sequence that every scale can judge."""
        return _STRIDES * 2 ** (self.scales - 1)


class AudMocogan(FrameModel):
    """The network. Its state: motion (B, motion_width), content (B, content_size), and whether it has begun (B, 1).

    It is never fed a pose: a dance is a function of music and noise.

    Args:
        sizes: of music and pose.
        settings: of the network.
    """

    def __init__(self, sizes: FrameSizes, settings: AudMocoganSettings) -> None:
        super().__init__(sizes)
        self.settings = settings
        self.noise_size = settings.content_size + settings.noise_size
        width = settings.generator_width
        self.motion = nn.GRU(settings.noise_size + sizes.music, settings.motion_width, batch_first=True)
        self.generator = nn.Sequential(
            nn.Linear(settings.content_size + settings.motion_width, width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, sizes.pose),
        )
        self.frame_critic = _FrameCritic(sizes.pose, settings.discriminator_width)
        self.sequence_critic = _SequenceCritic(sizes, settings.discriminator_width, settings.scales)

    def losses(self, batch: FrameBatch, epoch: float) -> dict[str, Tensor]:
        """Return what generator and discriminators are to lower; see `FrameModel.losses`."""
        s = self.settings
        frames = min(int(s.start_frames + s.frames_per_epoch * epoch), batch.pose.shape[1])
        music, real = batch.music[:, :frames], batch.pose[:, :frames]
        fake = self(music, batch.noise[:, :frames])
        shown, made, danced = (self._blurred(x) for x in (fake, fake.detach(), real))
        return {
            "generator_frame": s.frame_weight * _wish(_frozen(self.frame_critic, shown), real=True),
            "generator_sequence": s.sequence_weight * _wish(_frozen(self.sequence_critic, shown, music), real=True),
            "critic_frame": s.frame_weight * _judged(self.frame_critic(danced), self.frame_critic(made)),
            "critic_sequence": s.sequence_weight
            * _judged(self.sequence_critic(danced, music), self.sequence_critic(made, music)),
        }

    def forward(self, music: Tensor, noise: Tensor) -> Tensor:
        """Return a dance (B, T, P) to music (B, T, M); the noise (B, T, Z) of its first frame draws the content."""
        content, each = noise.split([self.settings.content_size, self.settings.noise_size], dim=-1)
        motion, _ = self.motion(torch.cat([each, music], dim=-1))
        made: Tensor = self.generator(torch.cat([content[:, :1].expand(-1, music.shape[1], -1), motion], dim=-1))
        return made

    def start(self, dancers: int) -> tuple[Tensor, ...]:
        """Return the state before the first frame; see `FrameModel.start`."""
        s = self.settings
        return torch.zeros(dancers, s.motion_width), torch.zeros(dancers, s.content_size), torch.zeros(dancers, 1)

    def step(self, music: Tensor, pose: Tensor, noise: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the next pose and state; see `FrameModel.step`."""
        motion, content, begun = state
        drawn, each = noise.split([self.settings.content_size, self.settings.noise_size], dim=-1)
        content = begun * content + (1.0 - begun) * drawn
        code, _ = self.motion(torch.cat([each, music], dim=-1)[:, None], motion[None])
        made = self.generator(torch.cat([content, code[:, 0]], dim=-1))
        return made, code[:, 0], content, torch.ones_like(begun)

    def _blurred(self, pose: Tensor) -> Tensor:
        return pose + self.settings.input_noise * torch.randn_like(pose) if self.training else pose


class _FrameCritic(nn.Sequential):
    """Says of each pose (..., P) how real it is: (..., 1) logits."""

    def __init__(self, pose: int, width: int) -> None:
        super().__init__(
            nn.Linear(pose, width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(width, 1),
        )


class _SequenceCritic(nn.Module):
    """Says of stretches of a dance (B, T, P) to music (B, T, M) how real they are, at several scales of time."""

    def __init__(self, sizes: FrameSizes, width: int, scales: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(sizes.pose + sizes.music, width, 4, stride=2, padding=1),
                nn.LeakyReLU(_SLOPE),
                nn.Conv1d(width, width, 4, stride=2, padding=1),
                nn.LeakyReLU(_SLOPE),
                nn.Conv1d(width, 1, 3, padding=1),
            )
            for _ in range(scales)
        )

    def forward(self, pose: Tensor, music: Tensor) -> Tensor:
        """Return logits (B, stretches), those of all scales one after the other."""
        x = torch.cat([pose, music], dim=-1).transpose(1, 2)
        logits = []
        for index, critic in enumerate(self.scales):
            x = functional.avg_pool1d(x, 2) if index else x
            logits.append(critic(x)[:, 0])
        return torch.cat(logits, dim=-1)


def _frozen(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Return what a module says, as if its weights were constants."""
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    said: Tensor = functional_call(module, weights, inputs)
    return said


def _wish(logits: Tensor, *, real: bool) -> Tensor:
    """Return the mean of -log of the probability that is to be 1: of being real, or of not being it."""
    return functional.softplus(-logits if real else logits).mean()


def _judged(real: Tensor, fake: Tensor) -> Tensor:
    return _wish(real, real=True) + _wish(fake, real=False)
