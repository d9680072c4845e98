"""One system that was trained several times: its dances are those of all its trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.errors import UserError
from models.evaluation.facts import SystemFacts
from models.rivals.song import Dance, DanceSystem, Song


class Retrained:
    """Trainings of one system, which differ in their seed: dance seed k is danced by training k mod n.

    Args:
        trainings: of one name.

    Raises:
        UserError: they have several names.
    """

    def __init__(self, trainings: Sequence[DanceSystem]) -> None:
        names = {training.name for training in trainings}
        if len(names) != 1:
            raise UserError(f"trainings of one system are called {' and '.join(sorted(names))}", "export them anew")
        self._trainings = tuple(trainings)
        first, facts = trainings[0], [SystemFacts.of(training) for training in trainings]
        self.name, self.seeded, self.endless, self.courses = first.name, True, first.endless, first.courses
        self.key = "-".join(training.key for training in trainings)
        self.facts = replace(facts[0], training_seeds=tuple(seed for fact in facts for seed in fact.training_seeds))

    def dance(self, song: Song, seed: int) -> Dance:
        """Return the whole dance."""
        return self._trainings[seed % len(self._trainings)].dance(song, seed)


def together(systems: Sequence[DanceSystem]) -> list[DanceSystem]:
    """Return the systems, those of one name as one, in the order in which names first come."""
    by_name: dict[str, list[DanceSystem]] = {}
    for system in systems:
        by_name.setdefault(system.name, []).append(system)
    return [found[0] if len(found) == 1 else Retrained(found) for found in by_name.values()]
