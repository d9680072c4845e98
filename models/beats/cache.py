"""The training cache of the beat activation: features and truths of drawn and recorded clips, in shards on disk."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.beats.spectrum import HOPS_PER_S, BandSpectrum
from models.beats.activation import TEMPO_CLASSES_BPM
from models.beats.augmentation import beat_positions, disguise, draw_speed, play
from models.beats.corpus import Clip, Library, make_clip
from models.beats.recordings import read_charted, read_pairs, recorded_clips
from models.rendering.synth import SoundFont

_LOG = logging.getLogger(__name__)
_CLIP_S = 30.0
_LABEL_SIGMA_HOPS = 1.0
_SHARD_CLIPS = 100
_LONGEST_BEAT_HOPS = 120
"""What is longer is a break."""
_LATEST_START_S = 6
"""A clip is entered at its beginning or up to so much later: the network must find the beat in mid-song too."""
DEV_RECORDINGS = ("DANCE_C_6", "DANCE_R_5", "DANCE_T_5", "DANCE_W_12", "DANCE_W_20", "DANCE_W_8")
"""Recorded songs of the train split that are kept for development."""


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


def prepare(
    midi: Path,
    accompaniments: Path,
    fonts: list[Path],
    kits: list[Path],
    pairs: Path | None,
    charted: list[Path],
    out: Path,
    shards: int,
    seed: int = 1,
    variants: int = 3,
) -> None:
    """Write `shards` shards of 100 clips of 30 s: features (100, 3000, 88) float16, labels (100, 3000, 4) uint8.

    Args:
        midi: folder with `pop909.zip`, `groove.zip` and `ryansMammoth.zip`.
        accompaniments: folder of `models.beats.accompaniment`.
        fonts: soundfonts, drawn with equal chance.
        kits: soundfonts that hold only a drum kit.
        pairs: folder of recorded songs with a known grid, or None.
        charted: folders of songs recorded to a chart, see `models.beats.recordings.read_charted`.
        out: where to write; shards that are there are kept.
        shards: how many.
        seed: of everything drawn.
        variants: how often each recorded song is used, at another speed and in another room.
    """
    out.mkdir(parents=True, exist_ok=True)
    library = Library.open(midi, range(1, 701), "train", accompaniments)
    library = replace(library, tunes=library.tunes[: len(library.tunes) * 4 // 5])
    voices, drum_kits = [SoundFont(path) for path in fonts], [SoundFont(path) for path in kits]
    spectrum = BandSpectrum()
    recordings = [read_charted(folder) for folder in charted]
    if pairs is not None:
        recordings += read_pairs(pairs, "train", without=DEV_RECORDINGS)
    drawing = np.random.default_rng(seed)
    recorded = [clip for r in recordings for clip in recorded_clips(drawing, r, variants, _CLIP_S)]
    np.random.default_rng(seed).shuffle(recorded)
    _LOG.info("%d recorded clips", len(recorded))
    for shard in range(shards):
        if (out / f"features_{shard:03d}.npy").exists():
            continue
        hops = round(_CLIP_S * HOPS_PER_S)
        features = np.zeros((_SHARD_CLIPS, hops, spectrum.count), np.float16)
        truths = np.zeros((_SHARD_CLIPS, hops, 4), np.uint8)
        for index in range(_SHARD_CLIPS):
            rng = np.random.default_rng((seed, shard, index))
            share = recorded[shard::shards]
            clip = share[index] if index < len(share) else make_clip(rng, library, voices, drum_kits, _CLIP_S)
            features[index] = spectrum.extract(clip.audio)
            truths[index] = labels(clip, hops)
        np.save(out / f"labels_{shard:03d}.npy", truths)
        # Whoever trains meanwhile must not read half a file.
        half = out / f"half_{shard:03d}.npy"
        np.save(half, features)
        half.rename(out / f"features_{shard:03d}.npy")
        _LOG.info("shard %d of %d", shard + 1, shards)


def tempo_bpm(truth: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (T,) the tempo around each hop of labels (T, 4), nan where it is not known."""
    positions, _ = beat_positions(truth)
    out = np.full(len(truth), np.nan, np.float32)
    if len(positions) < 5:
        return out
    gaps = np.diff(positions)
    # One beat may be early and the next late: the mean over four is steadier, the median throws out a break.
    smooth = np.array([gaps[max(0, i - 2) : i + 2].mean() for i in range(len(gaps))])
    middle = np.array([np.median(gaps[max(0, i - 2) : i + 2]) for i in range(len(gaps))])
    smooth = np.where(np.abs(smooth / middle - 1) < 0.05, smooth, middle)
    hops = positions.astype(np.intp)
    for gap, length, start, end in zip(smooth, gaps, hops[:-1], hops[1:], strict=True):
        if length < _LONGEST_BEAT_HOPS:
            out[start:end] = 60.0 * HOPS_PER_S / gap
    return out


def tempo_classes(bpm: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest class of each tempo, -1 for nan."""
    known = np.isfinite(bpm)
    distance = np.abs(np.log(np.where(known, bpm, 100.0))[..., None] - np.log(TEMPO_CLASSES_BPM))
    return np.where(known, distance.argmin(axis=-1), -1)


class TrainingCache:
    """The shards written so far, kept as float16 in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: set[Path] = set()
        self.features: list[NDArray[np.float16]] = []
        self.truths: list[NDArray[np.uint8]] = []
        self.tempi: list[NDArray[np.float32]] = []

    def refresh(self) -> int:
        """Read new shards, also of folders inside; return the number of clips."""
        for path in sorted(set(self._folder.glob("**/features_*.npy")) - self._read):
            self._read.add(path)
            self.features.append(np.load(path))
            truths = np.load(path.with_name(path.name.replace("features", "labels")))
            self.truths.append(truths)
            self.tempi.append(np.stack([tempo_bpm(t) for t in truths]))
        return len(self.features) * _SHARD_CLIPS

    def batch(
        self, clips: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
        """Return features (B, T, 88), truths (B, T, 4) and tempo classes (B, T) of clips, each as never heard before.

        Each is entered somewhere, played at a speed of its own and heard in a place of its own.
        """
        length = round((_CLIP_S - _LATEST_START_S) * HOPS_PER_S)
        played, truths, tempi = [], [], []
        for clip in clips:
            shard, row = divmod(int(clip), _SHARD_CLIPS)
            source, bpm = self.features[shard][row], self.tempi[shard][row]
            speed = draw_speed(rng, bpm)
            latest = max(0.0, len(source) - 1 - length * speed)
            start = float(rng.uniform(0, latest)) if rng.random() < 0.7 else 0.0
            features, truth = play(source, self.truths[shard][row], start, speed, length)
            # What the clip lacks at its end is not asked for.
            truth[int((len(source) - 1 - start) / speed) :, 2:] = 0
            at = np.minimum(np.round(start + np.arange(length) * speed).astype(np.intp), len(source) - 1)
            played.append(features)
            truths.append(truth)
            tempi.append(tempo_classes(bpm[at] * np.float32(speed)))
        heard = [disguise(rng, own, played[i - 1]) for i, own in enumerate(played)]
        return np.stack(heard), np.stack(truths), np.stack(tempi)

    def statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the mean (88,) of the features and the reciprocal of their deviation."""
        sample = np.concatenate([f[:, ::50].reshape(-1, f.shape[-1]) for f in self.features]).astype(np.float32)
        return sample.mean(axis=0), 1.0 / (sample.std(axis=0) + 1e-3)
