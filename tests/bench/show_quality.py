"""Figures of a rendered dance: `python -m tests.bench.show_quality OUT [--beats TRUTH.csv]`.

OUT is a folder written by `pasdedeux dance SONG --render OUT`. Prints

- feet: how far each contact point travels while it stands (a stretch of at least 0.1 s below 5 cm and 0.25 m/s), the
  median and the 95th percentile over all stretches, and the lowest point under the floor;
- bones: the largest change of any bone's length;
- motion energy (mean squared joint speed, root taken out) of the last minute against the first, and the stillest
  second of all;
- speed: the largest joint acceleration relative to its 99.9th percentile, which a pop would raise;
- with --beats (`time_s` column): shown accents against audible beats, a shown accent being a predicted beat less the
  vision lead, one-to-one within half a beat, from 5 s on; and the feet's own accents (minima of foot speed) against
  the beats, with the random-shift null.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import PARENTS, contact_points, forward_kinematics
from models import metrics

_VISION_LEAD_S = 0.015
_STANDING_M, _STANDING_M_S, _STANDING_S = 0.05, 0.25, 0.1

Floats = NDArray[np.float64]


def stand_slides(points: Floats, rate_hz: float) -> Floats:
    """Return how far each contact travelled over the floor [m], over every stretch in which a point stands."""
    flat = points[..., [0, 2]]
    speed = np.linalg.norm(np.gradient(flat, axis=0), axis=-1) * rate_hz
    low = points[..., 1] < _STANDING_M
    slides = []
    for point in range(points.shape[1]):
        standing = np.concatenate([[False], low[:, point] & (speed[:, point] < _STANDING_M_S), [False]])
        edges = np.flatnonzero(np.diff(standing.astype(int)))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end - start >= _STANDING_S * rate_hz:
                path = flat[start:end, point]
                slides.append(np.linalg.norm(path[-1] - path[0]))
    return np.array(slides)


def energy(joints: Floats, rate_hz: float) -> Floats:
    """Return the mean squared joint speed (T - 1,) [m²/s²], relative to the root."""
    relative = joints - joints[:, :1]
    velocity = np.diff(relative, axis=0) * rate_hz
    return np.asarray((velocity**2).sum(axis=-1).mean(axis=-1))


def accents(predicted_s: Floats, truth_s: Floats) -> Floats:
    """Return shown minus audible [s] of every true beat that has a shown accent within half a beat."""
    offsets = []
    for i, beat in enumerate(truth_s):
        period = np.median(np.diff(truth_s[max(0, i - 2) : i + 3]))
        nearest = predicted_s[np.argmin(np.abs(predicted_s - _VISION_LEAD_S - beat))] - _VISION_LEAD_S - beat
        if beat > 5.0 and abs(nearest) < period / 2:
            offsets.append(nearest)
    return np.array(offsets)


def read_column(path: Path, name: str) -> Floats:
    with path.open(newline="", encoding="utf-8") as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


def report(folder: Path, truth: Path | None) -> None:
    """Print the figures of a rendered dance."""
    with np.load(folder / "dance.npz") as dance:
        time_s, rotations, translation, joints = (
            dance[name].astype(np.float64) for name in ("time_s", "rotations", "translation_m", "joints_m")
        )
    rate_hz = 1.0 / float(np.median(np.diff(time_s)))
    points = contact_points(*forward_kinematics(rotations, translation))
    slides = stand_slides(np.asarray(points, np.float64), rate_hz)
    print(f"{len(time_s)} poses at {rate_hz:.2f} Hz, {time_s[-1]:.1f} s")
    if len(slides):
        p50, p95 = np.percentile(slides, [50, 95]) * 1e3
        print(f"standing feet slide: median {p50:.1f} mm, p95 {p95:.1f} mm a contact, over {len(slides)} contacts")
    print(f"lowest point {points[..., 1].min() * 1e3:.1f} mm; feet planted {(points[..., 1] < 0.05).any(1).mean():.2f}")
    bones = np.linalg.norm(joints[:, 1:] - joints[:, PARENTS[1:]], axis=-1)
    print(f"bones constant within {np.ptp(bones, axis=0).max() * 1e3:.5f} mm")
    moving = energy(joints, rate_hz)
    minute = min(round(60 * rate_hz), len(moving) // 2)
    second = np.convolve(moving, np.ones(round(rate_hz)) / round(rate_hz), "valid")
    print(f"motion energy, last minute / first: {moving[-minute:].mean() / moving[:minute].mean():.2f}")
    print(f"stillest second has {second[round(5 * rate_hz) :].min() / np.median(second):.3f} of the median energy")
    acceleration = np.linalg.norm(np.diff(joints, 2, axis=0), axis=-1).max(axis=-1) * rate_hz**2
    print(f"joint acceleration: p99.9 {np.percentile(acceleration, 99.9):.0f}, max {acceleration.max():.0f} m/s²")
    print(f"root within {np.linalg.norm(translation[:, [0, 2]], axis=1).max():.2f} m of the middle")
    if truth is None:
        return
    beats_s = read_column(truth, "time_s")
    predicted_s = read_column(folder / "beats.csv", "time_s")
    offsets_ms = accents(predicted_s, beats_s) * 1e3
    late = np.abs(offsets_ms - np.median(offsets_ms))
    print(
        f"accent against beat: median {np.median(offsets_ms):+.1f} ms, p95 of |offset| "
        f"{np.percentile(np.abs(offsets_ms), 95):.1f} ms, p95 about the median {np.percentile(late, 95):.1f} ms, "
        f"{len(offsets_ms)} of {(beats_s > 5.0).sum()} beats"
    )
    kinematic_s = metrics.foot_beats(joints, rate_hz)
    print(
        f"feet on the beat: alignment {metrics.beat_alignment(kinematic_s, beats_s):.3f}, by chance "
        f"{metrics.alignment_by_chance(kinematic_s, beats_s):.3f}, {len(kinematic_s)} accents"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--beats", type=Path)
    arguments = parser.parse_args()
    report(arguments.folder, arguments.beats)
