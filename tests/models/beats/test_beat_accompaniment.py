"""Accompaniments for training: what is read from MMA's library and from POP909's chords. MMA itself is not needed."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models.beats.accompaniment import (
    drawn_chords,
    list_grooves,
    read_accompaniments,
    song_chords,
    write_accompaniments,
)
from models.rendering.scores import read_midi


def _library(folder: Path, **files: str) -> Path:
    (folder / "stdlib").mkdir(parents=True)
    for name, text in files.items():
        (folder / "stdlib" / f"{name}.mma").write_text(text)
    return folder


def test_grooves_are_read_with_metre_and_tempo(tmp_path: Path) -> None:
    folder = _library(
        tmp_path,
        rhumba="Time 4\nDefGroove Rhumba  Nice.\nDefGroove RhumbaIntro\nDefGroove Rhumba1\n",
        vienesewaltz="time 3\nDefGroove VieneseWaltz\n",
        blues128="Time 12\nDefGroove Blues128\n",
        mixed="Time 4\nDefGroove A\nTime 3\nDefGroove B\n",
        empty="Time 4\nDefGroove OnlyIntro\n",
    )
    grooves = {g.name: g for g in list_grooves(folder)}
    assert set(grooves) == {"stdlib/rhumba", "stdlib/vienesewaltz"}, "odd, mixed and empty files are left out"
    rhumba, waltz = grooves["stdlib/rhumba"], grooves["stdlib/vienesewaltz"]
    assert rhumba.grooves == ["Rhumba", "Rhumba1"]
    assert (rhumba.beats_per_bar, waltz.beats_per_bar) == (4, 3)
    assert rhumba.latin
    assert not waltz.latin
    assert rhumba.fastest_bpm < waltz.slowest_bpm < waltz.fastest_bpm


def test_a_songs_chords_become_bars(tmp_path: Path) -> None:
    beats = "".join(f"{0.5 * n:.3f} 0 0\n" for n in range(14))
    chords = "0.0 0.5 N\n0.5 2.5 C:maj\n2.5 3.5 A:min7/b3\n3.5 4.5 F#:hdim7\n"
    with zipfile.ZipFile(tmp_path / "pop.zip", "w") as archive:
        archive.writestr("pop909/001/beat_midi.txt", beats)
        archive.writestr("pop909/001/chord_midi.txt", chords)
    bars = song_chords(tmp_path / "pop.zip", 1, first_downbeat=1, beats=13)
    assert bars == ["C / / /", "Am7 / F#m7b5 /", "z / / /"]


@pytest.mark.parametrize("per_bar", [3, 4])
def test_drawn_chords_fill_the_piece_and_repeat_with_the_seed(per_bar: int) -> None:
    bars = [drawn_chords(np.random.default_rng(seed), per_bar) for seed in (1, 1, 2, 3, 4, 5, 6)]
    assert bars[0] == bars[1]
    assert all(33 <= len(b) <= 34 for b in bars)
    assert len({tuple(b) for b in bars}) > 3


@pytest.mark.skipif(shutil.which("mma") is None, reason="MMA is a program of its own, not installed here")
def test_mma_plays_what_was_asked(tmp_path: Path) -> None:
    rows = write_accompaniments(tmp_path, tmp_path / "no.zip", [], free=3, seed=5)
    assert read_accompaniments(tmp_path) == rows
    assert len(rows) >= 2
    for row in rows:
        score = read_midi(tmp_path / row.file)
        assert score.beats_per_bar == row.beats_per_bar
        assert score.length_beats >= 32 * row.beats_per_bar
        assert len(score.notes) > score.length_beats / 2
