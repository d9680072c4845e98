"""What a model says of the dances it has learnt from, in its manifest: where they come from, under which licence."""

from __future__ import annotations

import re
from typing import Literal

from models.data.dataset import PreparedData

Source = Literal["pairs", "aist++", "bvh"]

SOURCES: dict[str, Source] = {"markers": "pairs", "aist": "aist++", "bvh": "bvh"}
"""Name in `prepared.json` of each kind of clip (`models.data.clip_sources.ClipSource`)."""
_TANG_2018 = "music and dance pairs published with Tang et al. 2018 (waltz, rumba, cha-cha, tango), no licence stated"
_NAME_IN_TANG_2018 = re.compile(r"DANCE_[CRTW]_\d+")
_SAID = {
    "pairs": "other pairs of music and dance, licence unknown",
    "aist++": "AIST++ (Li et al. 2021), annotations CC BY 4.0, music of the AIST Dance Video Database",
    "bvh": "BVH files with audio, licence unknown",
    "": "unknown data",
}


def training_set(data: PreparedData) -> str:
    """Return where the training dances come from, each source once."""
    names = sorted(clip.name for clip in data.clips if clip.split == "train")
    return "; ".join(dict.fromkeys(_said(name, data.sources.get(name, "")) for name in names))


def _said(name: str, source: str) -> str:
    # The pairs format holds other sets, too; a folder prepared before sources were written is known by its names.
    if source in ("pairs", "") and _NAME_IN_TANG_2018.fullmatch(name):
        return _TANG_2018
    return _SAID.get(source, _SAID[""])
