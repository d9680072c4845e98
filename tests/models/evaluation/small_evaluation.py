"""A small evaluation on disk with made-up figures and synthetic dances, for the tests of its page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from models.evaluation.cache import DanceCache, KeptDance
from models.evaluation.facts import Made, SongFacts, SystemFacts
from models.evaluation.html.columns import ABLATION, BEATS, BODY, COURSE, PAPERS, STYLE
from models.evaluation.report import DANCES_FOLDER, Report
from models.evaluation.stability import Stability
from models.metrics import Interval
from models.music_to_dance.sequences import DanceClip
from models.rivals.song import COURSES, Course, Dance, Song

HOSTILE = '<img src=x onerror="document.title=1">"\'&</script><script>document.title=2</script>'
SYSTEMS = ("real", "gmd raw", HOSTILE, "dance_revolution", "dance_revolution_lstm_encoder")
SECONDS = 12.0
BPM = 100.0
_FIGURES = {c.figure for columns in (PAPERS, BEATS, BODY, STYLE, COURSE, ABLATION) for c in columns}
_CHANCES = {c.chance for c in (*PAPERS, *BEATS) if c.chance}


@dataclass
class Swaying:
    """A system that sways an arm once a beat; its name tells how far."""

    name: str
    key: str = "k"
    seeded: bool = True
    endless: bool = True
    courses: tuple[Course, ...] = COURSES
    reach: float = field(init=False)

    def __post_init__(self) -> None:
        self.reach = 0.3 + 0.2 * (len(self.name) % 4)

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the dance: the left arm is highest on the beat, the body goes to the left."""
        time_s = np.arange(0.0, SECONDS + 2.0, 1.0 / 30.0)
        rotations = np.zeros((len(time_s), 24, 3))
        rotations[:, 16, 2] = self.reach * np.cos(2.0 * np.pi * time_s * BPM / 60.0)
        way = np.stack([0.2 * time_s, np.full(len(time_s), 0.95), np.zeros(len(time_s))], axis=1)
        return Dance(time_s, rotations, way, np.ones((len(time_s), 4)), np.arange(0.0, SECONDS + 1.9, 60.0 / BPM))


def evaluation(
    folder: Path, systems: Sequence[str] = SYSTEMS, protocol: str = "A", beats_audio_s: tuple[float, ...] = ()
) -> Report:
    """Write an evaluation of two songs into a folder and return it."""
    random = np.random.default_rng(sum(map(ord, "".join(systems) + protocol)))
    songs = ("slow & low", "fast")
    cache = DanceCache(folder / DANCES_FOLDER)
    kept: list[KeptDance] = []
    for name in systems:
        kept += [cache.dance(Swaying(name), _song(song), 0)[1] for song in songs]
    figures = {name: _figures(random) for name in systems}
    report = Report(
        split="val",
        protocol=protocol,
        seeds=2,
        seconds=SECONDS,
        songs=songs,
        floors={"kinetic": 5.5, "geometric": math.nan},
        style_accuracy_validation=0.97,
        systems=figures,
        styles={"waltz": figures},
        over_time={name: (10.0 * random.random(3)).tolist() for name in systems},
        stability={systems[-1]: Stability(3, 0.98, 0.9, 0.81, 12.5, 13.5, 0.02)},
        courses={"fast": figures},
        notes=("A note & more.",),
        hours=0.1,
        facts={name: SystemFacts(parameters=1234567, lookahead="none", training_seeds=(0, 1)) for name in systems},
        song_facts=tuple(SongFacts(song, "waltz", BPM, beats_audio_s) for song in songs),
        dances=tuple(replace(k, processor_s=0.004 * k.dance_s, machine="2 cores") for k in kept),
        made=Made("pasdedeux evaluate --split val", "2026-11-21", "2 cores", "0.1.0", "abc1234"),
    )
    report.save(folder)
    return report


def _song(name: str) -> Song:
    clip = DanceClip(name, np.zeros((4, 152), np.float32), None, np.full(4, BPM), 0, 4, None, 0)
    return Song(name, "steady", 0, np.zeros((240, 4), np.float32), np.full(240, BPM), 4, 0, clip)


def _figures(random: np.random.Generator) -> dict[str, Interval]:
    found = {}
    for name in sorted(_FIGURES | _CHANCES):
        low, value, high = np.sort(random.random(3)) * (100.0 if name.startswith("frechet") else 1.0)
        found[name] = Interval(float(value), float(low), float(high))
    return found
