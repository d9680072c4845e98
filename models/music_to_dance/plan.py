"""What one dancer decides beside the network: phrases, noise, the start pose, and how a change of style is blended.

Everything random of a dancer is here, from one seed; the network's step is the same for all. Pure NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engine.types import MotionChunk, MotionRequest
from models.artifacts import GmdManifest
from models.backends.step_memory import StepMemory
from models.motion.representation import HEIGHT, TICK_SIZE, MotionRepresentation, chunk_from_ticks
from models.music_to_dance.conditioning import ChunkConditions, normalise_music
from models.music_to_dance.phrases import PhrasePlanner, PhraseTable, PoseTable

TABLES_FILE = "tables.safetensors"

_BLEND_TICKS = 24
"""A change of style takes two beats."""
_BLENDED = slice(0, HEIGHT + 1)
"""Rotations and root height; how it turns and travels is taken over at once."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class DanceTables:
    """What a model's folder holds beside the graph.

    Attributes:
        music_mean, music_scale: (F,) normalisation.
        representation: decodes latents.
        starts: calm chunks to begin from.
        phrases: to plan with.
        probe: (steps, 1, L) latents of the parity probe, computed at export.
    """

    music_mean: Floats
    music_scale: Floats
    representation: MotionRepresentation
    starts: PoseTable
    phrases: PhraseTable
    probe: Floats

    @staticmethod
    def load(folder: Path) -> DanceTables:
        """Read the tables of a model folder (verified by its manifest)."""
        tables = load_file(folder / TABLES_FILE)
        return DanceTables(
            tables["music_mean"],
            tables["music_scale"],
            MotionRepresentation(tables["motion_mean"], np.empty((0, 0), np.float32), tables["motion_decoder"]),
            PoseTable(tables["start_latents"], tables["start_styles"]),
            PhraseTable(tables["phrase_descriptors"], tables["phrase_styles"], tables["phrase_energies"]),
            tables["probe"],
        )


class DancePlan:
    """One dancer's part of a step: fills its row of the inputs before, makes motion of its latent after.

    Args:
        manifest: of the model.
        tables: of the model.
        seed: of the first dance.
    """

    def __init__(self, manifest: GmdManifest, tables: DanceTables, seed: int) -> None:
        self._manifest, self._tables = manifest, tables
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Start a new dance; the first step begins in a calm pose of its style, chosen by the seed."""
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._planner = PhrasePlanner(self._tables.phrases, self._random)
        self._begun = False
        self._style: int | None = None
        self._last = np.zeros(TICK_SIZE, np.float32)
        self._blend = np.zeros(_BLENDED.stop, np.float32)
        self._blend_ticks = 0

    def prepare(self, request: MotionRequest, memory: StepMemory, row: int) -> None:
        """Fill a row of the step's inputs.

        Features that are not finite count as average ones; an unknown style counts as none.
        """
        manifest, tables, inputs = self._manifest, self._tables, memory.inputs
        style = manifest.styles.index(request.style) if request.style in manifest.styles else None
        energy = stretch(float(np.clip(request.energy, 0.0, 1.0)), manifest.energy_middle)
        if not self._begun:
            self._begun = True
            memory.forget(row)
            inputs["history"][row] = tables.starts.draw(self._random, style)
        elif style != self._style and style is not None:
            self._change_style(style, memory, row)
        self._style = style
        phrase, energy = self._planner.phrase(
            request.first_tick, request.beats_per_bar, request.bar_tick, style, energy
        )
        inputs["music"][row] = normalise_music(request.music, tables.music_mean, tables.music_scale).reshape(-1)
        inputs["condition"][row] = ChunkConditions(
            first_tick=request.first_tick,
            tempo_bpm=float(np.clip(request.tempo_bpm, *manifest.tempo_range_bpm)),
            beats_per_bar=request.beats_per_bar,
            bar_tick=request.bar_tick,
            style=style,
            energy=energy,
            phrase=phrase,
            history_noise=manifest.history_noise,
        ).vectors()[0]
        inputs["noise"][row] = self._random.standard_normal(manifest.latent_size, np.float32)

    def finish(self, latent: Floats) -> MotionChunk:
        """Return the motion of a step's latent (L,)."""
        ticks = self._tables.representation.decode(latent[None])
        left = np.clip(self._blend_ticks - np.arange(len(ticks)), 0, _BLEND_TICKS) / _BLEND_TICKS
        ticks[:, _BLENDED] += (left * left * (3.0 - 2.0 * left))[:, None] * self._blend
        self._blend_ticks -= len(ticks)
        self._last = ticks[-1]
        return chunk_from_ticks(ticks)

    def _change_style(self, style: int, memory: StepMemory, row: int) -> None:
        """Go on as from a calm pose of another style, and let the difference to the present pose die away.

        A dance holds to its style, because every dance it learnt did: asked within it, it would not change (measured).
        """
        memory.forget(row)
        memory.inputs["history"][row] = self._tables.starts.draw(self._random, style)
        begun = self._tables.representation.decode(memory.inputs["history"][row : row + 1])[-1]
        self._blend = self._last[_BLENDED] - begun[_BLENDED]
        self._blend_ticks = _BLEND_TICKS


def stretch(energy: float, middle: float) -> float:
    """Return what a network is told for an energy in [0, 1]: `middle` for 1/2, the ends as they are, linear between.

    A network dances a little calmer than it is told to: what it draws falls back to what is usual. With a middle over
    1/2 a performer's 1/2 is as lively as the dancers who taught it, and the fader has no dead end.
    """
    return 2.0 * energy * middle if energy < 0.5 else 1.0 - 2.0 * (1.0 - energy) * (1.0 - middle)
