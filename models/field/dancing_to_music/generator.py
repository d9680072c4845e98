"""The live generator: exported units on the stage's ticks, no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.errors import UserError
from engine.features import FeatureSpec
from engine.types import GeneratorInfo, MotionChunk, MotionRequest
from models.field.dancing_to_music.artifact import TABLES_FILE, UnitManifest
from models.field.dancing_to_music.compose import CHUNK_TICKS, UnitDancer
from models.field.dancing_to_music.onnx_units import OnnxUnits
from models.field.dancing_to_music.tables import UnitTables
from models.motion.representation import chunk_from_ticks
from models.music_to_dance.conditioning import STYLES

Report = Callable[[str, str], None]
"""Takes a level ("info", "warning", "error") and a message for the operator."""


class UnitGenerator:
    """A `Generator` of one dancer. Threads: one.

    The style chooses the pose that a dance begins in; what is danced is the style that is heard. Energy, bar and metre
    are not heard.

    Args:
        folder: of the exported system.
        seed: of the first dance.
        backend: "auto" or "cpu".
        report: is not called: there is no back end to lose.

    Raises:
        UserError: the folder does not fit, or the back end asked for is not to be had.
    """

    def __init__(self, folder: Path, seed: int = 0, backend: str = "auto", report: Report | None = None) -> None:
        self.manifest = manifest = UnitManifest.load(folder)
        manifest.require_features(FeatureSpec().digest)
        if backend not in ("auto", "cpu"):
            raise UserError(f"{manifest.model} has no back end '{backend}'", "set dancer.backend to auto or cpu")
        self.backend = "cpu: units are made once in some beats"
        self.info = GeneratorInfo(
            name=manifest.name,
            chunk_ticks=CHUNK_TICKS,
            lookahead_ticks=manifest.lookahead_ticks,
            feature_spec=manifest.feature_spec,
            feature_count=manifest.feature_count,
            styles=manifest.styles,
            tempo_range_bpm=manifest.tempo_range_bpm,
        )
        self._dancer = UnitDancer(OnnxUnits(folder), UnitTables.load(folder / TABLES_FILE), manifest.plan, seed)

    def reset(self, seed: int) -> None:
        """Start a new dance; it begins in a calm pose of its style, chosen by the seed."""
        self._dancer.reset(seed)

    def step(self, request: MotionRequest) -> MotionChunk:
        """Return the next chunk; see `engine.protocols.Generator`."""
        # A nonsensical tempo is no evidence of a style.
        tempo_bpm = float(np.clip(np.nan_to_num(request.tempo_bpm, nan=100.0), *self.manifest.tempo_range_bpm))
        self._dancer.hear(request.music, tempo_bpm)
        style = STYLES.index(request.style) if request.style in STYLES else None
        return chunk_from_ticks(self._dancer.dance(request.first_tick, CHUNK_TICKS, style))
