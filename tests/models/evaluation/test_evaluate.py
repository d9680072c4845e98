"""The evaluation as a whole, on a small synthetic folder: tables, resumption, protocols, refusals."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from models.artifacts import GMD_FOLDER
from models.data.dataset import PreparedData
from models.evaluation.cache import DanceCache
from models.evaluation.dancers import EvaluationPlan, evaluate
from models.evaluation.measure import MeasuredDance, RealDance, differences, frechet_over_time, system_figures
from models.evaluation.report import JSON_FILE, TABLE_FILE
from models.evaluation.stability import MeasuredMinutes, Stability
from models.music_to_dance.dances import load_dances
from models.music_to_dance.unseen_movement import unseen_movement
from models.rivals.real import RandomClip, real_dance
from models.rivals.song import Dance, Shown, Song
from tests.models.data.stepping_folder import prepared_clip, prepared_folder, write_folder
from tests.models.evaluation.small_evaluation import Swaying, evaluation

WITHOUT_MODEL = ("mean pose", "retrieval", "random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_folder(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def evaluated(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    if not (GMD_FOLDER / "manifest.json").exists():
        pytest.skip("no weights in this checkout")
    out = tmp_path_factory.mktemp("out")
    plan = EvaluationPlan(split="test", seeds=2, seconds=14.0, resamples=20, courses=("slow",), systems=WITHOUT_MODEL)
    evaluate(folder, out, plan, quiet=True)
    return out, json.loads((out / JSON_FILE).read_text())


def test_every_system_has_every_figure_with_an_interval(evaluated: tuple[Path, dict]) -> None:
    out, report = evaluated
    assert set(report["systems"]) == {"real", *("mean pose", "retrieval by bars", "random real clip")}
    assert report["songs"] == ["waltz-test-0", "chacha-test-0"]
    real, mean, random, retrieval = (
        {name: figure["value"] for name, figure in report["systems"][system].items()}
        for system in ("real", "mean pose", "random real clip", "retrieval by bars")
    )
    assert abs(real["frechet_kinetic_held-out"]) < 1e-3
    assert mean["frechet_kinetic_training"] > 3.0 * retrieval["frechet_kinetic_training"]
    assert mean["within_kinetic"] < 0.01
    assert mean["frozen"] == 1.0
    assert retrieval["feet_alignment"] > retrieval["feet_alignment_chance"] + 0.1
    assert retrieval["style_accuracy"] > 0.9
    assert random["multimodality_kinetic"] > 0.0 == real["multimodality_kinetic"]
    interval = report["systems"]["retrieval by bars"]["feet_alignment"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert set(report["floors"]) == {"kinetic", "geometric"}
    assert set(report["styles"]) == {"waltz", "chacha"}
    assert "real" not in report["courses"]["slow"]
    assert report["courses"]["slow"]["retrieval by bars"]["feet_alignment"]["value"] > 0.3
    less = report["differences"]["retrieval by bars"]
    assert set(less) == {"real", "mean pose", "random real clip"}
    assert less["mean pose"]["within_kinetic"]["high"] < 0.0, "a difference that the songs are sure of"
    systems = report["systems"]
    for name, figures in less.items():
        for figure, gap in figures.items():
            own, theirs = (systems[system][figure]["value"] for system in (name, "retrieval by bars"))
            if gap["value"] is not None:
                assert gap["value"] == pytest.approx(own - theirs, abs=1e-9), (name, figure)
    table = (out / "evaluation.md").read_text()
    for heading in (
        "test split, protocol A",
        "## Less retrieval by bars",
        "## Beat",
        "## Body",
        "## waltz",
        "## Tempo: slow",
        "(chance)",
    ):
        assert heading in table


def test_a_second_run_dances_nothing_again_and_says_the_same(folder: Path, evaluated: tuple[Path, dict]) -> None:
    out, before = evaluated
    stamps = {path: path.stat().st_mtime_ns for path in (out / "dances").rglob("*.npz")}
    assert len(stamps) == (1 + 1 + 2 + 2) * 2 + (1 + 2 + 2) * 2
    damaged = next(iter(stamps))
    damaged.write_bytes(damaged.read_bytes()[:100])
    plan = EvaluationPlan(split="test", seeds=2, seconds=14.0, resamples=20, courses=("slow",), systems=WITHOUT_MODEL)
    evaluate(folder, out, plan, quiet=True)
    after = json.loads((out / JSON_FILE).read_text())
    assert after["systems"] == before["systems"]
    assert {path: path.stat().st_mtime_ns for path in stamps if path != damaged} == {
        path: stamp for path, stamp in stamps.items() if path != damaged
    }
    assert damaged.stat().st_size > 1000


def test_protocol_b_knows_only_movement_that_is_not_repeated(folder: Path, tmp_path: Path) -> None:
    data = PreparedData.load(folder)
    dances = load_dances(data.clips)
    parts = unseen_movement(data, dances)
    assert len(parts) == len(dances.train)
    for part, whole in zip(parts, dances.train, strict=True):
        assert len(part.ticks) == len(whole.ticks) // 2
        assert np.array_equal(part.ticks, whole.ticks[: len(part.ticks)])
        assert part.bar_tick == whole.bar_tick
    if not (GMD_FOLDER / "manifest.json").exists():
        pytest.skip("no weights in this checkout")
    plan = EvaluationPlan(protocol="B", seeds=1, seconds=10.0, resamples=20, systems=("retrieval",))
    table = evaluate(folder, tmp_path, plan, quiet=True).read_text()
    assert "protocol B" in table
    assert "is left out: it has learnt the held-out movement" in table


def test_what_cannot_be_evaluated_is_the_users_error(folder: Path, tmp_path: Path) -> None:
    for changes in ({"split": "train"}, {"protocol": "C"}, {"courses": ("backwards",)}, {"seconds": 2.0}):
        with pytest.raises(UserError):
            EvaluationPlan(**changes)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no system is called"):
        evaluate(folder, tmp_path, EvaluationPlan(systems=("nobody",)), quiet=True)
    with pytest.raises(UserError, match="prepare"):
        evaluate(tmp_path / "nothing", tmp_path, EvaluationPlan(), quiet=True)


def test_tables_are_printed_as_they_are_written_however_narrow_the_window(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (GMD_FOLDER / "manifest.json").exists():
        pytest.skip("no weights in this checkout")
    monkeypatch.setenv("COLUMNS", "60")
    plan = EvaluationPlan(seeds=1, seconds=8.0, resamples=5, systems=("mean pose",))
    table = evaluate(folder, tmp_path, plan).read_text(encoding="utf-8")
    assert table in capsys.readouterr().out


def test_figures_that_cannot_be_written_leave_those_of_an_earlier_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = evaluation(tmp_path)
    earlier = {name: (tmp_path / name).read_bytes() for name in (JSON_FILE, TABLE_FILE)}
    write = Path.write_text

    def full_disk(path: Path, text: str, **how: str) -> int:
        write(path, text[:100], **how)
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="full"):
        report.save(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in earlier} == earlier


def test_tables_are_utf_8_whatever_the_system_writes(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from {evaluation.__module__} import evaluation; evaluation(Path({str(tmp_path)!r}))"
    )
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], env=plain, check=True, cwd=Path(__file__).parents[3])
    assert "Fréchet" in (tmp_path / TABLE_FILE).read_text(encoding="utf-8")


def test_data_of_other_styles_without_validation_clips_and_partly_without_music(tmp_path: Path) -> None:
    if not (GMD_FOLDER / "manifest.json").exists():
        pytest.skip("no weights in this checkout")
    training = [prepared_clip(f"{style} {i}", style, "train", seed=i) for style in ("waltz", "break") for i in (1, 2)]
    silent = replace(prepared_clip("silent", "break", "test", seed=4), has_audio=False)
    test = [prepared_clip("song", "break", "test", seed=3), silent]
    folder = write_folder(tmp_path / "data", training + test)
    plan = EvaluationPlan("test", seeds=1, seconds=8.0, resamples=5, systems=("mean pose",))
    evaluate(folder, tmp_path / "out", plan, quiet=True)
    report = json.loads((tmp_path / "out" / JSON_FILE).read_text())
    assert report["songs"] == ["song"]
    assert set(report["styles"]) == {"other"}
    assert "style_accuracy" not in report["systems"]["mean pose"]
    assert any("silent" in note for note in report["notes"])
    assert any("style accuracy is not measured" in note for note in report["notes"])
    assert "nan" not in (tmp_path / "out" / TABLE_FILE).read_text()
    nothing_heard = write_folder(tmp_path / "silent", [*training, silent])
    with pytest.raises(UserError, match="no test clip has music"):
        evaluate(nothing_heard, tmp_path / "out", plan, quiet=True)
    deaf = write_folder(tmp_path / "deaf", [*(replace(clip, has_audio=False) for clip in training), *test])
    with pytest.raises(UserError, match="no training clips with music"):
        evaluate(deaf, tmp_path / "out", plan, quiet=True)


def test_dances_too_short_to_measure_are_left_out_and_named(tmp_path: Path) -> None:
    if not (GMD_FOLDER / "manifest.json").exists():
        pytest.skip("no weights in this checkout")
    whole = [prepared_clip(name, "waltz", name, seed=i, beats=24) for i, name in enumerate(("train", "val"))]
    short = [prepared_clip(f"short {split}", "waltz", split, beats=5) for split in ("train", "val")]
    long_bar = replace(prepared_clip("long bar", "waltz", "val", beats=10), beats_per_bar=12)
    folder = write_folder(tmp_path / "data", [*whole, *short, long_bar])
    plan = EvaluationPlan(seeds=1, seconds=8.0, resamples=5, systems=("mean pose",))
    evaluate(folder, tmp_path / "out", plan, quiet=True)
    report = json.loads((tmp_path / "out" / JSON_FILE).read_text())
    assert report["songs"] == ["val"]
    assert any("short train, short val, long bar" in note for note in report["notes"])


def _real_dances(folder: Path) -> tuple[list[MeasuredDance], list[MeasuredDance]]:
    """Return the training and the validation dances, measured."""
    dances = load_dances(PreparedData.load(folder).clips)
    training, validation = (
        [MeasuredDance.of(c.name, c.style, 0, real_dance(c).shown(20.0)) for c in clips]
        for clips in (dances.train, dances.val)
    )
    return training, validation


def test_figures_tell_a_copy_from_a_stranger(folder: Path) -> None:
    training, held_out = _real_dances(folder)
    real = RealDance.of(training, held_out, held_out)
    assert real.classifier is not None
    assert real.classifier.held_out_accuracy > 0.9
    assert all(math.isfinite(floor) for floor in real.floors.values())
    itself = system_figures(training, real, 20)
    assert abs(itself["frechet_kinetic_training"].value) < 1e-3
    assert abs(itself["frechet_geometric_training"].value) < 1e-3
    over_time = frechet_over_time(training, real.references["training"]["kinetic"])
    assert len(over_time) == 5
    assert np.isfinite(over_time).all()


def test_a_dance_of_one_window_does_not_count_as_one_that_never_varies(folder: Path) -> None:
    training, held_out = _real_dances(folder)
    real = RealDance.of(training, held_out, held_out)
    short = replace(training[0], seed=1, windows={k: rows[:1] for k, rows in training[0].windows.items()})
    alone, beside = (
        system_figures(dances, real, 5)["within_kinetic"].value for dances in (training, [*training, short])
    )
    assert beside == pytest.approx(alone)


def test_more_dances_to_a_song_come_no_nearer(folder: Path) -> None:
    training, once = _real_dances(folder)
    real = RealDance.of(training, once, once)
    apart = [replace(dance, seed=1, windows={k: -rows for k, rows in dance.windows.items()}) for dance in once]
    target = real.references["training"]["kinetic"]
    names = ("frechet_kinetic_training", "frechet_geometric_held-out", "diversity_kinetic")
    one, other, both = (system_figures(set_, real, 5) for set_ in (once, apart, [*once, *apart]))
    for name in names:
        assert both[name].value == pytest.approx((one[name].value + other[name].value) / 2.0), name
    times = np.mean([frechet_over_time(set_, target) for set_ in (once, apart)], axis=0)
    assert frechet_over_time([*once, *apart], target) == pytest.approx(times)


def test_a_difference_is_surer_than_what_it_is_between(folder: Path) -> None:
    training, shown = _real_dances(folder)
    real = RealDance.of(training, shown, shown)
    same = differences(shown, shown, real, 20)
    assert all((d.value, d.low, d.high) == (0.0, 0.0, 0.0) for d in same.values() if math.isfinite(d.value))
    louder = [replace(dance, figures={k: v + 1.0 for k, v in dance.figures.items()}) for dance in training]
    gap = differences(louder, training, real, 20)["speed_m_s"]
    own = system_figures(training, real, 20)["speed_m_s"]
    assert (gap.low, gap.high) == pytest.approx((1.0, 1.0))
    assert own.high - own.low > 0.01
    assert differences(training, shown, real, 20) == {}, "no song in common"


def test_a_long_dance_that_dies_is_seen(folder: Path) -> None:
    dances = load_dances(PreparedData.load(folder).clips)
    clip = dances.train[0]
    shown = RandomClip([clip]).dance(Song.of(clip, 190.0), 0).shown(180.0)
    still = shown.joints.copy()
    still[120 * 60 :] = still[120 * 60]
    dying = Shown(still, shown.soles, shown.contacts, shown.beats_s)
    target = RealDance.of(
        [MeasuredDance.of("a", 0, 0, real_dance(c).shown(20.0)) for c in dances.train],
        [MeasuredDance.of("b", 0, 0, real_dance(clip).shown(20.0))],
        [],
    ).references["training"]["kinetic"]
    holding, died = (Stability.of([MeasuredMinutes.of(s)], target) for s in (shown, dying))
    assert holding.energy_ratio > 0.9
    assert holding.worst_ratio > 0.9
    assert died.worst_ratio < 0.1
    both = Stability.of([MeasuredMinutes.of(shown), MeasuredMinutes.of(dying)], target)
    assert both.least_energy_ratio == died.energy_ratio == died.least_energy_ratio < 0.1
    assert both.energy_ratio == pytest.approx((holding.energy_ratio + died.energy_ratio) / 2)
    assert died.frozen > 0.3
    assert died.frechet_last > 2.0 * died.frechet_first


def test_a_dance_is_kept_for_its_song_and_for_no_other(tmp_path: Path) -> None:
    clips = [prepared_clip(name, "waltz", "val", beats=24, seed=seed) for seed, name in enumerate(("桜", "富士"))]
    one, other = (Song.of(clip, 8.0) for clip in load_dances(clips).val)
    system, cache = Swaying("gmd raw"), DanceCache(tmp_path)
    kept, others = (cache.dance(system, song, 0)[1].file for song in (one, other))
    assert kept != others
    changed = replace(one, music=one.music + 1.0)
    system = Counting("gmd raw")
    cache.dance(system, one, 0)
    assert system.danced == 0
    cache.dance(system, changed, 0)
    cache.dance(system, changed, 0)
    assert system.danced == 1, "prepared anew: other music under the same name"


@dataclass
class Counting(Swaying):
    """A system that counts its dances."""

    danced: int = 0

    def dance(self, song: Song, seed: int) -> Dance:
        self.danced += 1
        return super().dance(song, seed)


def test_a_cached_long_dance_is_read_back(folder: Path, tmp_path: Path) -> None:
    dances = load_dances(PreparedData.load(folder).clips)
    system, song = RandomClip(dances.train), Song.of(dances.train[0], 130.0)
    first = DanceCache(tmp_path).minutes(system, song, 0, 125.0)
    again = DanceCache(tmp_path).minutes(system, song, 0, 125.0)
    assert first.speeds_m_s == again.speeds_m_s
    assert np.array_equal(first.last, again.last)
    assert (first.speed_ratio, first.frozen) == (again.speed_ratio, again.frozen)
    assert len(first.speeds_m_s) == 2
