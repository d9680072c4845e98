"""Files that appear only when they are whole: one, however many processes write it, or several that belong together."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to, this process's own, which becomes `path` at the end; nothing stays if that fails."""
    partial = path.with_suffix(f".{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def all_or_nothing(folder: Path) -> Iterator[Path]:
    """Yield a place for files that are moved into a folder once all are written; if anything fails, none is.

    What a good earlier run left stays then, and no folder is left that was not there.

    Raises:
        OSError: the folder cannot be made, or its files not be replaced.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as place:
            yield Path(place)
            for file in sorted(Path(place).iterdir()):
                file.replace(folder / file.name)
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
