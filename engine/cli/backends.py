"""`compile`, and what `bench` and `check` say of the back ends."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.cli.figures import check_place, write_figures
from engine.cli.proof import ProofPlan, prove
from engine.errors import UserError
from engine.priority import run_at_rank
from engine.runner import CORE_LEVEL
from engine.settings import ShowSettings
from engine.stage import dance_model

_BENCH_BATCHES = (1, 4, 16, 64)
_BENCH_STEPS = 120
_FEWEST_PACED = 50


def _measure() -> Any:
    return importlib.import_module("models.backends.measure")


def compile_model(
    settings: ShowSettings, prove_it: bool, json_path: Path | None, plan: ProofPlan | None = None
) -> None:
    """Build and keep every engine that this machine can have; with `prove_it` try all that is claimed of them.

    Raises:
        UserError: the back end asked for by the settings cannot be had, or JSON cannot be written.
    """
    check_place(json_path)
    console, measure = Console(), _measure()
    folder = dance_model(settings.dancer.model)
    result: dict[str, Any] = {"model": settings.dancer.model, "backends": {}}
    start = time.perf_counter()
    for name, why_not in measure.available(folder):
        took_s = time.perf_counter() - start
        start = time.perf_counter()
        if why_not and name == settings.dancer.backend:
            raise UserError(why_not, "choose another dancer.backend, or auto")
        console.print(f"{name}: {why_not or f'ready ({took_s:.1f} s)'}", highlight=False, markup=False, soft_wrap=True)
        result["backends"][name] = {"missing": why_not} if why_not else {"ready_s": took_s}
    if prove_it:
        ready = [name for name, facts in result["backends"].items() if "missing" not in facts]
        result["proof"] = prove(settings, folder, ready, plan or ProofPlan(), console)
        for name in ready:
            console.print(_steps_table(result["proof"]["backends"][name]["steps"]))
    if json_path is not None:
        write_figures(json_path, result)


def bench_steps(
    settings: ShowSettings, seconds: float, beside: Callable[[], AbstractContextManager[None]] | None = None
) -> dict[str, Any]:
    """Return times of a step by back end and batch, and the account of one step.

    At the live rate a step has the rank of the thread that takes it on stage (`output.real_time`).

    Args:
        settings: of the show.
        seconds: that steps are taken for at the live rate, for each back end.
        beside: keeps another process busy; the step at the live rate is then measured beside it, too.
    """
    measure, folder = _measure(), dance_model(settings.dancer.model)
    names = [name for name, why_not in measure.available(folder) if not why_not]
    rate_hz = measure.live_rate_hz(folder)
    count = max(_FEWEST_PACED, round(seconds * rate_hz))

    def at_live_rate(name: str) -> dict[str, Any]:
        work = partial(measure.time_steps, folder, name, 1, steps=count, rate_hz=rate_hz)
        return asdict(run_at_rank(work, CORE_LEVEL) if settings.output.real_time else work())

    rows = [at_live_rate(name) for name in names]
    if beside is not None:
        with beside():
            rows += [row | {"backend": f"{row['backend']}, machine busy"} for row in map(at_live_rate, names)]
    for name in names:
        rows += [asdict(measure.time_steps(folder, name, batch, steps=_BENCH_STEPS)) for batch in _BENCH_BATCHES]
    account = measure.account(folder)
    return {"steps": rows, "account": asdict(account) | {"times_the_floor": account.times_the_floor}}


def print_steps(console: Console, result: dict[str, Any], old: dict[str, Any] | None) -> None:
    """Print what `bench_steps` returned, beside an older result if there is one."""
    console.print(_steps_table(result["steps"], (old or {}).get("steps")))
    account = result["account"]
    console.print(
        f"one step: {account['weight_bytes'] / 1e6:.1f} MB of weights and rings take {1e3 * account['read_s']:.2f} ms "
        f"to read here, {account['multiply_adds'] / 1e6:.1f} M multiply-adds {1e3 * account['compute_s']:.2f} ms; "
        f"measured {1e3 * account['measured_s']:.2f} ms, {account['times_the_floor']:.1f} x the floor",
        highlight=False,
    )


def _steps_table(rows: list[dict[str, Any]], old: list[dict[str, Any]] | None = None) -> Table:
    table = Table(title="one step of the model", title_justify="left")
    columns = ["back end", "dancers", "p50 ms", "p95 ms", "p99 ms", "max ms", "dancers held by one thread"]
    for column in [*columns, *(["p99, new / old"] if old else [])]:
        table.add_column(column, justify="left" if column == "back end" else "right")
    before = {(row["backend"], row["batch"], row["paced"]): row["p99_ms"] for row in old or ()}
    for row in rows:
        pace = " (live rate)" if row["paced"] else ""
        cells = [row["backend"] + pace, str(row["batch"])]
        cells += [f"{row[key]:.2f}" for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms")]
        cells.append(f"{row['dancers_at_rate']:.0f}")
        if old:
            p99 = before.get((row["backend"], row["batch"], row["paced"]))
            cells.append(f"{row['p99_ms'] / p99:.2f}" if p99 else "-")
        table.add_row(*cells)
    return table
