"""Score causal beat trackers at the moment of emission.

An *emission* is (emitted_s, beat_s): having heard the audio up to `emitted_s`, the tracker says that a beat falls at
`beat_s`. It cannot be taken back. What counts is when a dancer could have moved: at `beat_s` if it was announced in
time, else when it was said: `called_s = max(emitted_s, beat_s)`.

The first five seconds are not scored. Calls inside a silence are counted apart and are neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tests.bench.beats.items import Item

Times = NDArray[np.float64]

WINDOW_S = 0.07
"""Half width of a hit, as everywhere in the field."""
SKIP_S = 5.0
"""Left unscored at the start, as in MIREX and mir_eval."""
_CONTINUITY = 0.175  # of the beat, for phase and period: Hainsworth 2004; Davies, Degara and Plumbley 2009
_LEVELS = {"x2": 2.0, "x1/2": 0.5, "x3/2": 1.5, "x2/3": 2 / 3, "x3": 3.0, "x1/3": 1 / 3}
_LEVEL_WIDTH = 0.08  # relative; narrower than half the distance between neighbouring levels
_LOCKED_BEATS = 4


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of one piece.

    Attributes:
        f_measure: harmonic mean of precision and recall, +-70 ms, one to one.
        precision: share of calls that hit a beat.
        recall: share of beats that were hit.
        cmlt: share of beats in correct continuity at the true level (see `continuity`).
        amlt: the same at the true, double or half level or off the beat.
        true_level: share of beats at which the called tempo is the true one (+-8 %).
        double: at which it is twice the true one.
        half: at which it is half of it.
        other_level: at which it is 3/2, 2/3, 3, 1/3 or anything else.
        no_tempo: at which there was no call for three beats and two seconds.
        offset_s: median of (call - nearest beat) over calls within a quarter beat; nan without any.
        silence_calls: calls inside silences.
        silence_s: how much silence there was.
        relock_s: from each change to the first of four beats hit in a row; inf if that never came.
    """

    f_measure: float
    precision: float
    recall: float
    cmlt: float
    amlt: float
    true_level: float
    double: float
    half: float
    other_level: float
    no_tempo: float
    offset_s: float
    silence_calls: int
    silence_s: float
    relock_s: list[float]


def called_times(emissions: ArrayLike) -> Times:
    """Return the sorted called times of emissions (n, 2)."""
    pairs = np.asarray(emissions, dtype=np.float64).reshape(-1, 2)
    return np.asarray(np.sort(pairs.max(axis=1)))


def score(item: Item, emissions: ArrayLike, shift_s: float = 0.0) -> Scores:
    """Score one piece.

    Args:
        item: with its truth.
        emissions: (n, 2): emitted_s, beat_s.
        shift_s: added to every called time: to take a tracker's constant latency out.
    """
    called = called_times(emissions) + shift_s
    called = called[(called >= SKIP_S) & (called < item.duration_s)]
    quiet = in_silence(called, item.silences_s)
    silence_s = sum(max(0.0, b - max(a, SKIP_S)) for a, b in item.silences_s)
    heard = called[~quiet]
    beats = np.asarray(item.beats_s)
    scored = beats[beats >= SKIP_S]
    hits = len(match(heard, scored)[0])
    precision = hits / len(heard) if len(heard) else 0.0
    recall = hits / len(scored) if len(scored) else 0.0
    f_measure = 2 * precision * recall / (precision + recall) if hits else 0.0
    cmlt, amlt = continuity(heard, scored)
    levels = level_shares(heard, scored)
    return Scores(
        f_measure,
        precision,
        recall,
        cmlt,
        amlt,
        levels["x1"],
        levels["x2"],
        levels["x1/2"],
        levels["other"],
        levels["none"],
        median_offset(heard, scored),
        int(quiet.sum()),
        silence_s,
        relock_times(called, beats, item.changes_s),
    )


