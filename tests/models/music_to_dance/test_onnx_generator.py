"""The exported model on the stage: parity, determinism, refusal, and that the shipped weights dance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from engine.features import FeatureSpec
from engine.types import MotionRequest
from models.artifacts import GMD_FOLDER, GmdManifest
from models.metrics import speed_ratio
from models.motion.representation import CONTACTS, DISPLACEMENT, HEADING, HEIGHT, ROTATIONS, TICK_SIZE
from models.music_to_dance.generator import OnnxGenerator
from models.music_to_dance.plan import stretch

SHIPPED = pytest.mark.skipif(not (GMD_FOLDER / "manifest.json").exists(), reason="no weights in this checkout")


def _dance(
    generator: OnnxGenerator, chunks: int, seed: int = 0, energy: float = 0.5, style: str | None = "waltz"
) -> list[np.ndarray]:
    """Dance to made-up music with a pulse; return the tick vectors that matter, per chunk."""
    generator.reset(seed)
    random = np.random.default_rng(9)
    count, chunk = generator.info.feature_count, generator.info.chunk_ticks
    silence = FeatureSpec().silence[:count]
    out = []
    for index in range(chunks):
        music = silence + 0.3 * random.standard_normal((chunk, count)).astype(np.float32)
        request = MotionRequest(index * chunk, music, 90.0, 3, 0, style, energy)
        motion = generator.step(request)
        out.append(
            np.concatenate(
                [
                    motion.rotations.reshape(chunk, -1),
                    motion.heading_delta_rad[:, None],
                    motion.root_delta_m,
                    motion.root_height_m[:, None],
                    motion.contacts,
                ],
                axis=1,
            )
        )
    return out


def _positions(dance: list[np.ndarray]) -> np.ndarray:
    from engine.body.skeleton import axis_angle_to_matrix, forward_kinematics, matrix_to_six_d
    from models.motion.representation import motion_from_ticks

    rows = np.concatenate(dance)
    ticks = np.zeros((len(rows), TICK_SIZE), np.float32)
    matrices = axis_angle_to_matrix(rows[:, :72].reshape(-1, 24, 3))
    ticks[:, ROTATIONS] = matrix_to_six_d(matrices).reshape(len(rows), -1)
    ticks[:, HEADING], ticks[:, DISPLACEMENT] = rows[:, 72], rows[:, 73:75]
    ticks[:, HEIGHT], ticks[:, CONTACTS] = rows[:, 75], rows[:, 76:]
    return np.asarray(forward_kinematics(*motion_from_ticks(ticks))[0])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small untrained model."""
    pytest.importorskip("torch")
    from models.music_to_dance.export import ExportFacts, export_gmd
    from tests.models.music_to_dance.gmd_fixtures import sampler, small_model

    folder = tmp_path_factory.mktemp("weights")
    facts = ExportFacts("small", FeatureSpec().digest, 0.1, 1.0, 0.5, 0, 0.0, "synthetic")
    export_gmd(small_model(), sampler(), facts, folder)
    return folder


def test_the_exported_graph_is_the_model(exported: Path) -> None:
    manifest = GmdManifest.load(exported)
    assert 0.0 < manifest.parity < 1e-5


