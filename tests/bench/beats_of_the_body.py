"""How well the dancer's own beat is found in captured dances whose beats are known.

    python tests/bench/beats_of_the_body.py PREPARED [--split val] [--fps 30]

PREPARED is what `pasdedeux prepare` wrote. The tracker sees the poses alone, at a camera's rate. Beats count as found
within 100 ms; beside every figure stands what the same beats score when they are shifted by a random share of a beat.
The first ten seconds, in which it listens, are left out. `test` is for the final figure only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.beats.kinematic_tracker import KinematicTracker
from engine.body.skeleton import forward_kinematics
from engine.types import NS_PER_S
from models.data.dataset import PreparedClip, PreparedData

Array = NDArray[np.float64]
LISTENING_S = 10.0
NEAR_S = 0.1


def resample(clip: PreparedClip, fps: float) -> tuple[Array, Array, Array]:
    """Return times (n,), joints (n, 24, 3) at a camera's rate, and the beats' times."""
    time_s = clip.motion_time_s
    joints, _ = forward_kinematics(clip.rotations.astype(np.float64), clip.translation_m.astype(np.float64))
    grid = np.arange(time_s[0], time_s[-1], 1.0 / fps)
    flat = np.asarray(joints).reshape(len(time_s), -1)
    moved = np.stack([np.interp(grid, time_s, column) for column in flat.T], axis=1).reshape(-1, 24, 3)
    beats = time_s[(clip.first_tick + np.arange(clip.ticks)) % 12 == 0]
    return grid, moved, beats


def follow(times: Array, joints: Array) -> tuple[Array, Array, Array]:
    """Return the beats that the tracker predicts, and its period [s] and confidence in each picture (NaN, 0: none)."""
    tracker = KinematicTracker()
    beats: list[float] = []
    periods, sure = np.full(len(times), np.nan), np.zeros(len(times))
    for k, (time_s, pose) in enumerate(zip(times, joints, strict=True)):
        estimate = tracker.process_joints(pose, round(time_s * NS_PER_S))
        if estimate is None:
            continue
        period, beat = estimate.period_ns / NS_PER_S, estimate.beat_ns / NS_PER_S
        periods[k], sure[k] = period, estimate.confidence
        # The belief held now decides on a beat that falls between the last picture and this one.
        due = beat + np.ceil((times[max(k - 1, 0)] - beat) / period) * period
        if due <= time_s and (not beats or due - beats[-1] > 0.5 * period):
            beats.append(due)
    return np.array(beats), periods, sure


def f_measure(found: Array, true: Array) -> float:
    """Return F: each true beat may be found once."""
    if not len(found) or not len(true):
        return 0.0
    taken = np.zeros(len(true), bool)
    for beat in found:
        nearest = int(np.abs(true - beat).argmin())
        taken[nearest] |= abs(true[nearest] - beat) <= NEAR_S
    return float(2.0 * taken.sum() / (len(found) + len(true)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument("--fps", type=float, default=30.0)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    rows, levels = [], []
    print("clip              style   F      shifted  best phase  tempo  tempo or its half, double, third  confidence")
    for clip in PreparedData.load(options.prepared).clips:
        if clip.split != options.split or not clip.plausible:
            continue
        times, joints, beats = resample(clip, options.fps)
        found, periods, sure = follow(times, joints)
        start = times[0] + LISTENING_S
        true, found = beats[beats > start], found[found > start]
        beat_s = float(np.median(np.diff(true)))
        shifted = np.mean([f_measure(found + s, true) for s in rng.uniform(0.0, beat_s, 20)])
        best = max(f_measure(found + s, true) for s in np.linspace(-0.5, 0.5, 21) * beat_s)
        ratio = np.nan_to_num(periods[times > start], nan=np.inf) / beat_s
        exact = np.mean(np.abs(ratio - 1.0) < 0.06)
        related = np.mean(np.min([np.abs(ratio / m - 1.0) for m in (0.5, 1.0, 2.0, 3.0, 1 / 3)], axis=0) < 0.06)
        rows.append([f_measure(found, true), shifted, best, exact, related, sure[times > start].mean()])
        levels.append(clip.style)
        print(f"{clip.name:17s} {clip.style:7s}", "  ".join(f"{value:5.2f}" for value in rows[-1]))
    table = np.array(rows)
    for style in [*sorted(set(levels)), ""]:
        chosen = table if not style else table[[level == style for level in levels]]
        print(
            f"{'mean of ' + str(len(chosen)):17s} {style or 'all':7s}",
            "  ".join(f"{v:5.2f}" for v in chosen.mean(axis=0)),
        )


if __name__ == "__main__":
    main()
