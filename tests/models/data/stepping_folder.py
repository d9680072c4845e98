"""A small prepared folder of synthetic dances, for the tests of what reads one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from engine.body.skeleton import contact_points, forward_kinematics
from engine.features import FeatureSpec
from models.data.dataset import FORMAT, PreparedClip, PreparedData, Statistics
from tests.models.data.synthetic_dance import steps

TICKS_A_BEAT = 12


def prepared_clip(name: str, style: str, split: str, *, beats: int = 48, seed: int = 0) -> PreparedClip:
    """Return a dance of steps on the beat to music that pulses with it; styles differ in tempo, arms and metre."""
    random = np.random.default_rng(seed)
    waltz = style == "waltz"
    bpm = 90.0 if waltz else 120.0
    ticks = beats * TICKS_A_BEAT
    rate_hz = bpm * TICKS_A_BEAT / 60.0
    rotations, way = steps(ticks, rate_hz, bpm, turn=0.4 if waltz else -0.2)
    rotations[:, 16, 2] += 0.6 if waltz else -0.3
    # Dancers differ: a slow sway of the spine, each their own.
    sway = np.sin(np.arange(ticks) / rate_hz * (0.5 + 0.4 * random.random()) + 6.0 * random.random())
    rotations[:, 6, 0] += (0.1 + 0.1 * random.random()) * sway
    way = way + np.stack([0.2 * np.cumsum(sway) / rate_hz, np.zeros(ticks), np.zeros(ticks)], axis=1)
    points = contact_points(*forward_kinematics(rotations, way))
    count = FeatureSpec().silence.shape[0]
    music = FeatureSpec().silence + 0.3 * random.standard_normal((ticks, count))
    music[::TICKS_A_BEAT] += 1.0
    repeats = np.zeros(ticks, bool)
    repeats[ticks // 2 :] = split == "train"
    time_s = np.arange(ticks) / rate_hz
    return PreparedClip(
        name=name,
        style=style,
        split=split,
        beats_per_bar=3 if waltz else 4,
        tempo_locked=True,
        has_audio=True,
        plausible=True,
        music_bpm=bpm,
        first_tick=0,
        rotations=rotations.astype(np.float32),
        translation_m=way.astype(np.float32),
        contacts=(points[..., 1] < 0.05).astype(np.float32),
        features=music.astype(np.float32),
        tempo_bpm=np.full(ticks, bpm, np.float32),
        motion_time_s=time_s,
        music_time_s=time_s,
        beat_coherence=np.ones(ticks, np.float32),
        energy_m_s=np.full(ticks, 0.5, np.float32),
        repeats_test=repeats,
    )


def prepared_folder(path: Path) -> Path:
    """Write four training dances of each of two styles, and one of each for validation and for testing."""
    clips = [
        prepared_clip(f"{style}-{split}-{number}", style, split, seed=10 * number + len(style) + len(split))
        for style in ("waltz", "chacha")
        for split, count in (("train", 4), ("val", 1), ("test", 1))
        for number in range(count)
    ]
    return write_folder(path, clips)


def write_folder(path: Path, clips: list[PreparedClip]) -> Path:
    """Write clips as a prepared folder; return it."""
    (path / "clips").mkdir(parents=True)
    for clip in clips:
        clip.save(path / "clips" / f"{clip.name}.npz")
    Statistics.of([c for c in clips if c.split == "train"]).save(path / "statistics.npz")
    index = {"format": FORMAT, "feature_digest": FeatureSpec().digest, "clips": [c.name for c in clips]}
    (path / "prepared.json").write_text(json.dumps(index))
    assert PreparedData.load(path).clips
    return path
