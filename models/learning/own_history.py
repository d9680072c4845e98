"""Auto-conditioning: how much of a network's past, while it learns, is its own output.

The dynamic auto-condition curriculum of Huang et al. 2021 ("Dance Revolution", ICLR, section 3.3) alternates, along a
sequence, stretches of p own outputs with q true ones. q is constant (the paper's condition step, 10) and p = f(t) grows
with the epoch t in one of four forms: const, floor(lambda t), floor(lambda t^2), floor(lambda e^t); linear with
lambda = 0.01 was best there. In the published code the pattern begins with own outputs at the sequence's first step;
here its phase is drawn for each sequence, because our sequences begin anywhere in a dance.

Own outputs of a stretch are found in parallel passes (Duckworth et al. 2019, "Parallel scheduled sampling"): after k
passes, the first k outputs of each stretch are what one would get one after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Form = Literal["scattered", "const", "linear", "square", "exponential"]

_LARGEST_EXPONENT = 80.0
"""e^80 is longer than any sequence."""


@dataclass(frozen=True)
class OwnHistorySettings:
    """Own history as data.

    Attributes:
        form: "scattered": each chunk of a sequence with a probability drawn for the sequence (no stretches); the
            others are Huang's.
        rate: lambda of the three growing forms.
        length: p of the form const.
        truth: q, true chunks between two stretches.
        epoch_steps: steps of the optimiser that count as one epoch t.
        passes: of the network over the sequence, each without gradients; outputs deeper in a stretch than this are
            approximate.
    """

    form: Form = "scattered"
    rate: float = 0.01
    length: int = 10
    truth: int = 10
    epoch_steps: int = 10
    passes: int = 1

    def __post_init__(self) -> None:
        if self.rate < 0.0 or self.length < 0 or self.truth < 1 or self.epoch_steps < 1 or self.passes < 1:
            raise ValueError("own history: rate and length from 0, truth, epoch_steps and passes from 1")


def stretch_length(settings: OwnHistorySettings, epoch: float, limit: int) -> int:
    """Return p, own outputs per stretch, at an epoch; at most `limit`."""
    t, rate = math.floor(epoch), settings.rate
    if settings.form == "const":
        return min(settings.length, limit)
    if settings.form == "linear":
        return min(math.floor(rate * t), limit)
    if settings.form == "square":
        return min(math.floor(rate * t * t), limit)
    if settings.form == "exponential":
        return min(math.floor(rate * math.exp(min(t, _LARGEST_EXPONENT))), limit)
    raise ValueError(f"{settings.form} has no stretches")


def own_mask(
    settings: OwnHistorySettings, random: np.random.Generator, chunks: int, epoch: float, share: float
) -> NDArray[np.bool_]:
    """Return which of a sequence's histories (N,) are the network's own; the first never is (nothing precedes it).

    Args:
        settings: of the curriculum.
        random: of the sequence.
        chunks: N.
        epoch: t, counted from where own history begins.
        share: mean share of own histories in the form "scattered".
    """
    if settings.form == "scattered":
        # Another share for each sequence: from true dance to dance that is all the model's own.
        mask = random.random(chunks) < 2.0 * share * random.random()
    else:
        own = stretch_length(settings, epoch, chunks)
        period = own + settings.truth
        mask = (np.arange(chunks) + int(random.integers(period))) % period < own
    mask[0] = False
    return np.asarray(mask, bool)
