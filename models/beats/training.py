"""Learning the beat activation with torch, on one thread.

Run offline: `python -m models.beats.training prepare --help`, then `train --help`. What it writes is read by
`models.beats.activation`, which needs no torch.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.linalg import block_diag
from torch import Tensor, nn

from models.beats.accompaniment import write_accompaniments
from models.beats.activation import (
    BANDS,
    DELAY_HOPS,
    FRONT_HOPS,
    STRIDE_HOPS,
    TEMPO_CLASSES_BPM,
)
from models.beats.cache import TrainingCache, prepare

_LOG = logging.getLogger(__name__)
_BATCH, _CHUNK = 32, 800
"""Clips side by side, and hops between two steps of the optimiser (the recurrent state is carried over)."""
_TEMPO_WEIGHT = 0.1
_TEMPO_FROM_HOP = 200
"""For the first two seconds of a clip nobody can know the tempo: it is not asked."""
_AVERAGE = 0.998
"""The weights that are kept are a running average over about 500 steps: single steps are noisy."""
_RATE, _RESUMED_RATE = 2e-3, 4e-4
_DROPOUT = 0.1
FRONT_UNITS, GRU_UNITS = 96, 128
"""Size of a network that is begun anew."""
_SPLIT = 2 * STRIDE_HOPS
"""The head's first outputs are beat and downbeat of each hop of the stride, the older first; the rest is tempo."""

State = tuple[Tensor | None, Tensor | None]


class TrainableActivation(nn.Module):
    """The trainable twin of one network of `models.beats.activation.BeatActivation`.

    Args:
        front: units of the first layer.
        units: of each recurrent layer.
    """

    def __init__(self, front: int, units: int) -> None:
        super().__init__()
        self.front = nn.Linear(BANDS * FRONT_HOPS, front)
        self.gru1 = nn.GRU(front, units, batch_first=True)
        self.gru2 = nn.GRU(units, units, batch_first=True)
        self.head = nn.Linear(units, _SPLIT + len(TEMPO_CLASSES_BPM))
        self.dropout = nn.Dropout(_DROPOUT)
        with torch.no_grad():
            self.head.bias[:_SPLIT] = -3.0  # beats are rare

    def forward(self, stacked: Tensor, state: State) -> tuple[Tensor, State]:
        """Take windows (B, T / 2, 528) and the state; return logits (B, T / 2, 45) and the detached new state."""
        x = torch.relu(self.front(stacked))
        x, one = self.gru1(self.dropout(x), state[0])
        x, two = self.gru2(self.dropout(x), state[1])
        return self.head(self.dropout(x)), (one.detach(), two.detach())


def windows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (B, T / 2, 528) stacked, overlapping windows of normalised features (B, T, 88), zeros before the first."""
    before = np.zeros((len(features), FRONT_HOPS - STRIDE_HOPS, BANDS), np.float32)
    padded = np.concatenate([before, features], axis=1)
    view = np.lib.stride_tricks.sliding_window_view(padded, FRONT_HOPS, axis=1)[:, ::STRIDE_HOPS]
    return np.ascontiguousarray(view.swapaxes(2, 3)).reshape(len(features), -1, BANDS * FRONT_HOPS)


def loss_of(logits: Tensor, truth: Tensor, tempo: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss, mean cross-entropy of beat and of downbeat (2,)).

    Args:
        logits: (B, T / 2, 45).
        truth: (B, T, 4): beat, downbeat and their weights, 0 to 1, already delayed.
        tempo: (B, T) class of the tempo, -1 unknown.
    """
    heads = logits[..., :_SPLIT].reshape(len(logits), -1, 2)
    errors = nn.functional.binary_cross_entropy_with_logits(heads, truth[..., :2], reduction="none") * truth[..., 2:]
    loss = 2.0 * errors.mean()
    wanted = tempo[:, STRIDE_HOPS - 1 :: STRIDE_HOPS]
    known = wanted >= 0
    if known.any():
        guesses = logits[..., _SPLIT:][known]
        loss = loss + _TEMPO_WEIGHT * nn.functional.cross_entropy(guesses, wanted[known], label_smoothing=0.1)
    return loss, errors.detach().mean(dim=(0, 1))


