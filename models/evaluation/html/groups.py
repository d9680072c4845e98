"""Which systems belong together in a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from models.evaluation.facts import SystemFacts
from models.field.registry import SYSTEMS

REAL, SIMPLE, OURS, FIELD = "Real dance", "Simple rivals", "Ours", "Systems of the field"
ABLATION = "Ablation: "
_ORDER = (REAL, OURS, FIELD, SIMPLE)
_SIMPLE_NAMES = ("random real clip", "mean pose", "nearest music", "retrieval by bars")
_ABLATIONS: Mapping[str, Sequence[str]] = {
    "encoder": ("encoder",),
    "curriculum": ("curriculum", "teacher", "const", "exponential", "linear", "square"),
    "musical time": ("at 25 frames a second", "fixed_rate"),
    "dual learning": ("single", "dual", "dual_single", "dual_without"),
}
"""What the recipes of ablations (`config/training`) have in the names of what they train, as words of their own."""


def group_of(name: str, facts: SystemFacts | None) -> str:
    """Return the group that a system says it is of, or else the one that its name tells."""
    if facts is not None and facts.group:
        return facts.group
    if name == "real":
        return REAL
    if name in _SIMPLE_NAMES:
        return SIMPLE
    parts = re.split(r"[\s_-]+", name.lower())
    for ablation, words in _ABLATIONS.items():
        if any(word in parts or (not word.isalpha() and word in name.lower()) for word in words):
            return ABLATION + ablation
    return FIELD if any(name.lower().startswith(system) for system in SYSTEMS) else OURS


def grouped(names: Iterable[str], facts: Mapping[str, SystemFacts]) -> dict[str, list[str]]:
    """Return names by group: real dance, ours, the field's, simple rivals, then the ablations."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(group_of(name, facts.get(name)), []).append(name)
    known = [group for group in _ORDER if group in found]
    return {group: found[group] for group in [*known, *sorted(g for g in found if g not in _ORDER)]}


def base_of(members: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return what an ablation leaves as it is: systems whose name is the beginning of a member's."""
    members = list(members)
    return [n for n in names if n not in members and any(m.startswith(n) for m in members)]
