"""`pasdedeux evaluate`: systems that dance, measured side by side on held-out songs.

Everything is danced to the songs of a split with the beat given, for the same time, with the same seeds, and measured
by the same code (`models.evaluation`, `models.metrics`). Dances are kept, so that a stopped evaluation goes on.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from engine.errors import UserError
from engine.types import TICKS_PER_BEAT
from models import metrics
from models.artifacts import GMD_FOLDER, GmdManifest
from models.data.dataset import PreparedData
from models.evaluation.cache import DanceCache, KeptDance
from models.evaluation.facts import Made, SongFacts, SystemFacts
from models.evaluation.measure import (
    SPACES,
    MeasuredDance,
    RealDance,
    differences,
    frechet_over_time,
    reference,
    system_figures,
)
from models.evaluation.report import DANCES_FOLDER, TABLE_FILE, Figures, Report
from models.evaluation.stability import LONG_S, MeasuredMinutes, Stability
from models.field.system import rival_systems
from models.music_to_dance.conditioning import STYLES
from models.music_to_dance.dances import DanceData, load_dances
from models.music_to_dance.sequences import OTHER_STYLE, DanceClip
from models.music_to_dance.unseen_movement import UNSEEN_MOVEMENT, left_out, unseen_movement
from models.rivals.fixed_rate import FixedRateGmd
from models.rivals.gmd_dancer import GmdDancer, Sampling, ShownGmd
from models.rivals.real import MeanPose, RandomClip, RealDancer, real_dance
from models.rivals.retrained import together
from models.rivals.retrieval import BarRetrieval, NearestMusic, PhraseBank
from models.rivals.song import COURSES, Course, DanceSystem, Song


@dataclass(frozen=True)
class EvaluationPlan:
    """What is to be evaluated.

    Attributes:
        split: "val" while developing; "test" for reporting only.
        protocol: "A", unseen songs, or "B", unseen movement.
        seeds: dances a song.
        seconds: of each dance.
        courses: of the tempo, beside the steady one.
        long_songs: songs danced to for ten minutes; the longest of each style come first.
        systems: names, or parts of them, that are wanted; all if empty.
        energy: that models are asked for.
        resamples: of the bootstrap.
    """

    split: str = "val"
    protocol: str = "A"
    seeds: int = 3
    seconds: float = 60.0
    courses: tuple[Course, ...] = ()
    long_songs: int = 0
    systems: tuple[str, ...] = ()
    energy: float = 0.5
    resamples: int = metrics.RESAMPLES

    def __post_init__(self) -> None:
        if self.split not in ("val", "test") or self.protocol not in ("A", "B"):
            raise UserError(f"no split {self.split} or protocol {self.protocol}", "give val or test, A or B")
        unknown = [c for c in self.courses if c not in COURSES]
        if unknown:
            raise UserError(f"no course of tempo '{unknown[0]}'", f"give {', '.join(COURSES[1:])}")
        if self.seeds < 1 or self.seconds < 8.0:
            raise UserError("too little to measure", "give at least one seed and 8 seconds")


def evaluate(
    prepared: Path,
    out: Path,
    plan: EvaluationPlan,
    models: Sequence[Path] = (),
    fixed_rate: Sequence[Path] = (),
    rivals: Sequence[Path] = (),
    *,
    shown: bool = False,
    quiet: bool = False,
) -> Path:
    """Dance, measure, and write `evaluation.json` and `evaluation.md` into `out`; return the latter.

    Args:
        prepared: folder made by `pasdedeux prepare`.
        out: folder of the evaluation.
        plan: what to evaluate.
        models: folders of exported models, several of one name being its training seeds; the shipped one if none is
            given.
        fixed_rate: folders of models that were trained on frames (`models.rivals.fixed_rate`).
        rivals: folders of exported systems of the field; several of one name are its training seeds.
        shown: rivals also as the audience would see them.
        quiet: no progress bar.

    Raises:
        UserError: the data, a model or the plan cannot be used.
    """
    begin = time.monotonic()
    data = PreparedData.load(prepared)
    dances, short = _measurable(load_dances(data.clips))
    pool = dances.train if plan.protocol == "A" else unseen_movement(data, dances)
    notes = list(_notes(plan, pool))
    if short:
        notes.append(f"Shorter than a bar or than the {metrics.CLIP_S:g} s measured, and left out: {', '.join(short)}.")
    held_out = _songs(dances.val if plan.split == "val" else dances.test, plan.split, notes)
    if all(clip.music is None for clip in pool):
        raise UserError(f"{prepared} has no training clips with music", "prepare them with their audio")
    if not dances.val:
        notes.append("There are no validation clips to choose a style classifier on: style accuracy is not measured.")
    systems = _systems(plan, pool, held_out, models or [GMD_FOLDER], fixed_rate, notes)
    systems += rival_systems(rivals, plan.protocol, notes, shown=shown)
    systems = _chosen(systems, plan.systems)
    console = Console(quiet=quiet)
    with Progress(console=console, transient=True) as progress:
        stage = _Stage(DanceCache(out / DANCES_FOLDER), plan, progress)
        training = _measure_real(dances.train, math.inf, progress)
        validation = _measure_real(dances.val, math.inf, progress)
        real = RealDance.of(training, _measure_real(held_out, plan.seconds, progress), validation)
        steady = stage.measured(systems, [Song.of(clip, plan.seconds) for clip in held_out])
        figures = {name: system_figures(d, real, plan.resamples) for name, d in steady.items()}
        replayed = steady.get(BarRetrieval.name, [])
        beside = {
            name: differences(d, replayed, real, plan.resamples)
            for name, d in steady.items()
            if replayed and name != BarRetrieval.name
        }
        styles = _by_style(steady, training, real, plan.resamples)
        target = real.references["training"]["kinetic"]
        over_time = {name: frechet_over_time(d, target) for name, d in steady.items()}
        courses: dict[str, dict[str, Figures]] = {}
        for course in plan.courses:
            able = [s for s in systems if course in s.courses]
            found = stage.measured(able, [Song.of(clip, plan.seconds, course) for clip in held_out])
            courses[course] = {name: system_figures(d, real, plan.resamples) for name, d in found.items()}
        long = stage.minutes([s for s in systems if s.endless and s.seeded], _long_songs(held_out, plan.long_songs))
        stability = {name: Stability.of(d, target) for name, d in long.items()}
    report = Report(
        plan.split,
        plan.protocol,
        plan.seeds,
        plan.seconds,
        tuple(clip.name for clip in held_out),
        real.floors,
        real.classifier.held_out_accuracy if real.classifier else float("nan"),
        figures,
        styles,
        over_time,
        stability,
        courses,
        tuple(notes),
        round((time.monotonic() - begin) / 3600.0, 3),
        {system.name: SystemFacts.of(system) for system in systems},
        tuple(SongFacts.of(clip, plan.seconds) for clip in data.clips if clip.name in {c.name for c in held_out}),
        tuple(stage.kept),
        Made.now(_options(plan)),
        {BarRetrieval.name: beside} if beside else {},
    )
    report.save(out)
    console.print(report.markdown(), markup=False, highlight=False, soft_wrap=True)
    return out / TABLE_FILE


class _Stage:
    """Lets systems dance, and measures."""

    def __init__(self, cache: DanceCache, plan: EvaluationPlan, progress: Progress) -> None:
        self._cache, self._plan, self._progress = cache, plan, progress
        self.kept: list[KeptDance] = []

    def measured(self, systems: Sequence[DanceSystem], songs: Sequence[Song]) -> dict[str, list[MeasuredDance]]:
        """Return every system's dances to the songs, one a seed."""
        task = self._progress.add_task(songs[0].course, total=len(systems) * len(songs) * self._plan.seeds)
        found: dict[str, list[MeasuredDance]] = {}
        for system in systems:
            self._progress.update(task, description=f"{system.name}, {songs[0].course}")
            for song in songs:
                for seed in range(self._plan.seeds):
                    self._progress.advance(task)
                    if seed and not system.seeded:
                        continue
                    made, kept = self._cache.dance(system, song, seed)
                    self.kept.append(kept)
                    dance = MeasuredDance.of(song.name, song.style, seed, made.shown(self._plan.seconds))
                    found.setdefault(system.name, []).append(dance)
        return found

    def minutes(self, systems: Sequence[DanceSystem], clips: Sequence[DanceClip]) -> dict[str, list[MeasuredMinutes]]:
        """Return every system's long dances."""
        task = self._progress.add_task("ten minutes", total=len(systems) * len(clips) * self._plan.seeds)
        found: dict[str, list[MeasuredMinutes]] = {}
        for system in systems:
            for clip in clips:
                song = Song.of(clip, LONG_S)
                for seed in range(self._plan.seeds):
                    self._progress.advance(task)
                    measured = self._cache.minutes(system, song, seed, LONG_S)
                    found.setdefault(system.name, []).append(measured)
        return found


