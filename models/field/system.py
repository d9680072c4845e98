"""Exported systems of the field as systems that are measured: raw in their own time, or as the stage shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import UserError
from engine.features import FeatureSpec
from models.artifacts import files_key, kind_of
from models.evaluation.facts import SystemFacts
from models.field.artifact import FRAMES_KIND, MODEL_FILE, FrameManifest, FrameTables
from models.field.dancing_to_music.artifact import UNITS_KIND, UnitManifest
from models.field.dancing_to_music.generator import UnitGenerator
from models.field.dancing_to_music.system import UnitSystem
from models.field.frames import roll_out
from models.field.generator import FrameGenerator
from models.field.onnx_frames import OnnxDancing
from models.field.registry import entry
from models.field.song_frames import SongFrames
from models.music_to_dance.unseen_movement import left_out
from models.rivals.gmd_dancer import ShownDancer
from models.rivals.retrained import together
from models.rivals.song import COURSES, Dance, DanceSystem, Song


class FrameSystem:
    """One training of a system.

    Args:
        folder: exported from a run.

    Raises:
        UserError: the folder does not fit.
    """

    seeded, endless, courses = True, True, COURSES

    def __init__(self, folder: Path) -> None:
        self.manifest = manifest = FrameManifest.load(folder)
        self._tables = FrameTables.load(folder)
        self._dancing = OnnxDancing(folder / MODEL_FILE, self._tables.state)
        self.name, self.facts, self.key = manifest.name, _facts(manifest), files_key(manifest.files)
        self.sort = (manifest.model, manifest.frame_rate_hz, manifest.lookahead_frames)

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the whole dance; what the system waits for of the music, it is given."""
        manifest, tables = self.manifest, self._tables
        self._dancing.reset()
        random = np.random.Generator(np.random.PCG64(seed))
        frames = SongFrames.of(song, manifest.frame_rate_hz, manifest.lookahead_frames)
        music = tables.scales.music(frames.features, frames.beat)
        start = tables.scales.pose(tables.starts.draw(random, song.style))
        noise = random.standard_normal((1, len(music), manifest.noise_size), np.float32)
        poses = roll_out(self._dancing, music[None], start[None], noise, manifest.lookahead_frames)[0]
        time_s = np.arange(len(poses)) / manifest.frame_rate_hz
        return Dance.of_ticks(tables.scales.ticks(poses), time_s, song.beats_s)


def rival_systems(
    folders: Sequence[Path], protocol: str, notes: list[str], *, shown: bool = False
) -> list[DanceSystem]:
    """Return the systems that exported folders hold; those of one name are trainings of one system.

    Args:
        folders: exported.
        protocol: of the evaluation; under "B" what has learnt the held-out movement is left out.
        notes: a line is added for each one that is.
        shown: also as the stage would show them, if they can dance live.

    Raises:
        UserError: a folder does not fit.
    """
    by_name: dict[tuple[str, str], list[Path]] = {}
    for folder in folders:
        manifest = _kind(folder).manifest.load(folder)
        manifest.require_features(FeatureSpec().digest)
        if protocol == "B" and manifest.protocol != "B":
            notes.append(left_out(manifest.name, folder))
        else:
            by_name.setdefault((manifest.kind, manifest.name), []).append(folder)
    systems: list[DanceSystem] = []
    for (kind, name), found in by_name.items():
        trainings = [_KINDS[kind].raw(folder) for folder in found]
        if len({training.sort for training in trainings}) != 1:
            raise UserError(f"several systems of the name {name}", "export them under names of their own")
        systems += together(trainings)
        if shown and entry(trainings[0].manifest.model).off_stage is None:
            systems += together([_as_shown(kind, *pair) for pair in zip(trainings, found, strict=True)])
    return systems


def _as_shown(kind: str, raw: FrameSystem | UnitSystem, folder: Path) -> ShownDancer:
    """Return a training as the audience would see it."""
    return ShownDancer(_KINDS[kind].generator(folder), f"{raw.name} as shown", f"shown-{raw.key}", raw.facts)


@dataclass(frozen=True)
class _Kind:
    """Classes for one kind of artifact."""

    manifest: type[FrameManifest] | type[UnitManifest]
    raw: type[FrameSystem] | type[UnitSystem]
    generator: type[FrameGenerator] | type[UnitGenerator]


_KINDS = {
    FRAMES_KIND: _Kind(FrameManifest, FrameSystem, FrameGenerator),
    UNITS_KIND: _Kind(UnitManifest, UnitSystem, UnitGenerator),
}


def _kind(folder: Path) -> _Kind:
    kind = kind_of(folder)
    if kind not in _KINDS:
        raise UserError(f"model {folder} is of kind '{kind}'", f"a rival is of kind {' or '.join(_KINDS)}")
    return _KINDS[kind]


def _facts(manifest: FrameManifest) -> SystemFacts:
    """Return what an exported training says of itself."""
    look = manifest.lookahead_frames
    waits = f"{1e3 * look / manifest.frame_rate_hz:.0f} ms of music" if look else "none"
    return SystemFacts(
        parameters=manifest.parameters,
        lookahead=f"{waits}: a frame of 1/{manifest.frame_rate_hz:g} s at a time",
        training_seeds=(manifest.training_seed,),
    )
