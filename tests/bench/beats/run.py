"""Run causal beat trackers on the hard set and print the table.

    python -m tests.bench.beats.run --data DATA --cache CACHE --soundfont MuseScore_General.sf3 \
        --peers aubio,madmom,btrack,beatnet,ours --python madmom=/path/to/venv/bin/python --json results.json

Each tracker runs in its own process, on one thread, under its own interpreter if one is given. What a tracker said is
kept in CACHE and read again until `--again` names it, because the music does not change and some take minutes.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tests.bench.beats.hard_set import build
from tests.bench.beats.items import VERSION, Item
from tests.bench.beats.peers import PEERS
from tests.bench.beats.score import Scores, Summary, bootstrap, score, summarise


@dataclass(frozen=True, slots=True)
class Result:
    """How a tracker did.

    Attributes:
        pieces: scores of each piece.
        summary: of the set.
        offset_out: the same with the tracker's median offset taken out of every call.
        cpu_us_per_s: processor time per second of audio [us].
    """

    pieces: dict[str, Scores]
    summary: Summary
    offset_out: Summary
    cpu_us_per_s: float


def emissions_file(name: str, cache: Path) -> Path:
    """Return where a tracker's emissions on this version of the set are kept."""
    return cache / f"emissions-{VERSION}" / f"{name}.jsonl"


def run_peer(name: str, cache: Path, python: str) -> Path:
    """Run one tracker over the whole set; return the file of its emissions."""
    out = emissions_file(name, cache)
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_suffix(".part")
    threads = {n: "1" for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [python, "-m", "tests.bench.beats.peers", name, "--cache", str(cache)]
    with half.open("w", encoding="utf-8") as file:
        subprocess.run(command, stdout=file, check=True, env={**os.environ, **threads})
    half.replace(out)
    return out


def read_emissions(path: Path) -> dict[str, dict[str, Any]]:
    """Return what a tracker said, by piece."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {row["name"]: row for row in map(json.loads, lines)}


def judge(items: list[Item], said: dict[str, dict[str, Any]]) -> Result:
    """Score what a tracker said."""
    plain = {item.name: score(item, said[item.name]["emissions"]) for item in items}
    summary = summarise(items, plain)
    shift = 0.0 if np.isnan(summary.offset_s) else -summary.offset_s
    shifted = summarise(items, {item.name: score(item, said[item.name]["emissions"], shift) for item in items})
    cpu_us = 1e6 * sum(said[item.name]["cpu_s"] for item in items) / sum(item.duration_s for item in items)
    return Result(plain, summary, shifted, cpu_us)


def table(results: dict[str, Result]) -> str:
    """Return the main table in Markdown."""
    head = (
        "| tracker | F | 95 % | F, offset out | F, recordings | CMLt | AMLt | level 1 / 2 / ½ / other / none % "
        "| offset ms | re-lock p50 / p90 s | beats/s in silence | µs CPU per s |\n" + "|---" * 12 + "|"
    )
    lines = [head]
    for name, result in results.items():
        s = result.summary
        m = s.means
        levels = " / ".join(f"{100 * m[k]:.0f}" for k in ("true_level", "double", "half", "other_level", "no_tempo"))
        p50, p90 = np.quantile(s.relock_s, [0.5, 0.9], method="higher") if s.relock_s else (np.nan, np.nan)
        cells = [
            name,
            f"{m['f_measure']:.3f}",
            f"{s.interval[0]:.3f}-{s.interval[1]:.3f}",
            f"{result.offset_out.means['f_measure']:.3f}",
            f"{s.recorded_f:.3f}",
            f"{m['cmlt']:.3f}",
            f"{m['amlt']:.3f}",
            levels,
            f"{1000 * s.offset_s:+.0f}",
            f"{p50:.1f} / {p90:.1f}",
            f"{s.silence_calls_per_s:.2f}",
            f"{result.cpu_us_per_s:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def category_table(results: dict[str, Result]) -> str:
    """Return the F-measure of every category in Markdown."""
    names = list(results)
    categories = list(next(iter(results.values())).summary.by_category)
    lines = ["| F by category | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for category in categories:
        cells = [f"{results[name].summary.by_category[category]:.3f}" for name in names]
        lines.append(f"| {category} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences(items: list[Item], results: dict[str, Result]) -> str:
    """Return, for each of ours against each peer, the paired difference in F with its interval."""
    categories = [item.category for item in items]
    lines = []
    for own in (n for n in results if n.startswith("ours")):
        for peer in (n for n in results if not n.startswith("ours")):
            gaps = [results[own].pieces[i.name].f_measure - results[peer].pieces[i.name].f_measure for i in items]
            low, high = bootstrap(gaps, categories)
            mean = results[own].summary.means["f_measure"] - results[peer].summary.means["f_measure"]
            lines.append(f"- {own} against {peer}: F {mean:+.3f} (95 % {low:+.3f} to {high:+.3f})")
    return "\n".join(lines)


def main(
    data: Annotated[Path, typer.Option(help="folder with real_beats/, pairs/ and midi/")],
    cache: Annotated[Path, typer.Option(help="folder for the audio and what trackers said")],
    soundfont: Annotated[Path, typer.Option(help="MuseScore General, .sf2 or .sf3")],
    peers: Annotated[str, typer.Option(help="comma-separated: " + ", ".join(PEERS))] = "aubio,ours",
    python: Annotated[list[str] | None, typer.Option(help="NAME=INTERPRETER for a peer in another environment")] = None,
    again: Annotated[
        str, typer.Option(help="peers to run again (comma-separated), or all")
    ] = "ours,ours-flux,ours-aubio",
    json_out: Annotated[Path | None, typer.Option("--json", help="write every figure here")] = None,
) -> None:
    """Run, score, print."""
    names = peers.split(",")
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}", param_hint="--peers")
    interpreters = dict(pair.split("=", 1) for pair in python or [])
    items = build(data, cache, soundfont)
    results = {}
    for name in names:
        said = emissions_file(name, cache)
        if again == "all" or name in again.split(",") or not said.is_file():
            try:
                said = run_peer(name, cache, interpreters.get(name, sys.executable))
            except subprocess.CalledProcessError as error:
                typer.echo(f"{name}: left out, its process ended with {error.returncode}", err=True)
                continue
        results[name] = judge(items, read_emissions(said))
    if not results:
        raise typer.Exit(1)
    minutes = sum(item.duration_s for item in items) / 60.0
    typer.echo(
        f"Hard set {VERSION}: {len(items)} pieces, {minutes:.1f} minutes; {platform.processor() or 'one core'}\n"
    )
    typer.echo(table(results) + "\n\n" + category_table(results) + "\n\n" + differences(items, results))
    if json_out is not None:
        rows = {name: asdict(result) for name, result in results.items()}
        json_out.write_text(json.dumps({"version": VERSION, "results": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
