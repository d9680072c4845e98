"""Medleys go over on the beat, to dances that can be mixed, and are whole sequences."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("torch")

from models.music_to_dance.medley import bar_of, draw_medley
from tests.models.music_to_dance.gmd_fixtures import sampler

CHUNK = 4


@dataclass
class Dance:
    latents: np.ndarray
    first_tick: int
    group: tuple[object, ...] = ("waltz",)
    bar_tick: int = 0
    bar_ticks: int = 36


def dances(count: int = 6, chunks: int = 90) -> list[Dance]:
    rng = np.random.default_rng(0)
    return [
        Dance(rng.standard_normal((chunks, 3)).astype(np.float32), 4 * int(rng.integers(20)), bar_tick=12 * (i % 3))
        for i in range(count)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_parts_follow_each_other_in_the_bar_and_are_as_long_as_asked(seed: int) -> None:
    company = dances()
    company[5].group = ("rumba",)
    parts = draw_medley(np.random.default_rng(seed), company, (seed % 5, 3), 72, 24, CHUNK)
    assert sum(part.chunks for part in parts) == 72
    assert len(parts) > 2
    for part in parts:
        assert part.index != 5
        assert 1 <= part.start < part.stop <= len(company[part.index].latents) - 2, "two chunks are left to blend"
    for one, other in itertools.pairwise(parts):
        a, b = company[one.index], company[other.index]
        ends = (a.first_tick + CHUNK * one.stop - a.bar_tick) % a.bar_ticks
        assert (b.first_tick + CHUNK * other.start - b.bar_tick) % b.bar_ticks == ends


def test_dances_too_short_to_be_entered_are_begun_again() -> None:
    parts = draw_medley(np.random.default_rng(0), dances(1, 12), (0, 1), 40, 24, CHUNK)
    assert sum(part.chunks for part in parts) == 40
    assert all(part.index == 0 for part in parts)


def test_without_a_bar_a_beat_is_one() -> None:
    assert bar_of(None, 5) == bar_of(4, None) == (0, 12)
    assert bar_of(3, 24) == (24, 36)


def test_a_medley_is_one_run_of_ticks_and_what_is_taught_is_what_is_seen() -> None:
    source = sampler(medley=1.0, medley_chunks=9, chunks=24, clean_share=1.0)
    batch = source.batch(np.random.default_rng(3), 8)
    ticks = batch.ticks
    assert np.array_equal(ticks[:, 1:, 0], ticks[:, :-1, -1]), "chunks follow each other"
    encoded = source.representation.encode(ticks[:, :, 1:].reshape(-1, 152)).reshape(batch.target.shape)
    assert encoded == pytest.approx(batch.target, abs=1e-4)
    assert np.array_equal(batch.history[:, 1:], batch.target[:, :-1])
    plain = sampler(medley=0.0, chunks=24, clean_share=1.0).batch(np.random.default_rng(3), 8)
    # Another phrase begins at every part: the plan changes more often than in one dance.
    assert (np.diff(batch.condition, axis=1) != 0).sum() > (np.diff(plain.condition, axis=1) != 0).sum()
