"""Both directions at once: one timeline, and a loop that cannot run away."""

from __future__ import annotations

import numpy as np
import pytest

from engine.beats.give_and_take import GiveAndTake
from engine.features import FeatureExtractor
from engine.metrics import Metrics
from engine.playing.inner_ear import InnerEar
from engine.playing.pipeline import PlayingPipeline
from engine.playing.rule_composer import RuleComposer
from engine.session import OutputDigest
from engine.settings import load_show
from engine.types import NS_PER_S, BeatEstimate, ControlEvent, NoteEvent, PoseFrame
from tests.engine.closed_loop import Course, Human, Room, close_loop
from tests.engine.dance_poses import Nobody, SteadyMovement, dance, make_playing, run
from tests.engine.fakes import SteadyTracker, Walker, blocks, music

MS = 1_000_000


def duet(*settings: str, bpm: float = 120.0) -> PlayingPipeline:
    """Return a duet led by the sound in the room."""
    show = load_show(None, ['band.leader="audio"', *settings])
    walkers = (Walker(), Walker())
    return PlayingPipeline(show, Nobody(), RuleComposer(), None, SteadyTracker(bpm), walkers, Metrics())


def performers(frames: list[PoseFrame]) -> set[str]:
    return {frame.performer for frame in frames}


def test_everybody_is_on_the_stage_and_hears_their_own_music() -> None:
    core = duet()
    seen, heard = [*dance(8.0)], [*blocks(music(8.0), 480)]
    events = run(core, sorted([*seen, *heard], key=lambda o: o.time_ns), pulse=False)
    frames = [event for event in events if isinstance(event, PoseFrame)]
    assert performers(frames) == {"", "partner", "camera"}
    for performer in ("", "partner"):
        times = [frame.time_ns for frame in frames if frame.performer == performer]
        assert np.diff(times) == pytest.approx(NS_PER_S / 60, abs=2)
    assert core.duo is not None
    assert core.duo.partner is not None
    assert not core.duo.partner._resting, "the partner hears the band"


def test_without_sound_in_the_room_the_dancer_answers_to_the_band() -> None:
    core = make_playing(RuleComposer(), generators=[Walker()])
    events = run(core, dance(6.0))
    assert performers([event for event in events if isinstance(event, PoseFrame)]) == {"", "camera"}
    assert core.lead is not None
    assert not core.lead._resting
    run(core, dance(8.0, energy=0.0, start_s=6.0))
    assert core.lead._resting, "and rests when you do"


def test_a_duet_is_deterministic() -> None:
    def digest() -> str:
        total = OutputDigest()
        observations = sorted([*dance(4.0), *blocks(music(4.0), 480)], key=lambda o: o.time_ns)
        total.add(run(duet(), observations, pulse=False))
        return total.hexdigest()

    assert digest() == digest()


def test_controls_reach_everybody() -> None:
    core = duet("scenes.loud={style='waltz', energy=0.9}")
    for name, value in (("energy", 0.8), ("style", "chacha"), ("mirror", 1.0), ("scene", "loud"), ("panic", None)):
        echoed = [e for e in core.push(ControlEvent(0, name, value)) if isinstance(e, ControlEvent) and e.name == name]
        assert len(echoed) == 1
    assert core.duo is not None
    assert [dancer.style for dancer in core.duo.dancers] == ["waltz", "waltz"]
    assert [dancer.energy for dancer in core.duo.dancers] == [0.9, 0.9]
    assert core.band.energy == 0.9


def test_a_panic_that_lets_go_of_a_hold_says_so() -> None:
    core = duet()
    core.push(ControlEvent(0, "hold", 1.0))
    assert [e for e in core.push(ControlEvent(0, "panic")) if isinstance(e, ControlEvent)] == [
        ControlEvent(0, "hold", 0.0),
        ControlEvent(0, "panic"),
    ]
    assert [e for e in core.push(ControlEvent(0, "panic")) if isinstance(e, ControlEvent)] == [ControlEvent(0, "panic")]


class TestInnerEar:
    def test_it_hears_notes_where_they_are(self) -> None:
        ear = InnerEar(FeatureExtractor())
        ear.take([NoteEvent(2 * NS_PER_S, 0, 9, 36, 120, 50 * MS), NoteEvent(3 * NS_PER_S, 0, 0, 45, 100, NS_PER_S)])
        onset = FeatureExtractor().spec.column("onset")
        rows = [(heard.end_ns, heard.active, heard.row[onset]) for t in range(400) for heard in ear.hear(t * 10 * MS)]
        assert not any(active for end_ns, active, _ in rows if end_ns <= 2 * NS_PER_S)
        loudest = sorted(rows, key=lambda row: -row[2])[:12]
        assert min(abs(end_ns - 2 * NS_PER_S) for end_ns, _, _ in loudest) <= 30 * MS
        assert min(abs(end_ns - 3 * NS_PER_S) for end_ns, _, _ in loudest) <= 30 * MS

    def test_a_chord_shows_in_the_chroma_and_an_end_ends_it(self) -> None:
        ear = InnerEar(FeatureExtractor())
        spec = FeatureExtractor().spec
        ear.take([NoteEvent(100 * MS, 0, 1, pitch, 110, 10 * NS_PER_S) for pitch in (72, 76, 79)])
        ear.take([NoteEvent(1_500 * MS, 0, 1, pitch, 0, 0) for pitch in (72, 76, 79)])
        heard = [h for t in range(400) for h in ear.hear(t * 10 * MS)]
        chroma = heard[100].row[[spec.column(f"chroma_{n}") for n in ("c", "c#", "d", "d#", "e", "f", "f#", "g")]]
        assert set(np.argsort(chroma)[-3:].tolist()) == {0, 4, 7}
        assert not heard[-1].active
        assert ear.load == 0

    def test_a_flood_of_notes_is_bounded(self) -> None:
        ear = InnerEar(FeatureExtractor())
        ear.take([NoteEvent(k * MS, 0, k % 4, k % 128, 100, NS_PER_S) for k in range(5000)])
        ear.hear(0)
        ear.hear(400 * MS)
        assert ear.load < 600


