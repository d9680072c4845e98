"""The pure core: determinism, timing, controls, and that nothing stops the dance."""

from __future__ import annotations

import numpy as np
import pytest

from engine.announcer import BeatAnnouncer, FrameTimes
from engine.beats.follower import BeatFollower
from engine.pipeline import Pipeline
from engine.render import collect
from engine.session import OutputDigest
from engine.settings import ShowSettings, load_show
from engine.types import (
    NS_PER_S,
    AudioBlock,
    BeatEvent,
    BeatState,
    BeatTimeline,
    ClockEvent,
    ControlEvent,
    OutputEvent,
    PoseFrame,
    StatusEvent,
)
from tests.engine.fakes import SteadyTracker, Walker, blocks, make_pipeline, music


def run(pipeline: Pipeline, seconds: float = 4.0, size: int = 480) -> list[OutputEvent]:
    return [event for block in blocks(music(seconds), size) for event in pipeline.push(block)]


def poses(events: list[OutputEvent]) -> list[PoseFrame]:
    return [event for event in events if isinstance(event, PoseFrame)]


def digest(events: list[OutputEvent]) -> str:
    total = OutputDigest()
    total.add(events)
    return total.hexdigest()


def test_the_same_in_gives_the_same_out_whatever_the_block_size() -> None:
    reference = digest(run(make_pipeline()))
    assert digest(run(make_pipeline())) == reference
    for size in (63, 333, 1024 - 1, 4095):  # multiples of three samples, whose times are whole nanoseconds
        assert digest(run(make_pipeline(), size=size)) == reference, size


def test_another_seed_gives_another_dance() -> None:
    one, two = (load_show(None, [f"dancer.seed={seed}"]) for seed in (1, 2))
    assert digest(run(make_pipeline(settings=one))) != digest(run(make_pipeline(settings=two)))


def test_poses_come_on_the_grid_one_look_ahead_early() -> None:
    events = run(make_pipeline())
    times = np.array([pose.time_ns for pose in poses(events)])
    assert times[0] == 0
    assert np.abs(np.diff(times) - NS_PER_S / 60).max() <= 1
    ahead_ms = np.array([pose.time_ns - pose.source_ns for pose in poses(events)]) / 1e6
    assert ahead_ms.max() <= 60.0
    assert ahead_ms[10:].min() > 60.0 - 10.0 - 1e-6, "emitted by the first hop that may"


def test_vision_that_trails_the_sound_begins_with_the_first_pose() -> None:
    events = run(make_pipeline(settings=load_show(None, ["output.vision_lead_ms=-100"])), seconds=1.0)
    shown = poses(events)
    assert len(shown) > 55
    assert all(np.isfinite(pose.rotations).all() for pose in shown)


def test_each_pose_is_led_by_its_clock() -> None:
    events = [event for event in run(make_pipeline()) if isinstance(event, PoseFrame | ClockEvent)]
    for clock, pose in zip(events[::2], events[1::2], strict=True):
        assert isinstance(clock, ClockEvent)
        assert isinstance(pose, PoseFrame)
        assert clock.time_ns == pose.time_ns


