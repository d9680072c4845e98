"""Learning the grid judge (`engine.beats.grid_judge`) with torch, from the training cache of the beat activation.

Run offline: `python -m models.beats.grid --cache CACHE --out FILE`. A window of music is shown with its true grid and
twelve that a tracker could mistake for it: moved by a part of a beat, at the double, half, 3 : 2 or 2 : 3 tempo. The
network scores each alone; it is taught that the true one's score should be the highest.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

from engine.beats.grid_judge import picture, rises
from models.beats.augmentation import beat_positions, disguise, draw_speed, play
from models.beats.cache import tempo_bpm

_LOG = logging.getLogger(__name__)
_GRIDS = np.array(
    [
        (1, 0),
        (1, 0.5),
        (1, 0.25),
        (1, -0.25),
        (0.5, 0),
        (0.5, 0.25),
        (2, 0),
        (2, 1),
        (2 / 3, 0),
        (2 / 3, 1 / 3),
        (1.5, 0),
        (1.5, 0.5),
        (1.5, 1),
    ]
)
"""The true grid first: period as a share of the beat, and by how much of a beat it is moved."""
_SHORTEST_HOPS, _LONGEST_HOPS = 27.5, 112.0
"""Periods that the filter knows; other grids are not shown."""
_WINDOWS, _CLIP_HOPS = 16, 2700
_DISGUISED = 0.6
"""Share of clips that are heard at another speed and in another room."""
_BATCH, _RATE, _UNITS = 128, 2e-3, (96, 32)


def windows(
    bands: NDArray[np.float32], positions: NDArray[np.float64], rng: np.random.Generator, count: int = _WINDOWS
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.bool_]]]:
    """Draw windows of a clip where the beat is steady; return their pictures (13, 428) and which grids count (13,).

    Args:
        bands: (T, 88).
        positions: (B,) of the beats [hops].
        rng: draws the windows.
        count: how many are tried.
    """
    totals = np.zeros((len(bands) + 1, 10))
    np.cumsum(rises(bands), axis=0, out=totals[1:])
    pictures: list[NDArray[np.float32]] = []
    counted: list[NDArray[np.bool_]] = []
    for _ in range(count if len(positions) >= 7 else 0):
        newest = int(rng.integers(5, len(positions) - 1))
        gaps = np.diff(positions[newest - 5 : newest + 1])
        period = float(np.mean(gaps[-4:]))
        if gaps.max() > 1.1 * period or gaps.min() < 0.9 * period or not 28 < period < 110:
            continue
        end = min(float(len(bands)), positions[newest] + rng.uniform(0, 1) * period + 8)
        # A tracker knows the grid only so well.
        beat = np.mean(positions[newest - 4 : newest + 1] + period * np.arange(4, -1, -1)) + rng.normal(0, 0.6)
        period *= float(np.exp(rng.normal(0, 0.004)))
        periods, beats = period * _GRIDS[:, 0], beat + period * _GRIDS[:, 1]
        first = max(0.0, np.floor(end - rng.uniform(400, 1000)))
        pictures.append(picture(totals, end, periods, beats, first))
        counted.append((periods > _SHORTEST_HOPS) & (periods < _LONGEST_HOPS))
    return pictures, counted


def train(cache: Path, out: Path, epochs: int = 6, passes: int = 2, seed: int = 5) -> None:
    """Train on every shard below a folder, each clip heard so many times, and write the weights as safetensors."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    pictures: list[NDArray[np.float16]] = []
    counted: list[NDArray[np.bool_]] = []
    for path in [*sorted(cache.glob("**/features_*.npy"))] * passes:
        truths = np.load(path.with_name(path.name.replace("features", "labels")))
        for bands, truth in zip(np.load(path), truths, strict=True):
            heard = bands.astype(np.float32)
            if rng.random() < _DISGUISED:
                heard, truth = play(bands, truth, 0.0, draw_speed(rng, tempo_bpm(truth)), _CLIP_HOPS)
                heard = disguise(rng, heard)
            shown, which = windows(heard, beat_positions(truth)[0], rng)
            pictures += [x.astype(np.float16) for x in shown]
            counted += which
        _LOG.info("%s: %d windows", path.stem, len(pictures))
    x, mask = np.stack(pictures), np.stack(counted)
    sample = x[:4000].astype(np.float32).reshape(-1, x.shape[-1])
    mean, scale = sample.mean(axis=0), 1.0 / (sample.std(axis=0) + 1e-3)
    wide, narrow = _UNITS
    net = nn.Sequential(
        nn.Linear(x.shape[-1], wide),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(wide, narrow),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(narrow, 1),
    )
    optimiser = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=1e-2)
    steps = epochs * max(1, len(x) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        rows = rng.integers(len(x), size=min(_BATCH, len(x)))
        scores = net(torch.from_numpy((x[rows].astype(np.float32) - mean) * scale))[..., 0]
        scores = scores.masked_fill(torch.from_numpy(~mask[rows]), -1e9)
        loss = nn.functional.cross_entropy(scores, torch.zeros(len(rows), dtype=torch.long))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 200 == 0:
            _LOG.info("step %d of %d: %.3f", step, steps, float(loss.detach()))
    arrays = {"mean": mean, "scale": scale}
    for number, layer in enumerate(m for m in net if isinstance(m, nn.Linear)):
        arrays[f"layer{number}.weight"] = layer.weight.detach().numpy()
        arrays[f"layer{number}.bias"] = layer.bias.detach().numpy()
    save_file({name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}, out)


def main() -> None:
    """Command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder of `models.beats.training prepare`")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    train(args.cache, args.out, args.epochs, args.passes, args.seed)


if __name__ == "__main__":
    main()
