"""What is in a folder: every layout that is known is looked for."""

from __future__ import annotations

from pathlib import Path

from engine.errors import UserError
from models.data.clip_sources import ClipSource
from models.sources.aist import read_aist
from models.sources.bvh_folder import read_bvh_folder
from models.sources.pairs import read_pairs


def read_sources(data: Path) -> tuple[list[ClipSource], dict[str, str]]:
    """Return the clips under `data`, and why each unusable one was left out.

    Raises UserError if there is nothing that is known.
    """
    found: list[ClipSource] = []
    bad: dict[str, str] = {}
    for read in (read_pairs, read_aist, read_bvh_folder):
        sources, left_out = read(data)
        found += sources
        bad |= left_out
    if not found and not bad:
        raise UserError(
            f"{data} holds no clips",
            "give a folder with pairs/index.json, with motions/*.pkl of AIST++, or of *.bvh files",
        )
    return found, bad
