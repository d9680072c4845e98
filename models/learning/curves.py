"""The curves of a run: `curve.jsonl` and `evaluation.jsonl` to compute with, TensorBoard's events to look at.

A run that goes on from a checkpoint drops what was written after it, so that nothing shows where it was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from engine.whole_files import whole_file

_CURVE, _EVALUATION, _EVENTS = "curve.jsonl", "evaluation.jsonl", "tensorboard"


class Curves:
    """Writes the curves of a run into its folder; in all processes but the first it does nothing.

    Args:
        folder: of the run.
        step: steps already taken; points after it are dropped.
        writes: whether this process writes.
    """

    def __init__(self, folder: Path, step: int, writes: bool) -> None:
        self._folder, self._events = folder, None
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (_CURVE, _EVALUATION):
                _keep_until(folder / name, step)
            self._events = SummaryWriter(str(folder / _EVENTS), purge_step=step + 1)

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()

    def point(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point of the learning curves."""
        self._write(_CURVE, step, values, "train")

    def evaluation(self, step: int, seconds: float, figures: Mapping[str, float]) -> None:
        """Add the figures of an evaluation."""
        self._write(_EVALUATION, step, {"seconds": round(seconds), **figures}, "val")

    def picture(self, step: int, path: Path) -> None:
        """Show a PNG among the events."""
        if self._events is not None and path.is_file():
            from matplotlib.image import imread  # slow to import, and only the first process needs it

            pixels = np.asarray(imread(path))[..., :3]
            self._events.add_image(path.parent.name, pixels, step, dataformats="HWC")

    def _write(self, name: str, step: int, values: Mapping[str, float], group: str) -> None:
        if self._events is None:
            return
        with (self._folder / name).open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for key, value in values.items():
            self._events.add_scalar(f"{group}/{key}", value, step)
        self._events.flush()


def _keep_until(path: Path, step: int) -> None:
    """Drop the rows of a file that are later than `step`, and a last one that was not finished."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            break
    with whole_file(path) as partial:
        partial.write_text("".join(kept))
