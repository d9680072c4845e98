"""What holds for every test: hypothesis tries the same examples every time and never looks at the clock, and what takes
long begins first."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# A deadline, or a health check of how fast examples come, would measure the machine and what else runs on it.
settings.register_profile(
    "pasdedeux", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("pasdedeux")

_LONG = (
    "models/learning",
    "models/dual",
    "models/field",
    "models/music_to_dance",
    "engine/cli",
    "engine/crowds",
    "bridges",
    "models/evaluation",
    "models/players",
)
"""Rooms whose files take half a minute and more, of few tests each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files, so that the processes of a run end together (with `--no-loadscope-reorder`)."""

    def place(item: pytest.Item) -> int:
        return next((k for k, room in enumerate(_LONG) if f"/tests/{room}/" in item.path.as_posix()), len(_LONG))

    items.sort(key=place)
