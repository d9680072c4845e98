"""Dancing to Music: whole runs of two stages, and what is exported of them, measured and on the stage."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
import torch

from engine.errors import UserError
from engine.stage import build_generator
from engine.types import MotionRequest
from models.data.dataset import PreparedData
from models.evaluation.facts import SystemFacts
from models.field.dancing_to_music.artifact import COMPOSE_FILE, UnitManifest
from models.field.dancing_to_music.export import export
from models.field.dancing_to_music.generator import UnitGenerator
from models.field.dancing_to_music.settings import UNITS_FOLDER, DancingToMusicSettings
from models.field.dancing_to_music.system import UnitSystem
from models.field.system import rival_systems
from models.learning import commands
from models.music_to_dance.conditioning import STYLES
from models.music_to_dance.dances import load_dances
from models.rivals.song import Song
from tests.models.data.random_folder import write_prepared

ROOT = Path(__file__).parents[3]
TOML = """
task = "field"
model = "dancing_to_music"
device = "cpu"
[network]
initial = 4
movement = 8
dance = 8
style = 6
style_noise = 4
unit_width = 16
dance_width = 16
units = 2
[hearing]
ticks = 24
[decomposition]
steps = 3
batch = 4
warm_up_steps = 2
learning_rate = 2e-3
[optimiser]
steps = 2
batch = 4
warm_up_steps = 2
learning_rate = 2e-3
[run]
watch = "frechet"
evaluate_every_steps = 100
curve_every_steps = 1
sheets = false
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TOML)
    return path


