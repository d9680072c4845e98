"""The page of one or several evaluations: one file that loads nothing, from anywhere."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.whole_files import whole_file
from models.data.clip_sources import ClipSource
from models.evaluation.facts import SystemFacts
from models.evaluation.html import columns as c
from models.evaluation.html.chart import interval_chart, time_chart
from models.evaluation.html.groups import ABLATION, base_of, grouped
from models.evaluation.html.markup import Markup, escape, tag
from models.evaluation.html.notes import how_made, licences, reading_notes
from models.evaluation.html.players import packed_songs, player_data
from models.evaluation.html.published import beside_published, published_tables
from models.evaluation.html.tables import (
    both_table,
    figures_table,
    label,
    share,
    speed_table,
    stability_table,
)
from models.evaluation.reading import read_evaluations
from models.evaluation.report import Figures, Report
from models.sources.find import read_sources

PAGE_FILE = "evaluation.html"
_HERE = Path(__file__).parent
_PROTOCOLS = {
    "A": "unseen songs: systems may have learnt the movement that the songs are danced with",
    "B": "unseen movement: systems know only movement that no held-out dance repeats",
}


@dataclass(frozen=True)
class PageSettings:
    """What the page holds.

    Attributes:
        audio: folder that the data were prepared from; the dances are played to its recordings, else to clicks.
        seconds: of each dance that can be played.
        seeds: dances of a system to a song that can be played, at most.
    """

    audio: Path | None = None
    seconds: float = 30.0
    seeds: int = 1

    def __post_init__(self) -> None:
        if not 1.0 <= self.seconds <= 600.0 or self.seeds < 1:
            raise UserError("no such dances to play", "give 1 to 600 seconds and at least one seed")


def write_page(folders: Sequence[Path], out: Path, settings: PageSettings | None = None) -> Path:
    """Write `evaluation.html` into `out` from all evaluations under some folders; return its path.

    Raises:
        UserError: there is no evaluation, or it or the recordings cannot be read.
    """
    settings = settings or PageSettings()
    reports = read_evaluations(folders)
    sources: Mapping[str, ClipSource] = {}
    if settings.audio is not None:
        sources = {source.name: source for source in read_sources(settings.audio)[0]}
    songs = packed_songs(reports, sources, settings.seconds, settings.seeds)
    out.mkdir(parents=True, exist_ok=True)
    path = out / PAGE_FILE
    text = page(reports, player_data(songs) if songs else "", any(s.sound for s in songs))
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def page(reports: Sequence[Report], player: str = "", sound: bool = False) -> str:
    """Return the whole page.

    Args:
        reports: at least one.
        player: what `player_data` returned; "" for none.
        sound: whether recordings are in it.
    """
    facts = {name: found for report in reports for name, found in report.facts.items()}
    sections: list[tuple[str, str, Markup]] = [("see", "See it", _player(player, sound))]
    for index, report in enumerate(reports):
        sections.append((f"figures-{index}", f"Protocol {label(report)}", escape(_evaluation(report))))
    if len(reports) > 1:
        text = tag("p", "The same figures of each evaluation, side by side.")
        sections.append(("side", "Side by side", Markup(text + both_table(reports, c.BOTH, facts))))
    ablations = escape(_ablations(reports))
    if ablations:
        sections.append(("ablations", "Ablations", ablations))
    speeds = [tag("h3", label(r)) + speed_table(r) if len(reports) > 1 else speed_table(r) for r in reports if r.facts]
    if speeds:
        sections.append(("speed", "Size, speed, delay", Markup("".join(speeds))))
    published = Markup("".join(beside_published(table, reports) for table in published_tables()))
    sections.append(("published", "Beside the papers", published))
    notes = Markup(reading_notes(reports) + licences(sound) + how_made(reports))
    sections.append(("notes", "Notes", notes))
    links = [tag("a", title, {"href": f"#{name}"}) for name, title, _ in sections]
    body = [
        tag("header", [tag("h1", "Music to dance, measured"), tag("p", _subtitle(reports))]),
        tag("nav", links, {"aria-label": "sections"}),
        tag("main", [tag("section", [tag("h2", title), content], {"id": name}) for name, title, content in sections]),
    ]
    if player:
        body.append(Markup(f'<script type="application/json" id="dances">{player}</script>'))
    return _document(escape(body), with_player=bool(player))


def _document(body: Markup, *, with_player: bool) -> str:
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    names = ("charts.js", "figure.js", "player.js") if with_player else ("charts.js",)
    scripts = [(_HERE / name).read_text(encoding="utf-8") for name in names]
    # Nothing may be loaded, and no script run but these: a system's name is anybody's text.
    policy = (
        f"default-src 'none'; style-src {_sha(style)}; script-src {' '.join(map(_sha, scripts))}; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    head = [
        tag("meta", "", {"charset": "utf-8"}),
        tag("meta", "", {"http-equiv": "Content-Security-Policy", "content": policy}),
        tag("meta", "", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("title", "Music to dance, measured"),
        Markup(f"<style>{style}</style>"),
    ]
    code = Markup("".join(f"<script>{script}</script>" for script in scripts))
    return "<!doctype html>\n" + tag("html", [tag("head", head), tag("body", [body, code])], {"lang": "en"}) + "\n"


def _sha(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
    return f"'sha256-{digest}'"


def _subtitle(reports: Sequence[Report]) -> str:
    first = reports[0]
    systems = len({name for report in reports for name in report.systems})
    made = first.made
    parts = [f"{systems} systems, {len(first.songs)} songs, {first.seconds:g} s each, {_counted(first.seeds, 'seed')}"]
    parts += [made.date] if made.date else []
    parts += [f"Pas de Deux {made.version}"] if made.version else []
    return " · ".join(parts)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _main_systems(report: Report) -> dict[str, Figures]:
    """Return the systems that are no ablation; all, if there are no others beside real dance."""
    groups = grouped(report.systems, report.facts)
    names = [name for group, members in groups.items() if not group.startswith(ABLATION) for name in members]
    return {name: report.systems[name] for name in names} if set(names) - {"real"} else dict(report.systems)


def _evaluation(report: Report) -> Iterator[Markup]:
    systems = _main_systems(report)

    def some(figures: Mapping[str, Figures]) -> dict[str, Figures]:
        return {name: figures[name] for name in systems if name in figures}

    about = f"Protocol {report.protocol}, {_PROTOCOLS.get(report.protocol, '')}. Split: {report.split}."
    if math.isfinite(report.style_accuracy_validation):
        about += f" The style classifier knows {share(report.style_accuracy_validation)} of real validation dance."
    yield tag("p", about)
    charts = [
        interval_chart(
            systems, f"frechet_{space}_training", f"Fréchet distance, {space}, to training dance",
            report.floors.get(space, math.nan),
        )
        for space in ("kinetic", "geometric")
    ]  # fmt: skip
    charts.append(interval_chart(systems, "style_accuracy", "Style accuracy"))
    charts.append(
        interval_chart(systems, "feet_alignment", "Beats alignment of the feet", chance="feet_alignment_chance")
    )
    legend = "Lines: 95 % over songs. Dashed: real against real. Hollow: by chance, the beats shifted at random."
    yield tag("div", charts, {"class": "panels"})
    yield tag("p", legend, {"class": "note"})
    yield tag("h3", "The papers' table")
    papers = [column for column in c.PAPERS if report.seeds > 1 or column.heading != c.MODES]
    yield figures_table(systems, papers, report.facts, report.floors)
    yield _legend()
    over_time = time_chart({name: report.over_time[name] for name in systems if name in report.over_time})
    if over_time:
        yield tag("h3", "Fréchet distance over a minute")
        yield over_time
    yield tag("h3", "Beat")
    yield figures_table(systems, c.BEATS, report.facts)
    yield tag("h3", "Body")
    yield figures_table(systems, c.BODY, report.facts)
    if report.stability:
        yield tag("h3", "Ten minutes")
        yield stability_table(report)
    if report.styles:
        yield tag("h3", "By style")
        for style, figures in report.styles.items():
            yield _fold(style, figures_table(some(figures), c.STYLE, report.facts))
    if report.courses:
        yield tag("h3", "By course of the tempo")
        for course, figures in report.courses.items():
            yield _fold(_COURSES.get(course, course), figures_table(some(figures), c.COURSE, report.facts))


_COURSES = {
    "slow": "slow: 0.75 times as fast",
    "fast": "fast: 1.35 times as fast",
    "drift": "drift: 12 % faster and slower within eight bars",
}


def _fold(title: str, content: Markup) -> Markup:
    return tag("details", [tag("summary", title), content], {"open": ""})


def _legend() -> Markup:
    text = (
        "Bold: best but for real dance. Small: 95 % interval by the bootstrap over songs; chance: the same dance with "
        "beats shifted at random. Distances of few songs are biased upwards, for all alike: read them against real."
    )
    return tag("p", text, {"class": "note"})


def _ablations(reports: Sequence[Report]) -> Iterator[Markup]:
    for report in reports:
        groups = grouped(report.systems, report.facts)
        for group, members in groups.items():
            if group.startswith(ABLATION):
                names = [*base_of(members, report.systems), *members]
                # In one body: what an ablation leaves as it is stands above what it changes.
                alike = {name: SystemFacts(group=group) for name in names}
                title = group.removeprefix(ABLATION).capitalize()
                yield tag("h3", f"{title}, {label(report)}" if len(reports) > 1 else title)
                yield figures_table({name: report.systems[name] for name in names}, c.ABLATION, alike)


def _player(data: str, sound: bool) -> Markup:
    if not data:
        return tag("p", "These evaluations kept no dances: there is nothing to play.", {"class": "note"})

    def choice(name: str, title: str) -> Markup:
        return tag("label", [title, tag("select", "", {"id": name})])

    views = [tag("option", text, {"value": text}) for text in ("orbit", "front", "side")]
    stages = [
        tag("figure", [tag("figcaption", choice(f"system-{side}", title)), tag("canvas", "", {"id": f"stage-{side}"})])
        for side, title in (("left", "left"), ("right", "right"))
    ]
    bar = [
        tag("button", "▶", {"id": "play", "type": "button", "aria-label": "play", "title": "space"}),
        tag("canvas", "", {"id": "scrub", "tabindex": "0", "role": "slider", "aria-label": "time"}),
        tag("output", "0:00.0", {"id": "time"}),
    ]
    keys = [(k, v) for k, v in (("space", "play"), ("← →", "a second"), ("↑ ↓", "another system on the right"))]
    hints = [tag("span", [tag("kbd", key), f" {does}"]) for key, does in keys]
    heard = "Recordings, shortened and at a low rate." if sound else "No recordings in this page: a click on each beat."
    return Markup(
        tag(
            "div",
            [
                tag("div", [
                    choice("song", "song"), choice("seed", "seed"),
                    tag("label", ["view", tag("select", views, {"id": "view"})]),
                    tag("label", [tag("input", "", {"type": "checkbox", "id": "mute"}), "silent"], {"class": "check"}),
                ], {"class": "choices"}),
                tag("div", stages, {"class": "stages"}),
                tag("div", bar, {"class": "bar"}),
                tag("p", [*hints, tag("span", heard)], {"class": "note keys"}),
                tag("p", "", {"id": "trouble", "class": "trouble", "hidden": ""}),
            ],
            {"id": "player"},
        )
    )  # fmt: skip