def _systems(
    plan: EvaluationPlan,
    pool: Sequence[DanceClip],
    held_out: Sequence[DanceClip],
    models: Sequence[Path],
    fixed_rate: Sequence[Path],
    notes: list[str],
) -> list[DanceSystem]:
    bank = PhraseBank(pool)
    systems: list[DanceSystem] = [
        RealDancer(held_out),
        RandomClip(pool),
        MeanPose(pool),
        NearestMusic(bank),
        BarRetrieval(bank),
    ]
    sampling = Sampling(energy=plan.energy)
    ours: list[DanceSystem] = []
    for folder in [*models, *fixed_rate]:
        manifest = GmdManifest.load(folder)
        if plan.protocol == "B" and UNSEEN_MOVEMENT not in manifest.training_set:
            notes.append(left_out(manifest.name, folder))
        elif folder in fixed_rate:
            ours.append(FixedRateGmd(folder, sampling))
        else:
            ours += [GmdDancer(folder, sampling), ShownGmd(folder, sampling)]
    return systems + together(ours)


def _chosen(systems: Sequence[DanceSystem], wanted: Sequence[str]) -> list[DanceSystem]:
    """Return the real dancer and the systems whose names are wanted. Raises UserError for two of one name, or none."""
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise UserError("two models have one name", "export them under names of their own")
    chosen = [s for s in systems if not wanted or s.name == "real" or any(w in s.name for w in wanted)]
    if len(chosen) < 2:
        raise UserError(f"no system is called {' or '.join(wanted)}", f"there are: {', '.join(names)}")
    return chosen


