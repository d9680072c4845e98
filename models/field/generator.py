"""The live generator of the systems of the field: exported frame models on stage's ticks, no torch.

The model lives at its own frame rate; a clock of frames runs beside the ticks, and what it says is shown at ticks by
interpolation. What it hears is the newest music that there is: a chunk is asked for before its music has sounded, and a
model with look-ahead wants music from after that. As everywhere on stage the beat is known ahead (it is predicted), so
`beat` and `phase` are exact; the features are those of a whole number of beats ago, as few as will do (`lag_beats`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.errors import UserError
from engine.features import FeatureSpec
from engine.types import TICKS_PER_BEAT, GeneratorInfo, MotionChunk, MotionRequest
from models.field.artifact import MODEL_FILE, FrameManifest, FrameTables
from models.field.frame_clock import FramePath, chunk_of
from models.field.frames import Floats, limited
from models.field.onnx_frames import OnnxDancing
from models.field.registry import entry
from models.music_to_dance.conditioning import STYLES

Report = Callable[[str, str], None]
"""Takes a level ("info", "warning", "error") and a message for the operator."""

CHUNK_TICKS = 4
LEAD_TICKS = 2
"""A chunk is asked for so long before it begins, as our own model's: that covers the output's look-ahead."""
_MEMORY_TICKS = 64
"""Rows of music that are remembered: lag, look-ahead and a chunk at any tempo."""
_SLOWEST_BPM, _FASTEST_BPM = 20.0, 400.0
"""The clock goes on at a nonsensical tempo, too."""


class FrameGenerator:
    """A `Generator` on an exported frame model: one dancer. Threads: one.

    The style chooses the pose that a dance begins in; the systems of the field are not told it. Energy, bar and metre
    are not heard either.

    Args:
        folder: of the exported model.
        seed: of the first dance.
        backend: "auto" or "cpu".
        report: is not called: there is no back end to lose.

    Raises:
        UserError: the folder does not fit, the system cannot dance live, or the back end asked for is not to be had.
    """

    def __init__(self, folder: Path, seed: int = 0, backend: str = "auto", report: Report | None = None) -> None:
        self.manifest = manifest = FrameManifest.load(folder)
        manifest.require_features(FeatureSpec().digest)
        refusal = entry(manifest.model).off_stage
        if refusal is not None:
            raise UserError(f"{manifest.model} cannot dance live: {refusal}", "give another model; see `evaluate`")
        if backend not in ("auto", "cpu"):
            raise UserError(f"{manifest.model} has no back end '{backend}'", "set dancer.backend to auto or cpu")
        self.backend = "cpu: a frame model is small"
        self.info = GeneratorInfo(
            name=manifest.name,
            chunk_ticks=CHUNK_TICKS,
            lookahead_ticks=LEAD_TICKS,
            feature_spec=manifest.feature_spec,
            feature_count=manifest.feature_count,
            styles=manifest.styles,
            tempo_range_bpm=manifest.tempo_range_bpm,
        )
        self._tables = FrameTables.load(folder)
        self._dancing = OnnxDancing(folder / MODEL_FILE, self._tables.state)
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Start a new dance; it begins in a calm pose of its style, chosen by the seed."""
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._dancing.reset()
        self._path: FramePath | None = None
        self._pose = np.empty((0, 0), np.float32)
        self._last_beat: float | None = None
        self._time_s = 0.0
        self._rows = np.full((_MEMORY_TICKS, self.manifest.feature_count), np.nan, np.float32)
        self._row_ticks = np.full(_MEMORY_TICKS, -(1 << 62), np.int64)

    def lag_beats(self, tempo_bpm: float) -> int:
        """Return how many beats old the features are that the model is given as those of a frame, at a tempo."""
        ahead_frames = self.manifest.lookahead_frames + 1
        ahead = ahead_frames / self.manifest.frame_rate_hz * tempo_bpm / 60.0 * TICKS_PER_BEAT
        return math.ceil((ahead + LEAD_TICKS + CHUNK_TICKS - 1) / TICKS_PER_BEAT)

    def step(self, request: MotionRequest) -> MotionChunk:
        """Return the next chunk; see `engine.protocols.Generator`."""
        tempo = float(np.clip(np.nan_to_num(request.tempo_bpm, nan=120.0), _SLOWEST_BPM, _FASTEST_BPM))
        self._hear(request)
        path = self._path or self._begin(request, tempo)
        tick_s = 60.0 / tempo / TICKS_PER_BEAT
        ticks = []
        for tick in range(request.first_tick, request.first_tick + CHUNK_TICKS):
            # Ahead of the first frame there is none: time begins at the first tick of a dance.
            while path.end_s < self._time_s - 1e-9:
                at_tick = tick + (path.next_frame / self.manifest.frame_rate_hz - self._time_s) / tick_s
                found = self._frame(at_tick, tempo)
                path.append(self._tables.scales.ticks(found)[0])
                self._pose = found
            ticks.append(path.tick(self._time_s))
            self._time_s += tick_s
        return chunk_of(ticks)

    def _hear(self, request: MotionRequest) -> None:
        newest = request.first_tick - LEAD_TICKS
        ticks = np.arange(newest - len(request.music) + 1, newest + 1)
        self._rows[ticks % _MEMORY_TICKS] = request.music
        self._row_ticks[ticks % _MEMORY_TICKS] = ticks

    def _begin(self, request: MotionRequest, tempo: float) -> FramePath:
        """Draw the pose of the frame before the first, and let the model hear the music that it waits for."""
        style = STYLES.index(request.style) if request.style in STYLES else None
        start = self._tables.starts.draw(self._random, style)
        self._pose = self._tables.scales.pose(start)[None]
        self._time_s = 0.0
        path = FramePath(self.manifest.frame_rate_hz, start)
        ticks_a_frame = tempo / 60.0 * TICKS_PER_BEAT / self.manifest.frame_rate_hz
        for ahead in range(-self.manifest.lookahead_frames, 0):
            self._frame(request.first_tick + ahead * ticks_a_frame, tempo)
        self._path = path
        return path

    def _frame(self, at_tick: float, tempo: float) -> Floats:
        """Let the model make the pose of a frame that lies at a tick, with the music of its look-ahead."""
        ahead = self.manifest.lookahead_frames / self.manifest.frame_rate_hz * tempo / 60.0 * TICKS_PER_BEAT
        music_tick = at_tick + ahead
        row = math.floor(music_tick + 1e-6) - TICKS_PER_BEAT * self.lag_beats(tempo)
        known = self._row_ticks[row % _MEMORY_TICKS] == row
        features = self._rows[row % _MEMORY_TICKS] if known else np.full(self._rows.shape[1], np.nan, np.float32)
        beat = music_tick / TICKS_PER_BEAT
        music = self._tables.scales.music(features[None], np.array([beat]), self._last_beat)
        self._last_beat = beat
        noise = self._random.standard_normal((1, self.manifest.noise_size), np.float32)
        return limited(self._dancing(music, self._pose, noise), self._pose)
