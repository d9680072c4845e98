"""Whole runs of `train`: killed and resumed, on two processes, stopped early."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from engine.cli import main  # noqa: E402
from engine.errors import UserError  # noqa: E402
from models.learning import checkpoint, commands  # noqa: E402
from models.learning.finished import FinishedRun  # noqa: E402
from models.learning.fitted import require_same, summaries  # noqa: E402
from models.learning.launch import open_fabric  # noqa: E402
from models.learning.loop import Learning  # noqa: E402
from models.learning.settings import OptimiserSettings, RunSettings  # noqa: E402
from tests.models.data.random_folder import prepared_clip, write_prepared  # noqa: E402
from tests.models.learning.forked import fork, fork_both  # noqa: E402
from tests.waiting import wait_until  # noqa: E402

STEPS = 40
SETTINGS = f"""
seed = 3
device = "cpu"
bfloat16 = false
[network]
latent_size = 16
width = 16
heads = 2
encoder_layers = 1
decoder_layers = 1
window = 6
choices = 16
head_width = 16
head_blocks = 1
dropout = 0.0
[sequence]
chunks = 10
[optimiser]
steps = {STEPS}
batch = 4
warm_up_steps = 5
own_history_from = 10
[own_history]
form = "linear"
rate = 0.5
epoch_steps = 5
truth = 3
[run]
curve_every_steps = 2
evaluate_every_steps = 1000
checkpoint_every_s = 0.0
sheets = false
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "run.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(scope="module")
def straight(prepared: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return commands.train(settings, prepared, None, tmp_path_factory.mktemp("runs") / "straight")


def rows(run: Path, name: str = "curve.jsonl") -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def type_train(prepared: Path, run: Path, settings: Path) -> None:
    """Run the command as it is typed."""
    sys.argv = ["pasdedeux", "train", "--data", str(prepared), "--out", str(run), "--settings", str(settings)]
    main()


def test_a_run_killed_in_the_middle_goes_on_without_a_trace(
    prepared: Path, settings: Path, straight: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    process = fork(type_train, prepared, killed, settings)

    def is_in_the_middle() -> bool:
        assert process.exitcode is None, "it ended by itself"
        return (killed / "curve.jsonl").is_file() and len(rows_so_far(killed)) >= 8

    try:
        wait_until(is_in_the_middle, "it does not get on")
    finally:
        process.kill()
        process.join()
    stopped = json.loads((killed / "training.json").read_text())["step"]
    assert 0 < stopped < STEPS
    commands.train(settings, prepared, None, killed, resume=True)
    assert rows(killed) == rows(straight), "to the last bit"
    final = [rows(run, "evaluation.jsonl")[-1] for run in (killed, straight)]
    assert {k: v for k, v in final[0].items() if k != "seconds"} == {
        k: v for k, v in final[1].items() if k != "seconds"
    }
    weights = [(run / f"average-{STEPS}.safetensors").read_bytes() for run in (killed, straight)]
    assert weights[0] == weights[1]
    assert list((killed / "tensorboard").iterdir())


def rows_so_far(run: Path) -> list[str]:
    return (run / "curve.jsonl").read_text().splitlines()


def test_two_processes_give_the_same_curve_as_one(
    prepared: Path, settings: Path, straight: Path, tmp_path: Path
) -> None:
    together = tmp_path / "together"
    fork_both(type_train, prepared, together, settings)
    ours, theirs = rows(straight), rows(together)
    assert [row["step"] for row in theirs] == [row["step"] for row in ours]
    for name in ("latent", "joints", "velocity", "feet"):
        np.testing.assert_allclose([r[name] for r in theirs], [r[name] for r in ours], rtol=2e-3, atol=1e-5)
    assert len(rows(together, "evaluation.jsonl")) == 1, "one process measures"


class Sinking:
    """A lesson whose validation gets worse after its second evaluation."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(2, 1)
        self.objective = Square(self.model)
        self.evaluations = 0

    @property
    def fitted(self) -> dict[str, np.ndarray]:
        return {}

    def batch(self, step: int, places: range, device: torch.device) -> torch.Tensor:
        return torch.ones(len(places), 2)

    def before(self, step: int) -> None:
        pass

    def evaluate(self, average: torch.nn.Module, step: int, folder: Path) -> dict[str, float]:
        self.evaluations += 1
        return {"error": float(abs(self.evaluations - 2))}


class Square(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"square": self.model(batch).square().mean()}


@dataclass(frozen=True)
class Settings:
    seed: int = 1
    optimiser: OptimiserSettings = field(
        default_factory=lambda: OptimiserSettings(steps=1000, batch=2, warm_up_steps=0)
    )
    run: RunSettings = field(default_factory=lambda: RunSettings(evaluate_every_steps=5, patience=3, watch="error"))


def test_it_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    lesson = Sinking()
    learning = Learning(lesson, Settings(), open_fabric("cpu"))
    learning.run(tmp_path)
    assert (learning.progress.best_step, learning.step, lesson.evaluations) == (10, 25, 5)


def test_a_figure_to_watch_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    settings = Settings(run=RunSettings(evaluate_every_steps=5, watch="eror"))
    with pytest.raises(UserError, match="error"):
        Learning(Sinking(), settings, open_fabric("cpu")).run(tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run_and_not_the_checkpoint(tmp_path: Path) -> None:
    lesson = Sinking()
    learning = Learning(lesson, Settings(), open_fabric("cpu"))
    learning.take_step()
    lesson.batch = lambda step, places, device: torch.full((len(places), 2), float("nan"))  # type: ignore[method-assign]
    before = [p.detach().clone() for p in lesson.model.parameters()]
    with pytest.raises(UserError, match="step 1: the loss is not finite"):
        learning.take_step()
    assert all(torch.equal(a, b) for a, b in zip(before, lesson.model.parameters(), strict=True))


def test_unknown_tasks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('task = "paint"\n')
    with pytest.raises(UserError, match="paint"):
        commands.train(path, tmp_path, None, tmp_path / "out")


def test_a_task_without_its_data_is_refused(settings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data"):
        commands.train(settings, None, None, tmp_path / "out")


def test_a_finished_run_is_found_whole_or_in_part(straight: Path, tmp_path: Path) -> None:
    found = FinishedRun.find(straight)
    assert (found.task, found.step, found.steps()) == ("gmd", STEPS, [STEPS])
    assert found.weights()[0] == STEPS
    assert found.hours_until(STEPS) == pytest.approx(found.seconds / 3600.0)
    # The part of a run that learnt both has its settings, and its name, in the whole.
    (tmp_path / "gmd").mkdir()
    facts = json.loads((straight / "training.json").read_text())
    facts["settings"] = {"task": "dual", "name": "both", "gmd": facts["settings"]}
    (tmp_path / "training.json").write_text(json.dumps(facts))
    assert FinishedRun.find(tmp_path / "gmd").settings == {**found.settings, "name": "both"}
    for path in (tmp_path / "nowhere" / "run", tmp_path / "gdm"):
        with pytest.raises(UserError, match="training run"):
            FinishedRun.find(path)
    with pytest.raises(UserError, match="training run"):
        FinishedRun.find(tmp_path / "gmd").weights()


def test_an_export_that_fails_leaves_the_one_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(run: Path, prepared: Path, folder: Path, **how: object) -> None:
        (folder / "model.onnx").write_text("half of")
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr("models.music_to_dance.run.export", full_disk)
    run, good = tmp_path / "run", tmp_path / "good"
    for folder in (run, good):
        folder.mkdir()
    (run / "training.json").write_text(json.dumps({"settings": {"task": "gmd"}, "step": 1, "seconds": 1.0}))
    (good / "model.onnx").write_text("a whole model")
    for folder in (good, tmp_path / "new"):
        with pytest.raises(OSError, match="full"):
            commands.export(run, tmp_path, None, folder)
    assert [path.read_text() for path in good.iterdir()] == ["a whole model"]
    assert not (tmp_path / "new").exists()


def test_a_run_goes_on_with_the_settings_it_began_with(
    prepared: Path, straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Path(shutil.copytree(straight, tmp_path / "run"))
    commands.train(None, prepared, None, run, resume=True)
    assert "other settings" not in caplog.text
    with pytest.raises(UserError, match="trains gmd, not gdm"):
        commands.train(None, prepared, None, run, resume=True, model="gdm")
    other = tmp_path / "other.toml"
    other.write_text(SETTINGS.replace("seed = 3", "seed = 4").replace("checkpoint_every_s = 0.0", ""))
    commands.train(other, prepared, None, run, resume=True)
    assert "other settings than it began with: seed = 4 (was 3)" in caplog.text


def test_a_run_is_not_joined_with_other_data(prepared: Path, straight: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(straight, tmp_path / "run"))
    other = Path(shutil.copytree(prepared, tmp_path / "prepared"))
    prepared_clip("one", "waltz", "train", 9).save(other / "clips" / "one.npz")
    with pytest.raises(UserError, match="trained on other data: motion mean") as caught:
        commands.train(None, other, None, run, resume=True)
    assert "--data" in (caught.value.remedy or "")
    with pytest.raises(UserError, match="trained on other data"):
        commands.export(run, other, None, tmp_path / "model")


def test_a_run_that_does_not_say_its_data_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Learning(Sinking(), Settings(), open_fabric("cpu"))
    run.take_step()
    run.save(tmp_path)
    path = tmp_path / "training.safetensors"
    facts = json.loads((tmp_path / "training.json").read_text())
    del facts["fitted"]
    checkpoint.save_file(checkpoint.load_file(path), path, metadata={"progress": json.dumps(facts)})
    (tmp_path / "training.json").write_text(json.dumps(facts))
    with caplog.at_level(logging.WARNING):
        again = Learning(Sinking(), Settings(), open_fabric("cpu"))
        again.resume(tmp_path)
        FinishedRun.find(tmp_path).require_same({})
    assert again.step == 1
    assert caplog.text.count("does not say which data") == 2


def test_what_was_fitted_is_known_through_rounding_and_not_through_a_sign() -> None:
    decoder = np.random.default_rng(0).normal(size=(16, 608)).astype(np.float32)
    saved = summaries({"decoder": decoder})
    require_same(saved, {"decoder": decoder * np.float32(1.0 + 1e-6)}, Path("run"))
    other = decoder.copy()
    other[3] *= -1.0
    with pytest.raises(UserError, match="decoder"):
        require_same(saved, {"decoder": other}, Path("run"))


def test_a_run_is_not_overwritten(prepared: Path, settings: Path, straight: Path) -> None:
    with pytest.raises(UserError, match="--resume"):
        commands.train(settings, prepared, None, straight)
    assert rows(straight)[-1]["step"] == STEPS
