"""Learning the beat activation: a cache of features and truths, then torch on one thread.

Run offline: `python -m models.beat_training prepare|train --help`. What it writes is read by `models.beat_activation`,
which needs no torch.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.beats.beat_filter import GRADES, PACES, PLACES, grade, place
from engine.beats.spectrum import HOPS_PER_S, SAMPLE_RATE_HZ, BandSpectrum
from models.beat_activation import (
    BANDS,
    DELAY_HOPS,
    FRONT_HOPS,
    FRONT_UNITS,
    GRU_UNITS,
    STRIDE_HOPS,
    TEMPO_CLASSES_BPM,
    load,
)
from models.beat_corpus import Clip, Library, degrade, make_clip
from models.rendering.synth import SoundFont

_LOG = logging.getLogger(__name__)
_CLIP_S = 30.0
_LABEL_SIGMA_HOPS = 1.0
_SHARD_CLIPS = 100
_LATEST_START_S = 6
"""A clip is entered at its beginning or up to so much later: the network must find the beat in mid-song too."""
_BATCH, _CHUNK = 24, 800
"""Clips side by side, and hops between two steps of the optimiser (the recurrent state is carried over)."""
_TEMPO_WEIGHT = 0.05


def labels(clip: Clip, hops: int) -> NDArray[np.uint8]:
    """Return (hops, 4): beat, downbeat, weight of the beat, weight of the downbeat; 0 to 255.

    The target of a beat at t is a Gaussian (sigma 10 ms) about the hop that ends at t.
    """
    out = np.zeros((hops, 4), np.uint8)
    ends = (np.arange(hops) + 1.0) / HOPS_PER_S
    for column, times in ((0, clip.beats_s), (1, clip.beats_s[clip.bar_positions == 0])):
        for at in times:
            near = slice(max(0, int(at * HOPS_PER_S) - 6), int(at * HOPS_PER_S) + 6)
            peak = np.exp(-0.5 * ((ends[near] - at) * HOPS_PER_S / _LABEL_SIGMA_HOPS) ** 2)
            out[near, column] = np.maximum(out[near, column], np.round(255 * peak))
    out[:, 2] = 255
    for start, end in clip.unknown_s:
        unheard = (ends > start) & (ends < end)
        # Silence holds no beat that could be heard; a light weight teaches the network to stay calm in it.
        out[unheard, 0:2] = 0
        out[unheard, 2] = 64
    out[:, 3] = out[:, 2] * np.any(clip.bar_positions >= 0)
    return out


def recorded_clips(rng: np.random.Generator, pairs: Path, names: list[str], variants: int) -> list[Clip]:
    """Return 30 s windows of the recorded songs in `pairs`, with changed speed and in rooms.

    Their grid is constant (`bpm`, `beat_phase_ref_in_clip_s`); its phase is refined to where energy rises, within
    60 ms, and songs whose onsets do not gather there are left out.
    """
    import soundfile
    import soxr

    spectrum = BandSpectrum()
    clips = []
    for row in json.loads((pairs / "index.json").read_text()):
        if row["name"] not in names:
            continue
        samples, rate = soundfile.read(pairs / row["audio"], dtype="float32")
        period = 60.0 / row["bpm"]
        bands = spectrum.extract(soxr.resample(samples, rate, SAMPLE_RATE_HZ))[:, :24]
        flux = np.maximum(np.diff(bands, axis=0), 0).mean(axis=1)
        # The 21 ms window answers most strongly when an attack is in its middle.
        at = (np.arange(len(flux)) + 2.0) / HOPS_PER_S - 0.012
        around = (at - row["beat_phase_ref_in_clip_s"] + period / 2) % period - period / 2
        offsets = np.arange(-0.06, 0.061, 0.005)
        strength = np.array([flux[np.abs(around - o) < 0.010].mean() for o in offsets])
        if strength.max() < 1.35 * flux.mean():
            _LOG.info("%s: its onsets do not follow its stated grid, left out", row["name"])
            continue
        reference = row["beat_phase_ref_in_clip_s"] + float(offsets[strength.argmax()])
        for _ in range(variants):
            speed = float(2 ** rng.uniform(-0.25, 0.25))
            played = soxr.resample(samples, rate, SAMPLE_RATE_HZ / speed)
            for start in np.arange(0, len(played) / SAMPLE_RATE_HZ - _CLIP_S, 0.9 * _CLIP_S):
                start += rng.uniform(0, 0.1) * _CLIP_S
                first = round(start * SAMPLE_RATE_HZ)
                audio = played[first : first + round(_CLIP_S * SAMPLE_RATE_HZ)]
                if len(audio) < _CLIP_S * SAMPLE_RATE_HZ:
                    continue
                origin = reference / speed - start
                beats = np.arange(np.ceil(-origin / (period / speed)), 400) * period / speed + origin
                beats = beats[beats < _CLIP_S]
                clips.append(Clip(degrade(rng, audio, 0.7), beats, np.full(len(beats), -1), np.zeros((0, 2)), 0))
    return clips


def prepare(midi: Path, fonts: list[Path], pairs: Path | None, out: Path, shards: int, first_seed: int = 1) -> None:
    """Write `shards` shards of 100 clips of 30 s: features (100, 3000, 88) float16, labels (100, 3000, 4) uint8."""
    out.mkdir(parents=True, exist_ok=True)
    library = Library.open(midi, range(1, 701), "train")
    library = Library(library.pop, library.tunes[: len(library.tunes) * 4 // 5], library.drums)
    voices = [SoundFont(path) for path in fonts]
    spectrum = BandSpectrum()
    recorded: list[Clip] = []
    if pairs is not None:
        rows = [r for r in json.loads((pairs / "index.json").read_text()) if r["split"] == "train"]
        recorded = recorded_clips(
            np.random.default_rng(first_seed), pairs, [r["name"] for r in rows if r["name"] not in DEV_RECORDINGS], 3
        )
        np.random.default_rng(first_seed).shuffle(recorded)  # type: ignore[arg-type]
        _LOG.info("%d recorded clips", len(recorded))
    for shard in range(shards):
        if (out / f"features_{shard:03d}.npy").exists():
            continue
        hops = round(_CLIP_S * HOPS_PER_S)
        features = np.zeros((_SHARD_CLIPS, hops, spectrum.count), np.float16)
        truths = np.zeros((_SHARD_CLIPS, hops, 4), np.uint8)
        for index in range(_SHARD_CLIPS):
            rng = np.random.default_rng((first_seed, shard, index))
            share = recorded[shard::shards]
            clip = share[index] if index < len(share) else make_clip(rng, library, voices, _CLIP_S)
            features[index] = spectrum.extract(clip.audio)
            truths[index] = labels(clip, hops)
        np.save(out / f"labels_{shard:03d}.npy", truths)
        np.save(out / f"features_{shard:03d}.npy", features)
        _LOG.info("shard %d of %d", shard + 1, shards)


DEV_RECORDINGS = ("DANCE_C_6", "DANCE_R_5", "DANCE_T_5", "DANCE_W_12", "DANCE_W_20", "DANCE_W_8")
"""Songs of the train split that are kept for development."""


def beat_hops(truth: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the hops on which a beat falls, of labels (T, 4)."""
    peaks = np.flatnonzero(truth[:, 0] >= 220)
    return peaks[np.diff(peaks, prepend=-10) > 2]


