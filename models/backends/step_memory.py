"""What the step of a batch of dancers reads and remembers: its inputs, and the rings of keys and values.

Every back end computes the same function of these arrays (`models.music_to_dance.stage_graph.StageStep`); because the
memory is explicit and of fixed shape, a dance can go on in the middle on another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_UNMASKED, _MASKED = 0.0, -1e9

VECTORS = ("music", "condition", "history", "noise")
"""Inputs with one row a dancer."""
RINGS = ("keys", "values")
"""Inputs of which the graph takes one for each attention."""


@dataclass(frozen=True)
class StepShapes:
    """Sizes of the step for a batch.

    Attributes:
        batch: B, dancers.
        music, condition, latent: sizes of the input vectors; history and noise are latents.
        attentions, heads, window, head_size: of the rings (attentions, B, heads, window, head_size).
        rotary_base: of the rotary embedding.
    """

    batch: int
    music: int
    condition: int
    latent: int
    attentions: int
    heads: int
    window: int
    head_size: int
    rotary_base: float

    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every input of the step."""
        ring = (self.attentions, self.batch, self.heads, self.window, self.head_size)
        sizes = {"music": self.music, "condition": self.condition, "history": self.latent, "noise": self.latent}
        return {
            **{name: (self.batch, sizes[name]) for name in VECTORS},
            "keys": ring,
            "values": ring,
            "mask": (self.batch, self.window),
            "cos": (self.head_size // 2,),
            "sin": (self.head_size // 2,),
        }

    def graph_inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every input of the graph, in its order: every ring by itself, keys_0, keys_1, ..."""
        inputs: dict[str, tuple[int, ...]] = {}
        for name, shape in self.inputs().items():
            inputs |= {f"{name}_{k}": shape[1:] for k in range(shape[0])} if name in RINGS else {name: shape}
        return inputs

    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every output of the graph, in its order."""
        fresh = (self.attentions, self.batch, self.heads, self.head_size)
        return {"latent": (self.batch, self.latent), "new_keys": fresh, "new_values": fresh}


class StepMemory:
    """The arrays of a step, on the host.

    Attributes:
        inputs: by name, as `StepShapes.inputs`; the caller fills the `VECTORS` of the step to come.
        outputs: by name, as `StepShapes.outputs`; written by the back end.
        count: steps taken; the next is written to slot `count % window`.
    """

    def __init__(self, shapes: StepShapes) -> None:
        self.shapes = shapes
        self.inputs: dict[str, Floats] = {name: np.zeros(s, np.float32) for name, s in shapes.inputs().items()}
        self.outputs: dict[str, Floats] = {name: np.zeros(s, np.float32) for name, s in shapes.outputs().items()}
        self._rates = shapes.rotary_base ** (-np.arange(0, shapes.head_size, 2) / shapes.head_size)
        self.count = 0
        self.reset()

    def graph_input(self, name: str) -> Floats:
        """Return the array behind an input of the graph, see `StepShapes.graph_inputs`; for a ring, a part of all."""
        ring, _, index = name.partition("_")
        return self.inputs[ring][int(index)] if ring in RINGS and index else self.inputs[name]

    @property
    def slot(self) -> int:
        """The ring's slot of the next step."""
        return self.count % self.shapes.window

    def reset(self) -> None:
        """Remember nothing of anybody."""
        self.count = 0
        for array in self.inputs.values():
            array.fill(0.0)
        self.inputs["mask"].fill(_MASKED)

    def copy_from(self, other: StepMemory) -> None:
        """Remember what another memory of the same shapes does, and be asked what it is."""
        for name, array in self.inputs.items():
            array[...] = other.inputs[name]
        self.count = other.count

    def forget(self, row: int) -> None:
        """Let one dancer remember nothing."""
        self.inputs["mask"][row].fill(_MASKED)

    def turn(self) -> None:
        """Set the rotary angles of the step to come (in float64: a show may be long)."""
        angles = self.count * self._rates
        np.cos(angles, out=self.inputs["cos"], casting="same_kind")
        np.sin(angles, out=self.inputs["sin"], casting="same_kind")

    def advance(self) -> None:
        """Take the outputs of a step into the memory; its latent is the next step's history."""
        slot = self.slot
        self.inputs["keys"][:, :, :, slot] = self.outputs["new_keys"]
        self.inputs["values"][:, :, :, slot] = self.outputs["new_values"]
        self.inputs["mask"][:, slot] = _UNMASKED
        self.inputs["history"][:] = self.outputs["latent"]
        self.count += 1
