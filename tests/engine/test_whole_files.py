"""A rendering that fails leaves nothing behind, and a good earlier one as it was."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from engine import render
from engine.errors import UserError
from engine.playing import render as playing
from engine.playing.render import Performance, write_performance
from engine.render import write_dance
from engine.types import NoteEvent, PoseFrame
from engine.whole_files import all_or_nothing


def pose(performer: str) -> PoseFrame:
    return PoseFrame(0, 0, np.zeros((24, 3)), np.zeros(3), np.zeros(4), performer)


def left(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


NOTES = [NoteEvent(0, 0, 0, 60, 100, 10**9)]


def test_nobody_seen_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no poses"):
        write_performance(tmp_path / "new" / "out", Performance(notes=NOTES), {})
    assert not (tmp_path / "new").exists()


def test_a_failed_performance_does_not_replace_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_performance(tmp_path, Performance(notes=NOTES, poses=[pose("camera")], visibility=[1.0]), {})
    good = left(tmp_path)
    assert set(good) == {"music.mid", "notes.csv", "poses.npz"}
    with pytest.raises(UserError):
        write_performance(tmp_path, Performance(), {})
    assert left(tmp_path) == good

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(playing, "write_poses", full)
    with pytest.raises(UserError, match="No space left"):
        write_performance(tmp_path, Performance(poses=[pose("camera")], visibility=[1.0]), {})
    assert left(tmp_path) == good


def test_a_failed_dance_does_not_replace_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dance(tmp_path, [pose("")], [], 60.0)
    good = left(tmp_path)
    assert set(good) == {"dance.npz", "dance.bvh", "beats.csv"}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(render, "write_bvh", full)
    with pytest.raises(UserError, match="No space left"):
        write_dance(tmp_path, [pose(""), pose("")], [], 60.0)
    assert left(tmp_path) == good


def test_what_is_there_besides_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with all_or_nothing(tmp_path) as place:
        (place / "new.txt").write_text("new")
    assert left(tmp_path) == {"notes.txt": b"mine", "new.txt": b"new"}
