"""The dancer's timeline: levels, bars, and never backwards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.dancing.dance_time import DanceTimeline
from engine.types import NS_PER_S, BeatState, BeatTimeline


def state(tempo_bpm: float, origin_beat: float = 0.0, origin_ns: int = 0, bar: int | None = 4, bar_origin: int = 0):
    return BeatState(BeatTimeline(tempo_bpm, origin_beat, origin_ns), 1.0, bar, bar_origin)


def test_a_danceable_tempo_is_danced_as_it_is() -> None:
    time = DanceTimeline((60.0, 140.0))
    time.update(state(120.0), 0)
    assert time.tempo_bpm == 120.0
    assert time.tick_at(NS_PER_S) == pytest.approx(24.0)
    assert time.time_of(24.0) == NS_PER_S


@pytest.mark.parametrize(("music_bpm", "danced_bpm"), [(170.0, 85.0), (45.0, 90.0), (300.0, 75.0), (140.0, 140.0)])
def test_other_tempos_are_folded_into_the_range(music_bpm: float, danced_bpm: float) -> None:
    time = DanceTimeline((60.0, 140.0))
    time.update(state(music_bpm), 0)
    assert time.tempo_bpm == pytest.approx(danced_bpm)


def test_half_time_dances_on_the_bars_first_beat() -> None:
    time = DanceTimeline((60.0, 140.0))
    time.update(state(170.0, bar_origin=3), 0)
    tick = time.tick_at(BeatTimeline(170.0, 0.0, 0).time_of(3))
    assert tick / 12.0 == pytest.approx(round(tick / 12.0), abs=1e-6)
    assert time.bar_tick % 12 == 0


def test_the_level_is_kept_near_the_edge_of_the_range() -> None:
    time = DanceTimeline((60.0, 140.0))
    time.update(state(138.0), 0)
    time.update(state(145.0), 1)
    assert time.tempo_bpm == 145.0, "5 bpm over the edge must not halve the dance"
    time.update(state(160.0), 2)
    assert time.tempo_bpm == 80.0


def test_a_change_of_level_is_continuous_and_lands_on_the_beat() -> None:
    time = DanceTimeline((60.0, 140.0))
    music = BeatTimeline(130.0, 0.0, 0)
    time.update(BeatState(music, 1.0, 4, 0), 0)
    change_ns = music.time_of(7.3)
    before = time.tick_at(change_ns)
    fast = BeatTimeline(200.0, 7.3, change_ns)
    time.update(BeatState(fast, 1.0, 4, 0), change_ns)
    assert time.tick_at(change_ns) == pytest.approx(before, abs=1e-6)
    for hop in range(1, 400):
        time.update(BeatState(fast, 1.0, 4, 0), change_ns + hop * 10_000_000)
    beat = time.tick_at(fast.time_of(16)) / 12.0
    assert beat == pytest.approx(round(beat), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(35.0, 320.0), min_size=2, max_size=30), st.integers(0, 2**32 - 1))
def test_it_never_runs_backwards(tempos: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    time = DanceTimeline((60.0, 140.0))
    now_ns, beat, last = 0, 0.0, -np.inf
    for tempo in tempos:
        timeline = BeatTimeline(tempo, beat, now_ns)
        bar_origin = int(rng.integers(0, 8))
        for _ in range(int(rng.integers(1, 60))):
            time.update(BeatState(timeline, 1.0, 4, bar_origin), now_ns)
            tick = time.tick_at(now_ns)
            assert tick >= last - 1e-6
            last = tick
            now_ns += 10_000_000
        beat = timeline.beat_at(now_ns)
