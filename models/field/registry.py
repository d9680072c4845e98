"""The systems of the field by name: where each one's network and settings live, and which may go on stage.

Only names are here, so that a show can read it: what learns is imported when it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError

RECIPES = Path(__file__).parents[2] / "config" / "training" / "field"
"""One recipe a system, `<name>.toml`."""
FRAMES_RUN = "models.field.run"
"""Trains and exports every frame model."""


@dataclass(frozen=True)
class SystemEntry:
    """One system.

    Attributes:
        module: that has both classes.
        settings: name of its settings class (the recipe's section [network]; the whole recipe, if it has a run of its
            own).
        model: name of its `models.field.frame_model.FrameModel`, built as `model(sizes, settings)`; "" if it is none.
        paper: that describes it.
        off_stage: why it cannot dance live; None if it can.
        run: module whose `train` and `export` it is learnt and exported by.
    """

    module: str
    settings: str
    model: str
    paper: str
    off_stage: str | None = None
    run: str = FRAMES_RUN

    @property
    def is_frame_model(self) -> bool:
        """Return whether it is learnt, exported and measured as a frame model."""
        return self.run == FRAMES_RUN

    def settings_class(self) -> Any:
        """Return the dataclass of its settings."""
        return getattr(importlib.import_module(self.module), self.settings)

    def model_class(self) -> Any:
        """Return its network's class."""
        return getattr(importlib.import_module(self.module), self.model)


SYSTEMS: dict[str, SystemEntry] = {
    "aud_mocogan": SystemEntry("models.field.aud_mocogan", "AudMocoganSettings", "AudMocogan", "Tulyakov et al. 2018"),
    "audio_to_body": SystemEntry(
        "models.field.audio_to_body", "AudioToBodySettings", "AudioToBody", "Shlizerman et al. 2018"
    ),
    "dance_revolution": SystemEntry(
        "models.field.dance_revolution.model", "DanceRevolutionSettings", "DanceRevolution", "Huang et al. 2021"
    ),
    "tang_2018": SystemEntry("models.field.tang_2018", "TangSettings", "Tang2018", "Tang et al. 2018"),
    "dancing_to_music": SystemEntry(
        "models.field.dancing_to_music.settings",
        "DancingToMusicSettings",
        "",
        "Lee et al. 2019",
        run="models.field.dancing_to_music.run",
    ),
}


def entry(name: str) -> SystemEntry:
    """Return a system by name. Raises UserError, naming the nearest, if there is none."""
    if name not in SYSTEMS:
        near = difflib.get_close_matches(name, SYSTEMS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(SYSTEMS))}"
        raise UserError(f"no system '{name}' of the field", hint)
    return SYSTEMS[name]