def test_beats_are_announced_once_each_ahead_of_time() -> None:
    events = run(make_pipeline(), 8.0)
    beats = [event for event in events if isinstance(event, BeatEvent)]
    late = [beat for beat in beats if beat.time_ns > 4 * NS_PER_S]
    assert [beat.beat_index for beat in beats] == list(range(beats[0].beat_index, beats[0].beat_index + len(beats)))
    for beat in late:
        assert beat.time_ns - beat.source_ns > 0.04 * NS_PER_S
        assert beat.time_ns % (NS_PER_S // 2) == pytest.approx(0, abs=2e6) or beat.time_ns % (
            NS_PER_S // 2
        ) == pytest.approx(NS_PER_S // 2, abs=2e6)
    assert {beat.bar_beat for beat in late} == {1, 2, 3, 4}


def test_the_model_is_asked_ahead_of_time_with_music_it_may_know() -> None:
    walker = Walker()
    run(make_pipeline(walker), 6.0)
    ticks = [request.first_tick for request in walker.requests]
    assert all(tick % 4 == 0 for tick in ticks)
    assert set(np.diff(ticks)) == {4}
    last = walker.requests[-1]
    assert last.music.shape == (4, walker.info.feature_count)
    assert last.tempo_bpm == pytest.approx(120.0, rel=0.01)
    assert last.beats_per_bar == 4
    assert last.style == "chacha", "120 bpm in four"


def test_in_three_it_waltzes() -> None:
    walker = Walker()
    run(make_pipeline(walker, SteadyTracker(90.0, 3)), 6.0)
    assert walker.requests[-1].style == "waltz"


def test_an_accent_is_shown_ahead_of_its_sound() -> None:
    """The pose of tick 12 k stands at 15 ms before beat k."""
    walker = Walker()
    events = run(make_pipeline(walker), 8.0)
    swing = np.array([pose.rotations[16, 2] for pose in poses(events)])
    times_s = np.array([pose.time_ns for pose in poses(events)]) / NS_PER_S
    steady = times_s > 4.0
    phase = 2.0 * np.pi * (times_s[steady] + 0.015) * 2.0
    centred = swing[steady] - swing[steady].mean()
    angle = np.angle(np.sum(centred * np.exp(-1j * phase)) / -0.5j)
    assert abs(angle) / (2.0 * np.pi) * 0.5 < 0.004, "within 4 ms"


def test_it_rests_in_silence_and_comes_back() -> None:
    walker = Walker()
    pipeline = make_pipeline(walker)
    loud = music(4.0)
    quiet = np.zeros((48_000 * 5, 1), np.float32)
    asked = []
    for block in blocks(np.concatenate([loud, quiet, loud])):
        pipeline.push(block)
        asked.append(len(walker.requests))
    assert asked[399] > 10
    assert asked[700] == asked[899], "nothing is asked of the model while the dancer rests"
    assert asked[-1] > asked[899] + 10


@pytest.mark.parametrize("how", ["raises", "not finite"])
def test_a_lost_model_is_replaced_reported_and_tried_again(how: str) -> None:
    walker = Walker()
    pipeline = make_pipeline(walker)
    events: list[OutputEvent] = []
    for number, block in enumerate(blocks(music(12.0))):
        broken = 300 <= number < 500
        walker.fail = RuntimeError("out of memory") if broken and how == "raises" else None
        walker.poison = broken and how == "not finite"
        events += pipeline.push(block)
    frames = poses(events)
    assert np.diff([pose.time_ns for pose in frames]).max() < 17e6, "the output never stops"
    assert all(np.isfinite(pose.rotations).all() for pose in frames)
    errors = [event for event in events if isinstance(event, StatusEvent) and event.level == "error"]
    assert 1 <= len(errors) < 6
    assert "walker" in errors[0].message
    assert walker.requests[-1].first_tick > 24 * 10, "it dances again"
    turns = np.abs(np.diff([pose.rotations[16] for pose in frames], axis=0)).max()
    assert turns < 0.3, "no jump when the model goes or comes"


def test_controls_take_effect_and_are_echoed() -> None:
    walker = Walker()
    pipeline = make_pipeline(walker)
    run(pipeline, 1.0)
    for name, value, echoed in [
        ("energy", 7.0, 1.0),
        ("style", "waltz", "waltz"),
        ("style", 0.0, "auto"),
        ("mirror", 1.0, 1.0),
        ("blackout", 1.0, 1.0),
        ("tap", 3.0, None),
        ("nudge", 0.1, 0.1),
    ]:
        assert pipeline.push(ControlEvent(NS_PER_S, name, value)) == [ControlEvent(NS_PER_S, name, echoed)]
    assert pipeline.dancer.energy == 1.0
    assert pipeline.dancer.mirror


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("style", "breakdance"),
        ("style", 99.0),
        ("scene", "none"),
        ("dance!", 1.0),
        ("energy", "much"),
        ("tempo", None),
        # There is no band in this show.
        ("key", "C major"),
        ("mute_lead", 1.0),
        ("triggers", "free"),
    ],
)
def test_a_wrong_control_is_refused_aloud_and_changes_nothing(name: str, value: float | str | None) -> None:
    pipeline = make_pipeline()
    events = pipeline.push(ControlEvent(0, name, value))
    assert [type(event) for event in events] == [StatusEvent]
    assert pipeline.metrics.counter("controls_refused") == 1


