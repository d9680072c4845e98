"""Does a back end compute what the CPU computes in float32? A run of steps of a fixed seed, compared.

Whoever is compared is given the reference's own past at every step: what is asked is whether a step is the same, not
whether two dances stay together (of two that differ by a hair neither is wrong). A head that *draws* can, by that hair,
draw the neighbouring choice; such a step is counted by itself, as apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.backends.protocol import StepBackend
from models.backends.step_memory import VECTORS, Floats

PROBE_STEPS = 8
"""Enough to use the rings: what is written by one step is read by the next."""
TOLERANCE = {"fp32": 2e-4, "tf32": 5e-3, "bf16": 6e-2, "fp16": 2e-2, "int8": 0.2}
"""Largest difference of a number of a latent (of deviation about 1) that passes, by precision. Half a per cent moves a
hand by about a millimetre; coarser formats are let through only because a dance is drawn from noise of deviation 0.9
anyway. int8 is held to this on the probe's inputs, white noise, on which it errs three times as much as on music."""
APART = 0.25
"""Root mean square difference of two latents beyond which they are two choices, not two roundings of one."""
_MOST_APART = 0.13
"""Share of the steps that may be apart: one of the probe's eight."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How steps agree with a reference.

    Attributes:
        steps: compared, times dancers.
        largest: difference of any number of a latent, in the steps that are not apart; inf if something is not finite.
        rms: relative root mean square difference there.
        apart: share of the steps that are another choice.
    """

    steps: int
    largest: float
    rms: float
    apart: float

    def within(self, precision: str) -> bool:
        """Return whether this passes for a precision, a key of `TOLERANCE`."""
        return self.largest <= TOLERANCE[precision] and self.apart <= (0.0 if precision == "fp32" else _MOST_APART)

    def __str__(self) -> str:
        apart = f", {self.apart:.1%} of its steps drawn otherwise" if self.apart else ""
        return f"{self.largest:.2g} at most{apart}"


def probe(backend: StepBackend, reference: Floats | None = None, steps: int = PROBE_STEPS, seed: int = 0) -> Floats:
    """Return the latents (steps, B, L) of a fixed run; the back end's memory is empty before and after.

    Args:
        backend: to be asked.
        reference: latents (steps, 1, L) of another back end, each of which is the history of the step after it; None:
            the back end's own.
        steps, seed: of the run.
    """
    memory = backend.memory
    memory.reset()
    random = np.random.Generator(np.random.PCG64(seed))
    steps = steps if reference is None else len(reference)
    latents = np.empty((steps, *memory.outputs["latent"].shape), np.float32)
    for step in range(steps):
        for name in VECTORS:
            # The same numbers for every dancer, so that one stored run serves any batch.
            row = random.standard_normal(memory.inputs[name].shape[1], np.float32)
            if name != "history" or step == 0:
                memory.inputs[name][:] = row
            elif reference is not None:
                memory.inputs[name][:] = reference[step - 1]
        backend.run()
        latents[step] = memory.outputs["latent"]
    memory.reset()
    return latents


def compare(latents: Floats, reference: Floats) -> Agreement:
    """Return how latents (steps, B, L) agree with a reference (steps, B or 1, L)."""
    difference = latents - reference
    if not np.isfinite(difference).all():
        return Agreement(difference.shape[0] * difference.shape[1], float("inf"), float("inf"), 1.0)
    squares = np.square(difference).mean(axis=-1)
    near = squares <= APART**2
    largest = np.abs(difference[near]).max(initial=0.0) if near.any() else float("inf")
    size = np.square(np.broadcast_to(reference, latents.shape)[near]).mean() if near.any() else 1.0
    rms = float(np.sqrt(squares[near].mean() / size)) if near.any() else float("inf")
    return Agreement(squares.size, float(largest), rms, float(1.0 - near.mean()))