def test_the_same_seed_gives_the_same_dance_and_another_seed_another(exported: Path) -> None:
    generator = OnnxGenerator(exported)
    first, again, other = (_dance(generator, 20, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert np.abs(np.concatenate(first) - np.concatenate(other)).max() > 1e-2


def test_wild_requests_still_give_finite_motion(exported: Path) -> None:
    generator = OnnxGenerator(exported)
    music = np.full((4, 5), np.nan, np.float32)
    music[0] = np.inf
    for tick, bpm, style, energy in ((0, 30.0, "polka", 7.0), (4000, 400.0, None, -1.0), (-8, 100.0, "tango", 0.5)):
        chunk = generator.step(MotionRequest(tick, music, bpm, 7, 5, style, energy))
        assert np.isfinite(chunk.rotations).all()
        assert np.isfinite(chunk.root_delta_m).all()


@pytest.mark.parametrize("change", ["weights", "skeleton", "features", "missing", "version"])
def test_what_does_not_fit_is_refused_with_a_remedy(exported: Path, tmp_path: Path, change: str) -> None:
    for file in exported.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "manifest.json").read_text())
    if change == "weights":
        (tmp_path / "model.onnx").write_bytes((tmp_path / "model.onnx").read_bytes()[:-1] + b"x")
    elif change == "missing":
        (tmp_path / "tables.safetensors").unlink()
    else:
        content[{"skeleton": "skeleton", "features": "feature_spec", "version": "unheard_of"}[change]] = "0"
        (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        OnnxGenerator(tmp_path)
    assert caught.value.remedy


def test_the_stage_needs_no_torch() -> None:
    code = (
        "import sys, models.music_to_dance.generator, models.music_to_dance.phrases; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def shipped() -> OnnxGenerator:
    return OnnxGenerator()


@SHIPPED
def test_the_shipped_files_are_small_enough_to_clone() -> None:
    assert max(file.stat().st_size for file in GMD_FOLDER.iterdir()) < 40e6
    assert (GMD_FOLDER / "MODEL_CARD.md").exists()


@SHIPPED
def test_the_shipped_model_dances_for_minutes_in_human_shape(shipped: OnnxGenerator) -> None:
    chunks = int(2.5 * 90 * 12 / 4)
    positions = _positions(_dance(shipped, chunks))
    rate = 90 * 12 / 60
    speed = np.linalg.norm(np.diff(positions, axis=0), axis=-1).mean(axis=1) * rate
    assert 0.3 < speed.mean() < 2.0
    assert speed_ratio(positions, rate) > 0.6
    assert (positions[:, 15, 1] - positions[:, [7, 8], 1].min(axis=1) > 0.8).mean() > 0.99
    lowest = positions[:, [10, 11], 1].min(axis=1)
    assert np.quantile(lowest, 0.99) < 0.2
    assert np.quantile(lowest, 0.01) > -0.1


@SHIPPED
def test_shipped_seeds_differ_and_energy_is_felt(shipped: OnnxGenerator) -> None:
    first, other = (_positions(_dance(shipped, 120, seed)) for seed in (1, 2))
    apart = (first - first[:, :1]) - (other - other[:, :1])
    assert np.linalg.norm(apart, axis=-1).mean() > 0.1
    calm, wild = (
        np.linalg.norm(np.diff(_positions(_dance(shipped, 180, 3, energy)), axis=0), axis=-1).mean()
        for energy in (0.1, 0.9)
    )
    assert wild > 1.15 * calm


@SHIPPED
def test_a_change_of_style_changes_the_dance_without_a_jump(shipped: OnnxGenerator) -> None:
    silence = FeatureSpec().silence
    shipped.reset(3)
    rows = []
    for tick in range(0, 12 * 40, 4):
        style = "waltz" if tick < 12 * 16 else "rumba"
        motion = shipped.step(MotionRequest(tick, np.tile(silence, (4, 1)), 90.0, 3, 0, style, 0.5))
        rows.append(
            np.concatenate(
                [
                    motion.rotations.reshape(4, -1),
                    motion.heading_delta_rad[:, None],
                    motion.root_delta_m,
                    motion.root_height_m[:, None],
                    motion.contacts,
                ],
                axis=1,
            )
        )
    positions = _positions(rows)
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=-1).mean(axis=1)
    change = steps[12 * 16 - 2 : 12 * 19]
    assert change.max() < 2.0 * np.quantile(steps, 0.98)
    # A waltz holds a partner: elbows and wrists keep their height; a rumba's do not.
    hands = positions[:, [20, 21], 1]
    assert hands[12 * 22 :].std(axis=0).mean() > 1.6 * hands[12 * 4 : 12 * 16].std(axis=0).mean()


def test_the_fader_of_energy_is_stretched_about_its_middle_and_keeps_its_ends() -> None:
    assert [stretch(e, 0.6) for e in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx([0.0, 0.3, 0.6, 0.8, 1.0])
