"""The field on one table, by one command: every system trained, exported and measured on the same songs.

What is trained is data (`config/tables/field.toml`). Each training is a process of its own; what is finished is not
done again, what was stopped goes on, and what fails is named while the rest goes on.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.errors import UserError
from models.artifacts import GMD_FOLDER, MANIFEST, kind_of
from models.evaluation.dancers import EvaluationPlan, evaluate
from models.evaluation.html.page import PageSettings, write_page
from models.learning.checkpoint import is_run
from models.learning.settings import build, load_toml

log = logging.getLogger(__name__)

RECIPES = Path(__file__).parents[2] / "config" / "training"
TABLE = RECIPES.parent / "tables" / "field.toml"
_OURS = "gmd"
"""Kind of the artifacts of our own model."""


@dataclass(frozen=True)
class ProtocolSettings:
    """What is trained for one protocol.

    Attributes:
        systems: recipes, by their place in `config/training`.
        seeds: each of them is trained with.
        ablations: recipes that are trained with the first seed only.
    """

    systems: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [1])
    ablations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TableSettings:
    """The table as data.

    Attributes:
        A: protocol A, unseen songs.
        B: protocol B, unseen movement.
    """

    A: ProtocolSettings = field(default_factory=ProtocolSettings)
    B: ProtocolSettings = field(default_factory=ProtocolSettings)

    @staticmethod
    def load(path: Path) -> TableSettings:
        """Read a TOML file. Raises UserError for a missing file, bad TOML, an unknown name or a missing recipe."""
        settings = build(TableSettings, load_toml(path), path.name)
        for protocol in (settings.A, settings.B):
            for recipe in (*protocol.systems, *protocol.ablations):
                if not (RECIPES / recipe).is_file():
                    raise UserError(f"{path.name}: no recipe {recipe}", f"recipes are in {RECIPES}")
        return settings


@dataclass(frozen=True)
class Training:
    """One training of a table."""

    recipe: str
    seed: int
    protocol: str

    @property
    def name(self) -> str:
        """Return the name of its folders."""
        return f"{self.protocol}-{Path(self.recipe).stem}-{self.seed}"


def trainings(settings: TableSettings) -> Iterator[Training]:
    """Yield all trainings of a table: the first seed of every system before any second one."""
    for protocol, wanted in (("A", settings.A), ("B", settings.B)):
        seeds = wanted.seeds or [1]
        for seed in seeds:
            yield from (Training(recipe, seed, protocol) for recipe in wanted.systems)
        yield from (Training(recipe, seeds[0], protocol) for recipe in wanted.ablations)


def make_table(
    prepared: Path, out: Path, settings: TableSettings, plan: EvaluationPlan, page: PageSettings, jobs: int = 1
) -> Path:
    """Train, export and measure all that is not yet; write the tables and their page; return the page.

    Args:
        prepared: folder made by `pasdedeux prepare`.
        out: of everything.
        settings: what is trained.
        plan: how it is measured; its protocol is set here.
        page: of the report.
        jobs: trainings at once.

    Raises:
        UserError: nothing could be trained, or the data cannot be used.
    """
    todo = list(trainings(settings))
    with ThreadPoolExecutor(jobs) as pool:
        done = list(pool.map(lambda training: _trained(training, prepared, out), todo))
    finished = [training for training, good in zip(todo, done, strict=True) if good]
    if not finished:
        raise UserError("no training could be finished", f"see the logs in {out / 'logs'}")
    for protocol in sorted({training.protocol for training in finished}):
        folders = [out / "weights" / t.name for t in finished if t.protocol == protocol]
        ours = [folder for folder in folders if kind_of(folder) == _OURS]
        rivals = [folder for folder in folders if folder not in ours]
        shipped = [GMD_FOLDER] if protocol == "A" or not ours else []
        evaluate(prepared, out / protocol, replace(plan, protocol=protocol), [*shipped, *ours], (), rivals)
    return write_page([out], out, page)


def _trained(training: Training, prepared: Path, out: Path) -> bool:
    """Train and export, as far as that has not been done; return whether its weights are there."""
    weights, run = out / "weights" / training.name, out / "runs" / training.name
    if (weights / MANIFEST).is_file():
        return True
    for folder in ("logs", "recipes"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    recipe = out / "recipes" / f"{training.name}.toml"
    base = os.path.relpath(RECIPES / training.recipe, recipe.parent)
    recipe.write_text(f'base = "{Path(base).as_posix()}"\nseed = {training.seed}\nprotocol = "{training.protocol}"\n')
    common = ["--data", str(prepared)]
    commands = [
        ["train", "--settings", str(recipe), *common, "--out", str(run), *(["--resume"] if is_run(run) else [])],
        ["export", str(run), *common, "--out", str(weights)],
    ]
    with (out / "logs" / f"{training.name}.txt").open("a") as log_file:
        for command in commands:
            log.info("%s: %s", training.name, command[0])
            # A process of its own: a training that dies takes nothing with it.
            done = subprocess.run(
                [sys.executable, "-m", "engine", "--verbose", *command], stdout=log_file, stderr=log_file, check=False
            )
            if done.returncode:
                log.warning("%s: %s failed, see %s", training.name, command[0], log_file.name)
                return False
    return True
