"""`compile --prove` and `bench --scaling` where there is no card: all of it runs; what is unproven is said to be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.cli.backends import compile_model
from engine.cli.proof import ProofPlan, _rivals, _verdicts
from engine.cli.scaling import ScalingPlan, crowd_cost, exponent, print_scaling, run_scaling
from engine.settings import load_show
from models.artifacts import GMD_FOLDER, GmdManifest
from models.backends.choose import MODEL_FILE

PLAN = ProofPlan(minutes=0.05, render_s=3.0, batches=(1, 2), crowds=(2,), paced_steps=5, rivals=None)


@pytest.fixture(autouse=True)
def _no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has: no card."""
    from models.backends import choose, nvidia_driver, tensorrt_backend

    answer = nvidia_driver.DriverAnswer((), "no NVIDIA driver is installed")
    for module in (choose, tensorrt_backend):
        monkeypatch.setattr(module, "ask_driver", lambda: answer)


def test_without_a_card_the_cpu_is_proven_and_the_card_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_show(None, ["web.ports=[]"])
    compile_model(settings, True, tmp_path / "proof.json", PLAN)
    said = capsys.readouterr().out
    assert "UNPROVEN  card: parity, step p99" in said
    proof = json.loads((tmp_path / "proof.json").read_text())["proof"]
    figures = proof["backends"]["cpu"]
    assert set(proof["backends"]) == {"cpu", "cpu-fp32"}
    assert figures["parity"]["steps"] > 10
    assert figures["parity"]["within"]
    assert figures["render"]["alike_s"] > 0.0
    assert [step["batch"] for step in figures["steps"]] == [1, 1, 2]
    assert figures["crowds"][0]["dancers_held"] > 0.0
    assert sum(line.startswith(("HOLDS", "FAILS")) for line in proof["verdicts"]) == 3


def test_the_side_by_side_has_a_line_for_what_is_here_and_for_what_is_not() -> None:
    pytest.importorskip("torch")
    rows = {row["name"]: row for row in _rivals(("8-bit", "CUDA graph"), steps=3)}
    assert rows["ONNX Runtime, 8-bit weights (default)"]["live_rate"]["p50_ms"] > 0.0
    card = rows["card: torch, CUDA graph"]
    assert "unproven here" in card.get("missing", "") or card["live_rate"]["p50_ms"] > 0.0


def _card(**changes: object) -> dict[str, object]:
    return {
        "parity": {"within": True},
        "render": {"largest_m": 0.001},
        "steps": [{"p99_ms": 0.3}],
        "crowds": [{"dancers_held": 1500.0}],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, ""),
        ({"parity": {"within": False}}, "long run"),
        ({"render": {"largest_m": 0.3}}, "rendering"),
        ({"steps": [{"p99_ms": 0.7}]}, "step p99"),
        ({"crowds": [{"dancers_held": 900.0}]}, "dancers"),
    ],
)
def test_every_claim_about_a_card_has_its_verdict(changes: dict[str, object], failed: str) -> None:
    lines = _verdicts({"tensorrt": _card(**changes)})
    assert len(lines) == 4
    fails = [line for line in lines if line.startswith("FAILS")]
    assert len(fails) == bool(failed)
    assert all(failed in line for line in fails)


def test_the_exponent_is_the_power_of_the_size() -> None:
    sizes = [1, 2, 4, 8, 16, 32]
    assert exponent(sizes, [3.0 * n for n in sizes]) == pytest.approx(1.0)
    assert exponent(sizes, [5.0] * 6) == pytest.approx(0.0, abs=1e-9)
    # What every size pays alike hides the slope of the small ones: only the upper half is asked.
    assert exponent(sizes, np.maximum(4.0, np.square(sizes) / 16.0).tolist()) > 1.5


def test_the_scaling_of_a_small_company_is_measured_and_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    pytest.importorskip("torch")
    from models.music_to_dance import export

    # The shipped graph instead of one that torch writes for half a minute (which test_runs.py lets it do).
    monkeypatch.setattr(
        export, "write_graph", lambda step, config, path: shutil.copyfile(GMD_FOLDER / MODEL_FILE, path)
    )
    settings = load_show(None, ["web.ports=[]"])
    plan = ScalingPlan(
        dancers=(1, 2, 3),
        windows=(GmdManifest.load(GMD_FOLDER).window,),
        targets=(1, 2, 3),
        minutes=2,
        minute_s=2.0,
        poses=50,
    )
    result = run_scaling(settings, plan)
    print_scaling(Console(width=200), result)
    said = capsys.readouterr().out
    assert "dancers at 60 poses a second" in said
    assert [row["targets"] for row in result["send_by_targets"]["rows"]] == [1, 2, 3]
    assert [row["minute"] for row in result["show_by_minutes"]["rows"]] == [1, 2]
    assert all(row["core_share"] > 0.0 for row in result["show_by_minutes"]["rows"])
    assert result["crowd_by_dancers"]["rows"][-1]["fps"] == pytest.approx(60.0, abs=2.0)
    assert all(row["step_ms"] > 0.0 for row in result["step_by_window"]["rows"])


def test_a_crowds_cost_counts_all_of_its_poses() -> None:
    cost = crowd_cost(load_show(None, ["web.ports=[]", "dancer.backend=cpu"]), 3)
    assert cost["dancers"] == 3
    assert cost["fps"] == pytest.approx(60.0, abs=2.0)
    assert cost["dancers_held"] == pytest.approx(3 / cost["core_share"])
