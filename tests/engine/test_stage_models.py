"""Which model a name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import UserError
from engine.stage import dance_model


def test_a_shipped_model_goes_before_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gmd").mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (dance_model("gmd") / "manifest.json").is_file()
    assert dance_model("mine") == Path("mine")
    with pytest.raises(UserError, match="no model 'nobody'"):
        dance_model("nobody")
