"""`compile --prove`: everything that is claimed of back ends, tried on this machine, each claim with its verdict.

For every back end that can be had: ten minutes of steps beside the CPU in float32; a step at the live rate; growing
crowds; the demo song danced by both; a whole crowd with its bodies. And one step by all that could compute it, side by
side (`models.backends.rivals`). A claim that needs a card, where there is none, is not passed over: it is unproven.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from engine.audio.files import open_audio
from engine.body.skeleton import forward_kinematics
from engine.cli.scaling import crowd_cost
from engine.cli.sources import DEMO_SONG
from engine.render import collect
from engine.settings import ShowSettings
from engine.stage import build_pipeline
from engine.types import NS_PER_S

CARD_STEP_MS, CPU_STEP_MS = 0.5, 2.0
"""Bars for the 99th percentile of a step of one dancer."""
CARD_DANCERS, CPU_DANCERS = 1000, 20
"""Bars for dancers at 60 poses a second."""
ALIKE_M = 0.02
"""Two renderings are the same dance while no joint is further apart than this."""


@dataclass(frozen=True)
class ProofPlan:
    """How long to try.

    Attributes:
        minutes: of steps beside the CPU.
        render_s: of the demo song.
        batches: dancers of the step.
        crowds: dancers with their bodies.
        paced_steps: at the live rate.
        rivals: parts of their names; all if empty; none if None.
        rival_steps: of each.
    """

    minutes: float = 10.0
    render_s: float = 60.0
    batches: tuple[int, ...] = (1, 16, 64, 256, 1024)
    crowds: tuple[int, ...] = (20, 100, 1000)
    paced_steps: int = 300
    rivals: tuple[str, ...] | None = ()
    rival_steps: int = 160


def prove(
    settings: ShowSettings, folder: Path, names: Sequence[str], plan: ProofPlan, console: Console
) -> dict[str, Any]:
    """Try everything on back ends that can be had; print and return the figures, with a list of verdicts."""
    backends = {name: _prove_one(settings, folder, name, plan, console) for name in names}
    result: dict[str, Any] = {"backends": backends, "verdicts": _verdicts(backends)}
    if plan.rivals is not None:
        result["rivals"] = _rivals(plan.rivals, plan.rival_steps)
    for line in result["verdicts"]:
        console.print(line, highlight=False, markup=False)
    return result


def _prove_one(settings: ShowSettings, folder: Path, name: str, plan: ProofPlan, console: Console) -> dict[str, Any]:
    measure = importlib.import_module("models.backends.measure")
    rate_hz = measure.live_rate_hz(folder)
    figures: dict[str, Any] = {}
    if name != "cpu-fp32":
        chunks = round(plan.minutes * 60.0 * rate_hz)
        bar = iter(track(range(chunks), description=f"{name}: parity", console=console, transient=True))
        agreement = measure.stream_parity(folder, name, chunks, lambda _: next(bar, None))
        figures["parity"] = asdict(agreement) | {"within": agreement.within(measure.precision_of(folder, name))}
        console.print(f"{name}: differs from the CPU by {agreement} in {chunks} steps", highlight=False)
        figures["render"] = _render_difference(settings, name, plan.render_s)
        console.print(
            f"{name}: the rendered dance is the CPU's for {figures['render']['alike_s']:.0f} of {plan.render_s:.0f} s "
            f"(half of its joints within {1e3 * figures['render']['p50_m']:.1f} mm)",
            highlight=False,
        )
    steps = [measure.time_steps(folder, name, 1, steps=plan.paced_steps, rate_hz=rate_hz)]
    # A CPU is asked for no more than it could ever show.
    most = max(plan.batches) if not name.startswith("cpu") else 64
    steps += [measure.time_steps(folder, name, batch) for batch in plan.batches if batch <= most]
    figures["steps"] = [asdict(step) for step in steps]
    asked = settings.model_copy(update={"dancer": settings.dancer.model_copy(update={"backend": name})})
    figures["crowds"] = [crowd_cost(asked, size) for size in plan.crowds if size <= most]
    return figures


def _render_difference(settings: ShowSettings, name: str, seconds: float) -> dict[str, float]:
    """Let a back end and the CPU dance the same song; return how long and how well they agree."""
    ours, theirs = (_joints(settings, backend, seconds) for backend in ("cpu-fp32", name))
    apart = np.linalg.norm(ours - theirs, axis=-1)
    differs = np.flatnonzero(apart.max(axis=1) > ALIKE_M)
    alike = len(apart) if differs.size == 0 else int(differs[0])
    return {
        "seconds": seconds,
        "alike_s": alike / settings.output.fps,
        "p50_m": float(np.median(apart)),
        "largest_m": float(apart.max()),
    }


def _joints(settings: ShowSettings, backend: str, seconds: float) -> np.ndarray:
    dancer = settings.dancer.model_copy(update={"backend": backend})
    pipeline = build_pipeline(settings.model_copy(update={"dancer": dancer}))
    with open_audio(DEMO_SONG) as audio:
        frames, _, _ = collect(pipeline, (b for b in audio.blocks() if b.time_ns <= seconds * NS_PER_S))
    rotations = np.stack([frame.rotations for frame in frames]).astype(float)
    joints, _ = forward_kinematics(rotations, np.stack([frame.translation_m for frame in frames]).astype(float))
    return np.asarray(joints)


def _rivals(wanted: Sequence[str], steps: int) -> list[dict[str, Any]]:
    """Run the side by side in a process of its own (it brings torch); return its rows, or why there are none."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "rivals.json"
        command = [sys.executable, "-m", "models.backends.rivals", "--json", str(path), "--steps", str(steps), *wanted]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False, stderr=subprocess.PIPE, text=True)
        if not path.is_file():
            why = (done.stderr.strip().splitlines() or ["it ended"])[-1]
            return [{"name": "side by side", "missing": why}]
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return rows


