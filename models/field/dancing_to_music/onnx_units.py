"""The exported networks of one dancer on ONNX Runtime, one thread; they keep no state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.errors import UserError
from models.backends.ort_backend import stage_options
from models.field.dancing_to_music.artifact import COMPOSE_FILE, UNIT_FILE

Floats = NDArray[np.float32]


class OnnxUnits:
    """A `models.field.dancing_to_music.compose.UnitModel`. Threads: one.

    Args:
        folder: of the exported system.

    Raises:
        UserError: ONNX Runtime cannot run a graph.
    """

    def __init__(self, folder: Path) -> None:
        self._compose, self._unit = _session(folder / COMPOSE_FILE), _session(folder / UNIT_FILE)

    def compose(self, music: Floats, noise: Floats) -> Floats:
        """Return the movements (N, m) of a sequence."""
        return np.asarray(self._compose.run(None, {"music": music[None], "noise": noise[None]})[0][0])

    def next_unit(self, pose: Floats, movement: Floats, noise: Floats) -> Floats:
        """Return the unit (poses, 152) that follows a pose."""
        given = {"pose": pose[None], "movement": movement[None], "noise": noise[None]}
        return np.asarray(self._unit.run(None, given)[0][0])


def _session(path: Path) -> Any:
    try:
        return onnxruntime.InferenceSession(str(path), stage_options(), ["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime has an exception type of its own for each of its status codes.
        raise UserError(f"model {path}: {str(error).splitlines()[0]}", "export the model again") from error
