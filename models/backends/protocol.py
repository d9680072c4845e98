"""What a back end must offer."""

from __future__ import annotations

from typing import Protocol

from models.backends.step_memory import StepMemory


class BackendLost(RuntimeError):
    """The hardware is gone or failed in the middle of a show; the memory is as it was before the step."""


class StepBackend(Protocol):
    """Computes steps of a batch of dancers. Threads: one.

    Attributes:
        name: "cpu", "cuda", "rtx" or "tensorrt".
        memory: the dancers' inputs and memory. Fill the vectors of `memory.inputs`, call `run`, read
            `memory.outputs["latent"]`; to forget or reset goes by `memory` too.
    """

    name: str
    memory: StepMemory

    def run(self) -> None:
        """Compute one step and take it into the memory.

        Raises:
            BackendLost: nothing was computed; another back end may go on from the same memory.
        """
        ...

    def close(self) -> None:
        """Release the device; idempotent."""
        ...