def tempo_classes(truth: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return (T,) the class of the tempo around each hop, -1 where it is not known."""
    peaks = beat_hops(truth)
    out = np.full(len(truth), -1, np.int64)
    if len(peaks) < 5:
        return out
    gaps = np.diff(peaks).astype(float)
    # One hop is 2 to 4 % of a beat: the mean over four beats is finer, the median throws out a break.
    smooth = np.array([gaps[max(0, i - 2) : i + 2].mean() for i in range(len(gaps))])
    middle = np.array([np.median(gaps[max(0, i - 2) : i + 2]) for i in range(len(gaps))])
    smooth = np.where(np.abs(smooth / middle - 1) < 0.05, smooth, middle)
    nearest = np.abs(np.log(TEMPO_CLASSES_BPM[None] / (6000.0 / smooth[:, None]))).argmin(axis=1)
    for gap, length, start, end in zip(nearest, gaps, peaks[:-1], peaks[1:], strict=True):
        if length < 120:
            out[start:end] = gap
    return out


class _Cache:
    """The shards written so far, kept as float16 in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.features: list[NDArray[np.float16]] = []
        self.truths: list[NDArray[np.uint8]] = []
        self.tempos: list[NDArray[np.int64]] = []

    def refresh(self) -> int:
        """Read new shards; return the number of clips."""
        for path in sorted(self._folder.glob("features_*.npy"))[len(self.features) :]:
            self.features.append(np.load(path))
            truths = np.load(path.with_name(path.name.replace("features", "labels")))
            self.truths.append(truths)
            self.tempos.append(np.stack([tempo_classes(t) for t in truths]))
        return len(self.features) * _SHARD_CLIPS

    def batch(self, clips: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
        """Return features (B, T, 88), truths (B, T, 4) and tempo classes (B, T) of clips, each from a random start."""
        length = round((_CLIP_S - _LATEST_START_S) * HOPS_PER_S)
        parts = []
        for clip in clips:
            shard, row = divmod(int(clip), _SHARD_CLIPS)
            start = int(rng.integers(0, _LATEST_START_S * HOPS_PER_S)) if rng.random() < 0.7 else 0
            span = slice(start, start + length)
            parts.append(
                (self.features[shard][row, span], self.truths[shard][row, span], self.tempos[shard][row, span])
            )
        columns = list(zip(*parts, strict=True))
        return np.stack(columns[0]).astype(np.float32), np.stack(columns[1]), np.stack(columns[2])


def train(cache: Path, out: Path, minutes: float, seed: int = 0, resume: Path | None = None) -> None:
    """Train the activation for a time on one thread and write its weights as safetensors."""
    import torch
    from safetensors.numpy import load_file
    from torch import nn

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    data = _Cache(cache)
    clips = data.refresh()

    class Net(nn.Module):
        """The trainable twin of `models.beat_activation.BeatActivation`."""

        def __init__(self) -> None:
            super().__init__()
            self.front = nn.Linear(BANDS * FRONT_HOPS, FRONT_UNITS)
            self.gru1 = nn.GRU(FRONT_UNITS, GRU_UNITS, batch_first=True)
            self.gru2 = nn.GRU(GRU_UNITS, GRU_UNITS, batch_first=True)
            self.head = nn.Linear(GRU_UNITS, 2 * STRIDE_HOPS + len(TEMPO_CLASSES_BPM))
            with torch.no_grad():
                self.head.bias[: 2 * STRIDE_HOPS] = -3.0

        def forward(self, stacked: torch.Tensor, state: tuple) -> tuple[torch.Tensor, tuple]:
            x = torch.relu(self.front(stacked))
            x, one = self.gru1(nn.functional.dropout(x, 0.1, self.training), state[0])
            y, two = self.gru2(nn.functional.dropout(x, 0.15, self.training), state[1])
            return self.head(nn.functional.dropout(y, 0.15, self.training)), (one.detach(), two.detach())

    net = Net()
    sample = np.concatenate([f[:, ::50].reshape(-1, BANDS) for f in data.features]).astype(np.float32)
    mean, scale = sample.mean(axis=0), 1.0 / (sample.std(axis=0) + 1e-3)
    if resume is not None:
        stored = load_file(resume)
        mean, scale = stored.pop("mean"), stored.pop("scale")
        net.load_state_dict({k: torch.from_numpy(v) for k, v in stored.items()})
    rate = 2e-3 if resume is None else 1e-3
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    began, step, losses = time.monotonic(), 0, []
    while True:
        spent = (time.monotonic() - began) / (60 * minutes)
        if spent >= 1.0:
            break
        clips = data.refresh()
        x, truth, tempo = data.batch(rng.choice(clips, _BATCH, replace=False), rng)
        x = (x - mean) * scale
        # The desk and the room once more, cheaply: a random tilt of the bands, and some of them lost.
        x += (rng.normal(0, 0.25, (_BATCH, 1, 1)) + rng.normal(0, 0.15, (_BATCH, 1, BANDS))).astype(np.float32)
        x = np.concatenate([np.zeros((_BATCH, FRONT_HOPS - STRIDE_HOPS, BANDS), np.float32), x], axis=1)
        stacked = np.lib.stride_tricks.sliding_window_view(x, FRONT_HOPS, axis=1)[:, ::STRIDE_HOPS].swapaxes(2, 3)
        target = np.zeros_like(truth)
        target[:, DELAY_HOPS:] = truth[:, :-DELAY_HOPS]
        goal = torch.from_numpy(target.astype(np.float32) / 255)
        klass = torch.from_numpy(np.concatenate([np.full((_BATCH, 200), -1), tempo[:, 200:]], axis=1))
        state = (None, None)
        for start in range(0, goal.shape[1], _CHUNK):
            span = slice(start, start + _CHUNK)
            seen = stacked[:, start // STRIDE_HOPS : (start + _CHUNK) // STRIDE_HOPS]
            piece = torch.from_numpy(seen.reshape(_BATCH, -1, BANDS * FRONT_HOPS))
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * spent)) + 1e-6
            logits, state = net(piece, state)
            split = 2 * STRIDE_HOPS
            # The head's first outputs are beat and downbeat of each hop of the stride, the older first.
            heads = logits[..., :split].reshape(_BATCH, -1, 2)
            beat = nn.functional.binary_cross_entropy_with_logits(heads, goal[:, span, :2], reduction="none")
            loss = (beat * goal[:, span, 2:]).mean() * 2
            wanted = klass[:, span][:, STRIDE_HOPS - 1 :: STRIDE_HOPS]
            known = wanted >= 0
            if known.any():
                loss = loss + _TEMPO_WEIGHT * nn.functional.cross_entropy(
                    logits[..., split:][known], wanted[known], label_smoothing=0.1
                )
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            heard = (beat.detach() * goal[:, span, 2:]).mean(dim=(0, 1))
            losses.append((float(heard[0]), float(heard[1]), float(loss.detach())))
            step += 1
            if step % 100 == 0:
                recent = np.mean(losses[-100:], axis=0)
                _LOG.info(
                    "step %d, %.0f %% of the time, %d clips: beat %.4f downbeat %.4f all %.4f",
                    step,
                    100 * spent,
                    clips,
                    *recent,
                )
            if step % 300 == 0:
                _save(net.state_dict(), mean, scale, out)
    _save(net.state_dict(), mean, scale, out)


def measure_likelihoods(cache: Path, weights: Path, clips: int = 300) -> NDArray[np.float32]:
    """Return P(grade | place) / P(grade) of the network's activations, as `engine.beats.beat_filter` wants them."""
    network = load(weights)
    counts = np.zeros((GRADES, PLACES * PACES))
    shards = sorted(cache.glob("features_*.npy"))
    for shard in shards:
        features = np.load(shard, mmap_mode="r")
        truths = np.load(shard.with_name(shard.name.replace("features", "labels")))
        for row in range(0, _SHARD_CLIPS, max(1, len(shards) * _SHARD_CLIPS // clips)):
            peaks = beat_hops(truths[row])
            network.reset()
            heard = np.array([network.process(bands).beat for bands in features[row].astype(np.float32)])
            heard = heard[network.delay_ns // 10_000_000 :]
            hops = np.arange(len(heard), dtype=float)
            index = np.searchsorted(peaks, hops, side="right") - 1
            known = (index >= 4) & (index < len(peaks) - 1)
            index, hops, heard = index[known], hops[known], heard[known]
            period = np.diff(peaks)[index].astype(float)
            usual = (period >= 28) & (period <= 110)
            where = place(hops - peaks[index], np.maximum(period, 1.0))
            grades = np.array([grade(a) for a in heard.tolist()])
            np.add.at(counts, (grades[usual], where[usual]), 1)
    share = counts.sum(axis=1) / counts.sum()
    # A few hops' worth of "nothing in particular" keeps rare cells from saying too much.
    smoothed = counts + 50.0 * share[:, None]
    return (smoothed / smoothed.sum(axis=0) / share[:, None]).astype(np.float32)


def _save(weights: Mapping[str, Any], mean: NDArray[np.float32], scale: NDArray[np.float32], out: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(value.numpy()) for name, value in weights.items()}
    save_file(arrays | {"mean": mean, "scale": scale.astype(np.float32)}, out)


def main() -> None:
    """Command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("prepare")
    making.add_argument("--midi", type=Path, required=True)
    making.add_argument("--font", type=Path, action="append", required=True)
    making.add_argument("--pairs", type=Path)
    making.add_argument("--out", type=Path, required=True)
    making.add_argument("--shards", type=int, default=24)
    making.add_argument("--seed", type=int, default=1)
    learning = verbs.add_parser("train")
    learning.add_argument("--cache", type=Path, required=True)
    learning.add_argument("--out", type=Path, required=True, help="safetensors file")
    learning.add_argument("--minutes", type=float, default=45.0)
    learning.add_argument("--resume", type=Path)
    learning.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.verb == "prepare":
        prepare(args.midi, args.font, args.pairs, args.out, args.shards, args.seed)
    else:
        train(args.cache, args.out, args.minutes, args.seed, args.resume)


if __name__ == "__main__":
    main()
