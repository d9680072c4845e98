"""One piece of the hard set and the folder it is kept in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE_HZ = 48_000
VERSION = "1"
"""Of the set: changes whenever a piece or its truth does; figures of different versions are not comparable."""


@dataclass(frozen=True, slots=True)
class Item:
    """A piece with its truth.

    Attributes:
        name: unique; the audio is `<name>.wav`, mono float32 at 48 kHz.
        category: what it is there to try.
        duration_s: of the audio.
        beats_s: true beats; none inside a silence.
        silences_s: (start, end) of stretches where nothing is played.
        changes_s: moments from which a tracker has to find the beat again: end of a break, or a tempo jump.
        recorded: a recording of people playing, or a rendering.
        source: where it comes from and how its truth is known.
    """

    name: str
    category: str
    duration_s: float
    beats_s: list[float]
    silences_s: list[tuple[float, float]]
    changes_s: list[float]
    recorded: bool
    source: str


def write_item(folder: Path, item: Item, samples: NDArray[np.float32]) -> None:
    """Write the audio of an item."""
    soundfile.write(folder / f"{item.name}.wav", samples.astype(np.float32), RATE_HZ, subtype="FLOAT")


def read_samples(folder: Path, item: Item) -> NDArray[np.float32]:
    """Return the audio of an item, (n,) float32."""
    samples, rate_hz = soundfile.read(folder / f"{item.name}.wav", dtype="float32")
    if rate_hz != RATE_HZ or samples.ndim != 1:
        raise ValueError(f"{item.name}.wav: expected mono at {RATE_HZ} Hz; build the set again")
    return np.asarray(samples)


def write_index(folder: Path, items: list[Item]) -> None:
    """Write index.json, last: a folder without it is not complete."""
    rows = {"version": VERSION, "items": [asdict(item) for item in items]}
    (folder / "index.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def read_index(folder: Path) -> list[Item] | None:
    """Return the items of a complete set of this version, or None."""
    path = folder / "index.json"
    if not path.is_file():
        return None
    rows = json.loads(path.read_text(encoding="utf-8"))
    if rows["version"] != VERSION:
        return None
    for row in rows["items"]:
        row["silences_s"] = [(a, b) for a, b in row["silences_s"]]
    return [Item(**row) for row in rows["items"]]