@pytest.mark.parametrize(("bpm", "name"), [(210.0, "double"), (39.0, "half")])
def test_a_tempo_that_cannot_be_followed_is_refused_aloud(bpm: float, name: str) -> None:
    pipeline = make_pipeline()
    pipeline.push(ControlEvent(0, "tempo", bpm))
    (said,) = pipeline.push(ControlEvent(0, name))
    assert isinstance(said, StatusEvent)
    assert "within 20 and 400 bpm" in said.message
    back = ControlEvent(0, "half" if name == "double" else "double")
    assert pipeline.push(back) == [back]


def test_a_mistake_that_is_repeated_is_told_once_a_second() -> None:
    pipeline = make_pipeline()
    told = [
        event.message
        for hundredth in range(250)
        for event in pipeline.push(ControlEvent(hundredth * NS_PER_S // 100, "style", "breakdance"))
    ]
    assert len(told) == 3
    assert pipeline.metrics.counter("controls_refused") == 250
    assert [type(e) for e in pipeline.push(ControlEvent(249 * NS_PER_S // 100, "dance!", 1.0))] == [StatusEvent]


def test_mistakes_that_are_repeated_in_turn_are_each_told_once_a_second() -> None:
    pipeline = make_pipeline()
    mistakes = [("style", "breakdance"), ("key", "H"), ("triggers", "free")]
    told = [
        event.message
        for hundredth in range(249)
        for event in pipeline.push(ControlEvent(hundredth * NS_PER_S // 100, *mistakes[hundredth % 3]))
    ]
    assert len(told) == 9
    names = [("style", f"dance {number}") for number in range(200)]
    assert sum(len(pipeline.push(ControlEvent(10 * NS_PER_S, *mistake))) for mistake in names) == 32


def test_a_scene_sets_several_things() -> None:
    settings = ShowSettings.model_validate({"scenes": {"end": {"style": "waltz", "energy": 0.2}}})
    pipeline = make_pipeline(settings=settings)
    events = pipeline.push(ControlEvent(0, "scene", 0.0))
    assert events[-1] == ControlEvent(0, "scene", "end")
    assert pipeline.dancer.style == "waltz"
    assert pipeline.dancer.energy == 0.2
    assert not pipeline.dancer.mirror


def test_hold_freezes_and_lets_go_smoothly() -> None:
    # Where there is room to walk straight on: turned by half a circle, a rotation vector flips its sign.
    pipeline = make_pipeline(settings=load_show(None, ["dancer.stage_radius_m=6"]))
    all_blocks = list(blocks(music(6.0)))
    frames: list[PoseFrame] = []
    for number, block in enumerate(all_blocks):
        if number in (200, 400):
            pipeline.push(ControlEvent(block.time_ns, "hold", float(number == 200)))
        frames += poses(pipeline.push(block))
    moved = np.abs(np.diff([pose.rotations for pose in frames], axis=0)).max(axis=(1, 2))
    assert moved[180:235].max() < 1e-3, "it stands still"
    assert moved[60:110].max() > 1e-2, "it had been moving"
    assert moved.max() < 0.2, "and no jump anywhere"


def test_a_panic_that_lets_go_of_a_hold_says_so() -> None:
    pipeline = make_pipeline()
    pipeline.push(ControlEvent(0, "hold", 1.0))
    assert pipeline.push(ControlEvent(0, "panic")) == [ControlEvent(0, "hold", 0.0), ControlEvent(0, "panic")]
    assert pipeline.push(ControlEvent(0, "panic")) == [ControlEvent(0, "panic")]


def test_it_stays_on_the_stage() -> None:
    settings = load_show(None, ["dancer.stage_radius_m=2"])
    frames = poses(run(make_pipeline(settings=settings), 40.0))
    radius = np.array([np.hypot(*pose.translation_m[[0, 2]]) for pose in frames])
    assert radius.max() < 2.0 + 1e-3
    assert radius[-600:].std() >= 0.0
    speed = np.linalg.norm(np.diff([pose.translation_m for pose in frames], axis=0), axis=1) * 60.0
    assert np.median(speed[-600:]) > 0.5, "it goes on walking, in a curve"


def test_panic_brings_it_home_without_a_jump() -> None:
    pipeline = make_pipeline()
    frames: list[PoseFrame] = []
    for number, block in enumerate(blocks(music(8.0))):
        if number == 500:
            pipeline.push(ControlEvent(block.time_ns, "panic"))
        frames += poses(pipeline.push(block))
    path = np.array([pose.translation_m for pose in frames])
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 0.15


def test_bad_audio_is_survived() -> None:
    pipeline = make_pipeline()
    events = run(pipeline, 1.0)
    awful = music(1.0)
    awful[::7] = np.nan
    awful[::11] = np.inf
    awful[::13] = 1e30
    for block in blocks(awful, start_ns=NS_PER_S):
        events += pipeline.push(block)
    for block in blocks(music(1.0), start_ns=2 * NS_PER_S):
        events += pipeline.push(AudioBlock(0, block.time_ns, block.samples, 1000))
    for block in blocks(music(2.0), start_ns=3 * NS_PER_S):
        events += pipeline.push(block)
    assert all(np.isfinite(pose.rotations).all() for pose in poses(events))
    assert poses(events)[-1].time_ns > 4.9 * NS_PER_S
    refused = [e for e in events if isinstance(e, StatusEvent) and e.component == "audio"]
    assert len(refused) == 1, "said once, not a thousand times"


def test_collect_keeps_what_lies_within_the_input() -> None:
    frames, beats, report = collect(make_pipeline(), blocks(music(3.0)))
    assert frames[-1].time_ns <= 3 * NS_PER_S
    assert report.poses == len(frames) == 181
    assert report.beats == len(beats) > 3
    assert report.problems == ()


def test_beats_that_passed_while_time_leapt_are_not_made_up_for() -> None:
    announcer = BeatAnnouncer(ShowSettings())
    follower = BeatFollower()
    follower.set_external(BeatTimeline(120.0, 0.0, 0))
    moments = [*range(0, 5 * NS_PER_S, NS_PER_S // 100), *range(600 * NS_PER_S, 603 * NS_PER_S, NS_PER_S // 100)]
    beats = [beat for now_ns in moments for beat in announcer.announce(now_ns, follower.update(now_ns, None, True))]
    assert min(beat.time_ns - beat.source_ns for beat in beats) > -51_000_000, "none of ten minutes ago"
    assert sum(beat.time_ns >= 600 * NS_PER_S for beat in beats) >= 6, "and it goes on at once"


@pytest.mark.parametrize("delay_ms", [0, 300])
@pytest.mark.parametrize(("ago_ms", "told"), [(30, True), (70, False), (400, False)])
def test_a_beat_that_is_found_again_is_told_if_it_still_comes_in_time(delay_ms: int, ago_ms: int, told: bool) -> None:
    settings = load_show(None, [f"output.latency_ms={delay_ms}"])
    announcer = BeatAnnouncer(settings)
    now_ns = 10 * NS_PER_S
    # The last beat told is 0; then the music turns out to be further on: beat 1 was a moment ago already.
    announcer.announce(now_ns, BeatState(BeatTimeline(120.0, 0.5, now_ns + settings.delays_ns + 60_000_000), 0.9))
    was_ns = now_ns + settings.delays_ns - ago_ms * 1_000_000
    beats = announcer.announce(now_ns, BeatState(BeatTimeline(120.0, 1.0, was_ns), 0.9))
    assert [beat.beat_index for beat in beats if beat.time_ns == was_ns] == [1] * told
    assert min((beat.time_ns for beat in beats), default=now_ns + settings.delays_ns) > was_ns - 1


def test_poses_go_forward_when_time_leaps_by_less_than_they_are_ahead() -> None:
    times = FrameTimes(load_show(None, ["output.lookahead_ms=500", "output.latency_ms=500", "audio.latency_ms=500"]))
    shown = [time_ns for now_ns in (10_000_000, 20_000_000, 1_200_000_000) for time_ns in times.due(now_ns)]
    assert shown == sorted(set(shown))
