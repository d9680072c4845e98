"""How firmly the beat stands on steady music, tracker beside tracker.

    python -m tests.bench.beats.firmness --cache CACHE --peers ours,madmom --python madmom=/path/to/venv/bin/python

CACHE holds the hard set (`tests.bench.beats.run`). A piece is begun at several moments of a hop, because whether a
tracker keeps a faint beat can hang by a hair, and one hearing of it says little. A figure is the 95th percentile of how
far, in size, the beat that is called lies from the true one, over the true beats that have a call within half a beat;
what a tracker is late by in the median over all pieces is taken out first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from tests.bench.beats.items import read_index
from tests.bench.beats.peers import PEERS
from tests.bench.beats.score import SKIP_S, called_times

_PIECES = "pair_DANCE_C_7,pair_DANCE_R_9,pair_DANCE_W_30,pair_DANCE_W_32,pair_DANCE_W_6,pop_829_112,pop_838_88"
"""Those that `tests.bench.held_out_dances` dances to."""
_STARTS_MS = "0,0.7,2,3.3,4.6,5.9,7.2,8.5,104,307"
_WANTED_MS = 45.0


def offsets_s(called_s: NDArray[np.float64], beats_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return call less beat [s] of every true beat after the first five seconds with a call within half a beat."""
    if not len(called_s) or len(beats_s) < 2:
        return np.zeros(0)
    gaps = np.array([called_s[np.argmin(np.abs(called_s - beat))] - beat for beat in beats_s])
    periods = np.diff(beats_s)
    half = np.array([np.median(periods[max(0, i - 2) : i + 2]) / 2 for i in range(len(beats_s))])
    return np.asarray(gaps[(beats_s > SKIP_S) & (np.abs(gaps) < half)])


def firmness_ms(heard: dict[str, list[NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """Return the 95th percentile of the offsets' size [ms] in each hearing of each piece, the median taken out."""
    every = [offsets for hearings in heard.values() for offsets in hearings]
    late_s = np.median(np.concatenate(every)) if any(map(len, every)) else 0.0
    return {
        piece: np.array([1e3 * np.percentile(np.abs(o - late_s), 95) if len(o) else np.nan for o in hearings])
        for piece, hearings in heard.items()
    }


def main(
    cache: Annotated[Path, typer.Option(help="folder of the hard set")],
    peers: Annotated[str, typer.Option(help="comma-separated: " + ", ".join(PEERS))] = "ours",
    python: Annotated[list[str] | None, typer.Option(help="NAME=INTERPRETER for a peer in another environment")] = None,
    pieces: Annotated[str, typer.Option(help="comma-separated")] = _PIECES,
    starts_ms: Annotated[str, typer.Option(help="silence before each hearing, comma-separated")] = _STARTS_MS,
) -> None:
    """Run, compare, print a table in Markdown."""
    truth = {
        item.name: np.asarray(item.beats_s) for item in read_index(cache) or sys.exit(f"{cache} holds no hard set")
    }
    interpreters = dict(pair.split("=", 1) for pair in python or [])
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    columns: dict[str, dict[str, NDArray[np.float64]]] = {}
    for peer in peers.split(","):
        command = [interpreters.get(peer, sys.executable), "-m", "tests.bench.beats.peers", peer]
        command += ["--cache", str(cache), "--only", pieces, "--starts-ms", starts_ms]
        said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env={**os.environ, **threads})
        heard: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
        for row in map(json.loads, said.stdout.splitlines()):
            heard[row["name"]].append(offsets_s(called_times(row["emissions"]), truth[row["name"]]))
        columns[peer] = firmness_ms(heard)
    typer.echo("| piece | " + " | ".join(f"{peer}: mean, worst" for peer in columns) + " |")
    typer.echo("|---" * (len(columns) + 1) + "|")
    for piece in next(iter(columns.values())):
        cells = [f"{np.nanmean(c[piece]):.0f}, {np.nanmax(c[piece]):.0f}" for c in columns.values()]
        typer.echo(f"| {piece} | " + " | ".join(cells) + " |")
    every = [np.concatenate(list(c.values())) for c in columns.values()]
    cells = [f"{np.nanmean(v):.0f}; {100 * np.mean(v <= _WANTED_MS):.0f} % within {_WANTED_MS:.0f} ms" for v in every]
    typer.echo("| all | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    typer.run(main)
