"""Music as tokens: the home key, folding, what sounds, and history written two ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.types import Key
from models.dance_to_music.conditioning import MUSIC_CONDITION_SIZE, StepConditions
from models.dance_to_music.phrases import STATISTICS, MusicPhraseSpace, step_statistics
from models.dance_to_music.tokens import (
    BASS_LOWEST,
    FIRST_VALUE,
    HISTORY_SIZE,
    HOLD_TOKEN,
    LEVELS,
    PITCHED,
    REST_TOKEN,
    RunningHistory,
    TokenGrid,
    carry,
    home_shift,
    level_of,
    velocity_of,
)
from tests.models.dance_to_music.gdm_fixtures import band, only


def test_relative_keys_share_a_home_and_no_key_is_far_from_it() -> None:
    for tonic in range(12):
        assert home_shift(Key(tonic)) == home_shift(Key((tonic + 9) % 12, True))
        assert -5 <= home_shift(Key(tonic)) <= 6
        assert home_shift(Key(tonic)) % 12 == tonic
    assert home_shift(None) == 0


def test_a_piece_in_another_key_is_the_same_piece() -> None:
    home = TokenGrid.of(band(4, 0), Key(0))
    for tonic in (-5, 2, 6):
        away = TokenGrid.of(band(4, tonic), Key(tonic % 12))
        assert np.array_equal(home.voices[:, 1], away.voices[:, 1])
        assert np.array_equal(home.voices[:, 2], away.voices[:, 2])
        # The bass may have been folded by an octave.
        ours, theirs = (np.where(t.voices[:, 0] < 2, -t.voices[:, 0], t.voices[:, 0] % 12) for t in (home, away))
        assert np.array_equal(ours, theirs)
    assert not np.array_equal(home.voices[:, 2], TokenGrid.of(band(4, 2), None).voices[:, 2])


def test_pitches_out_of_range_are_folded_by_octaves() -> None:
    grid = band(2)
    for pitch in range(128):
        bass = np.where(grid.bass >= 0, pitch, grid.bass)
        token = int(TokenGrid.of(replace(grid, bass=bass), None).voices[0, 0])
        assert FIRST_VALUE <= token < PITCHED[0]
        assert (token - FIRST_VALUE + BASS_LOWEST - pitch) % 12 == 0


def test_velocities_and_levels_go_together() -> None:
    assert [int(level_of(np.array(velocity_of(level)))) for level in range(LEVELS)] == list(range(LEVELS))
    assert level_of(np.array([1e-6, 1.0])).tolist() == [0, LEVELS - 1]


def test_what_sounds_is_carried_until_it_rests() -> None:
    tokens = np.zeros((7, 3), np.int16)
    tokens[:, 0] = [HOLD_TOKEN, 9, HOLD_TOKEN, HOLD_TOKEN, REST_TOKEN, REST_TOKEN, 4]
    sounding, ages = carry(tokens)
    assert sounding[:, 0].tolist() == [-1, 7, 7, 7, -1, -1, 2]
    assert ages[:, 0].tolist() == [0, 0, 1, 2, 0, 1, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_history_is_the_same_on_the_stage_as_in_learning(seed: int, steps: int) -> None:
    random = np.random.default_rng(seed)
    drums = random.integers(0, 6, (steps, 9)).astype(np.int16)
    voices = np.stack([random.choice([0, 1, 1, 1, *range(2, 7)], steps) for _ in PITCHED], axis=1).astype(np.int16)
    levels = np.where(voices >= FIRST_VALUE, random.integers(0, LEVELS, (steps, 3)), -1).astype(np.int16)
    sounding, ages = carry(voices)
    grid = TokenGrid(drums, voices, levels, sounding, ages, np.ones(4, bool))
    running = RunningHistory()
    live = np.stack([running.advance(*row) for row in zip(drums, voices, levels, strict=True)])
    learnt = grid.history(0, steps)
    assert learnt.shape == (steps, HISTORY_SIZE)
    assert not learnt[0].any()
    assert np.array_equal(live[:-1], learnt[1:])


def test_unknown_voices_leave_no_trace() -> None:
    rows = TokenGrid.of(only(band(2), 0), None).history(0, 32)
    assert np.count_nonzero(rows[5]) == 9
    assert np.count_nonzero(TokenGrid.of(only(band(2), 3), None).history(0, 32)[:, : 9 * 6]) == 0


def test_conditions_say_nothing_about_what_is_unknown() -> None:
    nobody = StepConditions([4], 110.0, None, 0, None, None, None, np.zeros(4), None, dance_known=False).vectors()
    assert nobody.shape == (1, MUSIC_CONDITION_SIZE)
    assert np.count_nonzero(nobody) == 1  # the place in the beat, which is always known
    known = StepConditions([4], 110.0, 3, 0, True, 0.7, 0.2, np.ones(4), np.ones(10), dance_known=True)
    later = replace(known, step=[4 + 12])
    assert np.allclose(known.vectors(), later.vectors(), atol=1e-6)
    assert not np.allclose(known.vectors(), replace(known, step=[5]).vectors(), atol=0.1)


def test_phrases_tell_bands_apart_and_forgive_missing_voices() -> None:
    busy = TokenGrid.of(band(16, seed=1), Key(0))
    calm = replace(busy, drums=busy.drums * (np.arange(9) == 0).astype(np.int16), known=np.array([True] * 4))
    space = MusicPhraseSpace.fit([busy, calm], 32)
    ends = np.array([0]), np.array([32])
    one, other = (space.describe(space.cumulative(t), *ends) for t in (busy, calm))
    assert np.abs(one - other).max() > 0.5
    statistics, known = step_statistics(replace(busy, known=np.array([False, True, True, True])))
    assert statistics.shape == (256, STATISTICS)
    assert 0 < known.sum() < STATISTICS
    unknown = replace(busy, known=np.zeros(4, bool))
    assert not space.describe(space.cumulative(unknown), *ends).any()


def test_history_rows_begin_anywhere() -> None:
    grid = TokenGrid.of(band(4), Key(0))
    assert np.array_equal(grid.history(0, 40)[10:], grid.history(10, 40))
