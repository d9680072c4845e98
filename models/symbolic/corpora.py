"""The MIDI corpora as step grids, split for learning; what cannot be read is named and left out.

Splits: POP909 001 to 800 are for training, of which 761 to 800 are held back as "val"; 801 to 859 are "test". Groove as
published. Fiddle tunes by a digest of their name: about 80 % train, 10 % val, 10 % test.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.whole_files import whole_file
from models.rendering.scores import list_groove
from models.symbolic.from_midi import read_abc_grid, read_groove_grid, read_pop909_grids
from models.symbolic.step_grid import SPLITS, StepGrid, facts_of, from_facts

logger = logging.getLogger(__name__)

CORPORA = ("pop909", "groove", "abc")
_POP909_SPLITS = {"train": range(1, 761), "val": range(761, 801), "test": range(801, 860)}
_GROOVE_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_ARCHIVES = {"pop909": "pop909.zip", "groove": "groove.zip", "abc": "ryansMammoth.zip"}
_LARGEST_FILE = 4_000_000  # bytes; the largest of these corpora has 100 kB, what is larger is no piece of music
_VERSION = 1
"""Raised when a reader changes what it returns."""


def load_corpora(
    midi_folder: Path, split: str, cache: Path | None = None, corpora: tuple[str, ...] = CORPORA
) -> Iterator[StepGrid]:
    """Yield every piece of a split.

    Pieces that cannot be read are logged by name and left out, whatever is wrong with them.

    Args:
        midi_folder: holds `pop909.zip`, `groove.zip` and `ryansMammoth.zip`; one that is missing is logged.
        split: "train", "val" or "test".
        cache: folder in which the grids of each archive are kept for the next time; None: read again.
        corpora: which of `CORPORA`.

    Raises:
        UserError: none of the archives is there, or mido is missing.
        ValueError: no such split or corpus.
    """
    if split not in SPLITS or not set(corpora) <= set(CORPORA):
        raise ValueError(f"unknown split {split!r} or corpus in {corpora}")
    archives = {corpus: midi_folder / _ARCHIVES[corpus] for corpus in corpora}
    found = {corpus: path for corpus, path in archives.items() if path.is_file()}
    if not found:
        names = ", ".join(path.name for path in archives.values())
        raise UserError(f"{midi_folder} holds no music", f"give a folder with {names}")
    for corpus in archives.keys() - found.keys():
        logger.warning("no %s in %s: this corpus is left out", _ARCHIVES[corpus], midi_folder)
    for corpus, archive in found.items():
        yield from _cached(corpus, archive, split, cache) if cache else _read(corpus, archive, split)


def _read(corpus: str, archive: Path, split: str) -> Iterator[StepGrid]:
    try:
        yield from {"pop909": _pop909, "groove": _groove, "abc": _abc}[corpus](archive, split)
    except (OSError, zipfile.BadZipFile, KeyError, UnicodeDecodeError, ValueError) as error:
        logger.warning("left out the rest of %s: %s", archive.name, _what(error))


def _pop909(archive: Path, split: str) -> Iterator[StepGrid]:
    with zipfile.ZipFile(archive) as files:
        sizes = {info.filename: info.file_size for info in files.infolist()}
    for number in _POP909_SPLITS[split]:
        folder = f"pop909/{number:03d}/"
        inside = [name for name in sizes if name.startswith(folder)]
        if not inside:
            continue
        if max(sizes[name] for name in inside) > _LARGEST_FILE:
            logger.warning("left out %s: a file of it is too large", folder)
            continue
        yield from _guarded(folder, lambda number=number: read_pop909_grids(archive, number, split))  # type: ignore[misc]


def _groove(archive: Path, split: str) -> Iterator[StepGrid]:
    with zipfile.ZipFile(archive) as files:
        sizes = {info.filename: info.file_size for info in files.infolist()}
    rows = [row for kind in ("beat", "fill") for row in list_groove(archive, _GROOVE_SPLITS[split], kind)]
    for file in (row["midi_filename"] for row in rows):
        if sizes.get(f"groove/{file}", 0) > _LARGEST_FILE:
            logger.warning("left out %s: too large", file)
            continue
        yield from _guarded(file, lambda file=file: [read_groove_grid(archive, file, split)])  # type: ignore[misc]


def _abc(archive: Path, split: str) -> Iterator[StepGrid]:
    with zipfile.ZipFile(archive) as files:
        for info in sorted(files.infolist(), key=lambda info: info.filename):
            if not info.filename.endswith(".abc") or abc_split(info.filename) != split:
                continue
            if info.file_size > _LARGEST_FILE:
                logger.warning("left out %s: too large", info.filename)
                continue
            name = f"abc/{Path(info.filename).stem}"
            yield from _guarded(
                info.filename,
                lambda info=info, name=name: [read_abc_grid(files.read(info).decode("latin-1"), name, split)],  # type: ignore[misc]
            )


def abc_split(filename: str) -> str:
    """Return the split of a fiddle tune, by the digest of its file's name."""
    part = hashlib.sha256(Path(filename).name.encode()).digest()[0] % 10
    return {8: "val", 9: "test"}.get(part, "train")


def _guarded(name: str, read: Callable[[], list[StepGrid]]) -> list[StepGrid]:
    """Return what `read` gives, or nothing if the piece is bad."""
    try:
        return read()
    except UserError:  # a missing dependency, not a bad piece
        raise
    except Exception as error:  # strangers' files: a broken one may fail anywhere in a parser that is not ours
        logger.warning("left out %s: %s", name, _what(error))
        return []


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _cached(corpus: str, archive: Path, split: str, cache: Path) -> Iterator[StepGrid]:
    stat = archive.stat()
    key = hashlib.sha256(repr((_VERSION, stat.st_size, stat.st_mtime_ns, split)).encode()).hexdigest()[:12]
    path = cache / f"{corpus}-{split}-{key}.npz"
    grids = _unpack(path) if path.is_file() else None
    if grids is None:
        grids = list(_read(corpus, archive, split))
        cache.mkdir(parents=True, exist_ok=True)
        _pack(grids, path)
    yield from grids


_ARRAYS = ("drums", "bass", "chord", "lead", "bass_velocity", "chord_velocity", "lead_velocity", "tempo_bpm")


def _pack(grids: list[StepGrid], path: Path) -> None:
    if not grids:
        return
    arrays = {name: np.concatenate([getattr(grid, name) for grid in grids]) for name in _ARRAYS}
    with whole_file(path) as partial:
        np.savez_compressed(
            partial,
            facts=np.array(json.dumps([facts_of(grid) for grid in grids])),
            steps=np.array([grid.steps for grid in grids]),
            known=np.stack([grid.known for grid in grids]),
            **arrays,  # type: ignore[arg-type]
        )


def _unpack(path: Path) -> list[StepGrid] | None:
    """Return the grids of a cache file, or None if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            facts = json.loads(str(archive["facts"]))
            ends = np.cumsum(archive["steps"])
            known = archive["known"]
            arrays: dict[str, list[NDArray[np.generic]]] = {n: np.split(archive[n], ends[:-1]) for n in _ARRAYS}
        return [
            from_facts(fact, {name: arrays[name][i] for name in _ARRAYS} | {"known": known[i]})
            for i, fact in enumerate(facts)
        ]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        logger.warning("the cache %s is damaged and made again: %s", path.name, _what(error))
        return None
