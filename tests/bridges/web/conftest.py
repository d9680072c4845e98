"""The stage that pages visit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridges.web import server
from tests.bridges.web.visitors import Stage
from tests.waiting import PATIENCE_S


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    # A page that does not answer in time is hung up on; here those who are slow shall be that as long as they like.
    monkeypatch.setattr(server, "_HEARTBEAT_S", 10 * PATIENCE_S)
    stage = Stage(stage_info={"styles": ["waltz", "tango"], "style": "auto", "energy": 0.4, "mirror": False})
    yield stage
    stage.bridge.close()
