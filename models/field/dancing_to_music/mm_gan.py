"""MM-GAN: which movements follow each other, given the style of the music (Lee et al. 2019, section 3.3).

One optimiser steps everything at once: the generator's losses see the discriminators with detached weights, the
discriminators' losses see detached movements.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from models.field.dancing_to_music.du_vae import Gaussian, GaussianHead

_STYLE_WIDTHS = (64, 128)
"""Of the layers that read a style; as in the published code."""


@dataclass
class CompositionBatch:
    """B sequences of N units.

    Attributes:
        movements: (B, N, m) means of z_mov of real units in a row.
        style: (B, s) of the music before them.
        dance_noise: (B, d), of z_dan.
        style_noise: (B, n + d), beside the style and of the z_dan made of it.
    """

    movements: Tensor
    style: Tensor
    dance_noise: Tensor
    style_noise: Tensor


class DanceEncoder(nn.Module):
    """E_mtd: movements (B, N, m) to the dance they are, z_dan."""

    def __init__(self, movement: int, width: int, dance: int) -> None:
        super().__init__()
        self.read = nn.GRU(movement, width, batch_first=True, bidirectional=True)
        self.head = GaussianHead(2 * width, dance)

    def forward(self, movements: Tensor) -> Gaussian:
        """Return the distribution of z_dan of movements (B, N, m)."""
        _, last = self.read(movements)
        return self.head(torch.cat([last[0], last[1]], dim=-1))


class DanceDecoder(nn.Module):
    """G_dan: z_dan (B, d) to movements (B, N, m)."""

    def __init__(self, units: int, dance: int, width: int, movement: int) -> None:
        super().__init__()
        self._units = units
        self.begin = nn.Linear(dance, width)
        self.move = nn.GRU(dance, width, batch_first=True)
        self.write = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, movement))

    def forward(self, dance: Tensor) -> Tensor:
        """Return the movements (B, N, m) of dances (B, d)."""
        moved, _ = self.move(dance[:, None].expand(-1, self._units, -1), self.begin(dance)[None])
        written: Tensor = self.write(moved)
        return written


class StyleDiscriminator(nn.Module):
    """Tells real from made, given the style of the music."""

    def __init__(self, size: int, style: int, width: int) -> None:
        super().__init__()
        self.judge = nn.Sequential(
            nn.Linear(size + style, width),
            nn.LayerNorm(width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width // 2),
            nn.LayerNorm(width // 2),
            nn.LeakyReLU(0.2),
            nn.Linear(width // 2, 1),
        )

    def forward(self, made: Tensor, style: Tensor) -> Tensor:
        """Return (B,), larger for what seems real, of latents (B, ...) and styles (B, s)."""
        judged: Tensor = self.judge(torch.cat([made.flatten(1), style], dim=-1))
        return judged[:, 0]


class MmGan(nn.Module):
    """Music to movements.

    Args:
        units: N, in a sequence.
        movement: size of z_mov.
        dance: size of z_dan.
        style: size of the style vector.
        style_noise: Gaussian numbers beside the style.
        width: of the recurrent layers and the discriminators.
    """

    def __init__(self, units: int, movement: int, dance: int, style: int, style_noise: int, width: int) -> None:
        super().__init__()
        self._split = [style_noise, dance]
        self.encode = DanceEncoder(movement, width, dance)
        self.decode = DanceDecoder(units, dance, width, movement)
        self.from_style = nn.Sequential(
            nn.Linear(style + style_noise, _STYLE_WIDTHS[0]),
            nn.LayerNorm(_STYLE_WIDTHS[0]),
            nn.LeakyReLU(0.2),
            nn.Linear(_STYLE_WIDTHS[0], _STYLE_WIDTHS[1]),
            nn.LayerNorm(_STYLE_WIDTHS[1]),
            nn.LeakyReLU(0.2),
            GaussianHead(_STYLE_WIDTHS[1], dance),
        )
        self.to_style = nn.Sequential(nn.Linear(dance, width), nn.LeakyReLU(0.2), nn.Linear(width, style))
        self.judge_movements = StyleDiscriminator(units * movement, style, width)
        self.judge_dance = StyleDiscriminator(dance, style, width)

    def dance(self, style: Tensor, noise: Tensor) -> Tensor:
        """Return z_dan (B, d) of a style (B, s) and noise (B, n + d): E_std(style, noise).

        As in the published code E_std says a distribution: from fewer numbers than z_dan has, all that it could make
        would lie on a surface, and the judge would know it by that.
        """
        beside, within = noise.split(self._split, dim=-1)
        made: Gaussian = self.from_style(torch.cat([style, beside], dim=-1))
        return made.draw(within)

    def compose(self, style: Tensor, noise: Tensor) -> Tensor:
        """Return the movements (B, N, m) to a style (B, s) and noise (B, n + d): G_dan(E_std(style, noise))."""
        movements: Tensor = self.decode(self.dance(style, noise))
        return movements

    def losses(self, batch: CompositionBatch) -> dict[str, Tensor]:
        """Return the five losses of the composition and the discriminators' own, not weighted.

        As in the published code, what the discriminator of movements takes for real is what G_dan makes of a real
        dance, not the real movements themselves: it shall judge the dance, not the decoder's blur.
        """
        encoded = self.encode(batch.movements)
        dance = encoded.draw(batch.dance_noise)
        rebuilt = self.decode(dance)
        made_dance = self.dance(batch.style, batch.style_noise)
        made = self.decode(made_dance)
        style_error = [(self.to_style(z) - batch.style).abs().mean() for z in (dance, made_dance)]
        return {
            "movements": (rebuilt - batch.movements).abs().mean(),
            "style": 0.5 * (style_error[0] + style_error[1]),
            "kl_dance": encoded.divergence(),
            "fool_movements": _real(_fixed(self.judge_movements, made, batch.style)),
            "fool_dance": _real(_fixed(self.judge_dance, made_dance, batch.style)),
            "judge_movements": self._judged(self.judge_movements, rebuilt, made, batch.style),
            "judge_dance": self._judged(self.judge_dance, dance, made_dance, batch.style),
        }

    @staticmethod
    def _judged(judge: nn.Module, real: Tensor, made: Tensor, style: Tensor) -> Tensor:
        return 0.5 * (_real(judge(real.detach(), style)) + _made(judge(made.detach(), style)))


def _fixed(judge: nn.Module, made: Tensor, style: Tensor) -> Tensor:
    """Return a judgement whose gradient does not reach the judge."""
    weights = {name: weight.detach() for name, weight in judge.named_parameters()}
    judged: Tensor = functional_call(judge, weights, (made, style))
    return judged


def _real(judged: Tensor) -> Tensor:
    return functional.softplus(-judged).mean()


def _made(judged: Tensor) -> Tensor:
    return functional.softplus(judged).mean()