class TestGiveAndTake:
    @staticmethod
    def _lags(beats: float, seconds: float, bpm: float = 120.0) -> float:
        """Return the tempo after a dancer has kept their accents so many beats behind the music for a while."""
        guard = GiveAndTake()
        period_ns = 60e9 / bpm
        said = BeatEstimate(0, round(period_ns), 0.8)
        guard.process(said, 0)
        line_ns, now_ns, moved_ns = 0.0, 0, period_ns
        for _ in range(round(seconds * 30)):
            now_ns += NS_PER_S // 30
            beat_ns = line_ns + round((now_ns - line_ns) / moved_ns) * moved_ns
            answer = guard.process(BeatEstimate(round(beat_ns + beats * moved_ns), round(moved_ns), 0.8), now_ns)
            # They move with the music: its period becomes theirs, and so does its phase, with their lag.
            shift = (answer.beat_ns - beat_ns) / answer.period_ns
            shift -= round(shift)
            moved_ns = answer.period_ns * (1.0 + 0.3 * shift)
            line_ns = float(answer.beat_ns)
        return 60e9 / answer.period_ns

    @pytest.mark.parametrize("lag", [-0.2, -0.1, 0.1, 0.2])
    def test_a_lag_that_stays_is_a_manner(self, lag: float) -> None:
        after_20, after_120 = self._lags(lag, 20.0), self._lags(lag, 120.0)
        assert after_120 == pytest.approx(after_20, rel=0.02), "it has come to rest"
        assert after_120 == pytest.approx(120.0, rel=0.25)

    def test_a_tempo_that_changes_is_followed(self) -> None:
        guard, beat_ns, answer = GiveAndTake(), 0.0, BeatEstimate(0, 1, 0.0)
        for frame in range(30 * 40):
            time_s = frame / 30.0
            period_ns = 60e9 / (100.0 + max(min(time_s - 5.0, 20.0), 0.0))
            if frame / 30.0 * 1e9 >= beat_ns + period_ns:
                beat_ns += period_ns
            answer = guard.process(BeatEstimate(round(beat_ns), round(period_ns), 0.8), round(time_s * 1e9))
        assert 60e9 / answer.period_ns == pytest.approx(120.0, rel=0.01)
        off = (answer.beat_ns - beat_ns) / answer.period_ns
        assert abs(off - round(off)) < 0.26, "at worst as a manner"

    def test_another_tempo_is_believed_when_it_stays(self) -> None:
        guard = GiveAndTake()
        for frame in range(300):
            time_ns = frame * NS_PER_S // 30
            bpm = 100.0 if frame < 100 else 124.0
            period_ns = round(60e9 / bpm)
            answer = guard.process(BeatEstimate(time_ns // period_ns * period_ns, period_ns, 0.8), time_ns)
        assert 60e9 / answer.period_ns == pytest.approx(124.0, rel=0.01)

    @pytest.mark.parametrize("shift", [0.25, 0.5, 0.75])
    def test_who_comes_back_after_the_music_has_stopped_is_followed_afresh(self, shift: float) -> None:
        guard, period_ns = GiveAndTake(), NS_PER_S // 2
        for frame in range(30 * 60):
            time_ns = frame * NS_PER_S // 30
            if 20 * NS_PER_S <= time_ns < 50 * NS_PER_S:
                continue  # they stand still, or are away
            later_ns = round(shift * period_ns) if time_ns >= 50 * NS_PER_S else 0
            said = BeatEstimate((time_ns - later_ns) // period_ns * period_ns + later_ns, period_ns, 0.8)
            answer = guard.process(said, time_ns)
        off = (answer.beat_ns - said.beat_ns) / period_ns
        assert off - round(off) == pytest.approx(0.0, abs=0.02)
        assert guard.manner_beats == pytest.approx(0.0, abs=0.02)


def _bounded(course: Course) -> None:
    """Check that nothing grew or parted."""
    half = len(course.notes) // 2
    early, late = slice(5, half), slice(half, None)
    assert course.apart_ns < 1 * MS
    assert max(course.load) < 100
    assert max(course.sounding) <= 5
    assert np.mean(course.notes[late]) < 1.3 * np.mean(course.notes[early]) + 1.0
    assert np.mean(course.energy[late]) < 1.3 * np.mean(course.energy[early]) + 0.1
    assert max(course.notes) < 60
    assert not course.problems


@pytest.mark.parametrize("follow", [0.0, 1.0])
def test_the_loop_of_dancer_and_band_does_not_run_away(follow: float) -> None:
    show = load_show(None, ["output.fps=10"])
    core = PlayingPipeline(show, Nobody(), RuleComposer(), SteadyMovement(112.0), None, (Walker(),), Metrics())
    _bounded(close_loop(core, Human(112.0, follow), 20.0))


def test_the_loop_through_a_loudspeaker_does_not_run_away() -> None:
    core = duet("output.fps=10", bpm=104.0)
    course = close_loop(core, Human(104.0, 1.0), 16.0, Room(104.0, 1.0, 10.0))
    _bounded(course)
    assert course.tempo_bpm[-1] == pytest.approx(104.0, rel=0.02)
