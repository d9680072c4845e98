"""A prepared folder of small random dances with music, as `pasdedeux prepare` would have written it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from engine.features import FeatureSpec
from models.data.dataset import FORMAT, PreparedClip, Statistics
from tests.models.music_to_dance.gmd_fixtures import smooth_motion


def prepared_clip(name: str, style: str, split: str, seed: int, ticks: int = 480, bpm: float = 100.0) -> PreparedClip:
    """Return one clip of smooth random motion to random music."""
    rotations, translation, contacts = smooth_motion(seed, ticks)
    spec, random = FeatureSpec(), np.random.default_rng(seed)
    time_s = np.arange(ticks) * 5.0 / bpm
    return PreparedClip(
        name=name,
        style=style,
        split=split,
        beats_per_bar=3 if style == "waltz" else 4,
        tempo_locked=True,
        has_audio=True,
        plausible=True,
        music_bpm=bpm,
        first_tick=seed,
        rotations=rotations.astype(np.float32),
        translation_m=translation.astype(np.float32),
        contacts=contacts,
        features=(spec.silence + random.random((ticks, len(spec.names)))).astype(np.float32),
        tempo_bpm=np.full(ticks, bpm, np.float32),
        motion_time_s=time_s,
        music_time_s=time_s + 1.0,
        beat_coherence=np.ones(ticks, np.float32),
        energy_m_s=random.random(ticks).astype(np.float32),
        repeats_test=np.zeros(ticks, bool),
    )


def write_prepared(folder: Path) -> Path:
    """Write three training clips and one each to validate and to test on; return the folder."""
    clips = [
        prepared_clip("one", "waltz", "train", 1),
        prepared_clip("two", "rumba", "train", 2),
        prepared_clip("three", "waltz", "train", 3),
        prepared_clip("four", "waltz", "val", 4),
        prepared_clip("five", "waltz", "test", 5),
    ]
    (folder / "clips").mkdir(parents=True)
    for clip in clips:
        clip.save(folder / "clips" / f"{clip.name}.npz")
    Statistics.of([clip for clip in clips if clip.split == "train"]).save(folder / "statistics.npz")
    content = {"format": FORMAT, "feature_digest": FeatureSpec().digest, "clips": [clip.name for clip in clips]}
    (folder / "prepared.json").write_text(json.dumps(content))
    return folder
