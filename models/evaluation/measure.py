"""What is measured of one dance, and of a system over all songs: figures with intervals over songs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from models import metrics
from models.metrics import Interval, Moments, Reference, StyleClassifier
from models.rivals.song import RATE_HZ, Shown

Floats = NDArray[np.float64]

SPACES = ("kinetic", "geometric")
_SMALLEST_SHARE = 0.02
"""Of frames: the deviation below which a geometric relation counts as never varying; two frames in a hundred."""
_OF_SETS = frozenset(
    [f"frechet_{space}_{kind}" for space in SPACES for kind in ("held-out", "training")]
    + [f"diversity_{space}" for space in SPACES]
)
"""Figures of sets of windows: they change with how many different songs a resample has."""
_PLACES = 15
"""Four-second clips of a minute (Huang et al. 2021)."""


@dataclass(frozen=True)
class MeasuredDance:
    """What is kept of one dance.

    Attributes:
        song: it was danced to.
        style: of the song, an index.
        seed: of the dancer.
        windows: kinetic (n, 72) and geometric (n, 32) features of its 4-second windows, 2 s apart.
        style_windows: (n, 248) what the style classifier sees of them.
        figures: by name, of the dance as a whole.
    """

    song: str
    style: int
    seed: int
    windows: Mapping[str, Floats]
    style_windows: Floats
    figures: Mapping[str, float]

    @staticmethod
    def of(song: str, style: int, seed: int, shown: Shown) -> MeasuredDance:
        """Measure a dance at 60 frames a second."""
        joints = shown.joints
        feet = metrics.beat_figures(metrics.foot_beats(joints, RATE_HZ), shown.beats_s)
        body = metrics.beat_figures(metrics.body_beats(joints, RATE_HZ), shown.beats_s)
        figures = {f"feet_{name}": value for name, value in asdict(feet).items()}
        figures |= {f"body_{name}": value for name, value in asdict(body).items()}
        figures |= {
            "planted": metrics.planted_share(shown.soles, RATE_HZ),
            "sliding": metrics.foot_sliding(shown.soles, shown.contacts, RATE_HZ),
            "floating": metrics.both_feet_off_share(shown.soles),
            "pfc": metrics.physical_foot_contact(joints, RATE_HZ),
            "frozen": metrics.frozen_share(joints, RATE_HZ),
            "speed_m_s": float(np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean() * RATE_HZ),
            "travel_m_s": float(np.linalg.norm(np.diff(joints[:, 0, [0, 2]], axis=0), axis=-1).mean() * RATE_HZ),
        }
        windows = {
            "kinetic": metrics.clip_features(joints, RATE_HZ),
            "geometric": metrics.geometric_clip_features(joints, RATE_HZ),
        }
        return MeasuredDance(song, style, seed, windows, metrics.style_features(joints, RATE_HZ), figures)


@dataclass(frozen=True)
class RealDance:
    """What dances are compared with.

    Attributes:
        references: by "held-out" (the real dances to the very songs) and "training" (all real training dance), each by
            feature space.
        floors: real against real: by feature space, the Fréchet distance between halves of the training songs, drawn
            style by style, mean of many draws; the second half has as many windows as the real dances to the songs.
        classifier: of styles; None without two of them, or without validation dances.
    """

    references: Mapping[str, Mapping[str, Reference]]
    floors: Mapping[str, float]
    classifier: StyleClassifier | None

    @staticmethod
    def of(
        training: Sequence[MeasuredDance], held_out: Sequence[MeasuredDance], validation: Sequence[MeasuredDance]
    ) -> RealDance:
        """Measure real dance; the style classifier learns from training dances and is chosen on validation ones."""
        sets = {"held-out": held_out, "training": training}
        references = {name: {space: reference(dances, space) for space in SPACES} for name, dances in sets.items()}
        windows = int(sum(len(d.windows["kinetic"]) for d in held_out))
        floors = {space: _floor(training, space, windows) for space in SPACES}
        classifier = None
        if validation and len({d.style for d in training}) > 1:
            classifier = StyleClassifier.fit(*_labelled(training), *_labelled(validation))
        return RealDance(references, floors, classifier)


def reference(dances: Sequence[MeasuredDance], space: str) -> Reference:
    """Return the reference that a set of real dances is in a feature space."""
    rows = np.concatenate([d.windows[space] for d in dances])
    return Reference.of(rows, _SMALLEST_SHARE) if space == "geometric" else Reference.of(rows)


def _labelled(dances: Sequence[MeasuredDance]) -> tuple[Floats, list[int]]:
    rows = np.concatenate([d.style_windows for d in dances])
    return rows, [d.style for d in dances for _ in range(len(d.style_windows))]


def _floor(dances: Sequence[MeasuredDance], space: str, windows: int, draws: int = 20) -> float:
    """Return the Fréchet distance between halves of real songs; NaN with too few songs."""
    random = np.random.Generator(np.random.PCG64(0))
    distances = []
    for _ in range(draws):
        halves: tuple[list[MeasuredDance], list[MeasuredDance]] = ([], [])
        for style in sorted({d.style for d in dances}):
            mates = [d for d in dances if d.style == style]
            order = random.permutation(len(mates))
            # A style with a single song would be on one side only: it is left out.
            for place, index in enumerate(order if len(mates) > 1 else []):
                halves[place % 2].append(mates[int(index)])
        if not halves[1]:
            return float("nan")
        rows = [np.concatenate([d.windows[space] for d in half]) for half in halves]
        taken = random.permutation(len(rows[1]))[: max(windows, 2)]
        half = Reference.of(rows[0], _SMALLEST_SHARE) if space == "geometric" else Reference.of(rows[0])
        distances.append(half.frechet(Moments.of(half.scored(rows[1][taken]))))
    return float(np.mean(distances))


@dataclass(frozen=True)
class _SongPart:
    """One song's part of a system's figures; what is told of sets of windows, seed by seed."""

    moments: Mapping[tuple[str, str], Sequence[Moments]]
    scored: Mapping[str, Sequence[Floats]]
    figures: Mapping[str, float]


def system_figures(
    dances: Sequence[MeasuredDance], real: RealDance, resamples: int = metrics.RESAMPLES
) -> dict[str, Interval]:
    """Return a system's figures over songs, each with its 95 % interval over songs.

    Fréchet distances are named `frechet_<space>_<reference>`; diversities are relative to the real dances of the
    same songs, `diversity_<space>` pooled, `within_<space>` within a dance; `multimodality_<space>` is between seeds.

    Distances and pooled diversities are those of one dance a song, mean over the seeds: both depend on how many windows
    of how many dances there are, and of real dance there is one a song.
    """
    parts = list(_parts(dances, real).values())
    return {
        name: metrics.bootstrap(parts, figure, resamples, centred=name in _OF_SETS)
        for name, figure in _measures(parts[0], real).items()
    }


def differences(
    dances: Sequence[MeasuredDance],
    rival: Sequence[MeasuredDance],
    real: RealDance,
    resamples: int = metrics.RESAMPLES,
) -> dict[str, Interval]:
    """Return a system's figures (see `system_figures`) less a rival's, on the songs that both danced to.

    Each resample of the songs is of both. A hard song is hard for both, so this interval is narrower than those of the
    two figures, and says whether the songs can tell them apart.
    """
    own, theirs = _parts(dances, real), _parts(rival, real)
    pairs = [(own[song], theirs[song]) for song in own if song in theirs]
    if not pairs:
        return {}

    def less(figure: Callable[[list[_SongPart]], float]) -> Callable[[list[tuple[_SongPart, _SongPart]]], float]:
        return lambda both: figure([one for one, _ in both]) - figure([other for _, other in both])

    return {
        name: metrics.bootstrap(pairs, less(figure), resamples, centred=name in _OF_SETS)
        for name, figure in _measures(pairs[0][0], real).items()
    }


def _parts(dances: Sequence[MeasuredDance], real: RealDance) -> dict[str, _SongPart]:
    songs = sorted({d.song for d in dances})
    return {song: _part([d for d in dances if d.song == song], real) for song in songs}


def _measures(part: _SongPart, real: RealDance) -> dict[str, Callable[[list[_SongPart]], float]]:
    """Return how each figure is reckoned from any list of songs."""
    found: dict[str, Callable[[list[_SongPart]], float]] = {}
    for space in SPACES:
        for kind, by_space in real.references.items():
            found[f"frechet_{space}_{kind}"] = _frechet(by_space[space], (kind, space))
        found[f"diversity_{space}"] = _pooled(space, real.references["held-out"][space].diversity)
    return found | {name: _mean(name) for name in part.figures}


def _part(dances: Sequence[MeasuredDance], real: RealDance) -> _SongPart:
    moments, scored = {}, {}
    figures = {name: _finite_mean([d.figures[name] for d in dances]) for name in dances[0].figures}
    for space in SPACES:
        for kind, by_space in real.references.items():
            moments[kind, space] = [Moments.of(by_space[space].scored(d.windows[space])) for d in dances]
        held_out = real.references["held-out"][space]
        scored[space] = [held_out.scored(d.windows[space]) for d in dances]
        # A dance of one window says nothing of how it varies.
        own = [metrics.mean_distance(rows) for rows in scored[space] if len(rows) > 1]
        figures[f"within_{space}"] = _finite_mean(own) / held_out.diversity
        figures[f"multimodality_{space}"] = metrics.apart(scored[space]) / held_out.diversity
    if real.classifier is not None:
        rows = np.concatenate([d.style_windows for d in dances])
        figures["style_accuracy"] = float((real.classifier.predict(rows) == dances[0].style).mean())
    return _SongPart(moments, scored, figures)


def _frechet(target: Reference, key: tuple[str, str]) -> Callable[[list[_SongPart]], float]:
    def distance(parts: list[_SongPart]) -> float:
        by_seed = zip(*(p.moments[key] for p in parts), strict=False)
        return _finite_mean([target.frechet(Moments.together(moments)) for moments in by_seed])

    return distance


def _pooled(space: str, target: float) -> Callable[[list[_SongPart]], float]:
    def diversity(parts: list[_SongPart]) -> float:
        by_seed = zip(*(p.scored[space] for p in parts), strict=False)
        return _finite_mean([metrics.mean_distance(np.concatenate(rows)) for rows in by_seed]) / target

    return diversity


def _mean(name: str) -> Callable[[list[_SongPart]], float]:
    return lambda parts: _finite_mean([p.figures[name] for p in parts])


def _finite_mean(values: Sequence[float]) -> float:
    finite = np.array(values)[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def frechet_over_time(dances: Sequence[MeasuredDance], target: Reference, space: str = "kinetic") -> list[float]:
    """Return the Fréchet distance of each of the 15 four-second clips of a minute (Huang et al. 2021), over the songs,
    mean over the seeds.

    With few songs the distance of a place is large in itself (few windows, many features): compare it between places
    and with real dance, not with distances of whole dances.
    """
    places = min(_PLACES, min((len(d.windows[space]) + 1) // 2 for d in dances))
    found = []
    for seed in sorted({d.seed for d in dances}):
        rows = [target.scored(d.windows[space]) for d in dances if d.seed == seed]
        found.append([target.frechet(Moments.of(np.stack([r[2 * place] for r in rows]))) for place in range(places)])
    return [float(distance) for distance in np.mean(found, axis=0)]
