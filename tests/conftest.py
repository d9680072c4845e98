"""What holds for every test: hypothesis tries the same examples every time and never looks at the clock; and how the
tests are shared out, so that the processes of a run are busy to its end and end together."""

from __future__ import annotations

import gc

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling, Scheduling

# A deadline, or a health check of how fast examples come, would measure the machine and what else runs on it.
settings.register_profile(
    "pasdedeux", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("pasdedeux")

_TRAINING = tuple(
    f"tests/models/{room}/" for room in ("learning", "dual", "field", "players", "music_to_dance", "dance_to_music")
)
"""Where models are trained and exported. One process has all of it, since what that loads, and torch's exporter when it
first writes a graph, take ten seconds before they do anything."""
_WAITING = ("tests/bridges/", "tests/engine/audio/", "tests/engine/seeing/", "tests/engine/test_runner.py")
"""Where tests mostly wait: for sound to be played, a browser, other programs, time-outs. Beside the training, then."""
_LONG = ("tests/engine/cli/", "tests/engine/crowds/", "tests/models/evaluation/")
"""Rooms whose files take ten seconds and more. What takes little comes last."""


class _Sharing(LoadFileScheduling):
    """The tests of a file belong to one process, and so do those of the rooms that train."""

    def _split_scope(self, nodeid: str) -> str:
        return "training" if nodeid.startswith(_TRAINING) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    return _Sharing(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long (with `--no-loadscope-reorder`)."""
    order = (_TRAINING, _WAITING, _LONG)
    items.sort(key=lambda item: next((k for k, rooms in enumerate(order) if item.nodeid.startswith(rooms)), len(order)))


def pytest_collection_finish() -> None:
    """What was imported and collected stays until the end: who looks for garbage need not look there every time."""
    gc.collect()
    gc.freeze()