def join(*networks: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return one network that answers with the mean of several; what they do not share, training may connect.

    Their layers stand side by side, the weights between them zero. All are heard through the first one's `mean` and
    `scale`.
    """
    mean, scale = networks[0]["mean"], networks[0]["scale"]
    fronts, biases = [], []
    for net in networks:
        front = net["front.weight"].reshape(-1, FRONT_HOPS, BANDS)
        fronts.append((front * (net["scale"] / scale)).reshape(len(front), -1))
        biases.append(net["front.bias"] + (front * (net["scale"] * (mean - net["mean"]))).sum(axis=(1, 2)))
    out = {"mean": mean, "scale": scale, "front.weight": np.concatenate(fronts), "front.bias": np.concatenate(biases)}
    for layer in ("gru1", "gru2"):
        for name in (f"{layer}.weight_ih_l0", f"{layer}.weight_hh_l0"):
            # The three gates come one below the other.
            gates = [[net[name].reshape(3, -1, net[name].shape[1])[gate] for net in networks] for gate in range(3)]
            out[name] = np.concatenate([block_diag(*blocks) for blocks in gates])
        for name in (f"{layer}.bias_ih_l0", f"{layer}.bias_hh_l0"):
            out[name] = np.concatenate([net[name].reshape(3, -1) for net in networks], axis=1).ravel()
    out["head.weight"] = np.concatenate([net["head.weight"] for net in networks], axis=1) / len(networks)
    out["head.bias"] = np.mean([net["head.bias"] for net in networks], axis=0)
    return {name: np.ascontiguousarray(value, np.float32) for name, value in out.items()}


def train(
    cache: Path,
    out: Path,
    minutes: float,
    seed: int = 0,
    resume: Sequence[Path] = (),
    size: tuple[int, int] | None = None,
) -> None:
    """Train for a time and write the averaged weights as safetensors, now and then and at the end.

    The learning rate falls as a cosine of the time spent. `resume` begins from weights written before, those of several
    networks joined; `size` is that of a new network, its first layer's units and its recurrent ones'.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    data = TrainingCache(cache)
    data.refresh()
    if not resume:
        mean, scale = data.statistics()
        net = TrainableActivation(*(size or (FRONT_UNITS, GRU_UNITS)))
    else:
        stored = join(*(load_file(path) for path in resume))
        mean, scale = stored.pop("mean"), stored.pop("scale")
        net = TrainableActivation(len(stored["front.bias"]), stored["gru1.weight_hh_l0"].shape[1])
        net.load_state_dict({name: torch.from_numpy(value) for name, value in stored.items()})
    rate = _RATE if not resume else _RESUMED_RATE
    average = {name: value.clone() for name, value in net.state_dict().items()}
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    began, step, recent = time.monotonic(), 0, np.zeros(3)
    while (spent := (time.monotonic() - began) / (60 * minutes)) < 1.0:
        clips = data.refresh()
        features, labels, tempo = data.batch(rng.choice(clips, _BATCH, replace=False), rng)
        stacked = torch.from_numpy(windows((features - mean) * scale))
        delayed = np.zeros_like(labels)
        delayed[:, DELAY_HOPS:] = labels[:, :-DELAY_HOPS]
        truth = torch.from_numpy(delayed.astype(np.float32) / 255)
        tempo[:, :_TEMPO_FROM_HOP] = -1
        classes = torch.from_numpy(tempo)
        state: State = (None, None)
        for start in range(0, truth.shape[1], _CHUNK):
            hops = slice(start, start + _CHUNK)
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * spent)) + 1e-6
            logits, state = net(stacked[:, start // STRIDE_HOPS : (start + _CHUNK) // STRIDE_HOPS], state)
            loss, parts = loss_of(logits, truth[:, hops], classes[:, hops])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            step += 1
            keep = min(_AVERAGE, step / (step + 9))
            for name, value in net.state_dict().items():
                average[name].lerp_(value, 1 - keep)
            recent += (0.01 if step > 100 else 1 / step) * (np.array([*parts.tolist(), float(loss.detach())]) - recent)
            if step % 100 == 0:
                _LOG.info(
                    "step %d, %.0f %%, %d clips: beat %.4f downbeat %.4f all %.4f", step, 100 * spent, clips, *recent
                )
            if step % 300 == 0:
                _save(average, mean, scale, out)
    _save(average, mean, scale, out)


def _save(weights: dict[str, Tensor], mean: NDArray[np.float32], scale: NDArray[np.float32], out: Path) -> None:
    arrays = {name: np.ascontiguousarray(value.numpy()) for name, value in weights.items()}
    save_file(arrays | {"mean": mean, "scale": scale}, out)


def main() -> None:
    """Command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("accompany", help="needs the program mma")
    writing.add_argument("--midi", type=Path, required=True)
    writing.add_argument("--out", type=Path, required=True)
    writing.add_argument("--free", type=int, default=500, help="accompaniments of no song")
    writing.add_argument("--seed", type=int, default=0)
    making = verbs.add_parser("prepare")
    making.add_argument("--midi", type=Path, required=True)
    making.add_argument("--accompaniments", type=Path, required=True, help="folder of `accompany`")
    making.add_argument("--kit", type=Path, action="append", default=[], help="soundfont that is a drum kit")
    making.add_argument("--font", type=Path, action="append", required=True)
    making.add_argument("--pairs", type=Path)
    making.add_argument("--charted", type=Path, action="append", default=[], help="folder of a Frets on Fire song")
    making.add_argument("--out", type=Path, required=True)
    making.add_argument("--shards", type=int, default=24)
    making.add_argument("--seed", type=int, default=1)
    making.add_argument("--variants", type=int, default=3, help="uses of each recorded song")
    learning = verbs.add_parser("train")
    learning.add_argument("--cache", type=Path, required=True)
    learning.add_argument("--out", type=Path, required=True, help="safetensors file")
    learning.add_argument("--minutes", type=float, default=45.0)
    learning.add_argument("--resume", type=Path, nargs="+", default=[], help="weights; of several, one wide network")
    learning.add_argument("--seed", type=int, default=0)
    learning.add_argument("--size", type=int, nargs=2, metavar=("FRONT", "UNITS"), help="of a new network")
    args = parser.parse_args()
    if args.verb == "prepare":
        prepare(
            args.midi,
            args.accompaniments,
            args.font,
            args.kit,
            args.pairs,
            args.charted,
            args.out,
            args.shards,
            args.seed,
            args.variants,
        )
    elif args.verb == "accompany":
        write_accompaniments(args.out, args.midi / "pop909.zip", range(1, 801, 2), args.free, args.seed)
    else:
        train(args.cache, args.out, args.minutes, args.seed, args.resume, tuple(args.size) if args.size else None)


if __name__ == "__main__":
    main()
