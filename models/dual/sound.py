"""How written music sounds, as G_MD hears it: a small network from step grids to music features, differentiable.

The cycle dance -> music -> dance needs it: G_DM writes notes, G_MD hears sound. The papers do not say how that gap was
bridged; this is our choice: a convolution over steps, learnt on the same pairs (their recordings' features from their
own transcriptions), and held still while a cycle is computed. It works in the home key, so that chroma is learnt once
and not twelve times. Notes that G_DM chooses enter by straight-through Gumbel-softmax (Jang et al. 2017): chosen
forwards, soft backwards.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from engine.features import FeatureSpec
from engine.types import DRUMS, TICKS_PER_STEP
from models.dance_to_music.network import VoiceLogits
from models.dance_to_music.tokens import DRUM_LEVELS, LEVELS, PITCHED
from models.music_to_dance.conditioning import MUSIC_LIMIT

_DRUM_SIZE = len(DRUMS) * DRUM_LEVELS
_WIDTH, _KERNEL, _LAYERS = 128, 5, 3
"""Three layers see six steps to each side: a beat and a half, more than most notes last."""


class Sound(nn.Module):
    """The network, and the change between its features and those of G_MD.

    Args:
        music_mean, music_scale: (F,) as G_MD's features are normalised.
    """

    mean: Tensor
    scale: Tensor
    home_mean: Tensor
    home_scale: Tensor

    def __init__(self, music_mean: NDArray[np.float32], music_scale: NDArray[np.float32]) -> None:
        super().__init__()
        names = FeatureSpec().names
        chroma = [index for index, name in enumerate(names) if name.startswith("chroma")]
        self._chroma = slice(chroma[0], chroma[-1] + 1)
        mean, scale = (torch.from_numpy(np.asarray(a, np.float32).copy()) for a in (music_mean, music_scale))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        # In the home key every pitch class is treated alike.
        for name, values in (("home_mean", mean), ("home_scale", scale)):
            home = values.clone()
            home[self._chroma] = values[self._chroma].mean()
            self.register_buffer(name, home, persistent=False)
        self.enter = nn.Linear(_DRUM_SIZE + sum(PITCHED), _WIDTH)
        self.layers = nn.ModuleList(nn.Conv1d(_WIDTH, _WIDTH, _KERNEL, padding=_KERNEL // 2) for _ in range(_LAYERS))
        self.out = nn.Linear(_WIDTH, TICKS_PER_STEP * len(names))

    def forward(self, chosen: Tensor) -> Tensor:
        """Return features (B, 3 S, F), normalised in the home key, of notes (B, S, 240); see `one_hot`, `choose`."""
        x = self.enter(chosen).transpose(1, 2)
        for layer in self.layers:
            x = x + layer(functional.gelu(x))
        sounds: Tensor = self.out(functional.gelu(x.transpose(1, 2)))
        return sounds.reshape(len(sounds), -1, len(self.mean))

    def home(self, features: Tensor, shift: Tensor) -> Tensor:
        """Return features (B, T, F) of music that lies `shift` (B,) over the home key, normalised in the home key."""
        return self._limited((self._roll(features, -shift) - self.home_mean) * self.home_scale)

    def heard(self, home: Tensor, shift: Tensor) -> Tensor:
        """Return what `home` was made from, normalised as G_MD wants it."""
        return self.normal(self._roll(home / self.home_scale + self.home_mean, shift))

    def normal(self, features: Tensor) -> Tensor:
        """Return features (B, T, F) normalised as G_MD wants them."""
        return self._limited((features - self.mean) * self.scale)

    def _limited(self, normal: Tensor) -> Tensor:
        return normal.clamp(-MUSIC_LIMIT, MUSIC_LIMIT)

    def _roll(self, features: Tensor, shift: Tensor) -> Tensor:
        """Move the chroma of features (B, T, F) up by semitones (B,)."""
        index = (torch.arange(12, device=features.device) - shift[:, None]) % 12
        chroma = features[..., self._chroma]
        moved = chroma.gather(-1, index[:, None].expand(chroma.shape))
        return torch.cat([features[..., : self._chroma.start], moved, features[..., self._chroma.stop :]], dim=-1)


def one_hot(drums: Tensor, voices: Tensor) -> Tensor:
    """Return (B, S, 240) of true drum levels (B, S, 9) and tokens (B, S, 3)."""
    parts = [functional.one_hot(drums, DRUM_LEVELS).flatten(-2)]
    parts += [functional.one_hot(voices[..., v], count) for v, count in enumerate(PITCHED)]
    return torch.cat(parts, dim=-1).float()


def choose(logits: VoiceLogits, noise: Tensor, temperature: float) -> Tensor:
    """Return (B, S, 240): notes drawn from the logits, with the gradient of the softmax.

    Args:
        logits: of drums, bass, chord and lead.
        noise: (B, S, NOISE_SIZE) standard Gumbel numbers, as for `VoiceHeads.sample`.
        temperature: of the softmax.
    """
    sizes = [_DRUM_SIZE, *(n for t in PITCHED for n in (t, LEVELS))]
    drum_noise, *voice_noise = torch.split(noise, sizes, dim=-1)
    struck = logits.drums.float() + drum_noise.reshape(*drum_noise.shape[:-1], len(DRUMS), DRUM_LEVELS)
    parts = [_straight(struck, temperature).flatten(-2)]
    parts += [_straight(v.float() + n, temperature) for v, n in zip(logits.voices, voice_noise[::2], strict=True)]
    return torch.cat(parts, dim=-1)


def _straight(scores: Tensor, temperature: float) -> Tensor:
    soft = torch.softmax(scores / temperature, dim=-1)
    hard = functional.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(soft.dtype)
    return hard + soft - soft.detach()