def _verdicts(backends: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line for each claim."""
    cards = [name for name in backends if not name.startswith("cpu")]
    lines = []
    for name in cards or ["card"]:
        figures = backends.get(name)
        if figures is None:
            claims = f"parity, step p99 <= {CARD_STEP_MS} ms, the CPU's rendering, >= {CARD_DANCERS} dancers at 60 fps"
            lines.append(f"UNPROVEN  {name}: {claims}: no back end for a card can be had here")
            continue
        lines += [
            _verdict(figures["parity"]["within"], f"{name}: agrees with the CPU over the long run"),
            _verdict(_p99(figures) <= CARD_STEP_MS, f"{name}: step p99 {_p99(figures):.2f} ms (bar {CARD_STEP_MS})"),
            _verdict(
                figures["render"]["largest_m"] <= ALIKE_M,
                f"{name}: rendering within {figures['render']['largest_m']:.3f} m of the CPU's (bar {ALIKE_M})",
            ),
            _verdict(
                _dancers(figures) >= CARD_DANCERS, f"{name}: {_dancers(figures):.0f} dancers (bar {CARD_DANCERS})"
            ),
        ]
    if "cpu" in backends:
        figures = backends["cpu"]
        lines += [
            _verdict(figures["parity"]["within"], "cpu: 8-bit weights agree with float32 over the long run"),
            _verdict(_p99(figures) <= CPU_STEP_MS, f"cpu: step p99 {_p99(figures):.2f} ms (bar {CPU_STEP_MS})"),
            _verdict(_dancers(figures) >= CPU_DANCERS, f"cpu: {_dancers(figures):.0f} dancers (bar {CPU_DANCERS})"),
        ]
    return lines


def _verdict(holds: bool, claim: str) -> str:
    return f"{'HOLDS' if holds else 'FAILS':9} {claim}"


def _p99(figures: dict[str, Any]) -> float:
    """Return the 99th percentile of one dancer's step at the live rate [ms]."""
    return float(figures["steps"][0]["p99_ms"])


def _dancers(figures: dict[str, Any]) -> float:
    """Return how many dancers, bodies and all, one core and this back end hold, from the largest crowd measured."""
    return float(max((crowd["dancers_held"] for crowd in figures["crowds"]), default=0.0))
