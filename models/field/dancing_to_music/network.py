"""All networks of the system in one module, and the two halves in which they are learnt."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.field.dancing_to_music.du_vae import DuVae
from models.field.dancing_to_music.mm_gan import MmGan
from models.field.dancing_to_music.settings import DancingToMusicSettings
from models.field.dancing_to_music.style_classifier import MusicStyleClassifier
from models.music_to_dance.sequences import OTHER_STYLE

Floats = NDArray[np.float32]


class Decomposition(nn.Module):
    """What is learnt first: units, and the style of music.

    Args:
        settings: of the run.
        music: M, values of a row of music.
    """

    def __init__(self, settings: DancingToMusicSettings, music: int) -> None:
        super().__init__()
        sizes = settings.network
        self.units = DuVae(settings.unit.poses, sizes.initial, sizes.movement, sizes.unit_width)
        self.classifier = MusicStyleClassifier(music, sizes.style, OTHER_STYLE + 1)


class DancingToMusic(nn.Module):
    """The whole system.

    Args:
        settings: of the run.
        decomposition: learnt before.
    """

    def __init__(self, settings: DancingToMusicSettings, decomposition: Decomposition) -> None:
        super().__init__()
        sizes = settings.network
        self.decomposition = decomposition
        self.gan = MmGan(sizes.units, sizes.movement, sizes.dance, sizes.style, sizes.style_noise, sizes.dance_width)

    def compose(self, music: Tensor, noise: Tensor) -> Tensor:
        """Return the movements (B, N, m) of sequences to music (B, W, M) and noise (B, n)."""
        return self.gan.compose(self.decomposition.classifier.style(music), noise)


class TorchUnits:
    """A `UnitModel` of networks in training; see `models.field.dancing_to_music.compose`."""

    def __init__(self, model: DancingToMusic) -> None:
        self._model = model.eval()

    @torch.no_grad()
    def compose(self, music: Floats, noise: Floats) -> Floats:
        """Return the movements (N, m) of a sequence."""
        movements = self._model.compose(torch.from_numpy(music)[None], torch.from_numpy(noise)[None])
        return np.asarray(movements[0].numpy())

    @torch.no_grad()
    def next_unit(self, pose: Floats, movement: Floats, noise: Floats) -> Floats:
        """Return the unit (poses, 152) that follows a pose."""
        row = [torch.from_numpy(np.ascontiguousarray(x))[None] for x in (pose, movement, noise)]
        return np.asarray(self._model.decomposition.units.next_unit(*row)[0].numpy())
