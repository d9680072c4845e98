"""Which model a name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.clock import SessionClock
from engine.errors import UserError
from engine.metrics import Metrics
from engine.settings import load_show
from engine.stage import build_crowd, dance_model


def test_a_shipped_model_goes_before_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gmd").mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (dance_model("gmd") / "manifest.json").is_file()
    assert dance_model("mine") == Path("mine")
    with pytest.raises(UserError, match="no model 'nobody'"):
        dance_model("nobody")


def test_idle_is_no_network_to_compile_or_to_give_a_crowd() -> None:
    with pytest.raises(UserError, match=r"^idle is no network: set dancer\.model to gmd, or to the folder"):
        dance_model("idle")
    settings = load_show(None, ["dancer.model=idle", "crowd.size=5"])
    with pytest.raises(UserError, match=r"^a crowd needs a model: set crowd\.size to 0, or dancer\.model to gmd$"):
        build_crowd(settings, SessionClock(), Metrics())
