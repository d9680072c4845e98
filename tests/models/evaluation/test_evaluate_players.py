"""The evaluation of dance -> music: figures of known music, what the tables say, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from engine.cli.commands import app
from engine.errors import UserError
from models.artifacts import GDM_FOLDER
from models.dance_to_music.data import SCORES, first_step_row
from models.dance_to_music.measure import PlayedFigures, measure
from models.data.dataset import PreparedData
from models.evaluation.players import REAL, PlayersPlan, evaluate_players
from models.evaluation.players_report import PlayersReport
from tests.models.dance_to_music.gdm_fixtures import band
from tests.models.data.random_folder import write_prepared

SHIPPED = pytest.mark.skipif(not (GDM_FOLDER / "manifest.json").exists(), reason="no weights in this checkout")


def _figures(name: str, seed: int, **known: float) -> PlayedFigures:
    figures = measure(band(12, seed=seed), np.linspace(0.0, 1.0, 192), "waltz", seed)
    return replace(figures, name=name, **known)


def _report() -> PlayersReport:
    played = {
        "ours": [_figures(song, seed, coupling=r) for song, r in (("a", 0.5), ("b", 0.7)) for seed in range(2)],
        "theirs": [_figures("a", 0, coupling=0.1), _figures("b", 0, coupling=0.2), _figures("b", 1, coupling=np.nan)],
    }
    return PlayersReport.of("val", 2, ["a", "b"], played, {}, resamples=50)


def test_figures_are_means_over_songs_and_differences_are_between_the_same_songs() -> None:
    report, name = _report(), "loudness follows movement (r)"
    assert report.figures["ours"][name].value == pytest.approx(0.6)
    assert report.figures["ours"][name].low == pytest.approx(0.5)
    assert report.figures["theirs"][name].value == pytest.approx(0.15)
    assert report.differences["theirs"][name].value == pytest.approx(0.45)
    assert (report.differences["theirs"][name].low, report.differences["theirs"][name].high) == pytest.approx(
        (0.4, 0.5)
    )
    assert "ours" not in report.differences


def test_the_files_say_the_same(tmp_path: Path) -> None:
    report = _report()
    report.save(tmp_path)
    content = json.loads((tmp_path / PlayersReport.JSON_FILE).read_text())
    assert content["figures"]["ours"]["onsets on a beat"]["value"] == pytest.approx(0.5)
    assert content["pieces"]["theirs"][2]["coupling"] is None
    text = (tmp_path / PlayersReport.TABLE_FILE).read_text()
    assert "| ours | 0.50 [0.50, 0.50] (0.3" in text
    assert "## ours, less the others" in text
    assert "nan" not in text


def _prepared(folder: Path) -> Path:
    """Return a prepared folder whose dances have scores."""
    prepared = write_prepared(folder)
    (prepared / SCORES).mkdir()
    for clip in PreparedData.load(prepared).clips:
        steps = (clip.ticks - first_step_row(clip)) // 3
        grid = band(16, seed=clip.first_tick, split=clip.split).cut(0, min(steps, 256))
        replace(grid, name=clip.name, beats_per_bar=clip.beats_per_bar).save(prepared / SCORES / f"{clip.name}.npz")
    return prepared


@SHIPPED
def test_players_are_measured_side_by_side(tmp_path: Path) -> None:
    prepared = _prepared(tmp_path / "prepared")
    plan = PlayersPlan("val", 1, ("rules", "retrieval"), resamples=20)
    table = evaluate_players(prepared, None, tmp_path / "out", plan, quiet=True)
    content = json.loads((tmp_path / "out" / PlayersReport.JSON_FILE).read_text())
    assert list(content["figures"]) == ["retrieval by movement", "rules", REAL]
    assert content["dances"] == ["four"]
    assert "| rules |" in table.read_text()
    midi = tmp_path / "out" / "music" / "rules" / "four.mid"
    assert midi.read_bytes()[:4] == b"MThd"
    with pytest.raises(UserError, match="nobody is called"):
        evaluate_players(prepared, None, tmp_path / "out", PlayersPlan(systems=("no such",)), quiet=True)


def test_wrong_plans_and_directions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="split"):
        PlayersPlan("train")
    for arguments in (["--direction", "sideways"], ["--direction", "dance-to-music"]):
        with pytest.raises(UserError):
            app(["evaluate", *arguments], standalone_mode=False)
