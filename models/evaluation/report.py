"""The outcome of an evaluation as JSON and as Markdown tables."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engine.whole_files import all_or_nothing
from models.evaluation.cache import KeptDance
from models.evaluation.facts import Made, SongFacts, SystemFacts
from models.evaluation.stability import Stability
from models.metrics import Interval

Figures = Mapping[str, Interval]

JSON_FILE, TABLE_FILE, DANCES_FOLDER = "evaluation.json", "evaluation.md", "dances"


@dataclass(frozen=True)
class Report:
    """An evaluation.

    Attributes:
        split, protocol, seeds, seconds: of the dances.
        songs: their names.
        floors: real against real by feature space (halves of the training songs).
        style_accuracy_validation: of the classifier, on real validation dance.
        systems: figures by system, steady tempo.
        styles: figures by style, then by system; Fréchet distances are to real training dance of the style.
        over_time: Fréchet distance of each 4 seconds of a minute by system.
        stability: ten minutes, by system.
        courses: figures by course of the tempo, then by system.
        notes: what a reader must know of these very figures.
        hours: it took.
        facts: what each system says of itself.
        song_facts: of the songs.
        dances: that are on disk, files relative to the folder `dances` beside `evaluation.json`.
        made: how.
        differences: figures by rival, then by system: the system's less the rival's, on the same songs.
    """

    split: str
    protocol: str
    seeds: int
    seconds: float
    songs: tuple[str, ...]
    floors: Mapping[str, float]
    style_accuracy_validation: float
    systems: Mapping[str, Figures]
    styles: Mapping[str, Mapping[str, Figures]]
    over_time: Mapping[str, Sequence[float]]
    stability: Mapping[str, Stability]
    courses: Mapping[str, Mapping[str, Figures]]
    notes: tuple[str, ...]
    hours: float
    facts: Mapping[str, SystemFacts] = field(default_factory=dict)
    song_facts: tuple[SongFacts, ...] = ()
    dances: tuple[KeptDance, ...] = ()
    made: Made = field(default_factory=Made)
    differences: Mapping[str, Mapping[str, Figures]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write `evaluation.json` and `evaluation.md`; if that fails, those of an earlier evaluation stay."""
        with all_or_nothing(folder) as place:
            (place / JSON_FILE).write_text(json.dumps(_plain(asdict(self)), indent=1) + "\n", encoding="utf-8")
            (place / TABLE_FILE).write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """Return the tables."""
        floor = " / ".join(f"{space} {number(value)}" for space, value in self.floors.items())
        known = self.style_accuracy_validation
        classifier = f"Style classifier on real validation dance: {known:.2f}. " if math.isfinite(known) else ""
        lines = [
            f"# Music to dance: {self.split} split, protocol {self.protocol}",
            "",
            f"{len(self.songs)} songs, {self.seconds:g} s each, {self.seeds} seeds; 95 % intervals by the bootstrap "
            f"over songs. Fréchet distance of real against real (halves of the training songs): {floor}. "
            f"{classifier}Chance: the same with randomly shifted beats. {self.hours * 60.0:.0f} minutes.",
            "",
            *self._table(self.systems, _MAIN),
            "",
            "## Beat",
            "",
            *self._table(self.systems, _BEAT),
            "",
            "## Body",
            "",
            *self._table(self.systems, _BODY),
        ]
        for rival, systems in self.differences.items():
            lines += ["", f"## Less {rival}, on the same songs", "", *self._table(systems, _DIFFERENCE)]
        for style, systems in self.styles.items():
            lines += ["", f"## {style} (Fréchet to real training {style})", "", *self._table(systems, _STYLE)]
        if self.over_time:
            lines += ["", "## Fréchet distance over a minute, kinetic, clips of 4 s", ""]
            lines += ["| system | " + " | ".join(f"{4 * i}" for i in range(15)) + " |", "|---" * 16 + "|"]
            for name, values in self.over_time.items():
                cells = [number(v) for v in values] + ["–"] * (15 - len(values))
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
        if self.stability:
            lines += ["", "## Ten minutes", ""]
            lines += ["| system | dances | speed last / first minute, mean (least) "]
            lines[-1] += "| slowest minute / first, worst dance "
            lines[-1] += "| Fréchet first / last minute | seconds frozen, worst dance |"
            lines.append("|---|---|---|---|---|---|")
            for name, s in self.stability.items():
                lines.append(
                    f"| {name} | {s.dances} | {s.energy_ratio:.2f} ({s.least_energy_ratio:.2f}) | {s.worst_ratio:.2f} "
                    f"| {number(s.frechet_first)} / {number(s.frechet_last)} | {s.frozen:.1%} |"
                )
        lines += self._speeds()
        for course, systems in self.courses.items():
            lines += ["", f"## Tempo: {course}", "", *self._table(systems, _COURSE)]
        if self.notes:
            lines += ["", "## Notes", "", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def processor_s(self, system: str) -> float:
        """Return the processor time that a second of a system's dance takes, median of its dances; NaN if unknown."""
        took = [d.processor_s / d.dance_s for d in self.dances if d.system == system and d.dance_s > 0.0]
        finite = sorted(t for t in took if math.isfinite(t))
        return statistics.median(finite) if finite else math.nan

    def _speeds(self) -> list[str]:
        if not self.facts:
            return []
        lines = ["", f"## Size and speed ({self.made.machine})", ""]
        lines += [
            "| system | parameters | processor ms a second of dance | look-ahead | training seeds |",
            "|---" * 5 + "|",
        ]
        for name, facts in self.facts.items():
            size = "–" if facts.parameters is None else f"{facts.parameters:,}"
            seeds = ", ".join(map(str, facts.training_seeds)) or "–"
            lines.append(f"| {name} | {size} | {number(1e3 * self.processor_s(name))} | {facts.lookahead} | {seeds} |")
        return lines

    def _table(self, systems: Mapping[str, Figures], columns: Sequence[_Column]) -> list[str]:
        lines = ["| system | " + " | ".join(c.title for c in columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for name, figures in systems.items():
            lines.append(f"| {name} | " + " | ".join(c.cell(figures) for c in columns) + " |")
        return lines


@dataclass(frozen=True)
class _Column:
    """A column: figures side by side; the first with its interval if asked for, the chance value in brackets."""

    title: str
    names: tuple[str, ...]
    interval: bool = False
    chance: str = ""

    def cell(self, figures: Figures) -> str:
        if self.names[0] not in figures:
            return "–"
        text = " / ".join(number(figures[name].value) for name in self.names)
        first = figures[self.names[0]]
        if self.interval and math.isfinite(first.low):
            text += f" [{number(first.low)}, {number(first.high)}]"
        return text + (f" ({number(figures[self.chance].value)})" if self.chance else "")


_MAIN = (
    _Column("Fréchet kinetic, held-out", ("frechet_kinetic_held-out",), interval=True),
    _Column("Fréchet geometric, held-out", ("frechet_geometric_held-out",), interval=True),
    _Column("Fréchet training k / g", ("frechet_kinetic_training", "frechet_geometric_training")),
    _Column("diversity k pooled / within (real 1)", ("diversity_kinetic", "within_kinetic")),
    _Column("diversity g pooled / within", ("diversity_geometric", "within_geometric")),
    _Column("between seeds k", ("multimodality_kinetic",)),
    _Column("style accuracy", ("style_accuracy",), interval=True),
)
_BEAT = (
    _Column("feet: alignment (chance)", ("feet_alignment",), True, "feet_alignment_chance"),
    _Column("feet: over music beats (chance)", ("feet_music_alignment",), False, "feet_music_alignment_chance"),
    _Column("all joints: alignment (chance)", ("body_alignment",), False, "body_alignment_chance"),
    _Column("coverage", ("feet_coverage",)),
    _Column("hits at 100 ms (chance)", ("feet_hit_rate",), False, "feet_hit_rate_chance"),
    _Column("precision / recall at 70 ms", ("feet_precision", "feet_recall")),
    _Column("F1 (chance)", ("feet_f1",), True, "feet_f1_chance"),
    _Column("offset ms", ("feet_offset_ms",)),
)
_BODY = (
    _Column("planted", ("planted",), interval=True),
    _Column("sliding", ("sliding",)),
    _Column("floating", ("floating",)),
    _Column("PFC", ("pfc",)),
    _Column("joint speed m/s", ("speed_m_s",), interval=True),
    _Column("travel m/s", ("travel_m_s",)),
    _Column("frozen", ("frozen",)),
)
_DIFFERENCE = (
    _Column("Fréchet kinetic, training", ("frechet_kinetic_training",), interval=True),
    _Column("Fréchet geometric, training", ("frechet_geometric_training",), interval=True),
    _Column("diversity k within", ("within_kinetic",), interval=True),
    _Column("feet: alignment", ("feet_alignment",), interval=True),
    _Column("sliding", ("sliding",), interval=True),
)
_STYLE = (
    _Column("Fréchet k / g", ("frechet_kinetic_training", "frechet_geometric_training")),
    _Column("diversity within k / g", ("within_kinetic", "within_geometric")),
    _Column("feet: alignment (chance)", ("feet_alignment",), False, "feet_alignment_chance"),
    _Column("style accuracy", ("style_accuracy",)),
    _Column("planted / sliding", ("planted", "sliding")),
    _Column("joint speed m/s", ("speed_m_s",)),
)
_COURSE = (
    _Column("Fréchet kinetic, training", ("frechet_kinetic_training",), interval=True),
    _Column("feet: alignment (chance)", ("feet_alignment",), True, "feet_alignment_chance"),
    _Column("F1 (chance)", ("feet_f1",), True, "feet_f1_chance"),
    _Column("offset ms", ("feet_offset_ms",)),
    _Column("joint speed m/s", ("speed_m_s",)),
)


def number(value: float) -> str:
    """Return a figure as tables show it: two or three digits that count, a dash for none."""
    if not math.isfinite(value):
        return "–"
    value = value if abs(value) >= 0.005 else 0.0
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _plain(value: object) -> object:
    """Return a copy without numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
