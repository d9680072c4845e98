"""Settings of a run that learns both directions together (`config/training/dual*.toml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.dance_to_music.settings import GdmTrainingSettings
from models.learning.settings import OptimiserSettings, RunSettings, build, load_recipe
from models.music_to_dance.settings import TrainingSettings


@dataclass(frozen=True)
class Term:
    """One term of the objective: its weight from step `begin` on, up to step `end` (0: to the last)."""

    weight: float = 0.0
    begin: int = 0
    end: int = 0

    def at(self, step: int) -> float:
        """Return the weight at a step."""
        return self.weight if step >= self.begin and (not self.end or step < self.end) else 0.0


@dataclass(frozen=True)
class TermSettings:
    """The terms (Wu et al. 2021, section 3).

    Attributes:
        alignment: Gromov-Wasserstein discrepancy of the two embeddings; the initial stage.
        dance: reconstruction of dance from music: the single task of G_MD as its recipe has it.
        music: reconstruction of music from dance: that of G_DM.
        cycle_dance: dance -> music -> dance; the posterior stage.
        cycle_music: music -> dance -> music.
        bridge: of the small network that says how written music sounds, which the cycle dance -> music -> dance needs.
    """

    alignment: Term = field(default_factory=Term)
    dance: Term = field(default_factory=lambda: Term(1.0))
    music: Term = field(default_factory=lambda: Term(1.0))
    cycle_dance: Term = field(default_factory=Term)
    cycle_music: Term = field(default_factory=Term)
    bridge: Term = field(default_factory=lambda: Term(1.0))


@dataclass(frozen=True)
class StartSettings:
    """Weights to begin from: an `average-<step>.safetensors`, or the folder of a run (its newest); empty: none."""

    gmd: str = ""
    gdm: str = ""


@dataclass(frozen=True)
class DualSettings:
    """A run as data.

    Attributes:
        task: what is learned.
        name: of both models, in their manifests and in tables.
        seed: of everything random.
        device: "auto": a GPU where there is one.
        bfloat16: matrix products in bfloat16.
        gmd, gdm: recipes of the two networks: in TOML the name of a file beside it. Networks, sequences, losses
            and own history are taken from them, not their optimisers and runs.
        alignment_moves: what the alignment moves: as published, the music encoder of G_MD alone; or both encoders.
        dance_temperature: of the draws in dances made for the cycle.
        token_temperature: of the straight-through choice of notes in the other cycle.
    """

    task: Literal["dual"] = "dual"
    name: str = "dual"
    seed: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bfloat16: bool = True
    gmd: TrainingSettings = field(default_factory=TrainingSettings)
    gdm: GdmTrainingSettings = field(default_factory=GdmTrainingSettings)
    alignment_moves: Literal["music", "both"] = "music"
    dance_temperature: float = 1.0
    token_temperature: float = 1.0
    start: StartSettings = field(default_factory=StartSettings)
    terms: TermSettings = field(default_factory=TermSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=lambda: RunSettings(watch="dance_val_latent"))

    @staticmethod
    def load(path: Path) -> DualSettings:
        """Read a TOML file. Raises UserError for a missing file, bad TOML, an unknown name or a wrong value."""
        return DualSettings.of(load_recipe(path), path.name)

    @staticmethod
    def of(content: Mapping[str, Any], where: str = "training settings") -> DualSettings:
        """Build from nested tables. Raises UserError for an unknown name or a wrong value."""
        return build(DualSettings, content, where)
