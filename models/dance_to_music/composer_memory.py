"""What a composer's network remembers from step to step: the rings of a transformer, or the state of a recurrent one.

Both are buffers that a session is bound to once: inputs that the next step reads, and outputs that a step has written.
Pure NumPy.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.artifacts import GdmManifest

_UNMASKED, _MASKED = 0.0, -1e9

Floats = NDArray[np.float32]


class ComposerMemory(Protocol):
    """The memory of one piece. Threads: one.

    Attributes:
        inputs, outputs: buffers by the names that they have in the graph; never replaced.
    """

    inputs: dict[str, Floats]
    outputs: dict[str, Floats]

    def reset(self) -> None:
        """Forget everything."""
        ...

    def before(self) -> None:
        """Prepare the inputs of the next step."""
        ...

    def after(self) -> None:
        """Take in what a step has written."""
        ...


class RingMemory:
    """Rings of keys and values; see `models.transformer.RingState`."""

    def __init__(self, manifest: GdmManifest) -> None:
        half, self._window = manifest.head_size // 2, manifest.window
        ring = (manifest.attentions, 1, manifest.heads, manifest.window, manifest.head_size)
        fresh = (manifest.attentions, 1, manifest.heads, manifest.head_size)
        self.inputs: dict[str, Floats] = {
            "keys": np.zeros(ring, np.float32),
            "values": np.zeros(ring, np.float32),
            "mask": np.zeros(manifest.window, np.float32),
            "cos": np.zeros(half, np.float32),
            "sin": np.zeros(half, np.float32),
        }
        self.outputs: dict[str, Floats] = {
            "new_keys": np.zeros(fresh, np.float32),
            "new_values": np.zeros(fresh, np.float32),
        }
        self._rates = manifest.rotary_base ** (-np.arange(0, manifest.head_size, 2) / manifest.head_size)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._count = 0
        for name in ("keys", "values"):
            self.inputs[name].fill(0.0)
        self.inputs["mask"].fill(_MASKED)

    def before(self) -> None:
        """Turn the rotary angles."""
        angles = self._count * self._rates
        self.inputs["cos"][:], self.inputs["sin"][:] = np.cos(angles), np.sin(angles)

    def after(self) -> None:
        """Write the newest keys and values over the oldest."""
        slot = self._count % self._window
        self.inputs["keys"][:, :, :, slot] = self.outputs["new_keys"]
        self.inputs["values"][:, :, :, slot] = self.outputs["new_values"]
        self.inputs["mask"][slot] = _UNMASKED
        self._count += 1


class RecurrentMemory:
    """The hidden state (1, layers, width) of a recurrent network."""

    def __init__(self, layers: int, width: int) -> None:
        self.inputs: dict[str, Floats] = {"state": np.zeros((1, layers, width), np.float32)}
        self.outputs: dict[str, Floats] = {"new_state": np.zeros((1, layers, width), np.float32)}

    def reset(self) -> None:
        """Forget everything."""
        self.inputs["state"].fill(0.0)

    def before(self) -> None:
        """Nothing is to be prepared."""

    def after(self) -> None:
        """Take over the new state."""
        self.inputs["state"][:] = self.outputs["new_state"]


def memory_of(manifest: GdmManifest) -> ComposerMemory:
    """Return an empty memory of the kind that a model has."""
    if manifest.recurrent is not None:
        return RecurrentMemory(*manifest.recurrent)
    return RingMemory(manifest)
