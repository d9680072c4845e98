"""Folders of weights as the stage finds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from models.artifacts import write_tables


def test_who_may_read_a_folder_may_read_its_tables(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    write_tables({"mean": np.arange(3.0)}, tmp_path / "tables.safetensors")
    assert (tmp_path / "tables.safetensors").stat().st_mode == (tmp_path / "manifest.json").stat().st_mode
    assert load_file(tmp_path / "tables.safetensors")["mean"].tolist() == [0.0, 1.0, 2.0]
