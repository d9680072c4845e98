"""The table of the field: what is trained, in which order, and what happens to trainings that fail or are finished."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import UserError

pytest.importorskip("torch")

from models.artifacts import MANIFEST
from models.evaluation.dancers import EvaluationPlan
from models.evaluation.facts import SystemFacts
from models.evaluation.html.page import PageSettings
from models.field import table
from models.field.registry import SYSTEMS
from models.field.table import TABLE, ProtocolSettings, TableSettings, make_table, trainings
from models.learning.commands import settings_of
from models.rivals.retrained import Retrained, together


def test_the_shipped_table_has_every_system_under_both_protocols() -> None:
    shipped = TableSettings.load(TABLE)
    for protocol in (shipped.A, shipped.B):
        assert {Path(recipe).stem for recipe in protocol.systems} >= set(SYSTEMS)
    assert len(shipped.A.seeds) == 3
    names = [training.name for training in trainings(shipped)]
    assert len(set(names)) == len(names)
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    assert f"({len(names)} trainings," in readme


def test_every_system_is_trained_once_before_any_is_trained_twice() -> None:
    settings = TableSettings(ProtocolSettings(["a.toml", "x/b.toml"], [3, 4], ["c.toml"]), ProtocolSettings(["a.toml"]))
    assert [t.name for t in trainings(settings)] == ["A-a-3", "A-b-3", "A-a-4", "A-b-4", "A-c-3", "B-a-1"]


def test_a_table_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[A]\nsystems = ["field/danse.toml"]\n')
    with pytest.raises(UserError, match=r"mine\.toml: no recipe field/danse\.toml"):
        TableSettings.load(path)
    path.write_text("[A]\nsystem = []\n")
    with pytest.raises(UserError, match="did you mean 'systems'"):
        TableSettings.load(path)


@dataclass
class Processes:
    """Stands in for the processes that train and export: notes what was asked, and fails where it is told to."""

    fails: str
    asked: list[list[str]]

    def run(self, command: list[str], **_: Any) -> SimpleNamespace:
        verb, *rest = command[4:]
        self.asked.append([verb, *rest])
        if self.fails and self.fails in " ".join(rest):
            return SimpleNamespace(returncode=1)
        if verb == "export":
            weights = Path(rest[rest.index("--out") + 1])
            weights.mkdir(parents=True)
            kind = '"gmd"' if "base" in weights.name else '"frames"'
            (weights / MANIFEST).write_text(f'{{"kind": {kind}}}')
        return SimpleNamespace(returncode=0)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def evaluate(prepared: Path, out: Path, plan: EvaluationPlan, models: Any, fixed_rate: Any, rivals: Any) -> None:
        found.append({"protocol": plan.protocol, "models": list(models), "rivals": [path.name for path in rivals]})

    monkeypatch.setattr(table, "evaluate", evaluate)
    monkeypatch.setattr(table, "write_page", lambda folders, out, page: out / "evaluation.html")
    return found


def test_what_fails_is_left_out_and_what_is_finished_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[dict[str, Any]]
) -> None:
    settings = TableSettings(
        ProtocolSettings(["ablations/base.toml", "field/tang_2018.toml", "field/audio_to_body.toml"]),
        ProtocolSettings(["field/tang_2018.toml"]),
    )
    processes = Processes("audio_to_body", [])
    monkeypatch.setattr(table.subprocess, "run", processes.run)
    out = tmp_path / "out"
    make_table(tmp_path, out, settings, EvaluationPlan(), PageSettings())
    commands = " ".join(command[0] for command in processes.asked)
    assert commands == "train export train export train train export"
    assert [(m["protocol"], m["rivals"]) for m in measured] == [("A", ["A-tang_2018-1"]), ("B", ["B-tang_2018-1"])]
    assert [path.name for path in measured[0]["models"]] == ["gmd", "A-base-1"]
    recipe = settings_of(out / "recipes" / "B-tang_2018-1.toml")
    assert (recipe.protocol, recipe.seed, recipe.model) == ("B", 1, "tang_2018")

    processes.fails, processes.asked = "", []
    make_table(tmp_path, out, settings, EvaluationPlan(), PageSettings())
    assert [command[0] for command in processes.asked] == ["train", "export"], "only what had failed"
    assert measured[2]["rivals"] == ["A-tang_2018-1", "A-audio_to_body-1"]


def test_nothing_trained_is_an_error_that_says_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table.subprocess, "run", Processes("field", []).run)
    settings = TableSettings(ProtocolSettings(["field/tang_2018.toml"]))
    with pytest.raises(UserError, match="logs"):
        make_table(tmp_path, tmp_path / "field", settings, EvaluationPlan(), PageSettings())


class _Dancer:
    seeded, endless, courses = True, True, ("steady",)

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.key, self.facts = name, f"{name}{seed}", SystemFacts(training_seeds=(seed,))

    def dance(self, song: object, seed: int) -> Any:
        return (self.key, seed)


def test_trainings_of_one_system_take_turns() -> None:
    ours, theirs = [_Dancer("ours", seed) for seed in (1, 2, 3)], _Dancer("theirs", 1)
    systems = together([ours[0], theirs, *ours[1:]])  # type: ignore[list-item]
    assert [system.name for system in systems] == ["ours", "theirs"]
    assert systems[1] is theirs
    assert [systems[0].dance(None, seed) for seed in range(4)] == [  # type: ignore[arg-type]
        ("ours1", 0),
        ("ours2", 1),
        ("ours3", 2),
        ("ours1", 3),
    ]
    assert SystemFacts.of(systems[0]).training_seeds == (1, 2, 3)
    with pytest.raises(UserError, match="ours and theirs"):
        Retrained([ours[0], theirs])  # type: ignore[list-item]
