"""Every training run that ships is read, and the curricula end where they say."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from engine.errors import UserError
from models.dual.settings import DualSettings
from models.learning import commands
from models.learning.own_history import stretch_length
from models.music_to_dance.settings import TrainingSettings

FOLDER = Path(__file__).parents[3] / "config" / "training"
ABLATIONS = FOLDER / "ablations"
RECIPES = sorted(FOLDER.rglob("*.toml"))
UNSEEN = ABLATIONS / "unseen"
UNSEEN_RUNS = [path for path in sorted(UNSEEN.glob("*.toml")) if path.stem != "gmd"]
FORMS = ("const", "linear", "square", "exponential")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_is_read(path: Path) -> None:
    settings = commands.settings_of(path)
    assert settings.run.evaluate_every_steps <= settings.optimiser.steps


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_its_checkpoint_says_the_same(path: Path) -> None:
    settings = commands.settings_of(path)
    assert commands.settings_from(json.loads(json.dumps(asdict(settings))), "a checkpoint") == settings


def test_every_model_has_a_name_of_its_own_in_a_table() -> None:
    seen = [path for path in RECIPES if path.parent != UNSEEN and path.stem not in ("base", "fixed_rate")]
    names = [commands.settings_of(path).name for path in seen]
    assert len(set(names)) == len(names) - 1, "only dual.toml and its ablation share one"
    names = [commands.settings_of(path).name for path in UNSEEN_RUNS]
    assert len(set(names)) == len(names)


def test_the_growing_curricula_end_at_the_same_length() -> None:
    for form in FORMS[1:]:
        settings = TrainingSettings.load(ABLATIONS / f"curriculum_{form}.toml")
        own = settings.own_history
        steps = settings.optimiser.steps
        assert stretch_length(own, 1 / own.epoch_steps, settings.sequence.chunks) == 0
        assert stretch_length(own, (steps - 1) / own.epoch_steps, settings.sequence.chunks) in (29, 30, 31)


def test_the_curricula_differ_from_their_base_in_own_history_only() -> None:
    base = TrainingSettings.load(ABLATIONS / "base.toml")
    for form in FORMS:
        other = TrainingSettings.load(ABLATIONS / f"curriculum_{form}.toml")
        assert other.own_history.form == form
        assert other.optimiser.own_history_from == 1
        optimiser = replace(other.optimiser, own_history_from=base.optimiser.own_history_from)
        assert replace(other, name=base.name, own_history=base.own_history, optimiser=optimiser) == base


def test_the_ablations_differ_from_the_shipped_recipe_in_their_budget() -> None:
    shipped, base = TrainingSettings.load(FOLDER / "gmd.toml"), TrainingSettings.load(ABLATIONS / "base.toml")
    optimiser = replace(base.optimiser, steps=shipped.optimiser.steps)
    share = base.optimiser.own_history_from / base.optimiser.steps
    assert share == pytest.approx(shipped.optimiser.own_history_from / shipped.optimiser.steps, abs=1e-3)
    optimiser = replace(optimiser, own_history_from=shipped.optimiser.own_history_from)
    assert replace(base, name=shipped.name, run=shipped.run, optimiser=optimiser) == shipped
    fixed = TrainingSettings.load(ABLATIONS / "fixed_rate.toml")
    assert replace(fixed, time="beats") == base


def test_the_dual_ablations_differ_in_their_terms_only() -> None:
    whole = DualSettings.load(ABLATIONS / "dual.toml")
    others = [DualSettings.load(path) for path in sorted(ABLATIONS.glob("dual_*.toml"))]
    assert len(others) == 5
    for other in [whole, *others]:
        same = replace(other, name=whole.name, terms=whole.terms, optimiser=whole.optimiser, run=whole.run)
        assert same == whole
        assert other.optimiser == replace(whole.optimiser, steps=other.optimiser.steps)
        for term in (other.terms.dance, other.terms.music):
            assert other.optimiser.steps - term.begin == 1200, "as many steps of each single task"
        for cycle in (other.terms.cycle_dance, other.terms.cycle_music):
            assert not cycle.weight or cycle.begin - other.terms.dance.begin == 600
        assert bool(other.terms.bridge.weight) >= bool(other.terms.cycle_dance.weight)


def of_unseen_movement(gmd: TrainingSettings) -> TrainingSettings:
    """Return the same settings with what a recipe of unseen movement may change of its dancer."""
    network, sequence = replace(gmd.network, window=20), replace(gmd.sequence, chunks=20)
    return replace(gmd, protocol="B", network=network, sequence=sequence)


@pytest.mark.parametrize("path", UNSEEN_RUNS, ids=lambda path: path.stem)
def test_a_run_of_unseen_movement_is_the_run_of_its_name_with_shorter_sequences(path: Path) -> None:
    unseen, seen = commands.settings_of(path), commands.settings_of(ABLATIONS / path.name)
    if isinstance(unseen, DualSettings) and isinstance(seen, DualSettings):
        assert unseen.optimiser == replace(seen.optimiser, batch=unseen.optimiser.batch)
        gmd = replace(of_unseen_movement(seen.gmd), sequence=replace(seen.gmd.sequence, chunks=18))
        assert unseen == replace(seen, gmd=gmd, optimiser=unseen.optimiser)
        return
    assert isinstance(unseen, TrainingSettings)
    assert isinstance(seen, TrainingSettings)
    own, chunks = unseen.own_history, unseen.sequence.chunks
    assert unseen.optimiser == replace(seen.optimiser, batch=unseen.optimiser.batch)
    assert unseen == replace(
        of_unseen_movement(seen), optimiser=unseen.optimiser, own_history=replace(seen.own_history, rate=own.rate)
    )
    if own.form in FORMS[1:]:
        epochs = (unseen.optimiser.steps - 1) / own.epoch_steps
        assert stretch_length(own, epochs, 2 * chunks) in (chunks - 1, chunks), "nearly all of a sequence at the end"


def test_a_base_is_filled_in_and_refused_when_it_is_missing_or_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('task = "gmd"\n[optimiser]\nsteps = 7\nbatch = 3\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\n[optimiser]\nsteps = 9\n')
    settings = TrainingSettings.load(tmp_path / "b.toml")
    assert (settings.optimiser.steps, settings.optimiser.batch) == (9, 3)
    (tmp_path / "c.toml").write_text('base = "c.toml"\n')
    with pytest.raises(UserError, match="its own base"):
        TrainingSettings.load(tmp_path / "c.toml")
    (tmp_path / "d.toml").write_text('base = "nowhere.toml"\n')
    with pytest.raises(UserError, match=r"nowhere\.toml"):
        TrainingSettings.load(tmp_path / "d.toml")
