"""What a reader must know: how to read the figures, whose data they are, how they were made."""

from __future__ import annotations

from collections.abc import Sequence

from models.evaluation.html.markup import Markup, tag
from models.evaluation.html.tables import label
from models.evaluation.report import Report

_READING = (
    "Every system is given the same songs, the beat, the same time and the same seeds, and is measured by the same "
    "code at 60 frames a second in SMPL's 24 joints. The music is what the engine hears live: causal features.",
    "Split by song. “val” is for development, “test” for reporting only; nothing is trained or chosen on it.",
    "Fréchet distance, diversity and multimodality are taken over windows of 4 seconds in kinetic (72) and geometric "
    "(32) features, scored by real dance. A distance of few windows is larger than one of many: distances and pooled "
    "diversities are of one dance a song, as the real dancers', mean over the seeds.",
    "The real dancers' beat is the one found in their own feet: their alignment is an upper bound, not evidence.",
    "Intervals are over songs. Where a system was trained several times, its dances are spread over the trainings: "
    "dance seed k is danced by training k mod n; the table of sizes names them.",
    "Processor time counts all threads together and includes what the system needs beside its network.",
)
_LICENCES = (
    "This page holds movement, and music if it was asked for, of the data that were evaluated: their licences go for "
    "the page too. Pass it on only as far as they allow.",
    "Dances of Tang et al. 2018 (Dance with Melody): published for research, no licence stated; the songs are "
    "commercial recordings. AIST++: annotations CC BY 4.0; the recordings have AIST's own terms of use.",
)


def reading_notes(reports: Sequence[Report]) -> Markup:
    """Return how to read the figures, and what each evaluation says of its own."""
    parts = [tag("h3", "How to read"), _list(_READING)]
    for report in reports:
        if report.notes:
            parts += [tag("h3", f"Of {label(report)}"), _list(report.notes)]
    return Markup("".join(parts))


def licences(sound: bool) -> Markup:
    """Return whose data it is."""
    more = ("The recordings in it are cut, mono and at a low rate.",) if sound else ()
    return Markup(tag("h3", "Data") + _list((*_LICENCES, *more)))


def how_made(reports: Sequence[Report]) -> Markup:
    """Return commands, commits, dates and machines."""
    rows = []
    for report in reports:
        made = report.made
        known = [("command", made.command), ("version", made.version), ("commit", made.commit), ("date", made.date)]
        known += [
            ("machine", made.machine),
            ("songs", ", ".join(report.songs)),
            ("took", f"{report.hours * 60:.0f} min"),
        ]
        terms = [part for term, text in known if text for part in (tag("dt", term), tag("dd", text))]
        rows.append(Markup(tag("h4", label(report)) + tag("dl", terms)))
    return Markup(tag("h3", "How it was made") + "".join(rows))


def _list(lines: Sequence[str]) -> Markup:
    return tag("ul", [tag("li", line) for line in lines])
