"""Tables of figures: systems by group, intervals below the figures, what is best set in bold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from models.evaluation.facts import SystemFacts
from models.evaluation.html.columns import Better, Column
from models.evaluation.html.groups import REAL, grouped
from models.evaluation.html.markup import Markup, escape, tag
from models.evaluation.report import Figures, Report, number
from models.metrics import Interval

_NONE = "–"
_LONG = 16
"""From so many letters on a cell of text is set as text."""


def figures_table(
    systems: Mapping[str, Figures],
    columns: Sequence[Column],
    facts: Mapping[str, SystemFacts],
    floors: Mapping[str, float] | None = None,
) -> Markup:
    """Return systems (rows, by group) against figures (columns); a last row with the floors where they are known.

    A column that no system has is left out.
    """
    shown = [c for c in columns if any(c.figure in figures for figures in systems.values())]
    best = {c.figure: _best(systems, c) for c in shown}
    groups = grouped(systems, facts)
    bodies = []
    for group, names in groups.items():
        head = tag("tr", tag("th", tag("span", group), {"colspan": str(len(shown) + 1), "scope": "rowgroup"}))
        rows = [
            tag("tr", [_name(name), *(_cell(systems[name], c, name in best[c.figure]) for c in shown)])
            for name in names
        ]
        bodies.append(tag("tbody", [head, *rows] if len(groups) > 1 else rows))
    if floors and any(c.floor for c in shown):
        cells = [tag("td", number(floors.get(c.floor, math.nan)) if c.floor else "") for c in shown]
        first = tag("th", ["real against real", tag("small", "halves of the training songs")], {"scope": "row"})
        bodies.append(tag("tfoot", tag("tr", [first, *cells])))
    return _scrolled(tag("table", [_head("system", shown), *bodies]))


def both_table(reports: Sequence[Report], columns: Sequence[Column], facts: Mapping[str, SystemFacts]) -> Markup:
    """Return the same figures of several evaluations side by side."""
    labels = [label(report) for report in reports]
    names = list(dict.fromkeys(name for report in reports for name in report.systems))
    best = [[_best(report.systems, c) for report in reports] for c in columns]
    top = tag("tr", [tag("th", "system", {"rowspan": "2", "scope": "col", "class": "first"})] + [
        tag("th", c.title, {"colspan": str(len(reports)), "scope": "colgroup"}) for c in columns
    ])  # fmt: skip
    second = tag("tr", [tag("th", text, {"scope": "col"}) for _ in columns for text in labels])
    rows = [
        tag("tr", [_name(name)] + [
            _cell(report.systems.get(name, {}), c, name in best[i][k])
            for i, c in enumerate(columns) for k, report in enumerate(reports)
        ])
        for names_of_group in grouped(names, facts).values() for name in names_of_group
    ]  # fmt: skip
    return _scrolled(tag("table", [tag("thead", [top, second]), tag("tbody", rows)]))


def plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """Return rows of text, the first cell of each its head."""
    top = [tag("th", head, {"scope": "col", "class": "" if place else "first"}) for place, head in enumerate(heads)]
    body = [tag("tr", [_name(row[0]), *map(_words, row[1:])]) for row in rows]
    return _scrolled(tag("table", [tag("thead", tag("tr", top)), tag("tbody", body)]))


def label(report: Report) -> str:
    """Return what an evaluation is called."""
    return f"{report.protocol} · {report.split}"


def stability_table(report: Report) -> Markup:
    """Return what ten minutes do to each system."""
    rows = [
        (
            name, str(s.dances), number(s.energy_ratio), number(s.least_energy_ratio), number(s.worst_ratio),
            f"{number(s.frechet_first)} → {number(s.frechet_last)}", share(s.frozen),
        )
        for name, s in report.stability.items()
    ]  # fmt: skip
    heads = ("system", "dances", "speed, last minute / first", "least of a dance",
             "slowest minute / first, worst dance", "Fréchet kinetic, first → last minute",
             "seconds frozen, worst dance")  # fmt: skip
    return plain_table(heads, rows)


def speed_table(report: Report) -> Markup:
    """Return how large, how fast and how late each system is."""
    rows = []
    for group, names in grouped(report.facts, report.facts).items():
        for name in names:
            facts, took_s = report.facts[name], report.processor_s(name)
            if group == REAL:
                continue
            size = _NONE if facts.parameters is None else f"{facts.parameters:,}"
            times = f"{number(1.0 / took_s)} ×" if took_s > 0.0 else _NONE
            seeds = ", ".join(map(str, facts.training_seeds)) or _NONE
            rows.append((name, size, number(1e3 * took_s), times, facts.lookahead, seeds))
    heads = ("system", "parameters", "processor ms a second of dance", "of real time", "look-ahead or delay, declared",
             "training seeds")  # fmt: skip
    machines = sorted({d.machine for d in report.dances if d.machine})
    note = f"Measured on {'; '.join(machines)}." if machines else "No dance of this evaluation was timed."
    return Markup(plain_table(heads, rows) + tag("p", note, {"class": "note"}))


def share(value: float) -> str:
    """Return a share in hundredths."""
    return f"{100.0 * value:.0f} %" if math.isfinite(value) else _NONE


def _head(first: str, columns: Sequence[Column]) -> Markup:
    titles = [tag("th", c.title, {"scope": "col", "title": _hint(c)}) for c in columns]
    if not any(c.heading for c in columns):
        return tag("thead", tag("tr", [tag("th", first, {"scope": "col", "class": "first"}), *titles]))
    headings = [(heading, len(list(run))) for heading, run in groupby(columns, lambda c: c.heading)]
    top = [tag("th", text, {"colspan": str(width), "scope": "colgroup"}) for text, width in headings]
    corner = tag("th", first, {"rowspan": "2", "scope": "col", "class": "first"})
    return tag("thead", [tag("tr", [corner, *top]), tag("tr", titles)])


def _hint(column: Column) -> str:
    good = {"low": "Lower is better.", "high": "Higher is better.", "one": "1, as real dance, is best.", "": ""}
    return f"{column.meaning} {good[column.better]}".strip()


def _name(name: str) -> Markup:
    return tag("th", name, {"scope": "row"})


def _words(text: str) -> Markup:
    return tag("td", text, {"class": "words"} if len(text) > _LONG else None)


def _cell(figures: Figures, column: Column, best: bool) -> Markup:
    figure = figures.get(column.figure)
    if figure is None or not math.isfinite(figure.value):
        return tag("td", _NONE, {"class": "none"})
    written: Callable[[float], str] = share if column.percent else number
    parts = [tag("b" if best else "span", written(figure.value))]
    if column.interval and math.isfinite(figure.low):
        parts.append(tag("small", f"{written(figure.low)} to {written(figure.high)}"))
    chance = figures.get(column.chance)
    if chance is not None and math.isfinite(chance.value):
        parts.append(tag("small", f"chance {written(chance.value)}", {"class": "chance"}))
    return tag("td", parts, {"data-figure": column.figure, "data-value": repr(figure.value)})


def _best(systems: Mapping[str, Figures], column: Column) -> set[str]:
    """Return the systems that are best of all but real dance; nobody where there is no competition."""
    key = _KEYS[column.better]
    values: dict[str, Interval] = {n: f[column.figure] for n, f in systems.items() if column.figure in f}
    scores = {n: key(v.value) for n, v in values.items() if n != "real" and math.isfinite(v.value)}
    if column.better == "" or len(scores) < 2:
        return set()
    top = min(scores.values())
    return {n for n, score in scores.items() if score <= top + 1e-9}


_KEYS: Mapping[Better, Callable[[float], float]] = {
    "low": lambda v: v,
    "high": lambda v: -v,
    "one": lambda v: abs(v - 1.0),
    "": lambda v: 0.0,
}


def _scrolled(table: Markup) -> Markup:
    return tag("div", escape(table), {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "table"})
