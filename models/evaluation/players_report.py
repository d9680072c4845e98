"""The figures of an evaluation of players, as JSON for programs and as Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import ClassVar

import numpy as np

from engine.types import VOICES
from engine.whole_files import all_or_nothing
from models.dance_to_music.measure import PlayedFigures
from models.metrics.resampling import Interval, bootstrap
from models.symbolic.music_metrics import MusicMeasures, Range

Measure = Callable[[PlayedFigures], float]

_FIT: dict[str, Measure] = {
    "onsets on a beat": lambda f: f.beat_hit,
    "beats with an onset": lambda f: f.beat_coverage,
    "loudness follows movement (r)": lambda f: f.coupling,
    "tempo error (octaves)": lambda f: f.tempo_error,
}
_NULL: dict[str, Measure] = {
    "onsets on a beat": lambda f: f.beat_hit_null,
    "beats with an onset": lambda f: f.beat_coverage_null,
    "loudness follows movement (r)": lambda f: f.coupling_null,
}


def _of_music(name: str) -> Measure:
    return lambda f: float(getattr(f.measures, name))


def _of_voice(index: int) -> Measure:
    return lambda f: f.onsets[index]


_MUSIC: dict[str, Measure] = {f.name.replace("_", " "): _of_music(f.name) for f in fields(MusicMeasures)}
_ONSETS: dict[str, Measure] = {f"{voice}, onsets a bar": _of_voice(index) for index, voice in enumerate(VOICES)}
_MEASURES = {**_FIT, **_MUSIC, **_ONSETS}


@dataclass(frozen=True)
class PlayersReport:
    """What was measured.

    Attributes:
        split, seeds, dances: of the evaluation.
        figures: by system, then by measure.
        nulls: by system, then by measure: the same with the music shifted at random against the dance.
        differences: by system, then by measure: the first system's figure less this one's, on the same dances.
        ranges: of the MIDI corpora, by measure.
        pieces: every piece's own figures, by system.
    """

    split: str
    seeds: int
    dances: tuple[str, ...]
    figures: dict[str, dict[str, Interval]]
    nulls: dict[str, dict[str, float]]
    differences: dict[str, dict[str, Interval]]
    ranges: dict[str, Range]
    pieces: dict[str, tuple[PlayedFigures, ...]]

    JSON_FILE: ClassVar[str] = "players.json"
    TABLE_FILE: ClassVar[str] = "players.md"

    @staticmethod
    def of(
        split: str,
        seeds: int,
        dances: Sequence[str],
        played: Mapping[str, Sequence[PlayedFigures]],
        ranges: Mapping[str, Range],
        resamples: int,
    ) -> PlayersReport:
        """Sum up the pieces of each system; the first one is what the others are compared with."""
        first, *others = played
        return PlayersReport(
            split,
            seeds,
            tuple(dances),
            {
                name: {key: _over_songs(pieces, measure, resamples) for key, measure in _MEASURES.items()}
                for name, pieces in played.items()
            },
            {
                name: {key: _mean([measure(f) for f in pieces]) for key, measure in _NULL.items()}
                for name, pieces in played.items()
            },
            {
                name: {
                    key: _difference(played[first], played[name], measure, resamples)
                    for key, measure in _MEASURES.items()
                }
                for name in others
            },
            {name.replace("_", " "): known for name, known in ranges.items()},
            {name: tuple(pieces) for name, pieces in played.items()},
        )

    def save(self, folder: Path) -> None:
        """Write both files; if that fails, those of an earlier evaluation stay."""
        text = json.dumps(_without_nan(asdict(self)), indent=1, allow_nan=False)
        with all_or_nothing(folder) as place:
            (place / self.JSON_FILE).write_text(text + "\n", encoding="utf-8")
            (place / self.TABLE_FILE).write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """Return the tables."""
        first = next(iter(self.figures))
        parts = [
            f"# Dance to music: {len(self.dances)} dances ({self.split}), {self.seeds} seeds",
            "Mean, 95 % interval of a bootstrap over songs, and in brackets what the same music scores when it is "
            "shifted at random against the dance. The beat is given to every player; all music is on sixteenths of "
            "it, the transcribed music too. An onset counts within 100 ms. A tempo is the strongest period of the "
            "onsets; half and double time count as right.",
            self._table("## To the dance", _FIT),
            self._table("## As music", _MUSIC, ranged=True),
            self._table("## Onsets a bar", _ONSETS),
            f"## {first}, less the others",
            self._rows(list(_FIT), {n: [_shown(d[k]) for k in _FIT] for n, d in self.differences.items()}),
        ]
        return "\n\n".join(parts) + "\n"

    def _table(self, title: str, measures: Mapping[str, Measure], *, ranged: bool = False) -> str:
        rows = {}
        for name, figures in self.figures.items():
            cells = []
            for key in measures:
                null = self.nulls[name].get(key)
                cells.append(
                    _shown(figures[key]) + (f" ({null:.2f})" if null is not None and np.isfinite(null) else "")
                )
            rows[name] = cells
        if ranged and self.ranges:
            known = [self.ranges.get(key) for key in measures]
            rows["POP909 (no drums), 5 to 95 %"] = [f"{r.low:.2f} to {r.high:.2f}" if r else "" for r in known]
        return f"{title}\n\n{self._rows(list(measures), rows)}"

    @staticmethod
    def _rows(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
        lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items())])


def _by_song(pieces: Sequence[PlayedFigures], measure: Measure) -> dict[str, float]:
    """Return the mean over the seeds of each song; songs to which the measure does not apply are left out."""
    songs: dict[str, list[float]] = {}
    for piece in pieces:
        songs.setdefault(piece.name, []).append(measure(piece))
    means = {name: _mean(values) for name, values in songs.items()}
    return {name: value for name, value in means.items() if np.isfinite(value)}


def _over_songs(pieces: Sequence[PlayedFigures], measure: Measure, resamples: int) -> Interval:
    return bootstrap(list(_by_song(pieces, measure).values()), _mean, resamples)


def _difference(
    mine: Sequence[PlayedFigures], others: Sequence[PlayedFigures], measure: Measure, resamples: int
) -> Interval:
    here, there = _by_song(mine, measure), _by_song(others, measure)
    return bootstrap([here[name] - there[name] for name in here if name in there], _mean, resamples)


def _mean(values: Sequence[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float("nan")


def _shown(interval: Interval) -> str:
    if not np.isfinite(interval.value):
        return "–"
    # Adding 0 makes -0.00 a 0.00.
    value, low, high = (round(x, 2) + 0.0 for x in (interval.value, interval.low, interval.high))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if np.isfinite(low) else f"{value:.2f}"


def _without_nan(value: object) -> object:
    """Return nested tables in which a number that is none is null: JSON has no other word for it."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
