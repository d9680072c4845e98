"""Any folder of BVH motion, with audio of the same name beside it.

`name.bvh` goes with `name.wav` (flac, ogg, mp3); without audio it is motion alone. Its style is the name of its folder;
its split is "train", "val" or "test" if one of the folders above it is called so, else it follows from its name, a
tenth each held out. What is known better stands in `name.toml`: see `Facts`. Where the music's tempo is not told there,
the project's own beat tracker finds it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.body.bvh_reader import read_bvh
from engine.errors import UserError
from models.data.clip_sources import AUDIO_SUFFIXES, BadClip, ClipSource, checked, files_under
from models.data.dataset import SPLITS
from models.data.retarget import FittedMotion
from models.learning.settings import build, load_toml
from models.sources.body import body_motion
from models.sources.rig_retarget import retarget

_FRAME_TIME = re.compile(r"Frame Time:\s*([0-9.eE+-]+)")
_WORST_M = 0.25
"""Joints that are 25 cm off on average belong to another body, or to none."""


@dataclass(frozen=True)
class Facts:
    """What a `name.toml` may say of a clip.

    Attributes:
        style: of the dance.
        split: "train", "val" or "test".
        bpm: tempo of the music.
        beat_s: audio time of one beat.
        first_pose_s: audio time of the first pose.
        beats_per_bar: of the music.
        tempo_locked: whether motion and music are known to agree.
    """

    style: str | None = None
    split: Literal["train", "val", "test"] | None = None
    bpm: float | None = None
    beat_s: float | None = None
    first_pose_s: float = 0.0
    beats_per_bar: int = 4
    tempo_locked: bool = False


def read_bvh_folder(data: Path) -> tuple[list[ClipSource], dict[str, str]]:
    """Find the BVH files under `data`, and why each unusable one was left out."""
    found, bad = [], {}
    files = files_under(data)
    # Recorders and editors write .BVH and .WAV, too.
    beside = {path.with_suffix(path.suffix.lower()): path for path in files}
    for path in (path for path in files if path.suffix.lower() == ".bvh"):
        # A name in another encoding than the system's could be neither written nor printed.
        parts = path.relative_to(data).with_suffix("").as_posix().encode(errors="replace").decode().split("/")
        name = "_".join(parts)
        try:
            found.append(checked(_source(name, path, tuple(parts[:-1]), beside)))
        except (BadClip, UserError) as error:
            bad[name] = str(error)
    return found, bad


def load_motion(source: ClipSource) -> FittedMotion:
    """Return a clip's motion on the standard skeleton. Raises BadClip."""
    try:
        moved = retarget(read_bvh(source.motion))
    except FileNotFoundError as error:
        raise BadClip(f"no motion file {source.motion.name}") from error
    except (OSError, ValueError) as error:
        raise BadClip(str(error)) from error
    if moved.residual_m.size and float(moved.residual_m.mean()) > _WORST_M:
        raise BadClip(f"its skeleton is no human one: joints are {moved.residual_m.mean():.2f} m off")
    return body_motion(moved.rotations, moved.translation_m, source.fps, moved.residual_m)


def _source(name: str, path: Path, folders: tuple[str, ...], beside: Mapping[Path, Path]) -> ClipSource:
    facts = Facts()
    if path.with_suffix(".toml").is_file():
        facts = build(Facts, load_toml(path.with_suffix(".toml")), path.with_suffix(".toml").name)
    match = _FRAME_TIME.search(path.read_text(encoding="latin-1"))
    try:
        frame_s = float(match[1]) if match else 0.0
    except ValueError:
        frame_s = 0.0
    if not 1.0 / 480.0 <= frame_s <= 1.0 / 5.0:
        raise BadClip(f"its frame time is {frame_s:g} s")
    styles = [folder for folder in folders if folder not in SPLITS]
    splits = [folder for folder in folders if folder in SPLITS]
    audio = [beside[path.with_suffix(suffix)] for suffix in AUDIO_SUFFIXES if path.with_suffix(suffix) in beside]
    return ClipSource(
        name,
        path,
        1.0 / frame_s,
        facts.style or (styles[-1] if styles else "unknown"),
        facts.split or (splits[-1] if splits else _split_of(name)),
        audio=audio[0] if audio else None,
        bpm=facts.bpm,
        beat_s=facts.beat_s or 0.0,
        first_pose_s=facts.first_pose_s,
        beats_per_bar=facts.beats_per_bar,
        tempo_locked=facts.tempo_locked and bool(audio),
        kind="bvh",
        beat_known=facts.bpm is not None and facts.beat_s is not None,
    )


def _split_of(name: str) -> str:
    """Return the split of a clip that nobody assigned: always the same for its name."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 10
    return {0: "val", 1: "test"}.get(place, "train")
