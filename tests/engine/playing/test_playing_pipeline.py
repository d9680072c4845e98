"""The core of dance to music, with a synthetic dancer and virtual time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.clock import VirtualClock
from engine.metrics import Metrics
from engine.pipeline import Pipeline
from engine.playing.keys import into_key, key_name, parse_key, scale
from engine.playing.movement import PoseTrack, TickFeatures
from engine.playing.pipeline import PlayingPipeline
from engine.playing.render import with_heartbeats
from engine.playing.rule_composer import RuleComposer
from engine.scheduler import OutputScheduler, Timing
from engine.session import OutputDigest
from engine.settings import load_show
from engine.types import (
    NS_PER_S,
    BeatEvent,
    ClockEvent,
    ControlEvent,
    Heartbeat,
    Key,
    MusicStep,
    Observation,
    OutputEvent,
    PoseFrame,
    PoseLandmarks,
    StatusEvent,
    TempoReference,
    VoiceStep,
)
from tests.engine.dance_poses import Metronome, Nobody, begun, dance, hanging, make_playing, notes_of, run
from tests.engine.fakes import Drain, SteadyTracker, blocks, music

MS = 1_000_000
STEP_NS = 125 * MS  # a sixteenth at 120 bpm


def statuses(events: list[OutputEvent], level: str) -> list[str]:
    return [event.message for event in events if isinstance(event, StatusEvent) and event.level == level]


def at(time_s: float, name: str, value: float | str | None = None) -> ControlEvent:
    return ControlEvent(round(time_s * NS_PER_S), name, value)


def mixed(*streams: list[Observation]) -> list[Observation]:
    return sorted((o for stream in streams for o in stream), key=lambda o: o.time_ns)


def test_notes_lie_on_the_grid_and_leave_a_constant_time_ahead() -> None:
    core = make_playing()
    late: list[int] = []
    notes = []
    for time_ns in range(0, 12 * NS_PER_S, 10 * MS):
        if time_ns % (30 * MS) == 0:
            core.push(next(dance(0.1, start_s=time_ns / NS_PER_S)))
        for note in begun(core.push(Heartbeat(time_ns))):
            notes.append(note)
            late.append(note.time_ns - time_ns)
    settled = [note for note in notes if note.time_ns > 4 * NS_PER_S]
    assert len(settled) > 60
    off_ns = [(note.time_ns + STEP_NS // 2) % STEP_NS - STEP_NS // 2 for note in settled]
    assert max(map(abs, off_ns)) < MS
    assert min(late) > 100 * MS
    assert max(late) <= 120 * MS


def test_the_beat_is_announced_and_the_camera_figure_shown() -> None:
    events = run(make_playing(), dance(6.0))
    beats = [event for event in events if isinstance(event, BeatEvent)]
    assert len(beats) >= 8
    assert [beat.beat_index for beat in beats] == list(range(beats[0].beat_index, beats[-1].beat_index + 1))
    figures = [event for event in events if isinstance(event, PoseFrame)]
    assert len(figures) == 180
    assert {figure.performer for figure in figures} == {"camera"}
    clocks = [event.time_ns for event in events if isinstance(event, ClockEvent)]
    assert np.diff(clocks) == pytest.approx(NS_PER_S / 60, abs=2)


def test_the_same_dance_and_seed_give_the_same_bytes() -> None:
    def digest(seed: int) -> str:
        total = OutputDigest()
        total.add(run(make_playing(RuleComposer(), f"band.seed={seed}"), dance(8.0)))
        return total.hexdigest()

    assert digest(0) == digest(0)
    assert digest(0) != digest(1)


def test_it_stops_within_a_bar_of_standing_still_and_begins_again_on_the_beat() -> None:
    def moving(time_s: float) -> float:
        return 0.0 if 8.0 <= time_s < 14.0 else 1.0

    core = make_playing()
    events = run(core, dance(20.0, energy=moving))
    starts = sorted(note.time_ns / NS_PER_S for note in begun(events))
    last = max(start for start in starts if start < 12.0)
    assert 8.0 < last < 8.0 + 4 * 0.5, "a bar at 120 bpm lasts two seconds"
    again = min(start for start in starts if start > last + 1.0)
    assert 14.0 < again < 15.5
    assert again % 0.5 == pytest.approx(0.0, abs=2e-3) or again % 0.5 == pytest.approx(0.5, abs=2e-3)
    quiet = run(make_playing(), dance(14.0, energy=moving))
    assert not hanging(quiet), "what sounded was ended"


def test_a_dancer_who_never_moves_is_not_played_for() -> None:
    assert not notes_of(run(make_playing(), dance(6.0, energy=0.0)))


def test_a_still_dancer_seen_through_a_trembling_camera_is_still() -> None:
    random = np.random.default_rng(0)
    frames: list[Observation] = []
    for frame in dance(12.0, energy=lambda t: 1.0 if t < 4.0 else 0.0):
        tremble = random.normal(0.0, 0.006, (24, 3)).astype(np.float32)
        frames.append(replace(frame, rotations=frame.rotations + tremble))
    assert max(note.time_ns for note in begun(run(make_playing(), frames))) < 6.5 * NS_PER_S


def test_nobody_in_view_is_said_once_and_taken_back() -> None:
    def away(time_ns: int) -> PoseLandmarks:
        return PoseLandmarks(time_ns, np.zeros((33, 3)), np.zeros(33), np.zeros((33, 2)))

    core = make_playing()
    events = run(core, mixed([*dance(5.0)], [away(t * 33 * MS) for t in range(152, 300)], [*dance(3.0, start_s=10.0)]))
    assert [m for m in statuses(events, "warning") if "nobody" in m] == [
        "nobody is in view; the band rests until somebody is"
    ]
    assert "the dancer is back" in statuses(events, "info")
    assert not [n for n in begun(events) if 7.5 * NS_PER_S < n.time_ns < 10.0 * NS_PER_S]
    assert [n for n in begun(events) if n.time_ns > 10.0 * NS_PER_S]


def test_landmarks_that_are_not_numbers_are_counted() -> None:
    core = make_playing()
    core.push(PoseLandmarks(0, np.zeros((33, 3)), np.ones(33), np.full((33, 2), np.nan)))
    core.push(PoseLandmarks(NS_PER_S, np.zeros((33, 3)), np.zeros(33), np.zeros((33, 2))))
    assert core.metrics.counter("poses_refused") == 1


def test_a_late_camera_does_not_look_like_a_dancer_who_stops() -> None:
    core = make_playing()
    events: list[OutputEvent] = []
    waiting = [*dance(12.0)]
    for time_ns in range(0, 12 * NS_PER_S, 10 * MS):
        while waiting and waiting[0].time_ns <= time_ns - 140 * MS:
            events += core.push(waiting.pop(0))
        events += core.push(Heartbeat(time_ns))
    starts = np.array(sorted({note.time_ns for note in begun(events)})) / NS_PER_S
    assert np.diff(starts[starts > 2.0]).max() < 0.3


def test_who_comes_back_is_seen_as_promptly_as_before() -> None:
    track = PoseTrack()
    features = TickFeatures(track)
    waiting = [pose for pose in dance(14.0) if not 5.0 <= pose.time_ns / NS_PER_S < 9.0]
    delays_ms: dict[int, float] = {}
    for time_ns in range(0, 14 * NS_PER_S, 20 * MS):
        while waiting and waiting[0].time_ns <= time_ns - 60 * MS:
            track.add(waiting.pop(0))
        features.row(time_ns, 20 * MS)
        delays_ms[time_ns // NS_PER_S] = features.delay_ns / MS
    assert delays_ms[4] < 110.0
    assert delays_ms[9] == pytest.approx(delays_ms[4], abs=20.0)


def test_poses_of_a_fast_recording_are_the_same_dance() -> None:
    def heard(fps: float) -> list[tuple[int, int, int]]:
        frames = dance(8.0, bpm=60.0, fps=fps, energy=2.5)
        return [(n.time_ns, n.channel, n.pitch) for n in begun(run(make_playing(RuleComposer(), bpm=60.0), frames))]

    usual = heard(60.0)
    assert len(usual) > 40
    assert heard(600.0) == usual


def test_more_movement_is_louder() -> None:
    def velocity(energy: float) -> float:
        return float(np.mean([n.velocity for n in begun(run(make_playing(), dance(8.0, energy=energy)))]))

    assert velocity(0.35) + 10.0 < velocity(1.0)


def test_a_composer_that_fails_is_replaced_reported_and_tried_again() -> None:
    composer = Metronome()
    core = make_playing(composer)
    run(core, dance(4.0))
    composer.fail = RuntimeError("out of memory")
    events = run(core, dance(4.0, start_s=4.0))
    assert core.metrics.counter("composer_lost") >= 2
    assert any("out of memory" in message for message in statuses(events, "error"))
    assert len(begun(events)) > 10, "the rules play on"
    composer.fail = None
    asked = len(composer.requests)
    run(core, dance(10.0, start_s=8.0))
    assert len(composer.requests) > asked
    assert len(composer.seeds) > 1, "it begins anew"


@pytest.mark.parametrize(
    "step",
    [
        MusicStep(np.full(9, np.nan), VoiceStep(), VoiceStep(), VoiceStep()),
        MusicStep(np.zeros(9), VoiceStep((200,), 0.5), VoiceStep(), VoiceStep()),
        MusicStep(np.zeros(9), VoiceStep(), VoiceStep((60,), math.inf), VoiceStep()),
    ],
)
def test_a_step_that_no_instrument_can_play_counts_as_failure(step: MusicStep) -> None:
    composer = Metronome()
    composer.poison = step
    core = make_playing(composer)
    events = run(core, dance(6.0))
    assert core.metrics.counter("composer_lost") > 0
    assert all(0 <= note.pitch < 128 and 0 <= note.velocity < 128 for note in notes_of(events))


def test_a_fast_beat_is_played_in_half_time_on_the_real_grid() -> None:
    composer = Metronome()
    events = run(make_playing(composer, bpm=176.0), dance(12.0, bpm=176.0))
    assert composer.requests[-1].tempo_bpm == pytest.approx(88.0, rel=0.01)
    step_s = 60.0 / 88.0 / 4.0
    late = np.array([note.time_ns / NS_PER_S for note in begun(events) if note.time_ns > 5 * NS_PER_S])
    off_s = (late + step_s / 2) % step_s - step_s / 2
    assert np.abs(off_s).max() < 1e-3


def test_what_the_composer_sees_are_the_ticks_before_its_step() -> None:
    composer = Metronome()
    core = make_playing(composer)
    run(core, dance(8.0))
    steps = [request.step for request in composer.requests]
    assert steps == list(range(steps[0], steps[0] + len(steps)))
    assert composer.requests[-1].poses.shape == (3, core.band._features.spec.size)
    assert 0.2 < composer.requests[-1].energy < 0.9


class TestControls:
    def test_a_key_holds_every_pitched_note(self) -> None:
        key = Key(9, minor=True)
        events = run(make_playing(None, 'band.key="A minor"'), dance(8.0))
        pitched = [note for note in begun(events) if note.channel != 9]
        assert {note.pitch % 12 for note in pitched} <= set(scale(key))
        free = run(make_playing(None, 'band.key="A minor"', "band.scale_lock=false"), dance(8.0))
        assert not {n.pitch % 12 for n in begun(free) if n.channel != 9} <= set(scale(key))

    def test_a_mute_ends_what_sounds_and_the_rest_plays_on(self) -> None:
        core = make_playing()
        events = run(core, mixed([*dance(12.0)], [at(6.0, "mute_chord", 1), at(6.0, "mute_drums", 1)]))
        after = [note for note in begun(events) if note.time_ns > 6.15 * NS_PER_S]
        assert {note.channel for note in after} == {0, 2}
        assert not {pair for pair in hanging(events) if pair[0] == 1}
        assert core.band.mutes == ("drums", "chord")

    def test_register_moves_pitched_voices_by_octaves(self) -> None:
        def lowest(register: int) -> int:
            events = run(make_playing(), mixed([*dance(6.0)], [at(0.01, "register", register)]))
            return min(note.pitch for note in begun(events) if note.channel == 0)

        assert lowest(1) == lowest(0) + 12

    def test_panic_ends_everything_also_what_is_about_to_sound(self) -> None:
        core = make_playing()
        events = run(core, dance(6.0))
        events += core.push(at(6.0, "panic"))
        assert not hanging(events)
        later = run(core, dance(4.0, start_s=6.05))
        assert begun(later), "and it goes on"

    @pytest.mark.parametrize("wishes", [("panic",), ("mute_chord", "panic")])
    def test_on_panic_every_note_that_was_sent_is_ended(self, wishes: tuple[str, ...]) -> None:
        clock, core = VirtualClock(), make_playing()
        sent = Drain()
        scheduler = OutputScheduler(clock, [sent], Metrics(), Timing(NS_PER_S // 60, 0, 0))
        # The end of the bass, which sounds, is decided already and waits for its time.
        for observation in with_heartbeats(dance(5.45)):
            clock.sleep_until(observation.time_ns)
            scheduler.put(core.push(observation))
            scheduler.run_due()
        assert {channel for channel, _ in hanging(sent.events)} >= {0, 1}
        for name in wishes:
            scheduler.put(core.push(at(5.45, name, 1.0)))
        clock.advance(MS)
        scheduler.run_due()
        assert not hanging(replace(note, time_ns=order) for order, note in enumerate(notes_of(sent.events)))

    def test_a_scene_sets_the_band_and_is_echoed(self) -> None:
        core = make_playing(
            None, "scenes.bridge={key='D minor', density=0.2, mutes=['drums'], triggers='free', energy=0.8}"
        )
        events = core.push(at(0.0, "scene", "bridge"))
        echoes = {e.name: e.value for e in events if isinstance(e, ControlEvent)}
        assert echoes == {
            **{"key": "D minor", "density": 0.2, "triggers": "free", "energy": 0.8, "scene": "bridge"},
            **{"mute_drums": 1.0, "mute_bass": 0.0, "mute_chord": 0.0, "mute_lead": 0.0},
        }
        assert (core.band.key, core.band.density, core.band.energy, core.band.mutes) == (
            "D minor",
            0.2,
            0.8,
            ("drums",),
        )
        assert core.triggers.mode == "free"
        assert statuses(core.push(at(0.0, "scene", "chorus")), "warning") == ["unknown scene 'chorus'; known: bridge"]

    def test_what_took_effect_is_echoed_and_nonsense_refused(self) -> None:
        core = make_playing()
        events: list[OutputEvent] = []
        wishes = [("key", "F# minor"), ("density", 2.0), ("triggers", "free"), ("triggers", 2.0), ("register", 1.4)]
        refused = [("key", "H moll"), ("triggers", "always"), ("style", "waltz"), ("hold", 1.0), ("nonsense", 1.0)]
        for name, value in wishes + refused:
            events += core.push(at(0.0, name, value))
        echoes = [(e.name, e.value) for e in events if isinstance(e, ControlEvent)]
        assert echoes == [
            ("key", "F# minor"),
            ("density", 1.0),
            ("triggers", "free"),
            ("triggers", "quantised"),
            ("register", 1.0),
        ]
        assert len(statuses(events, "warning")) == core.metrics.counter("controls_refused") == len(refused)


class TestWhoLeads:
    def test_taps_lead_and_stay_certain(self) -> None:
        core = make_playing(None, 'band.leader="tap"', "band.tempo_bpm=90")
        run(core, dance(2.0))
        assert core.beat.timeline.tempo_bpm == pytest.approx(90.0, rel=0.02)
        run(core, mixed([*dance(20.0, start_s=2.0)], [at(3.0 + 0.5 * k, "tap") for k in range(6)]))
        assert core.beat.timeline.tempo_bpm == pytest.approx(120.0, rel=0.01)
        assert core.beat.confidence == 1.0

    def test_another_program_leads_stops_and_is_missed(self) -> None:
        def clock(start_s: float, seconds: float, playing: bool) -> list[Observation]:
            times = np.arange(start_s, start_s + seconds, 0.05)
            return [TempoReference(round(t * NS_PER_S), t * 1.6 - 1.0, 96.0, "midi-clock", playing) for t in times]

        core = make_playing(None, 'band.leader="midi-clock"')
        references = clock(0.0, 8.0, True) + clock(8.0, 4.0, False) + clock(12.0, 1.0, True)
        events = run(core, mixed([*dance(18.0, bpm=96.0)], references))
        assert core.beat.timeline.tempo_bpm == pytest.approx(96.0, rel=1e-3)
        starts = [n.time_ns / NS_PER_S for n in begun(events)]
        assert not [s for s in starts if 8.2 < s < 12.0], "stopped with the transport"
        assert [s for s in starts if 4.0 < s < 8.0]
        assert [s for s in starts if s > 16.0], "its tempo is kept when it is gone"
        assert any("is gone" in message for message in statuses(events, "warning"))
        stopped = make_playing(None, 'band.leader="midi-clock"')
        run(stopped, mixed([*dance(12.0)], clock(0.0, 4.0, True) + clock(4.0, 0.5, False)))
        assert not stopped._conductor.playing, "who is gone with the transport stopped has stopped"
        bars = [e for e in events if isinstance(e, BeatEvent) and e.bar_beat == 1 and e.time_ns > 3 * NS_PER_S]
        beats = np.array([bar.time_ns / NS_PER_S * 1.6 - 1.0 for bar in bars])
        assert np.abs(beats / 4.0 - np.round(beats / 4.0)).max() < 0.01, "and its bars are ours"

    @pytest.mark.parametrize("nudge", [0.25, -0.5])
    def test_a_nudge_shifts_beats_and_bars_of_the_program_that_leads(self, nudge: float) -> None:
        core = make_playing(None, 'band.leader="midi-clock"')
        clock: list[Observation] = [
            TempoReference(round(t * NS_PER_S), 2.0 * t, 120.0, "midi-clock") for t in np.arange(0.0, 12.0, 0.05)
        ]
        events = run(core, mixed([*dance(12.0)], clock, [at(4.0, "nudge", nudge)]))
        beats = [e for e in events if isinstance(e, BeatEvent) and e.time_ns > 7 * NS_PER_S]
        late = np.array([beat.time_ns / NS_PER_S * 2.0 for beat in beats])
        assert (late - nudge + 0.5) % 1.0 - 0.5 == pytest.approx(0.0, abs=0.01)
        assert [beat.bar_beat for beat in beats] == [round(b - nudge) % 4 + 1 for b in late]

    @pytest.mark.parametrize("leader", ["midi-clock", "link"])
    @pytest.mark.parametrize("name", ["tempo", "double", "half", "downbeat", "tap"])
    def test_what_the_program_that_leads_says_itself_is_refused_aloud_until_it_is_gone(
        self, leader: str, name: str
    ) -> None:
        core = make_playing(None, f'band.leader="{leader}"')
        clock: list[Observation] = [
            TempoReference(round(t * NS_PER_S), 2.0 * t, 120.0, leader) for t in np.arange(0.0, 6.0, 0.05)
        ]
        value = 90.0 if name == "tempo" else None
        controls: list[Observation] = [at(4.2 + 0.8 * index, name, value) for index in range(4)]
        events = run(core, mixed([*dance(6.0)], clock, [at(3.0, "nudge", 0.25)], controls))
        assert [e.name for e in events if isinstance(e, ControlEvent)] == ["nudge"], "what has no effect is not echoed"
        refused = statuses(events, "warning")
        assert 2 <= len(refused) <= 4
        assert all(f"'{name}' is " in message and "leads" in message for message in refused)
        assert core.beat.timeline.tempo_bpm == pytest.approx(120.0, rel=1e-3)
        assert core.beat.timeline.beat_at(6 * NS_PER_S) % 1.0 == pytest.approx(0.75, abs=0.01), "the nudge stands"
        # Whoever led is gone: the performer's word counts again.
        after = run(core, mixed([*dance(4.0, start_s=6.0)], [at(9.0, name, value)]))
        assert name in [e.name for e in after if isinstance(e, ControlEvent)]

    def test_another_source_is_not_heeded(self) -> None:
        core = make_playing()
        references: list[Observation] = [TempoReference(t * 50 * MS, t * 0.15, 180.0, "link") for t in range(100)]
        run(core, mixed([*dance(6.0)], references))
        assert core.beat.timeline.tempo_bpm == pytest.approx(120.0, rel=0.01)

    def test_sound_leads(self) -> None:
        show = load_show(None, ['band.leader="audio"'])
        core = PlayingPipeline(show, Nobody(), Metronome(), None, SteadyTracker(100.0))
        events = run(core, mixed([*dance(8.0)], [*blocks(music(8.0), 480)]), pulse=False)
        assert core.beat.timeline.tempo_bpm == pytest.approx(100.0, rel=0.01)
        late = [n.time_ns for n in begun(events) if n.time_ns > 4 * NS_PER_S]
        assert max(abs((t + 75 * MS) % (150 * MS) - 75 * MS) for t in late) < MS


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_is_observed_nothing_raises(data: st.DataObject) -> None:
    core: PlayingPipeline | Pipeline = make_playing(RuleComposer(), 'triggers.mode="free"')
    times = st.integers(-NS_PER_S, 30 * NS_PER_S)
    numbers = st.sampled_from([0.0, 1.0, -3.0, 1e9, math.nan, math.inf])
    for _ in range(12):
        kind = data.draw(st.integers(0, 4))
        time_ns = data.draw(times)
        if kind == 0:
            value = data.draw(numbers)
            core.push(PoseFrame(time_ns, time_ns, np.full((24, 3), value), np.full(3, value), np.full(4, value)))
        elif kind == 1:
            core.push(Heartbeat(time_ns))
        elif kind == 2:
            core.push(TempoReference(time_ns, 1.0, 120.0, "link"))
        elif kind == 3:
            core.push(ControlEvent(time_ns, data.draw(st.sampled_from(["panic", "key", "tap"])), data.draw(numbers)))
        else:
            run(core, dance(1.0, start_s=time_ns / NS_PER_S), pulse=False)


def test_keys_are_read_and_written() -> None:
    assert parse_key("auto") is None
    assert parse_key("F# minor") == Key(6, minor=True)
    assert parse_key("Bbm") == Key(10, minor=True)
    assert parse_key("a") == Key(9)
    assert key_name(Key(3)) == "Eb major"
    for text in ("", "H", "C blues", "C#b"):
        with pytest.raises(ValueError, match="unknown key"):
            parse_key(text)
    assert [into_key(pitch, Key(0)) for pitch in (60, 61, 63, 66)] == [60, 60, 62, 65]
