"""The figures that the papers published, beside those measured here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.evaluation.html.groups import ABLATION, base_of, group_of, grouped
from models.evaluation.html.markup import Markup, tag
from models.evaluation.html.tables import label, share
from models.evaluation.report import Figures, Report, number

_FILE = Path(__file__).with_name("published.json")
_RELATIVE = ("diversity", "multimodality")
_SHARES = ("style_accuracy", "feet_coverage", "feet_hit_rate", "body_alignment")


@dataclass(frozen=True)
class Published:
    """A table of a paper.

    Attributes:
        title: of the work.
        source: where it stands.
        columns: of the table.
        figures: of an evaluation, one a column, that come nearest.
        rows: method and values; None where there is none.
        differs: what keeps them from being compared as they are.
        ablation: whose systems stand beside it; "" for all systems that are no ablation.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    figures: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    differs: str
    ablation: str = ""


def published_tables() -> list[Published]:
    """Read the tables that come with the package."""
    content = json.loads(_FILE.read_text(encoding="utf-8"))["tables"]
    return [
        Published(
            t["title"],
            t["source"],
            tuple(t["columns"]),
            tuple(t["figures"]),
            tuple((row[0], tuple(row[1:])) for row in t["rows"]),
            t["differs"],
            t.get("ablation", ""),
        )
        for t in content
    ]


def beside_published(table: Published, reports: Sequence[Report]) -> Markup:
    """Return a paper's rows, then those measured here, set apart."""
    heads = [tag("th", "method", {"scope": "col", "class": "first"})]
    heads += [tag("th", column, {"scope": "col"}) for column in table.columns]
    width = {"colspan": str(len(heads)), "scope": "rowgroup"}
    theirs = [tag("tr", tag("th", tag("span", "as published"), width))]
    for method, values in table.rows:
        cells = [tag("td", "–" if v is None else f"{v:g}") for v in values]
        theirs.append(tag("tr", [tag("th", method, {"scope": "row"}), *cells]))
    parts = [tag("thead", tag("tr", heads)), tag("tbody", theirs, {"class": "published"})]
    for report in reports:
        ours = [_row(table, report, name) for name in _systems(table, report)]
        if ours:
            head = tag("tr", tag("th", tag("span", f"measured here, {label(report)}"), width))
            parts.append(tag("tbody", [head, *ours], {"class": "measured"}))
    narrow = {"class": "narrow"} if len(table.columns) < 3 else None
    framed = tag("div", tag("table", parts, narrow), {"class": "scroll"})
    note = [tag("b", "Not the same measure. "), table.differs, " Source: ", table.source, "."]
    return Markup(tag("h3", table.title) + framed + tag("p", note, {"class": "note"}))


def _row(table: Published, report: Report, name: str) -> Markup:
    figures = report.systems[name]
    cells = [tag("th", name, {"scope": "row"})]
    for figure, column in zip(table.figures, table.columns, strict=True):
        # One dance a song says nothing of how much dances to it differ.
        known = report.seeds > 1 or not figure.startswith("multimodality")
        cells.append(tag("td", _cell(figures, figure, column) if known else "–"))
    return tag("tr", cells)


def _systems(table: Published, report: Report) -> Sequence[str]:
    facts, names = report.facts, list(report.systems)
    if table.ablation:
        wanted = ABLATION + table.ablation
        members = [n for n in names if group_of(n, facts.get(n)) == wanted]
        return [*base_of(members, names), *members]
    groups: Mapping[str, list[str]] = grouped(names, facts)
    return [name for group, members in groups.items() if not group.startswith(ABLATION) for name in members]


def _cell(figures: Figures, name: str, column: str) -> str:
    if name not in figures or not math.isfinite(figures[name].value):
        return "–"
    value = figures[name].value
    if name.startswith(_RELATIVE):
        return f"{number(value)} of real"
    return share(value) if name in _SHARES and "%" in column else number(value)
