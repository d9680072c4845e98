"""Accents of the body: found soon, only when made, and sounded at once or on the grid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from engine.playing.triggers import PARTS, Triggers
from engine.settings import TriggerSettings, TriggerZoneSettings, load_show
from engine.types import NS_PER_S, BeatTimeline, NoteEvent, PoseFrame
from tests.engine.dance_poses import begun, dance, make_playing, run

MS = 1_000_000
TIMELINE = BeatTimeline(120.0, 0.0, 0)
SHOULDERS = {"left_hand": 16, "right_hand": 17}


def pose(time_s: float, angles: dict[int, tuple[int, float]], yaw: float = 0.0) -> PoseFrame:
    """Return a standing figure with hanging arms and some joints turned: joint -> (axis, angle)."""
    rotations = np.zeros((24, 3), np.float32)
    rotations[0, 1] = yaw
    rotations[16, 2], rotations[17, 2] = -1.2, 1.2
    for joint, (axis, angle) in angles.items():
        rotations[joint, axis] += angle
    time_ns = round(time_s * NS_PER_S)
    return PoseFrame(time_ns, time_ns, rotations, np.array([0.0, 0.976, 0.0], np.float32), np.ones(4), "camera")


def smooth_step(x: float) -> float:
    """Return minimum-jerk progress from 0 to 1 (Flash and Hogan 1985)."""
    x = min(max(x, 0.0), 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x * x)


def strokes(
    part: str,
    times_s: list[float],
    lasts_s: float = 0.2,
    turn_rad: float = 1.2,
    fps: float = 30.0,
    until_s: float = 4.0,
) -> Iterator[PoseFrame]:
    """Yield frames of an arm that strikes forward, each stroke ending at one of the times, and drifts back slowly."""
    sign = 1.0 if part.startswith("left") else -1.0
    for index in range(round(until_s * fps)):
        time_s = index / fps
        angle = 0.0
        for end_s in times_s:
            angle += turn_rad * (
                smooth_step((time_s - end_s + lasts_s) / lasts_s) - smooth_step((time_s - end_s) / 0.9)
            )
        yield pose(time_s, {SHOULDERS[part]: (2, sign * angle)})


def fired(frames: Iterator[PoseFrame], settings: TriggerSettings | None = None, delay_ns: int = 0) -> list[NoteEvent]:
    triggers = Triggers(settings or TriggerSettings(mode="free"))
    return [note for frame in frames for note in triggers.see(frame, frame.time_ns + delay_ns, TIMELINE)]


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
@pytest.mark.parametrize("part", ["left_hand", "right_hand"])
def test_a_stroke_fires_once_before_the_hand_stands_still(part: str, fps: float) -> None:
    ends = [1.0, 2.013, 3.026]
    notes = fired(strokes(part, ends, fps=fps))
    zone = next(zone for zone in TriggerSettings().zones if zone.part == part)
    assert [(note.pitch, note.channel) for note in notes] == [(zone.note, zone.channel)] * 3
    peaks = [end - 0.1 for end in ends]
    for note, peak, end in zip(notes, peaks, ends, strict=True):
        assert peak < note.time_ns / NS_PER_S <= max(end, peak + 2.5 / fps), "after the peak, by the impact"


def test_faster_strokes_are_louder() -> None:
    soft, hard = (fired(strokes("right_hand", [1.0], lasts_s=lasts))[0].velocity for lasts in (0.3, 0.12))
    assert 50 <= soft < hard <= 127


def test_slow_movement_and_a_trembling_camera_fire_nothing() -> None:
    assert not fired(strokes("right_hand", [1.5, 3.5], lasts_s=1.2))
    random = np.random.default_rng(0)
    still = (pose(k / 30.0, {j: (1, random.normal(0.0, 0.006)) for j in range(24)}) for k in range(300))
    assert not fired(still)


def test_sensitivity_decides_what_counts() -> None:
    def count(sensitivity: float) -> int:
        return len(fired(strokes("left_hand", [1.0, 2.5], 0.3), TriggerSettings(mode="free", sensitivity=sensitivity)))

    assert (count(0.1), count(0.5), count(0.9)) == (0, 2, 4), "at the last the return counts too"


def test_the_refractory_time_holds_back_a_roll() -> None:
    def shaken(refractory_ms: float) -> int:
        frames = (pose(k / 60.0, {17: (2, -0.25 * np.sin(2 * np.pi * 4.0 * k / 60.0))}) for k in range(240))
        return len(fired(frames, TriggerSettings(mode="free", refractory_ms=refractory_ms, sensitivity=0.8)))

    assert shaken(20.0) >= 24, "each of eight half-swings a second"
    assert 4 <= shaken(600.0) <= 7


def test_zones_ask_where_the_part_is() -> None:
    raised = TriggerZoneSettings(part="right_hand", note=50, height="high")
    hanging = TriggerZoneSettings(part="right_hand", note=51, height="low")
    anywhere = TriggerZoneSettings(part="right_hand", note=52, side="right")
    across = TriggerZoneSettings(part="right_hand", note=53, side="left")
    settings = TriggerSettings(mode="free", zones=(raised, hanging, anywhere, across))
    up = fired(strokes("right_hand", [1.0], turn_rad=2.6, lasts_s=0.35, until_s=1.5), settings)
    assert {note.pitch for note in up} == {50, 52}
    low = fired(strokes("right_hand", [1.0], turn_rad=-0.35, lasts_s=0.1, until_s=1.5), settings)
    assert {note.pitch for note in low} == {51, 52}


def test_sides_are_the_bodys_own_whichever_way_it_faces() -> None:
    zone = TriggerZoneSettings(part="right_hand", note=52, side="right")
    settings = TriggerSettings(mode="free", zones=(zone,))
    for yaw in (0.0, 1.5, 3.1, -1.5):
        frames = (pose(k / 30.0, {17: (2, -1.2 * smooth_step((k / 30.0 - 0.8) / 0.2))}, yaw=yaw) for k in range(45))
        assert len(fired(frames, settings)) == 1


def test_a_free_note_sounds_now_and_tells_when_it_was_seen() -> None:
    (note,) = fired(strokes("right_hand", [1.0], until_s=1.5), delay_ns=45 * MS)
    assert note.time_ns - note.source_ns == 45 * MS


@pytest.mark.parametrize(("grid", "step_ms"), [("1/4", 500), ("1/8", 250), ("1/16", 125)])
def test_a_quantised_note_waits_for_the_grid(grid: str, step_ms: int) -> None:
    settings = TriggerSettings.model_validate({"mode": "quantised", "grid": grid})
    (note,) = fired(strokes("right_hand", [1.07], until_s=1.5), settings)
    assert note.time_ns % (step_ms * MS) == 0
    assert 0 <= note.time_ns - note.source_ns <= step_ms * MS


def test_the_other_parts_fire_too() -> None:
    def stamp(k: int) -> float:
        time_s = k / 30.0
        return -1.1 * (smooth_step((time_s - 0.5) / 0.5) - smooth_step((time_s - 1.2) / 0.15))

    feet = (pose(k / 30.0, {1: (0, stamp(k)), 4: (0, -1.4 * stamp(k))}) for k in range(60))
    assert 41 in {note.pitch for note in fired(feet)}
    nods = (pose(k / 30.0, {j: (0, 0.5 * smooth_step((k / 30.0 - 1.0) / 0.2)) for j in (6, 9, 12)}) for k in range(60))
    assert 49 in {note.pitch for note in fired(nods)}
    assert set(PARTS) == {zone.part for zone in TriggerSettings().zones}


def test_holes_and_nonsense_are_survived() -> None:
    frames = [*strokes("right_hand", [1.0], until_s=1.5)]
    bad = PoseFrame(900 * MS, 900 * MS, np.full((24, 3), np.nan), np.zeros(3), np.zeros(4))
    assert len(fired(iter([*frames[:25], bad, *frames[25:]]))) == 1
    assert not fired(iter([frames[0], frames[44]])), "what happened in between is not known"


def test_in_a_show_they_leave_at_once_and_the_band_plays_beside_them() -> None:
    core = make_playing(None, 'triggers.mode="free"')
    frames = [*strokes("right_hand", [3.0, 4.0, 5.0], until_s=6.0)]
    events = run(core, frames)
    hits = [note for note in begun(events) if note.channel == 3]
    assert [note.pitch for note in hits] == [38, 38, 38]
    assert all(note.time_ns - note.source_ns < 10 * MS for note in hits), "the core adds nothing"
    off = run(make_playing(), frames)
    assert not [note for note in begun(off) if note.channel == 3]


def test_the_settings_of_a_show_file_are_understood() -> None:
    show = load_show(None, ['triggers.zones=[{part="head", note=60, height="high"}]', 'triggers.mode="quantised"'])
    assert show.triggers.zones[0].height == "high"
    assert not begun(
        run(
            make_playing(None, 'triggers.mode="free"', "band.mutes=['drums','bass','chord','lead']"),
            dance(3.0, energy=0.2),
        )
    )
