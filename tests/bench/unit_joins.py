"""Does Dancing to Music jump where its units join? Speeds there, inside units, and of real dancers at the same beats.

python -m tests.bench.unit_joins PREPARED WEIGHTS [WEIGHTS ...] [--split test] [--seconds 60]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.data.dataset import PreparedData
from models.field.dancing_to_music.system import UnitSystem
from models.metrics import JoinFigures, join_figures
from models.music_to_dance.dances import load_dances
from models.rivals.real import RealDancer
from models.rivals.song import RATE_HZ, DanceSystem, Song


def _figures(system: DanceSystem, units: UnitSystem, songs: Sequence[Song], seconds: float) -> JoinFigures:
    """Return the medians over songs of a system's figures, at the times at which units join."""
    each = []
    for song in songs:
        joints = system.dance(song, 0).shown(seconds).joints
        joins = units.joins_s(song)
        each.append(join_figures(joints, RATE_HZ, joins[joins < len(joints) / RATE_HZ]))
    at, inside = (np.median([getattr(one, name) for one in each], axis=0) for name in ("at_joins", "inside"))
    ratio, jumps = (float(np.median([getattr(one, name) for one in each])) for name in ("ratio", "jumps"))
    return JoinFigures(tuple(at), tuple(inside), ratio, jumps)


def main() -> None:
    """Print a line for real dance, and one for each training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prepared", type=Path)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    clips = getattr(load_dances(PreparedData.load(given.prepared).clips), given.split)
    songs = [Song.of(clip, given.seconds) for clip in clips if clip.music is not None]
    trained = [UnitSystem(folder) for folder in given.weights]
    named = zip((folder.name for folder in given.weights), trained, strict=True)
    systems: list[tuple[str, DanceSystem]] = [("real", RealDancer(clips)), *named]
    print("mean joint speed [m/s] at joins and inside units (50, 95, 99 %), ratio of the medians, joins that jump")
    for name, system in systems:
        figures = _figures(system, trained[0], songs, given.seconds)
        at, inside = (" ".join(f"{value:.2f}" for value in values) for values in (figures.at_joins, figures.inside))
        print(f"{name}: {at} and {inside}, {figures.ratio:.2f}, {figures.jumps:.0%}")


if __name__ == "__main__":
    main()
