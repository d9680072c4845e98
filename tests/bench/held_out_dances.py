"""Dances to held-out songs with known beats: `python -m tests.bench.held_out_dances CACHE OUT NAME=STYLE ...`.

CACHE is the folder of the hard set (`tests.bench.beats`); NAME is one of its pieces. Every piece is rendered with three
seeds through the whole pipeline (its own beat tracker included) and measured with `tests.bench.show_quality`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from engine.body.skeleton import contact_points, forward_kinematics
from models import metrics
from tests.bench import show_quality
from tests.bench.beats.items import read_index


def main(cache: Path, out: Path, wanted: list[str]) -> None:
    items = {item.name: item for item in read_index(cache) or sys.exit(f"{cache} holds no hard set; build it first")}
    print("| song | accent ms, median / p95 | steps on the beat (chance) | slide a contact mm, median / p95 |")
    print("|---|---|---|---|")
    every: list[list[float]] = []
    for entry in wanted:
        name, _, style = entry.partition("=")
        truth_s = np.asarray(items[name].beats_s)
        rows = []
        for seed in range(3):
            folder = out / f"{name}-{seed}"
            command = [sys.executable, "-m", "engine", "dance", str(cache / f"{name}.wav")]
            command += ["--render", str(folder)]
            subprocess.run([*command, "--seed", str(seed), "--style", style], check=True, capture_output=True)
            with np.load(folder / "dance.npz") as dance:
                arrays = [dance[key].astype(float) for key in ("time_s", "rotations", "translation_m", "joints_m")]
            time_s, rotations, translation, joints = arrays
            rate_hz = 1.0 / float(np.median(np.diff(time_s)))
            points = np.asarray(contact_points(*forward_kinematics(rotations, translation)))
            predicted_s = show_quality.read_column(folder / "beats.csv", "time_s")
            offsets_ms = show_quality.accents(predicted_s, truth_s) * 1e3
            slides_mm = show_quality.stand_slides(points, rate_hz) * 1e3
            feet_s = metrics.foot_beats(joints, rate_hz)
            feet_s = feet_s[(feet_s > max(5.0, truth_s[0])) & (feet_s < truth_s[-1])]
            rows.append(
                [
                    float(np.median(offsets_ms)),
                    float(np.percentile(np.abs(offsets_ms), 95)),
                    metrics.beat_alignment(feet_s, truth_s),
                    metrics.alignment_by_chance(feet_s, truth_s),
                    *np.percentile(slides_mm, [50, 95]),
                ]
            )
        every += rows
        print(_row(f"{name} ({style})", np.mean(rows, axis=0)))
    print(_row("all", np.mean(every, axis=0)))


def _row(name: str, v: np.ndarray) -> str:
    return f"| {name} | {v[0]:+.0f} / {v[1]:.0f} | {v[2]:.3f} ({v[3]:.3f}) | {v[4]:.1f} / {v[5]:.1f} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
