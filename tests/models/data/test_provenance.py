"""What a manifest says of the dances that were learnt from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.data.dataset import PreparedData
from models.data.provenance import training_set
from models.music_to_dance.unseen_movement import UNSEEN_MOVEMENT, learnt_from
from tests.models.data.random_folder import prepared_clip
from tests.models.data.stepping_folder import write_folder

TANG = "music and dance pairs published with Tang et al. 2018 (waltz, rumba, cha-cha, tango), no licence stated"


def prepared(folder: Path, sources: dict[str, str] | None, *names: str) -> PreparedData:
    """Return a folder of training clips of these names, and a test clip of yet another source."""
    clips = [prepared_clip(name, "waltz", "train", seed, ticks=60) for seed, name in enumerate(names)]
    write_folder(folder, [*clips, prepared_clip("held out", "waltz", "test", 9, ticks=60)])
    if sources is not None:
        index = json.loads((folder / "prepared.json").read_text())
        (folder / "prepared.json").write_text(json.dumps({**index, "sources": {**sources, "held out": "bvh"}}))
    return PreparedData.load(folder)


@pytest.mark.parametrize(
    ("sources", "names", "said"),
    [
        (None, ("DANCE_W_1", "DANCE_C_22"), [TANG]),
        (None, ("DANCE_W_1", "mine"), [TANG, "unknown data"]),
        (None, ("mine",), ["unknown data"]),
        ({"DANCE_W_1": "pairs", "mine": "pairs"}, ("DANCE_W_1", "mine"), [TANG, "other pairs"]),
        ({"DANCE_W_1": "bvh", "gBR_1": "aist++"}, ("DANCE_W_1", "gBR_1"), ["BVH files", "AIST++"]),
    ],
)
def test_it_names_where_the_training_dances_come_from(
    tmp_path: Path, sources: dict[str, str] | None, names: tuple[str, ...], said: list[str]
) -> None:
    parts = training_set(prepared(tmp_path, sources, *names)).split("; ")
    assert len(parts) == len(said)
    assert all(part.startswith(start) for part, start in zip(parts, said, strict=True))


def test_protocol_b_is_said_after_it(tmp_path: Path) -> None:
    data = prepared(tmp_path, None, "mine")
    assert learnt_from(data, "A") == "unknown data"
    assert learnt_from(data, "B") == f"unknown data; {UNSEEN_MOVEMENT}"
