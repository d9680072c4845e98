"""The offline commands before a disk that refuses: one clear line, as for a wrong setting."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.body.bvh import write_bvh
from engine.cli.offline import disk, prepare_data
from engine.errors import UserError


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    write_bvh(tmp_path / "own.bvh", np.zeros((10, 24, 3)), np.zeros((10, 3)), 1 / 30)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/clips: Not a directory"):
        prepare_data(tmp_path, tmp_path / "file", workers=1, sheets=False, transcribe=False)


def test_a_file_or_a_link_to_itself_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="file: File exists"), disk():
        (tmp_path / "file").mkdir(exist_ok=True)
    with pytest.raises(UserError, match="loop/run: Too many levels of symbolic links"), disk():
        (tmp_path / "loop" / "run").mkdir(parents=True, exist_ok=True)


def test_a_full_disk_is_told_and_a_defect_shows_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left"), disk():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    weights = {"a": np.zeros(2, np.float32)}
    with pytest.raises(UserError, match="file of weights: No such file or directory"), disk():
        save_file(weights, tmp_path / "missing" / "average-1.safetensors")
    with pytest.raises(BrokenPipeError), disk():
        raise BrokenPipeError(errno.EPIPE, "a worker has died")
