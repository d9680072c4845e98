"""The exported graph of a frame model while it dances: one dancer on ONNX Runtime, one thread, its state in here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.errors import UserError
from models.backends.ort_backend import stage_options
from models.field.artifact import state_name
from models.field.frames import Floats


class OnnxDancing:
    """A `models.field.frames.Dancing` of one dancer. Threads: one.

    Args:
        path: of the graph.
        start: parts of the state before the first frame.

    Raises:
        UserError: ONNX Runtime cannot run the graph.
    """

    def __init__(self, path: Path, start: Sequence[NDArray[Any]]) -> None:
        try:
            self._session = onnxruntime.InferenceSession(str(path), stage_options(), ["CPUExecutionProvider"])
        except Exception as error:
            # ONNX Runtime has an exception type of its own for each of its status codes.
            raise UserError(f"model {path}: {str(error).splitlines()[0]}", "export the model again") from error
        self._used = {given.name for given in self._session.get_inputs()}
        self._outputs = ["next_pose", *(f"next_{state_name(index)}" for index in range(len(start)))]
        self._start = tuple(start)
        self.reset()

    def reset(self) -> None:
        """Forget everything heard and danced."""
        self._state = list(self._start)

    def __call__(self, music: Floats, pose: Floats, noise: Floats) -> Floats:
        """Return the next normalised poses (1, 152). A state that is not finite is forgotten."""
        given = {"music": music, "pose": pose, "noise": noise}
        given |= {state_name(index): part for index, part in enumerate(self._state)}
        found = self._session.run(self._outputs, {name: given[name] for name in given if name in self._used})
        if all(np.isfinite(part).all() for part in found):
            self._state = list(found[1:])
        else:
            self.reset()
        return np.asarray(found[0])
