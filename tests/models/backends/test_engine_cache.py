"""Compiled engines on disk: each way in which one can be wrong is caught, and what is wrong is made again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.backends.engine_cache import EngineCache, EngineKey, StaleEngine, default_folder

KEY = EngineKey("weights", "TensorRT 10.9", "13000", "RTX 4070 sm89", "[('music', (1, 164))]", "fp16")
ENGINE = bytes(range(256)) * 40


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    cache = EngineCache(tmp_path / "engines")
    assert cache.write(KEY, ENGINE)
    return cache


def _truncate(content: bytes) -> bytes:
    return content[:-100]


def _truncate_header(content: bytes) -> bytes:
    return content[:20]


def _flip(content: bytes) -> bytes:
    return content[:-500] + bytes([content[-500] ^ 1]) + content[-499:]


def _flip_description(content: bytes) -> bytes:
    return content.replace(b"fp16", b"fp32")


def _foreign(content: bytes) -> bytes:
    return b"another program's file" * 30


def test_an_engine_comes_back_as_it_was(cache: EngineCache) -> None:
    assert cache.read(KEY) == ENGINE
    assert EngineCache(cache.folder).read(KEY) == ENGINE


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "other"},
        {"compiler": "TensorRT 10.10"},
        {"gpu": "L4 sm89"},
        {"driver": "12080"},
        {"shapes": "[('music', (2, 164))]"},
        {"precision": "fp32"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_engine_for_something_else_is_not_taken(cache: EngineCache, change: dict[str, str]) -> None:
    other = replace(KEY, **change)
    with pytest.raises(StaleEngine, match="not compiled yet"):
        cache.read(other)
    # Nor if somebody renames the file.
    cache.path(KEY).rename(cache.path(other))
    with pytest.raises(StaleEngine, match=f"made for other {next(iter(change))}"):
        cache.read(other)


@pytest.mark.parametrize("damage", [_truncate, _truncate_header, _flip, _flip_description, _foreign])
def test_a_damaged_file_is_found_removed_and_made_again(cache: EngineCache, damage: Callable[[bytes], bytes]) -> None:
    path = cache.path(KEY)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StaleEngine):
        cache.read(KEY)
    built = []
    engine, origin = cache.get(KEY, lambda: built.append(1) or ENGINE, lambda engine: None)  # type: ignore[func-returns-value]
    assert (engine, built) == (ENGINE, [1])
    assert origin.startswith("compiled")
    assert cache.get(KEY, lambda: b"", lambda engine: None) == (ENGINE, "kept")


def test_a_whole_file_that_computes_something_else_is_made_again(cache: EngineCache) -> None:
    def check(engine: bytes) -> None:
        if engine == ENGINE:
            raise StaleEngine("its steps differ from the CPU's by 3")

    assert cache.get(KEY, lambda: b"right", check) == (b"right", "compiled (its steps differ from the CPU's by 3)")
    assert cache.read(KEY) == b"right"


def test_an_engine_that_never_computes_the_right_thing_is_not_kept(cache: EngineCache) -> None:
    def check(engine: bytes) -> None:
        raise StaleEngine("wrong")

    with pytest.raises(StaleEngine):
        cache.get(KEY, lambda: b"wrong too", check)
    assert not cache.path(KEY).exists()


def test_without_a_folder_to_write_engines_are_built_every_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EngineCache(tmp_path / "file" / "engines")
    assert not cache.write(KEY, ENGINE)
    assert cache.get(KEY, lambda: ENGINE, lambda engine: None)[0] == ENGINE


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PASDEDEUX_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
