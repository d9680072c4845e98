"""Joining chunks: a linear map, fitted by least squares, that a network would learn only slowly and roughly.

A chunk is drawn as a whole, so its first pose may still miss the last one by a little, a jolt three times a beat. How a
real chunk's latent tells the two ticks before it is fitted; the model's own errors have a known covariance; the
correction is the Kalman update (Kalman 1960) of the drawn latent by those two ticks.

It is constant, so it becomes arrays of the model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from models.motion.representation import HEADING, TICK_SIZE, tick_weights
from models.music_to_dance.network import Gmd
from models.music_to_dance.sequences import SequenceSampler

_TICKS = 2
"""Two ticks are a pose and its speed."""
_BATCHES, _BATCH = 4, 12
_RIDGE = 1e-2


@torch.no_grad()
def fit_continuity(model: Gmd, sampler: SequenceSampler, temperature: float, seed: int = 0) -> None:
    """Set the model's continuity arrays from training clips and the model's present errors.

    Args:
        model: whose buffers are set.
        sampler: of the training clips.
        temperature: of the draw on the stage.
        seed: of the sequences and the noise.
    """
    last, last_mean = _last_ticks(sampler)
    latents = np.concatenate([p.latents[1:] for p in sampler.clips]).astype(np.float64)
    before = np.concatenate([p.latents[:-1] for p in sampler.clips]) @ last.T + last_mean
    design = np.concatenate([latents, np.ones((len(latents), 1))], axis=1)
    fit = np.linalg.solve(design.T @ design + _RIDGE * np.eye(design.shape[1]), design.T @ before)
    told, offset = fit[:-1].T, fit[-1]
    unexplained = np.cov((before - design @ fit).T) + 1e-8 * np.eye(len(told))

    model.reset_continuity()
    errors = _errors(model, sampler, temperature, seed)
    covariance = np.cov(errors.T)
    gain = covariance @ told.T @ np.linalg.inv(told @ covariance @ told.T + unexplained)
    for buffer, value in (
        (model.continuity_keep, np.eye(len(gain)) - gain @ told),
        (model.continuity_history, gain @ last),
        (model.continuity_offset, gain @ (last_mean - offset)),
    ):
        buffer.copy_(torch.from_numpy(value))


def _last_ticks(sampler: SequenceSampler) -> tuple[np.ndarray, np.ndarray]:
    """Return the map (2 x 145, L) and mean (2 x 145,) from a latent to its chunk's last two poses, weighted."""
    representation, weights = sampler.representation, tick_weights()[:HEADING]
    starts = [(representation.chunk_ticks - 1 - k) * TICK_SIZE for k in range(_TICKS)]
    maps = [(representation.decoder[:, s : s + HEADING] * weights).T for s in starts]
    means = [representation.mean[s : s + HEADING] * weights for s in starts]
    return np.concatenate(maps).astype(np.float64), np.concatenate(means).astype(np.float64)


def _errors(model: Gmd, sampler: SequenceSampler, temperature: float, seed: int) -> np.ndarray:
    """Return the model's errors (n, L) on training sequences with everything known."""
    usual = sampler.settings
    sampler.settings = replace(usual, clean_share=1.0, drop_music=0.0, drop_phrase=0.0, music_noise=0.0)
    random = np.random.Generator(np.random.PCG64(seed))
    errors = []
    try:
        for _ in range(_BATCHES):
            batch = sampler.batch(random, _BATCH)
            history = torch.from_numpy(batch.history)
            context = model(torch.from_numpy(batch.music), torch.from_numpy(batch.condition), history)
            noise = torch.from_numpy(random.standard_normal(batch.history.shape, np.float32))
            sampled = model.sample(context, history, noise, temperature)
            errors.append((sampled.numpy() - batch.target).reshape(-1, batch.target.shape[-1]))
    finally:
        sampler.settings = usual
    return np.concatenate(errors).astype(np.float64)
