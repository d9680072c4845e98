"""Small synthetic dances for the tests of the music -> dance model."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from models.motion.representation import MotionRepresentation, ticks_from_motion
from models.music_to_dance.conditioning import CONDITION_SIZE
from models.music_to_dance.network import Gmd, GmdConfig
from models.music_to_dance.phrases import PhraseSpace
from models.music_to_dance.sequences import DanceClip, SequenceSampler, SequenceSettings

FEATURES = 5


def smooth_motion(seed: int, ticks: int = 360) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rotations, translation and contacts of a smooth random motion that turns and travels."""
    random = np.random.default_rng(seed)
    rotations = gaussian_filter1d(random.normal(size=(ticks, 24, 3)), 5, axis=0) * 0.8
    rotations[:, 0, 1] += np.linspace(0.0, 9.0, ticks)
    translation = np.cumsum(gaussian_filter1d(random.normal(size=(ticks, 3)), 8, axis=0) * 0.03, axis=0)
    translation[:, 1] = 0.95 + 0.03 * np.sin(np.arange(ticks) / 3.0)
    return rotations, translation, (random.random((ticks, 4)) > 0.5).astype(np.float32)


def clip(seed: int, ticks: int = 360) -> DanceClip:
    """Return a dance with random music."""
    music = np.random.default_rng(seed + 100).normal(size=(ticks, FEATURES)).astype(np.float32)
    motion = ticks_from_motion(*smooth_motion(seed, ticks))
    return DanceClip(f"clip {seed}", motion, music, np.full(ticks, 100.0), 5 * seed, 4, 0, seed % 4)


def sampler(latent_size: int = 24, **settings: float) -> SequenceSampler:
    """Return a sampler over four clips."""
    clips = [clip(seed) for seed in range(4)]
    motions = [c.ticks for c in clips]
    return SequenceSampler(
        clips,
        MotionRepresentation.fit(motions, 4, latent_size),
        PhraseSpace.fit(motions, 96),
        np.zeros(FEATURES, np.float32),
        np.ones(FEATURES, np.float32),
        SequenceSettings(**{"chunks": 12, **settings}),
    )


def small_model(latent_size: int = 24) -> Gmd:
    """Return an untrained network, none of whose weights is zero."""
    import torch

    torch.manual_seed(0)
    model = Gmd(
        GmdConfig(
            4 * FEATURES,
            CONDITION_SIZE,
            latent_size,
            width=32,
            heads=2,
            encoder_layers=1,
            decoder_layers=2,
            window=6,
            choices=16,
            head_width=32,
            head_blocks=2,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.1)
    return model.eval()
