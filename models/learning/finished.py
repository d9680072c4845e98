"""What a run has left behind: the settings it was made with, and the averaged weights of each evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from engine.errors import UserError
from models.learning.fitted import Fitted, require_same


@dataclass(frozen=True)
class FinishedRun:
    """A run, or one network's part (`gmd/`, `gdm/`) of a run that learnt both.

    Attributes:
        folder: of the weights.
        settings: of the network's own task, as a table.
        step: optimiser steps taken.
        seconds: spent in them.
        fitted: `models.learning.fitted.summaries` of what its data gave beside the weights; None: it does not say.
    """

    folder: Path
    settings: dict[str, Any]
    step: int
    seconds: float
    fitted: dict[str, list[float]] | None = None

    @staticmethod
    def find(folder: Path) -> FinishedRun:
        """Read the facts of a run. Raises UserError if it is none."""
        own, parent = folder / "training.json", folder.parent / "training.json"
        try:
            state = json.loads((own if own.is_file() else parent).read_text())
            settings = state["settings"]
            if not own.is_file():
                settings = {**settings[folder.name], "name": settings["name"]}
            return FinishedRun(folder, settings, int(state["step"]), float(state["seconds"]), state.get("fitted"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _none(folder, error) from error

    @property
    def task(self) -> str:
        """What was learnt."""
        return str(self.settings.get("task", "gmd"))

    def steps(self) -> list[int]:
        """Return the steps at which it was evaluated."""
        return sorted(int(path.stem.split("-")[1]) for path in self.folder.glob("average-*.safetensors"))

    def weights(self, step: int | None = None) -> tuple[int, dict[str, Tensor]]:
        """Return the step and the averaged weights of an evaluation, the newest by default. Raises UserError."""
        try:
            chosen = self.steps()[-1] if step is None else step
            return chosen, load_file(self.folder / f"average-{chosen}.safetensors")
        except (OSError, IndexError, SafetensorError) as error:
            raise _none(self.folder, error) from error

    def require_same(self, fitted: Fitted) -> None:
        """Raise UserError if its weights do not go with what some data gave."""
        require_same(self.fitted, fitted, self.folder)

    def hours_until(self, step: int) -> float:
        """Return the hours of learning up to a step."""
        return self.seconds / 3600.0 * step / max(self.step, 1)


def _none(folder: Path, error: Exception) -> UserError:
    return UserError(f"training run {folder}: {error}", "give the folder of a run with an evaluated checkpoint")
