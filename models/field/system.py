"""Exported systems of the field as systems that are measured: raw in their own time, or as the stage shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import UserError
from engine.features import FeatureSpec
from models.artifacts import kind_of
from models.evaluation.facts import SystemFacts
from models.field.artifact import FRAMES_KIND, MODEL_FILE, FrameManifest, FrameTables
from models.field.dancing_to_music.artifact import UNITS_KIND, UnitManifest
from models.field.dancing_to_music.system import ShownUnits, UnitSystem
from models.field.frames import roll_out
from models.field.generator import FrameGenerator
from models.field.onnx_frames import OnnxDancing
from models.field.registry import entry
from models.field.song_frames import SongFrames
from models.music_to_dance.unseen_movement import left_out
from models.rivals.gmd_dancer import ShownDancer
from models.rivals.song import COURSES, Dance, DanceSystem, Song


class FrameSystem:
    """One system, trained once or several times: dance seed k is danced by training k mod n.

    Args:
        folders: exported from runs of one system, which differ in their training seed.

    Raises:
        UserError: a folder does not fit, or the folders hold different systems.
    """

    seeded, endless, courses = True, True, COURSES

    def __init__(self, folders: Sequence[Path]) -> None:
        self.manifests = [FrameManifest.load(folder) for folder in folders]
        kinds = {(m.name, m.model, m.frame_rate_hz, m.lookahead_frames) for m in self.manifests}
        if len(kinds) != 1:
            raise UserError(f"{len(kinds)} systems of one name", "export them under names of their own")
        self._tables = [FrameTables.load(folder) for folder in folders]
        self._dancers = [
            OnnxDancing(folder / MODEL_FILE, tables.state) for folder, tables in zip(folders, self._tables, strict=True)
        ]
        self.name = self.manifests[0].name
        self.facts = _facts(self.manifests)
        self.key = "-".join(digest[:8] for manifest in self.manifests for digest in manifest.files.values())

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the whole dance; what the system waits for of the music, it is given."""
        chosen = seed % len(self.manifests)
        manifest, tables, dancing = self.manifests[chosen], self._tables[chosen], self._dancers[chosen]
        dancing.reset()
        random = np.random.Generator(np.random.PCG64(seed))
        frames = SongFrames.of(song, manifest.frame_rate_hz, manifest.lookahead_frames)
        music = tables.scales.music(frames.features, frames.beat)
        start = tables.scales.pose(tables.starts.draw(random, song.style))
        noise = random.standard_normal((1, len(music), manifest.noise_size), np.float32)
        poses = roll_out(dancing, music[None], start[None], noise, manifest.lookahead_frames)[0]
        time_s = np.arange(len(poses)) / manifest.frame_rate_hz
        return Dance.of_ticks(tables.scales.ticks(poses), time_s, song.beats_s)


class ShownRival:
    """One system as the audience would see it: dance seed k is danced by training k mod n, through the engine's dancer.

    Args:
        folders: as for `FrameSystem`.
    """

    seeded, endless, courses = True, True, COURSES

    def __init__(self, folders: Sequence[Path]) -> None:
        raw = FrameSystem(folders)
        self.name, self.key, self.facts = f"{raw.name} as shown", f"shown-{raw.key}", raw.facts
        self._dancers = [ShownDancer(FrameGenerator(folder), self.name, self.key, self.facts) for folder in folders]

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the whole dance."""
        return self._dancers[seed % len(self._dancers)].dance(song, seed)


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
    for (kind, _), found in by_name.items():
        rival = _KINDS[kind].raw(found)
        systems.append(rival)
        if shown and entry(rival.manifests[0].model).off_stage is None:
            systems.append(_KINDS[kind].shown(found))
    return systems


@dataclass(frozen=True)
class _Kind:
    """Classes for one kind of artifact."""

    manifest: type[FrameManifest] | type[UnitManifest]
    raw: type[FrameSystem] | type[UnitSystem]
    shown: type[ShownRival] | type[ShownUnits]


_KINDS = {
    FRAMES_KIND: _Kind(FrameManifest, FrameSystem, ShownRival),
    UNITS_KIND: _Kind(UnitManifest, UnitSystem, ShownUnits),
}


def _kind(folder: Path) -> _Kind:
    kind = kind_of(folder)
    if kind not in _KINDS:
        raise UserError(f"model {folder} is of kind '{kind}'", f"a rival is of kind {' or '.join(_KINDS)}")
    return _KINDS[kind]


def _facts(manifests: Sequence[FrameManifest]) -> SystemFacts:
    """Return what exported trainings of one system say of themselves."""
    one = manifests[0]
    look = one.lookahead_frames
    waits = f"{1e3 * look / one.frame_rate_hz:.0f} ms of music" if look else "none"
    return SystemFacts(
        parameters=one.parameters,
        lookahead=f"{waits}: a frame of 1/{one.frame_rate_hz:g} s at a time",
        training_seeds=tuple(manifest.training_seed for manifest in manifests),
    )