def in_silence(called: Times, silences_s: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    """Return which calls fall inside a silence; a call for the beat that ends it does not."""
    quiet = np.zeros(len(called), dtype=bool)
    for start, end in silences_s:
        quiet |= (called > start - WINDOW_S) & (called < end - WINDOW_S)
    return quiet


def match(called: Times, beats: Times, window_s: float = WINDOW_S) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match sorted calls and beats one to one within a window, as many as possible.

    For equal windows on a line, taking the earliest possible partner each time is optimal.

    Returns:
        Indices of the matched calls and of their beats.
    """
    pairs = []
    c = b = 0
    while c < len(called) and b < len(beats):
        gap = called[c] - beats[b]
        if abs(gap) <= window_s + 1e-9:
            pairs.append((c, b))
            c += 1
            b += 1
        elif gap < 0:
            c += 1
        else:
            b += 1
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def continuity(called: Times, beats: Times) -> tuple[float, float]:
    """Return (CMLt, AMLt): the share of correct calls, at the true level and at the best allowed one.

    A call is correct if it lies within 17.5 % of the beat period of its nearest beat, nobody else took that beat, and
    the previous call was as near to the beat before it (Davies, Degara and Plumbley 2009, with the period condition
    that follows from both). The share is of the larger count of calls and beats. Allowed levels: true, off the beat,
    double, half (either phase).
    """
    if len(beats) < 3:
        return 0.0, 0.0
    middles = (beats[1:] + beats[:-1]) / 2.0
    steady = np.diff(beats) < 1.8 * np.median(np.diff(beats))  # no beat between the two sides of a break
    double = np.sort(np.concatenate([beats, middles[steady]]))
    variants = [beats, middles[steady], double, beats[::2], beats[1::2]]
    shares = [_continuous_share(called, variant) for variant in variants]
    return shares[0], max(shares)


def _continuous_share(called: Times, beats: Times) -> float:
    if len(called) < 2 or len(beats) < 2:
        return 0.0
    periods = np.diff(beats)
    typical = float(np.median(periods))
    before = np.concatenate([[periods[0]], periods])
    before = np.where(before > 1.8 * typical, typical, before)  # across a break
    nearest = _nearest(called, beats)
    error = np.abs(called - beats[nearest])
    near = error < _CONTINUITY * before[nearest]
    first_of_its_beat = np.concatenate([[True], nearest[1:] != nearest[:-1]])
    near &= first_of_its_beat
    follows = np.concatenate([[False], near[:-1] & (np.diff(nearest) == 1)])
    starts = np.concatenate([[True], np.zeros(len(called) - 1, dtype=bool)])
    resumed = (nearest > 0) & (np.concatenate([[0.0], periods])[nearest] > 1.8 * typical)
    correct = near & (follows | starts | resumed)
    return float(correct.sum() / max(len(called), len(beats)))


def _nearest(called: Times, beats: Times) -> NDArray[np.int64]:
    after = np.clip(np.searchsorted(beats, called), 1, len(beats) - 1)
    return np.where(called - beats[after - 1] <= beats[after] - called, after - 1, after)


def level_shares(called: Times, beats: Times) -> dict[str, float]:
    """Return the share of beats at which the called tempo is at each level of the true one.

    The called tempo at a beat is that of the median of the last three intervals between calls up to 70 ms after it,
    all within the last three true beats or two seconds, whichever is longer.
    """
    counts = dict.fromkeys(["x1", *_LEVELS, "other", "none"], 0)
    periods = np.diff(beats)
    typical = float(np.median(periods)) if len(periods) else 0.5
    for n in range(1, len(beats)):
        period = periods[n - 1] if periods[n - 1] < 1.8 * typical else typical
        newest = beats[n] + WINDOW_S
        recent = called[(called <= newest) & (called > newest - max(3.5 * period, 2.0))][-4:]
        if len(recent) < 2:
            counts["none"] += 1
            continue
        ratio = period / float(np.median(np.diff(recent)))
        close = [name for name, level in {"x1": 1.0, **_LEVELS}.items() if abs(ratio / level - 1.0) < _LEVEL_WIDTH]
        counts[close[0] if close else "other"] += 1
    total = max(1, sum(counts.values()))
    shares = {name: count / total for name, count in counts.items()}
    shares["other"] = 1.0 - shares["x1"] - shares["x2"] - shares["x1/2"] - shares["none"]
    return shares


def median_offset(called: Times, beats: Times) -> float:
    """Return the median of (call - nearest beat) [s] over the calls within a quarter of a beat; nan without any."""
    if len(beats) < 2 or not len(called):
        return float("nan")
    gap = called - beats[_nearest(called, beats)]
    gap = gap[np.abs(gap) < 0.25 * np.median(np.diff(beats))]
    return float(np.median(gap)) if len(gap) else float("nan")


def relock_times(called: Times, beats: Times, changes_s: Sequence[float]) -> list[float]:
    """Return, per change, the time [s] to the first of four beats in a row that are all hit with no call between.

    Only beats before the next change count; inf if there are none such.
    """
    times = []
    for number, change in enumerate(changes_s):
        limit = changes_s[number + 1] if number + 1 < len(changes_s) else np.inf
        after = beats[(beats >= change - 1e-3) & (beats < limit - 1e-3)]
        found = np.inf
        for n in range(len(after) - _LOCKED_BEATS + 1):
            run = after[n : n + _LOCKED_BEATS]
            # Calls that belong to these beats: up to half a beat either side, so that a doubled tempo does not pass.
            half = 0.5 * (run[-1] - run[0]) / (_LOCKED_BEATS - 1)
            near = called[(called > run[0] - 0.98 * half) & (called < run[-1] + 0.98 * half)]
            if len(near) == _LOCKED_BEATS and np.all(np.abs(near - run) <= WINDOW_S):
                found = float(run[0] - change)
                break
        times.append(max(0.0, found))
    return times


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of one tracker over the set: macro means (categories weigh alike).

    Attributes:
        means: mean of every number of `Scores` over pieces, then over categories.
        interval: 95 % bootstrap interval of the F-measure, pieces drawn within their categories.
        by_category: mean F-measure of each.
        recorded_f: mean F-measure over the recordings.
        offset_s: median offset over all pieces.
        relock_s: every re-lock time.
        silence_calls_per_s: over all silences.
    """

    means: dict[str, float]
    interval: tuple[float, float]
    by_category: dict[str, float]
    recorded_f: float
    offset_s: float
    relock_s: list[float]
    silence_calls_per_s: float


def summarise(items: Sequence[Item], scores: Mapping[str, Scores], draws: int = 1000) -> Summary:
    """Aggregate the scores of one tracker; `scores` maps each item's name."""
    rows = [scores[item.name] for item in items]
    categories = [item.category for item in items]
    numbers = [f.name for f in fields(Scores) if f.name not in ("relock_s", "silence_calls", "silence_s")]
    means = {name: macro_mean([getattr(row, name) for row in rows], categories) for name in numbers}
    f = [row.f_measure for row in rows]
    recorded = [row.f_measure for row, item in zip(rows, items, strict=True) if item.recorded]
    offsets = [row.offset_s for row in rows if not np.isnan(row.offset_s)]
    silence_s = sum(row.silence_s for row in rows)
    return Summary(
        means,
        bootstrap(f, categories, draws),
        {
            c: float(np.mean([v for v, k in zip(f, categories, strict=True) if k == c]))
            for c in dict.fromkeys(categories)
        },
        float(np.mean(recorded)) if recorded else float("nan"),
        float(np.median(offsets)) if offsets else float("nan"),
        [t for row in rows for t in row.relock_s],
        sum(row.silence_calls for row in rows) / silence_s if silence_s else 0.0,
    )


def macro_mean(values: Sequence[float], categories: Sequence[str]) -> float:
    """Return the mean over categories of the mean within each, leaving nan out."""
    grouped: dict[str, list[float]] = {}
    for value, category in zip(values, categories, strict=True):
        if not np.isnan(value):
            grouped.setdefault(category, []).append(value)
    return float(np.mean([np.mean(group) for group in grouped.values()])) if grouped else float("nan")


def bootstrap(
    values: Sequence[float], categories: Sequence[str], draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the macro mean under resampling of pieces within their categories.

    Give paired differences of two trackers to compare them.
    """
    rng = np.random.default_rng(seed)
    array = np.asarray(values, dtype=np.float64)
    kinds = np.asarray(categories)
    groups = [array[kinds == kind] for kind in dict.fromkeys(categories)]
    drawn = [group[rng.integers(0, len(group), (draws, len(group)))].mean(axis=1) for group in groups]
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return float(low), float(high)