@pytest.fixture(scope="module")
def trained(prepared: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "run"
    return commands.train(recipe, prepared, None, out, model="dancing_to_music")


@pytest.fixture(scope="module")
def exported(trained: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "system"
    commands.export(trained, prepared, None, folder)
    return folder


def test_a_rival_keeps_its_name(trained: Path, prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keeps its name"):
        commands.export(trained, prepared, None, tmp_path, name="ours")


@pytest.fixture(scope="module")
def song(prepared: Path) -> Song:
    return Song.of(load_dances(PreparedData.load(prepared).clips).val[0], 20.0)


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]


def test_a_run_has_both_stages_and_dances(trained: Path) -> None:
    assert rows(trained / UNITS_FOLDER)[-1]["step"] == 3
    assert rows(trained)[-1]["step"] == 2
    units = json.loads((trained / UNITS_FOLDER / "evaluation.jsonl").read_text().splitlines()[-1])
    assert {"val_unit", "val_style_accuracy"} <= set(units)
    assert np.isfinite(json.loads((trained / "evaluation.jsonl").read_text().splitlines()[-1])["frechet"])


def test_a_run_stopped_in_either_stage_goes_on_without_a_trace(
    prepared: Path, recipe: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for step in range(30):
        commands.train(recipe, prepared, None, out, resume=step > 0, minutes=1e-9)
        if (out / "curve.jsonl").is_file() and rows(out)[-1]["step"] == 2:
            break
        if step == 0:
            with pytest.raises(UserError, match="--resume"):
                commands.train(recipe, prepared, None, out)
    assert rows(out) == rows(trained)
    assert rows(out / UNITS_FOLDER) == rows(trained / UNITS_FOLDER)
    newest = [(run / "average-2.safetensors").read_bytes() for run in (out, trained)]
    assert newest[0] == newest[1]


def test_there_must_be_a_run_to_go_on_from(prepared: Path, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run"):
        commands.train(recipe, prepared, None, tmp_path / "none", resume=True)


def test_the_composition_leaves_the_units_as_they_were(trained: Path) -> None:
    from safetensors.torch import load_file

    whole = load_file(trained / "average-2.safetensors")
    units = load_file(trained / UNITS_FOLDER / "average-3.safetensors")
    assert all(torch.equal(whole[f"decomposition.{name}"], value) for name, value in units.items())


def test_a_seed_is_a_dance(exported: Path, song: Song) -> None:
    system = UnitSystem(exported)
    first, again, other = (system.dance(song, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.rotations, again.rotations)
    np.testing.assert_array_equal(first.translation_m, again.translation_m)
    assert np.abs(first.rotations - other.rotations).max() > 1e-3
    assert np.isfinite(first.rotations).all()
    assert len(first.time_s) >= len(song.music) - 4
    np.testing.assert_allclose(system.joins_s(song)[:2], song.beats_s[[4, 8]])


def test_it_is_measured_beside_others_and_says_what_it_is(
    exported: Path, trained: Path, song: Song, tmp_path: Path
) -> None:
    notes: list[str] = []
    raw, shown = rival_systems([exported], "A", notes, shown=True)
    assert (raw.name, shown.name) == ("dancing_to_music", "dancing_to_music as shown")
    assert SystemFacts.of(raw).parameters == UnitManifest.load(exported).parameters > 1000
    assert SystemFacts.of(raw).lookahead.startswith("none")
    assert shown.dance(replace(song, music=song.music[:96], tempo_bpm=song.tempo_bpm[:96]), 0).rotations.ndim == 3
    assert rival_systems([exported], "B", notes) == []
    assert len(notes) == 1


def request(tick: int, song: Song, **changes: object) -> MotionRequest:
    values = {
        "first_tick": tick,
        "music": song.music[tick : tick + 4],
        "tempo_bpm": 100.0,
        "beats_per_bar": 3,
        "bar_tick": 0,
        "style": "waltz",
        "energy": 0.5,
    }
    return MotionRequest(**(values | changes))  # type: ignore[arg-type]


def test_it_dances_on_the_stage(exported: Path, song: Song) -> None:
    from engine.features import FeatureExtractor
    from engine.settings import load_show

    show = load_show(None, [f'dancer.model="{exported}"'])
    generator = build_generator(show, FeatureExtractor())
    assert isinstance(generator, UnitGenerator)
    assert set(generator.info.styles) <= set(STYLES)
    generator.reset(5)
    once = [generator.step(request(tick, song)) for tick in range(0, 120, 4)]
    generator.reset(5)
    again = [generator.step(request(tick, song)) for tick in range(0, 120, 4)]
    assert all(np.array_equal(a.rotations, b.rotations) for a, b in zip(once, again, strict=True))
    silent = request(120, song, music=np.full((4, song.music.shape[1]), np.nan, np.float32), tempo_bpm=float("nan"))
    assert all(np.isfinite(generator.step(replace(silent, first_tick=t)).rotations).all() for t in range(120, 240, 4))


def test_what_does_not_fit_is_refused(exported: Path, trained: Path, prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="back end"):
        UnitGenerator(exported, backend="tensorrt")
    broken = Path(shutil.copytree(exported, tmp_path / "broken"))
    (broken / COMPOSE_FILE).write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        UnitManifest.load(broken)
    other = Path(shutil.copytree(exported, tmp_path / "other"))
    manifest = UnitManifest.load(other)
    for change, said in (
        ({"kind": "frames"}, "kind"),
        ({"skeleton": "x"}, "skeleton"),
        ({"ticks_per_beat": 4}, "ticks"),
    ):
        replace(manifest, **change).save(other)
        with pytest.raises(UserError, match=said):
            UnitManifest.load(other)
    replace(manifest, feature_spec="other").save(other)
    with pytest.raises(UserError, match="features"):
        UnitGenerator(other)
    with pytest.raises(UserError, match="training run"):
        export(trained, prepared, tmp_path / "out", step=7)


def test_a_recipe_is_strict() -> None:
    settings = commands.settings_of(ROOT / "config" / "training" / "field" / "dancing_to_music.toml")
    assert isinstance(settings, DancingToMusicSettings)
    with pytest.raises(UserError, match="poses"):
        DancingToMusicSettings.of({"unit": {"beats": 3}})
    with pytest.raises(UserError, match="did you mean 'movement'"):
        DancingToMusicSettings.of({"network": {"movment": 3}})
