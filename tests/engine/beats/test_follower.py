"""The follower in virtual time: hops of 10 ms, estimates made up or random."""

from __future__ import annotations

import contextlib
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.beats.follower import BeatFollower
from engine.types import NS_PER_S, BeatEstimate, BeatState, BeatTimeline, ControlEvent

HOP_NS = 10_000_000


def estimate_at(
    now_ns: int, bpm: float, origin_s: float = 0.0, confidence: float = 0.9, per_bar: int | None = None
) -> BeatEstimate:
    """What a perfect tracker says at `now_ns` of beats at origin + k * 60 / bpm."""
    period = 60 * NS_PER_S / bpm
    origin = origin_s * NS_PER_S
    index = math.floor((now_ns - origin) / period)
    downbeat = None if per_bar is None else round(origin + index // per_bar * per_bar * period)
    return BeatEstimate(round(origin + index * period), round(period), confidence, per_bar, downbeat)


def run(
    follower: BeatFollower, start_s: float, end_s: float, bpm: float | None, origin_s: float = 0.0, **about: float
) -> list[tuple[int, BeatState]]:
    """Feed hops in (start, end]; bpm None is silence."""
    states = []
    for hop in range(round(start_s * 100) + 1, round(end_s * 100) + 1):
        now = hop * HOP_NS
        estimate = None if bpm is None else estimate_at(now, bpm, origin_s, **about)  # type: ignore[arg-type]
        states.append((now, follower.update(now, estimate, active=bpm is not None)))
    return states


def phase_error_s(state: BeatState, now_ns: int, bpm: float, origin_s: float = 0.0) -> float:
    true = (now_ns / NS_PER_S - origin_s) * bpm / 60
    error = (state.timeline.beat_at(now_ns) - true + 0.5) % 1.0 - 0.5
    return error * 60 / bpm


def test_starts_at_120_without_confidence() -> None:
    state = BeatFollower().update(HOP_NS, None, active=False)
    assert state.timeline.tempo_bpm == pytest.approx(120)
    assert state.confidence == 0
    assert state.beats_per_bar is None


@pytest.mark.parametrize("bpm", [60, 83, 120, 174, 200])
def test_locks_within_a_second_of_a_sure_tracker(bpm: float) -> None:
    follower = BeatFollower()
    states = run(follower, 0, 3, bpm, origin_s=0.123)
    for now, state in states[100:]:
        assert abs(phase_error_s(state, now, bpm, 0.123)) < 0.01
    assert states[-1][1].confidence > 0.7
    assert states[-1][1].timeline.tempo_bpm == pytest.approx(bpm, rel=0.01)


def test_holds_through_silence_with_fading_confidence() -> None:
    follower = BeatFollower()
    before = run(follower, 0, 8, 100)[-1][1]
    silent = run(follower, 8, 14, None)
    now, after = silent[-1]
    assert abs(phase_error_s(after, now, 100)) < 0.005
    assert after.confidence < 0.35 * before.confidence
    assert all(a[1].confidence >= b[1].confidence for a, b in pairwise(silent))


def test_relocks_at_once_after_silence() -> None:
    follower = BeatFollower()
    run(follower, 0, 8, 100)
    run(follower, 8, 12, None)
    states = run(follower, 12, 14, 100, origin_s=0.25)
    late = [now / NS_PER_S - 12 for now, s in states if abs(phase_error_s(s, now, 100, 0.25)) > 0.02]
    assert max(late) < 1.2


@pytest.mark.parametrize(("old", "new"), [(100, 128), (140, 112), (90, 97), (120, 150)])
def test_relocks_after_a_tempo_jump(old: float, new: float) -> None:
    follower = BeatFollower()
    run(follower, 0, 8, old)
    states = run(follower, 8, 12, new, origin_s=8.0)
    late = [now / NS_PER_S - 8 for now, s in states if abs(phase_error_s(s, now, new, 8.0)) > 0.03]
    assert max(late, default=0.0) < 1.7


def test_a_jump_of_half_a_beat_is_believed_after_a_beat_and_slewed() -> None:
    follower = BeatFollower()
    run(follower, 0, 8, 120)
    states = run(follower, 8, 11, 120, origin_s=0.25)
    assert abs(phase_error_s(states[20][1], states[20][0], 120)) < 0.01  # not yet believed
    late = [now / NS_PER_S - 8 for now, s in states if abs(phase_error_s(s, now, 120, 0.25)) > 0.02]
    assert max(late) < 1.7


@pytest.mark.parametrize("factor", [2.0, 0.5, 1.5, 2 / 3])
def test_a_short_octave_flip_is_ignored_and_a_long_one_believed(factor: float) -> None:
    follower = BeatFollower()
    run(follower, 0, 10, 90)
    flipped = run(follower, 10, 11.5, 90 * factor)
    assert all(s.timeline.tempo_bpm == pytest.approx(90, rel=0.03) for _, s in flipped)
    back = run(follower, 11.5, 13, 90)
    assert abs(phase_error_s(back[-1][1], back[-1][0], 90)) < 0.01
    believed = run(follower, 13, 20, 90 * factor)
    assert believed[-1][1].timeline.tempo_bpm == pytest.approx(90 * factor, rel=0.02)


def test_follows_a_slow_drift_closely() -> None:
    follower = BeatFollower()
    beat, errors, last_bpm = 0.0, [], 0.0
    times = [0.0]
    for hop in range(1, 3001):
        last_bpm = 110 + 12 * math.sin(hop / 100 * 0.5)
        beat += last_bpm / 60 * 0.01
        if beat >= len(times):
            times.append(hop / 100 - (beat - len(times)) * 60 / last_bpm)
        now = hop * HOP_NS
        estimate = BeatEstimate(round(times[-1] * NS_PER_S), round(60e9 / last_bpm), 0.8)
        state = follower.update(now, estimate, active=True)
        errors.append(((state.timeline.beat_at(now) - beat + 0.5) % 1.0 - 0.5) * 60 / last_bpm)
    assert max(abs(e) for e in errors[300:]) < 0.025


def test_unsure_estimates_do_not_overthrow_a_lock() -> None:
    follower = BeatFollower()
    run(follower, 0, 8, 120)
    states = run(follower, 8, 14, 77, confidence=0.15)
    now, state = states[-1]
    assert abs(phase_error_s(state, now, 120)) < 0.01
    assert state.confidence < 0.4


def test_four_taps_set_tempo_and_phase() -> None:
    follower = BeatFollower()
    run(follower, 0, 5, 160)
    for tap in range(4):
        at_s = 5.0 + tap * 0.6
        run(follower, at_s - 0.6 if tap else 4.99, at_s, 160)
        follower.control(ControlEvent(round(at_s * NS_PER_S), "tap"))
    states = run(follower, 6.8, 9.5, 160)
    now, state = states[-1]
    assert state.timeline.tempo_bpm == pytest.approx(100, rel=0.01)
    assert abs(phase_error_s(state, now, 100, 5.0)) < 0.03


def test_double_and_half_stay_while_the_tracker_keeps_its_opinion() -> None:
    follower = BeatFollower()
    run(follower, 0, 5, 100)
    follower.control(ControlEvent(5 * NS_PER_S, "double"))
    state = run(follower, 5, 15, 100)[-1][1]
    assert state.timeline.tempo_bpm == pytest.approx(200, rel=0.02)
    follower.control(ControlEvent(15 * NS_PER_S, "half"))
    follower.control(ControlEvent(15 * NS_PER_S, "half"))
    now, state = run(follower, 15, 25, 100)[-1]
    assert state.timeline.tempo_bpm == pytest.approx(50, rel=0.02)
    assert min(abs(phase_error_s(state, now, 50, o)) for o in (0.0, 0.6)) < 0.02


def test_tempo_control_sets_the_tempo() -> None:
    follower = BeatFollower()
    follower.control(ControlEvent(0, "tempo", 93.0))
    state = run(follower, 0, 3, None)[-1][1]
    assert state.timeline.tempo_bpm == pytest.approx(93, rel=0.001)
    assert state.confidence > 0.5


def test_a_nudge_stays_until_the_tracker_agrees() -> None:
    follower = BeatFollower()
    run(follower, 0, 5, 120)
    follower.control(ControlEvent(5 * NS_PER_S, "nudge", 0.5))
    now, state = run(follower, 5, 10, 120)[-1]
    assert abs(phase_error_s(state, now, 120, 0.25)) < 0.01
    now, state = run(follower, 10, 15, 120, origin_s=0.25)[-1]
    assert abs(phase_error_s(state, now, 120, 0.25)) < 0.01


def test_metre_needs_some_beats_and_the_downbeat_control_wins() -> None:
    follower = BeatFollower()
    state = run(follower, 0, 6, 120, per_bar=3)[-1][1]
    assert state.beats_per_bar == 3
    assert state.bar_beat(round(state.timeline.beat_at(round(4.5 * NS_PER_S)))) == 1
    state = run(follower, 6, 7, 120, per_bar=4)[-1][1]
    assert state.beats_per_bar == 3
    state = run(follower, 7, 9.5, 120, per_bar=4)[-1][1]
    assert state.beats_per_bar == 4
    follower.control(ControlEvent(round(9.5 * NS_PER_S), "downbeat"))
    state = run(follower, 9.5, 15, 120, per_bar=4)[-1][1]
    assert state.bar_beat(round(state.timeline.beat_at(round(9.5 * NS_PER_S)))) == 1


def test_bars_of_the_next_song_are_heard_again_after_a_chosen_downbeat() -> None:
    follower = BeatFollower()
    run(follower, 0, 5, 120, per_bar=4)
    follower.control(ControlEvent(round(4.5 * NS_PER_S), "downbeat"))
    run(follower, 5, 12, None)
    assert run(follower, 12, 17, 120, per_bar=3)[-1][1].beats_per_bar == 4, "a break is not another song"
    run(follower, 17, 22, None)
    now, state = run(follower, 22, 32, 90, origin_s=0.2, per_bar=3)[-1]
    assert state.beats_per_bar == 3
    bar = math.floor((now / NS_PER_S - 0.2) / 2.0)
    assert state.bar_beat(round(state.timeline.beat_at(round((0.2 + 2.0 * bar) * NS_PER_S)))) == 1


def test_external_timeline_is_followed_and_let_go() -> None:
    follower = BeatFollower()
    run(follower, 0, 5, 120)
    follower.set_external(BeatTimeline(133.0, 1000.0, 0))
    now, state = run(follower, 5, 8, 120)[-1]
    assert abs(phase_error_s(state, now, 133)) < 0.002
    assert state.confidence > 0.9
    follower.set_external(None)
    now, state = run(follower, 8, 14, 120)[-1]
    assert abs(phase_error_s(state, now, 120)) < 0.01


def test_a_nudge_shifts_an_external_timeline() -> None:
    follower = BeatFollower()
    follower.set_external(BeatTimeline(120.0, 1000.0, 0))
    run(follower, 0, 5, None)
    follower.control(ControlEvent(5 * NS_PER_S, "nudge", 0.25))
    now, state = run(follower, 5, 8, None)[-1]
    assert abs(phase_error_s(state, now, 120, 0.125)) < 0.002


def test_tempo_wishes_take_nothing_from_an_external_timeline() -> None:
    follower = BeatFollower()
    follower.set_external(BeatTimeline(120.0, 0.0, 0))
    run(follower, 0, 5, None)
    follower.control(ControlEvent(5 * NS_PER_S, "downbeat"))
    follower.control(ControlEvent(5 * NS_PER_S, "nudge", 0.25))
    before = run(follower, 5, 8, None)[-1][1]
    for tap in range(5):
        follower.control(ControlEvent(round((8.1 + 0.4 * tap) * NS_PER_S), "tap"))
    follower.control(ControlEvent(10 * NS_PER_S, "half"))
    now, state = run(follower, 8, 14, None)[-1]
    assert abs(phase_error_s(state, now, 120, 0.125)) < 0.002, "the nudge stays"
    now_beat = round(state.timeline.beat_at(now))
    assert state.bar_beat(now_beat) == before.bar_beat(now_beat), "and so does the bar"


def test_predicts_the_next_beat_while_it_corrects() -> None:
    follower = BeatFollower()
    run(follower, 0, 8, 120)
    states = run(follower, 8, 12, 120, origin_s=0.04)
    for now, state in states[60:]:
        beat = math.floor(state.timeline.beat_at(now)) + 1
        true_ns = 0.04 * NS_PER_S + round((state.timeline.time_of(beat) / NS_PER_S - 0.04) * 2) / 2 * NS_PER_S
        assert abs(state.timeline.time_of(beat) - true_ns) < 0.02 * NS_PER_S


def test_same_input_same_output_and_reset() -> None:
    first, second = BeatFollower(), BeatFollower()
    a = [s for _, s in run(first, 0, 6, 97, per_bar=4)]
    run(second, 0, 3, 160)
    second.reset()
    assert a == [s for _, s in run(second, 0, 6, 97, per_bar=4)]


numbers = st.one_of(st.integers(-(10**12), 10**12), st.floats(allow_nan=True, allow_infinity=True))
wild_estimates = st.one_of(
    st.none(),
    st.builds(
        BeatEstimate,
        beat_ns=numbers,  # type: ignore[arg-type]
        period_ns=st.one_of(numbers, st.integers(150_000_000, 3_000_000_000)),  # type: ignore[arg-type]
        confidence=st.one_of(st.floats(0, 1), st.floats()),
        beats_per_bar=st.one_of(st.none(), st.integers(-3, 20)),
        downbeat_ns=st.one_of(st.none(), st.integers(-(10**12), 10**12)),
    ),
)
wishes = st.builds(
    ControlEvent,
    time_ns=st.integers(0, 10**10),
    name=st.sampled_from(["tap", "nudge", "tempo", "double", "half", "downbeat", "mirror"]),
    value=st.one_of(st.none(), st.floats(), st.text(max_size=3)),
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-5, 300), wild_estimates, st.booleans(), st.one_of(st.none(), st.none(), wishes)),
        max_size=60,
    )
)
def test_never_backwards_whatever_it_is_told(
    story: list[tuple[int, BeatEstimate | None, bool, ControlEvent | None]],
) -> None:
    follower = BeatFollower()
    now, told = 0, follower.state
    for step, estimate, active, wish in story:
        before = told.timeline.beat_at(max(now, now + step * 1_000_000))
        now += step * 1_000_000
        if wish is not None:
            with contextlib.suppress(ValueError):  # twice or half of what is at the limit
                follower.control(wish)
        told_next = follower.update(now, estimate, active)
        heard_ns = max(now, told_next.timeline.origin_ns)
        assert told_next.timeline.beat_at(heard_ns) >= before - 1e-6
        assert told_next.timeline.tempo_bpm > 0
        assert math.isfinite(told_next.timeline.tempo_bpm)
        assert 0.0 <= told_next.confidence <= 1.0
        now, told = max(now, told_next.timeline.origin_ns), told_next
