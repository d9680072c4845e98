"""Recorded music with known beats: songs played to a fixed grid, ballroom recordings, one human annotation.

All grids are calibrated against the recording, because a beat is where it sounds: `grid_offset` folds an onset curve
at the beat period and finds where the strokes fall. It reads clicks within 2 ms. What it found, and what is
used below:

- `fof_*` (fixed tempo charts): chaos god +3 ms, mutilated mime +4 ms, war of freedom +42 ms (0.1 beat)
  after the chart, the same in every stretch of 28 s.
- `pairs/` (validation and test splits): the strokes come 19 to 38 ms before the published phase in all eight clips;
  taken by thirds of a clip they stay within 7 ms of that in six, 13 ms in W_6, 31 ms in W_32 (soft strokes): the tempo
  is constant, the phase is corrected.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy import signal

from tests.bench.beats.items import RATE_HZ, Item

Piece = tuple[Item, NDArray[np.float32]]

# Song: tempo [bpm] of its chart, calibrated offset [s] of its strokes after the chart's grid, excerpts [s].
_CHARTED = {
    "fof_War_of_freedom": (140.0, 0.042, ((30.0, 70.0), (88.0, 128.0))),
    "fof_chaos_god": (170.0, 0.003, ((30.0, 70.0), (100.0, 140.0))),
    "fof_mutilated_mime": (180.0, 0.004, ((40.0, 80.0), (110.0, 150.0))),
}
_PAIR_LENGTH_S = 42.0


def onset_curve(samples: NDArray[np.float32], rate_hz: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times (n,) [s] and a spectral flux of 23 ms windows every 2 ms, without latency for sharp strokes."""
    size, hop = int(0.023 * rate_hz), round(0.002 * rate_hz)
    _, times, spectrum = signal.stft(samples, rate_hz, nperseg=size, noverlap=size - hop, boundary=None, padded=False)
    level = np.log1p(1000.0 * np.abs(spectrum))
    lag = 6
    return times[lag:], np.maximum(level[:, lag:] - level[:, :-lag], 0.0).mean(axis=0)


def grid_offset(samples: NDArray[np.float32], rate_hz: int, period_s: float, beat_s: float) -> tuple[float, float]:
    """Find where the strokes fall against a beat grid.

    Returns:
        Offset [s] of the strongest place in the beat, within 0.2 beat of the grid, and how far it stands out of the
        curve's mean (about 2 is clear).
    """
    times, flux = onset_curve(samples, rate_hz)
    flux = np.maximum(flux - np.median(flux), 0.0)
    bins = 200
    place = np.floor(((times - beat_s) / period_s % 1.0) * bins).astype(int) % bins
    folded = np.bincount(place, flux, bins) / np.maximum(np.bincount(place, minlength=bins), 1)
    smooth = signal.convolve(np.tile(folded, 3), np.hanning(7) / np.hanning(7).sum(), mode="same")[bins : 2 * bins]
    near = np.concatenate([np.arange(0, bins // 5), np.arange(bins - bins // 5, bins)])
    best = int(near[np.argmax(smooth[near])])
    signed = best - bins if best > bins // 2 else best
    return (signed + 0.5) / bins * period_s, float(smooth[best] / smooth.mean())


def charted_songs(folder: Path) -> list[Piece]:
    """Return the excerpts of `real_beats/fof_*`."""
    pieces = []
    for name, (bpm, offset_s, excerpts) in _CHARTED.items():
        samples = _read(folder / f"{name}.ogg")
        for number, (start, end) in enumerate(excerpts, 1):
            beats = np.arange(offset_s, len(samples) / RATE_HZ, 60.0 / bpm)
            note = f"{name}.ogg from {start:.0f} s; charted at {bpm:.0f} bpm, strokes {1000 * offset_s:.0f} ms after"
            pieces.append(_cut(f"{name}_{number}", "songs rec", samples, beats, start, end, note))
    return pieces


def ballroom(folder: Path) -> list[Piece]:
    """Return the clips of `pairs/` that are not for training, each in its calibrated phase.

    Raises:
        ValueError: a clip's strokes do not stand out at its beat.
    """
    pieces = []
    for row in json.loads((folder / "index.json").read_text(encoding="utf-8")):
        if row["split"] == "train":
            continue
        samples = _read(folder / row["audio"])
        period_s, beat_s = 60.0 / row["bpm"], row["beat_phase_ref_in_clip_s"]
        offset_s, clarity = grid_offset(samples, RATE_HZ, period_s, beat_s)
        if clarity < 1.8 or abs(offset_s) > 0.06:
            raise ValueError(f"{row['name']}: strokes at {offset_s:+.3f} s, clarity {clarity:.1f}")
        first = (beat_s + offset_s) % period_s
        beats = np.arange(first, len(samples) / RATE_HZ, period_s)
        note = f"{row['audio']}, {row['style']} at {row['bpm']} bpm, strokes {1000 * offset_s:+.0f} ms from its phase"
        end = min(2.0 + _PAIR_LENGTH_S, len(samples) / RATE_HZ)
        category = "waltz rec" if row["style"] == "waltz" else "latin rec"
        pieces.append(_cut(f"pair_{row['name']}", category, samples, beats, 2.0, end, note))
    return pieces


def annotated(folder: Path) -> list[Piece]:
    """Return the song of `real_beats/` whose beats a listener tapped."""
    samples = _read(folder / "simac_01_H_mikri_Rallou.wav")
    beats = np.loadtxt(folder / "simac_01_H_mikri_Rallou.beats", ndmin=2)[:, 0]
    note = "simac_01, human annotation"
    return [_cut("simac_01", "songs rec", samples, beats, 0.0, len(samples) / RATE_HZ, note)]


def _read(path: Path) -> NDArray[np.float32]:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return np.asarray(soxr.resample(mono, rate_hz, RATE_HZ), dtype=np.float32)


def _cut(
    name: str,
    category: str,
    samples: NDArray[np.float32],
    beats_s: NDArray[np.float64],
    start_s: float,
    end_s: float,
    note: str,
) -> Piece:
    part = samples[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)]
    inside = beats_s[(beats_s >= start_s) & (beats_s < end_s)] - start_s
    item = Item(name, category, len(part) / RATE_HZ, np.round(inside, 5).tolist(), [], [], True, note)
    return item, part
