"""The movement of the training dances that no held-out clip repeats: what protocol B learns from.

Most movement of the set published with Tang et al. 2018 occurs in several clips, to other music. Whoever has learnt the
training split has therefore seen most of what the test clips dance (protocol A: unseen songs).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from engine.errors import UserError
from models.data.dataset import PreparedData, runs
from models.data.provenance import training_set
from models.music_to_dance.dances import DanceData
from models.music_to_dance.sequences import DanceClip

UNSEEN_MOVEMENT = "protocol B"
"""In a manifest's `training_set`: the model has learnt only movement that no held-out clip repeats."""
_SHORTEST_RUN_TICKS = 48
"""Four beats: shorter runs of unseen movement hold no phrase to retrieve."""


def learnt_from(data: PreparedData, protocol: str) -> str:
    """Return what the manifest of a model says of its training data; `protocol` is "A" or "B"."""
    said = training_set(data)
    return f"{said}; {UNSEEN_MOVEMENT}" if protocol == "B" else said


def unseen_movement(data: PreparedData, dances: DanceData) -> list[DanceClip]:
    """Return the parts of the training dances that no held-out clip repeats, bars aligned as in the whole dances.

    Raises:
        UserError: there is none.
    """
    by_name = {clip.name: clip for clip in data.clips}
    parts = []
    for dance in dances.train:
        repeats = by_name[dance.name].repeats_test
        # A dance at half speed has two ticks for one.
        repeats = repeats[np.arange(len(dance.ticks)) * len(repeats) // len(dance.ticks)]
        for start, stop in runs(~repeats):
            if stop - start >= _SHORTEST_RUN_TICKS:
                parts.append(
                    dataclasses.replace(
                        dance,
                        name=f"{dance.name}@{start}",
                        ticks=dance.ticks[start:stop],
                        music=None if dance.music is None else dance.music[start:stop],
                        tempo_bpm=dance.tempo_bpm[start:stop],
                        first_tick=dance.first_tick + start,
                    )
                )
    if not parts:
        raise UserError("no training movement is unseen", "protocol B needs clips with repeats_test")
    return parts


def whole_name(dance: DanceClip) -> str:
    """Return the name of the clip that a dance is, or is a part of."""
    return dance.name.partition("@")[0]


def left_out(name: str, folder: Path) -> str:
    """Return the note on an exported model that has no place in an evaluation of protocol B."""
    return f"{name} ({folder.name}) is left out: it has learnt the held-out movement (protocol A)."
