"""A composer from whom the dance is withheld: what does the dance add?

The same network with the same weights plays to the same beats, but nobody dances before it: it has learnt that case,
too (`drop_dance` of `models.dance_to_music.sequences.MusicSequenceSettings`). The movement's energy, which the stage
also tells a composer, may be left to it, so that one sees what the poses add to it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.protocols import Composer
from engine.types import MusicRequest, MusicStep

_AVERAGE_ENERGY = 0.5


class Withheld:
    """A `Composer` that does not see the dance.

    Args:
        composer: what plays; poses that are not finite have to mean that nobody is seen.
        energy: whether it is still told the movement's energy.
    """

    def __init__(self, composer: Composer, *, energy: bool = False) -> None:
        self._composer, self._energy = composer, energy
        without = "poses" if energy else "dance"
        self.info = replace(composer.info, name=f"{composer.info.name} without the {without}")

    def reset(self, seed: int) -> None:
        """Start a new piece."""
        self._composer.reset(seed)

    def step(self, request: MusicRequest) -> MusicStep:
        """Return the next step; see `engine.protocols.Composer`."""
        blind = replace(
            request,
            poses=np.full_like(request.poses, np.nan),
            energy=request.energy if self._energy else _AVERAGE_ENERGY,
        )
        return self._composer.step(blind)
