"""Runs on frames instead of ticks, and on unseen movement only: from the recipe to a system in the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from engine.errors import UserError  # noqa: E402
from models.artifacts import GmdManifest  # noqa: E402
from models.data.dataset import PreparedData  # noqa: E402
from models.music_to_dance import run as gmd_run  # noqa: E402
from models.music_to_dance.dances import load_dances  # noqa: E402
from models.music_to_dance.settings import TrainingSettings  # noqa: E402
from models.music_to_dance.unseen_movement import UNSEEN_MOVEMENT  # noqa: E402
from models.rivals.fixed_rate import FRAME_RATE_HZ, FixedRateGmd  # noqa: E402
from models.rivals.gmd_dancer import GmdDancer  # noqa: E402
from models.rivals.song import Song  # noqa: E402
from tests.models.data.stepping_folder import prepared_folder  # noqa: E402
from tests.models.learning.quick_export import make_exports_quick  # noqa: E402

CONTENT = {
    "name": "tiny",
    "device": "cpu",
    "bfloat16": False,
    "network": {
        "latent_size": 16,
        "width": 16,
        "heads": 2,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "window": 6,
        "choices": 16,
        "head_width": 16,
        "head_blocks": 1,
        "dropout": 0.0,
    },
    "sequence": {"chunks": 10},
    "optimiser": {"steps": 3, "batch": 2},
    "run": {"evaluate_every_steps": 3, "sheets": False},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_folder(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(autouse=True)
def _quick_export(monkeypatch: pytest.MonkeyPatch) -> None:
    make_exports_quick(monkeypatch)


def exported(prepared: Path, folder: Path, **settings: object) -> Path:
    torch.set_num_threads(1)
    run = gmd_run.train(TrainingSettings.of({**CONTENT, **settings}), prepared, folder / "run")
    gmd_run.export(run, prepared, folder / "model", name="under another name")
    return folder / "model"


def test_a_model_of_frames_dances_in_seconds(prepared: Path, tmp_path: Path) -> None:
    folder = exported(prepared, tmp_path, time="seconds")
    song = Song.of(load_dances(PreparedData.load(prepared).clips).test[0], 8.0)
    dance = FixedRateGmd(folder).dance(song, 0)
    assert np.diff(dance.time_s) == pytest.approx(1.0 / FRAME_RATE_HZ)
    assert dance.time_s[-1] == pytest.approx(song.tick_s[-1], abs=0.3)
    assert np.isfinite(dance.rotations).all()


def test_a_model_of_unseen_movement_says_so_and_dances_what_it_never_saw(prepared: Path, tmp_path: Path) -> None:
    folder = exported(prepared, tmp_path, protocol="B")
    manifest = GmdManifest.load(folder)
    assert UNSEEN_MOVEMENT in manifest.training_set
    assert manifest.name == "under another name"
    # Tango is not among its dances: it dances another one.
    song = Song.of(load_dances(PreparedData.load(prepared).clips).test[0], 8.0)
    tango = Song(song.name, song.course, 3, song.music, song.tempo_bpm, 4, 0, song.clip)
    assert np.isfinite(GmdDancer(folder).dance(tango, 0).rotations).all()


def test_runs_of_unseen_movement_that_are_too_short_are_refused(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run of unseen movement holds 400 chunks"):
        exported(prepared, tmp_path, protocol="B", sequence={"chunks": 400})
