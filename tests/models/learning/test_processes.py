"""Losses over whatever a batch happens to hold are those of one process, however many share it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from models.dance_to_music.lesson import GdmLesson  # noqa: E402
from models.dance_to_music.settings import GdmNetworkSettings, GdmTrainingSettings  # noqa: E402
from models.learning.launch import open_fabric  # noqa: E402
from models.learning.loop import Learning  # noqa: E402
from models.learning.own_history import OwnHistorySettings  # noqa: E402
from models.learning.settings import OptimiserSettings as GdmOptimiserSettings  # noqa: E402
from models.music_to_dance.lesson import GmdLesson  # noqa: E402
from models.music_to_dance.settings import (  # noqa: E402
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    TrainingSettings,
)
from tests.models.dance_to_music import gdm_fixtures  # noqa: E402
from tests.models.learning.forked import fork_both  # noqa: E402
from tests.models.music_to_dance import gmd_fixtures  # noqa: E402

STEPS = 5


def losses() -> dict[str, list[dict[str, float]]]:
    """Return the losses of a few steps of both models; nothing in all processes but the first."""
    torch.set_num_threads(1)
    fabric = open_fabric("cpu")
    # Bands have all voices, drummers one: what two processes know of a voice is seldom as much.
    gdm = GdmTrainingSettings(
        bfloat16=False,
        network=GdmNetworkSettings(
            width=16, heads=2, encoder_layers=1, decoder_layers=1, window=8, voice_width=16, dropout=0.0
        ),
        optimiser=GdmOptimiserSettings(steps=9, batch=4),
    )
    music = Learning(GdmLesson(gdm_fixtures.sampler(band=0.5, drums=0.5, song=0.0, melody=0.0), gdm), gdm, fabric)
    source = gmd_fixtures.sampler()
    # So little own history that often one process has some and the other has none.
    gmd = TrainingSettings(
        bfloat16=False,
        network=NetworkSettings(
            latent_size=24, width=16, heads=2, encoder_layers=1, decoder_layers=1, window=8, choices=16, dropout=0.0
        ),
        loss=LossSettings(seam=100.0, share=1.0),
        own_history=OwnHistorySettings(form="scattered"),
        optimiser=OptimiserSettings(steps=9, batch=4, own_history_from=1, own_history_share=0.03),
    )
    gmd = replace(gmd, sequence=source.settings)
    dance = Learning(GmdLesson(source, gmd), gmd, fabric)
    found = {"gdm": [music.take_step() for _ in range(STEPS)], "gmd": [dance.take_step() for _ in range(STEPS)]}
    return found if fabric.is_global_zero else {}


def share_batches(path: Path) -> None:
    """Take these steps as one of two processes; the first writes their losses."""
    found = losses()
    if found:
        path.write_text(json.dumps(found))


def test_two_processes_weigh_what_they_know_as_one_does(tmp_path: Path) -> None:
    fork_both(share_batches, tmp_path / "losses.json")
    ours, theirs = losses(), json.loads((tmp_path / "losses.json").read_text())
    assert any("seam" in row for row in ours["gmd"])
    for model in ours:
        for one, other in zip(ours[model], theirs[model], strict=True):
            assert other == pytest.approx(one, rel=1e-3, abs=1e-5)
