"""Where the chance in learning comes from: a function of the seed, the step and the sequence's place in the batch.

Nothing random is carried from step to step. So a resumed run needs no generator states to be the same run, and any
number of processes draw the same global batch between them.
"""

from __future__ import annotations

import numpy as np
import torch

_TORCH_STREAM = 1 << 32
"""Set apart from every place in a batch."""


def sequence_random(seed: int, step: int, place: int) -> np.random.Generator:
    """Return the generator of one sequence of one step."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, step, place])))


def seed_torch(seed: int, step: int, rank: int) -> None:
    """Seed torch's own generators (dropout) for one step of one process."""
    state = np.random.SeedSequence([seed, step, _TORCH_STREAM, rank]).generate_state(2, np.uint32)
    torch.manual_seed(int(state[0]) << 31 ^ int(state[1]))
