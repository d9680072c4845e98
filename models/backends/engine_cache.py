"""Compiled engines on disk, and why none of them is trusted for being there.

An engine is good for exactly one set of weights, compiler, driver, card, shape and precision. Its file name is a digest
of all of them, the file repeats them in clear, carries a digest of its content, and beside it lie outputs of the CPU
for inputs of a fixed seed: whoever loads the engine runs these and compares (`models.backends.parity`). A file that
fails any of this is removed and made again; if it can not be made, the CPU dances.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.whole_files import whole_file

_log = logging.getLogger(__name__)

_MAGIC = b"PDDENG01"
_HEADER = struct.Struct("<8sI32s")
"""Magic, length of the key in JSON, SHA-256 of the engine."""
_LONGEST_KEY = 64 * 1024


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine is good for.

    Attributes:
        weights: SHA-256 of the graph.
        compiler: name and version of what compiled it.
        driver: of the card, as it names itself.
        gpu: name and compute capability.
        shapes: of every input, as text.
        precision: "fp32", "tf32", "fp16" or "bf16".
    """

    weights: str
    compiler: str
    driver: str
    gpu: str
    shapes: str
    precision: str

    def to_json(self) -> str:
        """Return the key as text, the same for the same key."""
        return json.dumps(asdict(self), sort_keys=True)

    def digest(self) -> str:
        """Return the name under which the engine is kept."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:32]


class StaleEngine(Exception):
    """The file holds no engine for this key: the message says why, in words for an operator."""


def default_folder() -> Path:
    """Return where engines are kept: the user's cache folder, or `PASDEDEUX_CACHE`."""
    named = os.environ.get("PASDEDEUX_CACHE")
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "pasdedeux" / "engines"


class EngineCache:
    """A folder of engines.

    Args:
        folder: is made when something is to be kept; if it can't be written, engines are built every time.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def subfolder(self, name: str) -> Path | None:
        """Return a folder where a provider may keep what it compiles, or None if none can be written."""
        folder = self.folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _log.warning("cannot keep compiled engines in %s (%s): they will be compiled again", folder, error)
            return None
        return folder

    def path(self, key: EngineKey) -> Path:
        """Return where the engine of a key lies."""
        return self.folder / f"{key.digest()}.engine"

    def read(self, key: EngineKey) -> bytes:
        """Return the engine of a key.

        Raises:
            StaleEngine: there is none, or the file is not whole, was changed, or was made for something else.
        """
        try:
            content = self.path(key).read_bytes()
        except OSError as error:
            raise StaleEngine("not compiled yet") from error
        if len(content) < _HEADER.size:
            raise StaleEngine("the file is truncated")
        magic, length, digest = _HEADER.unpack_from(content)
        if magic != _MAGIC or length > _LONGEST_KEY:
            raise StaleEngine("the file is not an engine of ours")
        text, engine = content[_HEADER.size : _HEADER.size + length], content[_HEADER.size + length :]
        try:
            made_for = json.loads(text)
        except ValueError as error:
            raise StaleEngine("its description is damaged") from error
        wanted = asdict(key)
        if made_for != wanted:
            names = made_for if isinstance(made_for, dict) else {}
            other = [name for name in wanted if names.get(name) != wanted[name]]
            raise StaleEngine(f"it was made for other {', '.join(other) or 'things'}")
        if hashlib.sha256(engine).digest() != digest:
            raise StaleEngine("its content is truncated or was changed")
        return engine

    def write(self, key: EngineKey, engine: bytes) -> bool:
        """Keep an engine; return whether that was possible. The name appears only when the file is whole."""
        text = key.to_json().encode()
        path = self.path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as partial:
                partial.write_bytes(_HEADER.pack(_MAGIC, len(text), hashlib.sha256(engine).digest()) + text + engine)
        except OSError as error:
            _log.warning("cannot keep the compiled engine in %s (%s): it will be compiled again", self.folder, error)
            return False
        return True

    def remove(self, key: EngineKey) -> None:
        """Remove the engine of a key, if it is there and may be."""
        try:
            self.path(key).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("cannot remove %s: %s", self.path(key), error)

    def get(self, key: EngineKey, build: Callable[[], bytes], check: Callable[[bytes], None]) -> tuple[bytes, str]:
        """Return an engine that has passed `check`, from the folder or built now, and where it came from.

        Args:
            key: what it must be good for.
            build: compiles; raises what it likes.
            check: runs the engine against known outputs; raises StaleEngine if it computes something else.

        Raises:
            StaleEngine: even an engine built just now does not compute what it should.
        """
        try:
            engine = self.read(key)
            check(engine)
            return engine, "kept"
        except StaleEngine as error:
            _log.info("engine %s: %s; compiling", key.digest(), error)
            self.remove(key)
            why = str(error)
        engine = build()
        check(engine)
        kept = self.write(key, engine)
        return (
            engine,
            f"compiled ({why})"
            if kept
            else f"compiled ({why}), and again next time: {self.folder} is not to be written",
        )
