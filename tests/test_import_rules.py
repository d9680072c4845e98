"""Who may import whom: the house stays a house (see "The house" in the README)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ENGINE_FORBIDDEN = {"torch", "models", "bridges", "onnx", "onnxscript", "onnxruntime", "aiohttp", "pythonosc"}
# What bridges may know of the engine: its types, its skeleton, and the few things around them; how music is written
# down, who is run first, how a process ends, and (for the synthesiser) the sound devices.
BRIDGES_ALLOWED = {
    "engine.types",
    "engine.body.skeleton",
    "engine.body.pose_algebra",
    "engine.errors",
    "engine.protocols",
    "engine.controls",
    "engine.clock",
    "engine.priority",
    "engine.signals",
    "engine.playing.score_file",
    "engine.audio.devices",
    "engine.audio.sample_clock",
}
# Run on stage, so without torch; everything else in models/ is offline.
STAGE_MODELS = {
    "artifacts",
    "backends.choose",
    "backends.engine_cache",
    "backends.failover",
    "backends.measure",
    "backends.nvidia_driver",
    "backends.ort_backend",
    "backends.parity",
    "backends.protocol",
    "backends.step_memory",
    "backends.tensorrt_backend",
    "beats.activation",
    "field.artifact",
    "field.dancing_to_music.artifact",
    "field.dancing_to_music.compose",
    "field.dancing_to_music.generator",
    "field.dancing_to_music.onnx_units",
    "field.dancing_to_music.tables",
    "field.dancing_to_music.units",
    "field.frame_clock",
    "field.frames",
    "field.generator",
    "field.onnx_frames",
    "field.registry",
    "motion.representation",
    "motion.resampling",
    "music_to_dance.conditioning",
    "music_to_dance.generator",
    "music_to_dance.phrases",
    "music_to_dance.plan",
}


def imports(path: Path) -> set[str]:
    """Return the modules a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (ROOT / inner.replace(".", "/")).with_suffix(".py").is_file()
                found.add(inner if is_module else node.module)
    return found


def top(module: str) -> str:
    return module.partition(".")[0]


def sources(folder: str) -> list[Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    return [path for path in files if "node_modules" not in path.parts]


@pytest.mark.parametrize("path", sources("engine"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_engine_knows_no_model_bridge_or_torch(path: Path) -> None:
    assert not {module for module in imports(path) if top(module) in ENGINE_FORBIDDEN}


@pytest.mark.parametrize("path", sources("bridges"), ids=lambda p: str(p.relative_to(ROOT)))
def test_bridges_know_only_the_core_types(path: Path) -> None:
    wrong = {m for m in imports(path) if top(m) == "models" or (top(m) == "engine" and m not in BRIDGES_ALLOWED)}
    assert wrong == set()


@pytest.mark.parametrize("path", sources("models"), ids=lambda p: str(p.relative_to(ROOT)))
def test_what_runs_on_stage_needs_no_torch(path: Path) -> None:
    modules = imports(path)
    assert not {m for m in modules if top(m) == "bridges" or m.startswith("engine.cli")}
    if ".".join(path.relative_to(ROOT / "models").with_suffix("").parts) in STAGE_MODELS:
        assert not {m for m in modules if top(m) in {"torch", "onnx", "lightning", "matplotlib"}}
        mates = {m.partition(".")[2] for m in modules if m.startswith("models.")}
        assert mates <= STAGE_MODELS, "and what it imports must be fit for the stage too"


def test_a_show_runs_without_torch() -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from engine.settings import ShowSettings\n"
        "from engine.stage import warm_up\n"
        "assert warm_up(ShowSettings(), ticks=24) == []\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=600)