def _measure_real(clips: Sequence[DanceClip], seconds: float, progress: Progress) -> list[MeasuredDance]:
    task = progress.add_task("real dance", total=len(clips))
    found = []
    for clip in clips:
        found.append(MeasuredDance.of(clip.name, clip.style, 0, real_dance(clip).shown(seconds)))
        progress.advance(task)
    return found


def _by_style(
    steady: Mapping[str, Sequence[MeasuredDance]], training: Sequence[MeasuredDance], real: RealDance, resamples: int
) -> dict[str, dict[str, Figures]]:
    """Return the figures of each style's songs, with distances to real training dance of that style."""
    found: dict[str, dict[str, Figures]] = {}
    for style in sorted({d.style for dances in steady.values() for d in dances}):
        mates = [d for d in training if d.style == style]
        if not mates:
            continue
        own = {space: reference(mates, space) for space in SPACES}
        of_style = dataclasses.replace(real, references={"held-out": own, "training": own})
        found["other" if style == OTHER_STYLE else STYLES[style]] = {
            name: system_figures([d for d in dances if d.style == style], of_style, resamples)
            for name, dances in steady.items()
        }
    return found


def _measurable(dances: DanceData) -> tuple[DanceData, list[str]]:
    """Return the dances that hold a window of what is measured and a bar of music, and the names of the others."""

    def holds(clip: DanceClip) -> bool:
        beats = (len(clip.ticks) - -clip.first_tick % TICKS_PER_BEAT) // TICKS_PER_BEAT
        seconds = float((60.0 / TICKS_PER_BEAT / clip.tempo_bpm[:-1]).sum())
        return seconds >= metrics.CLIP_S and beats >= (clip.beats_per_bar or 4)

    splits = (dances.train, dances.val, dances.test)
    short = [clip.name for split in splits for clip in split if not holds(clip)]
    return DanceData(*(tuple(filter(holds, split)) for split in splits)), short


def _songs(held_out: Sequence[DanceClip], split: str, notes: list[str]) -> tuple[DanceClip, ...]:
    """Return the clips that can be danced to, and note which cannot. Raises UserError if there are none."""
    if not held_out:
        raise UserError(f"the data has no {split} clips to measure", "prepare data whose index has some in that split")
    silent = [clip.name for clip in held_out if clip.music is None]
    if len(silent) == len(held_out):
        raise UserError(f"no {split} clip has music", "prepare them with their audio")
    if silent:
        notes.append(f"Without music, and left out: {', '.join(silent)}.")
    return tuple(clip for clip in held_out if clip.music is not None)


def _long_songs(clips: Sequence[DanceClip], count: int) -> list[DanceClip]:
    """Return the longest song of each style, then the next longest, and so on, so many."""
    ordered = sorted(clips, key=lambda clip: -len(clip.ticks))
    rank = {clip.name: sum(c.style == clip.style for c in ordered[:i]) for i, clip in enumerate(ordered)}
    return sorted(ordered, key=lambda clip: rank[clip.name])[:count]


def _options(plan: EvaluationPlan) -> list[str]:
    """Return the options of the command line that ask for a plan."""
    options = [f"--split {plan.split}", f"--protocol {plan.protocol}", f"--seeds {plan.seeds}"]
    options += [f"--seconds {plan.seconds:g}", *(f"--tempo {course}" for course in plan.courses)]
    options += [f"--long {plan.long_songs}"] if plan.long_songs else []
    options += [f"--energy {plan.energy:g}"] if plan.energy != 0.5 else []
    return options


def _notes(plan: EvaluationPlan, pool: Sequence[DanceClip]) -> Iterator[str]:
    minutes = sum(float((60.0 / TICKS_PER_BEAT / clip.tempo_bpm).sum()) for clip in pool) / 60.0
    if plan.protocol == "A":
        yield (
            f"Protocol A, unseen song: training dance ({minutes:.1f} min) holds most of the movement of the held-out "
            "clips; what copies it (retrieval, random clip, nearest music) is near in Fréchet distance by memory."
        )
    else:
        yield (
            f"Protocol B, unseen movement: systems know only the {minutes:.1f} min of training dance that no held-out "
            "clip repeats. The style classifier and the training references still are of all training dance."
        )
    yield "The beat is given to every system; the real dancers' is the one found in their own feet: an upper bound."
    yield (
        "Fréchet distances and pooled diversities are of one dance a song, mean over the seeds. Few windows make "
        "distances larger: compare them with real dance and the floor, which have as many (within some percent)."
    )
