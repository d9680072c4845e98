"""What `pasdedeux prepare` writes and everything that learns reads: dances and their music, once per tick.

A prepared folder holds `prepared.json` (what it was made from), `statistics.npz` (of the training split only),
`clips/<name>.npz` and `fits/<name>.npz` (the fitted dance at its own frame rate). No pickles.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.whole_files import whole_file

FORMAT = 1
SPLITS = ("train", "val", "test")
_RUN_AGAIN = "run `pasdedeux prepare` again"
DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading a file raises that is cut off, or is not what it should be."""


@dataclass(frozen=True, slots=True)
class PreparedClip:
    """One dance on its own beat, with the music of the same beats.

    Row k is tick `first_tick + k`; tick 12 n is beat n. The motion is sampled where the *dancer's* beat is, the
    features where the *music's* is (see `models.data.motion_beat`); where the two differ is kept in `motion_time_s` and
    `music_time_s`.

    Attributes:
        name: of the clip.
        style: of the dance.
        split: "train", "val" or "test".
        beats_per_bar: of the music; which beat is a bar's first is not known.
        tempo_locked: whether motion and music agree well enough for beat metrics.
        has_audio: false where `features` are silence rows because no music is known.
        plausible: false where the feet move faster than people can; leave it out of training.
        music_bpm: tempo of the music; without music, the motion's own.
        first_tick: index of row 0.
        rotations: (T, 24, 3) float32 axis-angle [rad].
        translation_m: (T, 3) float32, y over the floor.
        contacts: (T, 4) float32 in [0, 1].
        features: (T, F) float32; row k pools the hops that ended in (tick k-1, tick k].
        tempo_bpm: (T,) float32, the dancer's own tempo.
        motion_time_s: (T,) time since the first pose of the source.
        music_time_s: (T,) time in the clip's audio file; NaN without audio.
        beat_coherence: (T,) float32 in [0, 1], how clearly the feet follow the beat.
        energy_m_s: (T,) float32 mean joint speed over the two beats around the tick.
        repeats_test: (T,) bool, true where the movement also occurs in a held-out clip.
    """

    name: str
    style: str
    split: str
    beats_per_bar: int
    tempo_locked: bool
    has_audio: bool
    plausible: bool
    music_bpm: float
    first_tick: int
    rotations: NDArray[np.float32]
    translation_m: NDArray[np.float32]
    contacts: NDArray[np.float32]
    features: NDArray[np.float32]
    tempo_bpm: NDArray[np.float32]
    motion_time_s: NDArray[np.float64]
    music_time_s: NDArray[np.float64]
    beat_coherence: NDArray[np.float32]
    energy_m_s: NDArray[np.float32]
    repeats_test: NDArray[np.bool_]

    @property
    def ticks(self) -> int:
        """Return T."""
        return len(self.rotations)

    def cut(self, start: int, stop: int) -> PreparedClip:
        """Return rows [start, stop) as a clip of their own, named `<name>@<start>`."""
        parts = {key: getattr(self, key)[start:stop] for key in _ARRAYS}
        return dataclasses.replace(self, name=f"{self.name}@{start}", first_tick=self.first_tick + start, **parts)

    def save(self, path: Path) -> None:
        """Write an .npz without pickles; the name appears only when the file is whole."""
        facts = {key: getattr(self, key) for key in _FACTS}
        arrays = {key: getattr(self, key) for key in _ARRAYS}
        with whole_file(path) as partial:
            np.savez_compressed(partial, facts=np.array(json.dumps(facts)), **arrays)

    @staticmethod
    def load(path: Path) -> PreparedClip:
        """Read what `save` wrote. Raises UserError if it cannot."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                facts = json.loads(str(archive["facts"]))
                return PreparedClip(**facts, **{key: archive[key] for key in _ARRAYS})
        except DAMAGE as error:
            # What is there and as old as its source is not made again.
            remedy = f"delete it, if it is there, and {_RUN_AGAIN}"
            raise UserError(f"cannot read the prepared clip {path.name} ({error})", remedy) from error


_ARRAYS = tuple(f.name for f in dataclasses.fields(PreparedClip) if f.type.startswith("NDArray"))
_FACTS = tuple(f.name for f in dataclasses.fields(PreparedClip) if f.name not in _ARRAYS)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Taken from the training split only.

    Attributes:
        feature_mean, feature_std: (F,) over ticks with music that sounds; std is at least 1e-4.
        energy_quantiles: (101,) movement energy [m/s] at 0, 1, ... 100 %.
        style_energy_quantiles: the same within each style.
    """

    feature_mean: NDArray[np.float32]
    feature_std: NDArray[np.float32]
    energy_quantiles: NDArray[np.float32]
    style_energy_quantiles: dict[str, NDArray[np.float32]]

    def energy(self, energy_m_s: NDArray[np.floating], style: str | None = None) -> NDArray[np.float32]:
        """Return movement energy as a quantile 0 to 1: over all training dance, or within a style."""
        table = self.energy_quantiles if style is None else self.style_energy_quantiles[style]
        ranks: NDArray[np.float64] = np.interp(energy_m_s, table, np.linspace(0.0, 1.0, len(table)))
        return ranks.astype(np.float32)

    @staticmethod
    def of(clips: list[PreparedClip]) -> Statistics:
        """Compute from training clips. Raises ValueError if a held-out one is among them."""
        if any(clip.split != "train" for clip in clips):
            raise ValueError("statistics must come from the training split only")
        heard = np.concatenate([c.features for c in clips if c.has_audio] or [c.features for c in clips])
        steps = np.linspace(0.0, 100.0, 101)
        usable = [c for c in clips if c.plausible] or clips
        styles = sorted({c.style for c in clips})
        per_style = {s: np.concatenate([c.energy_m_s for c in clips if c.style == s]) for s in styles}
        return Statistics(
            heard.mean(axis=0, dtype=np.float64).astype(np.float32),
            np.maximum(heard.std(axis=0, dtype=np.float64), 1e-4).astype(np.float32),
            np.percentile(np.concatenate([c.energy_m_s for c in usable]), steps).astype(np.float32),
            {s: np.percentile(values, steps).astype(np.float32) for s, values in per_style.items()},
        )

    def save(self, path: Path) -> None:
        """Write an .npz without pickles; the name appears only when the file is whole."""
        tables: dict[str, Any] = {f"energy_{style}": table for style, table in self.style_energy_quantiles.items()}
        with whole_file(path) as partial:
            np.savez(partial, mean=self.feature_mean, std=self.feature_std, energy=self.energy_quantiles, **tables)

    @staticmethod
    def load(path: Path) -> Statistics:
        """Read what `save` wrote. Raises UserError if it cannot."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                keys = [key for key in archive.files if key.startswith("energy_")]
                styles = {key.removeprefix("energy_"): archive[key] for key in keys}
                return Statistics(archive["mean"], archive["std"], archive["energy"], styles)
        except DAMAGE as error:
            raise UserError(f"cannot read {path} ({error})", _RUN_AGAIN) from error


@dataclass(frozen=True)
class PreparedData:
    """A prepared folder.

    Attributes:
        folder: where it is.
        feature_digest: `FeatureSpec.digest` of the features.
        clips: all of them, by name.
        statistics: of the training split.
        sources: which source each clip came from (`models.data.provenance`); empty if it was prepared before that was
            written.
    """

    folder: Path
    feature_digest: str
    clips: tuple[PreparedClip, ...]
    statistics: Statistics
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @staticmethod
    def load(folder: Path) -> PreparedData:
        """Read a prepared folder. Raises UserError if it is not one."""
        index = folder / "prepared.json"
        if not index.is_file():
            raise UserError(f"{folder} holds no prepared data", "run `pasdedeux prepare --data DIR --out DIR` first")
        try:
            content = json.loads(index.read_text())
            if content["format"] != FORMAT:
                raise UserError(f"{folder} was prepared by another version", _RUN_AGAIN)
            names, digest = list(content["clips"]), str(content["feature_digest"])
            sources = {str(name): str(source) for name, source in dict(content.get("sources", {})).items()}
        except DAMAGE as error:
            raise UserError(f"cannot read {index} ({error})", _RUN_AGAIN) from error
        clips = tuple(PreparedClip.load(folder / "clips" / f"{name}.npz") for name in names)
        return PreparedData(folder, digest, clips, Statistics.load(folder / "statistics.npz"), sources)

    def split(
        self, name: str, *, protocol: str = "A", min_ticks: int = 48, plausible: bool = True
    ) -> list[PreparedClip]:
        """Return the clips of a split.

        Args:
            name: "train", "val" or "test".
            protocol: "A" (unseen song: clips as they are) or, for training, "B" (unseen movement: only runs of
                ticks that no held-out clip repeats, as clips of their own).
            min_ticks: shortest run that counts under protocol B; four beats hold a step and its answer. Measured on the
                set of Tang et al. 2018: of 39 minutes of training dance 6.2 are unseen, 1.9 of them the tango that
                is too fast to be true; of the other 4.3, runs of four beats hold 3.8 and runs of eight 3.3. The marks
                do not flicker (joining runs across gaps of up to a beat changes nothing): there is not more.
            plausible: leave out clips whose feet move faster than people can (training only).
        """
        if name not in SPLITS or protocol not in ("A", "B"):
            raise ValueError(f"unknown split {name!r} or protocol {protocol!r}")
        chosen = [c for c in self.clips if c.split == name and (c.plausible or not plausible or name != "train")]
        if protocol == "A" or name != "train":
            return chosen
        return [clip.cut(a, b) for clip in chosen for a, b in runs(~clip.repeats_test) if b - a >= min_ticks]


def runs(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield [start, stop) of each run of true values in (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
