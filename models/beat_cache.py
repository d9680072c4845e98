"""The training cache of the beat activation: features and truths of drawn and recorded clips, in shards on disk."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.beats.spectrum import HOPS_PER_S, SAMPLE_RATE_HZ, BandSpectrum
from models.beat_activation import TEMPO_CLASSES_BPM
from models.beat_corpus import Clip, Library, degrade, make_clip
from models.rendering.synth import SoundFont

_LOG = logging.getLogger(__name__)
_CLIP_S = 30.0
_LABEL_SIGMA_HOPS = 1.0
_SHARD_CLIPS = 100
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


def prepare(
    midi: Path, fonts: list[Path], pairs: Path | None, out: Path, shards: int, seed: int = 1, variants: int = 3
) -> None:
    """Write `shards` shards of 100 clips of 30 s: features (100, 3000, 88) float16, labels (100, 3000, 4) uint8.

    Args:
        midi: folder with `pop909.zip`, `groove.zip` and `ryansMammoth.zip`.
        fonts: soundfonts, drawn with equal chance.
        pairs: folder of recorded songs with a known grid, or None.
        out: where to write; shards that are there are kept.
        shards: how many.
        seed: of everything drawn.
        variants: how often each recorded song is used, at another speed and in another room.
    """
    out.mkdir(parents=True, exist_ok=True)
    library = Library.open(midi, range(1, 701), "train")
    library = Library(library.pop, library.tunes[: len(library.tunes) * 4 // 5], library.drums)
    voices = [SoundFont(path) for path in fonts]
    spectrum = BandSpectrum()
    recorded: list[Clip] = []
    if pairs is not None:
        rows = [r for r in json.loads((pairs / "index.json").read_text()) if r["split"] == "train"]
        recorded = recorded_clips(
            np.random.default_rng(seed), pairs, [r["name"] for r in rows if r["name"] not in DEV_RECORDINGS], variants
        )
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
            clip = share[index] if index < len(share) else make_clip(rng, library, voices, _CLIP_S)
            features[index] = spectrum.extract(clip.audio)
            truths[index] = labels(clip, hops)
        np.save(out / f"labels_{shard:03d}.npy", truths)
        np.save(out / f"features_{shard:03d}.npy", features)
        _LOG.info("shard %d of %d", shard + 1, shards)


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


class TrainingCache:
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

    def statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the mean (88,) of the features and the reciprocal of their deviation."""
        sample = np.concatenate([f[:, ::50].reshape(-1, f.shape[-1]) for f in self.features]).astype(np.float32)
        return sample.mean(axis=0), 1.0 / (sample.std(axis=0) + 1e-3)
