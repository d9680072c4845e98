"""Dancing to Music: kinematic beats, units in pose time and back, and the jumps between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
from engine.body.skeleton import forward_kinematics
from models.field.dancing_to_music.data import posed_dance
from models.field.dancing_to_music.kinematic_beats import BeatSettings, deceleration, kinematic_beats
from models.field.dancing_to_music.settings import DancingToMusicSettings
from models.field.dancing_to_music.units import PosedDance, UnitShape, resampled, stretched
from models.metrics import join_displacements, join_figures
from models.motion.representation import (
    CONTACTS,
    DISPLACEMENT,
    HEADING,
    motion_from_ticks,
    ticks_from_motion,
)
from tests.models.music_to_dance.gmd_fixtures import clip, smooth_motion

RATE_HZ = 60.0


def strokes(moves: list[tuple[float, float, float]], speed: float = 1.0) -> np.ndarray:
    """Return joints (T, 24, 3) that move as one, each (seconds, direction in the floor [rad], speed of `speed`)."""
    steps = [
        np.repeat([[np.cos(angle), 0.0, np.sin(angle)]], round(seconds * RATE_HZ), axis=0) * share * speed / RATE_HZ
        for seconds, angle, share in moves
    ]
    way = np.concatenate([np.zeros((1, 3)), np.cumsum(np.concatenate(steps), axis=0)])
    return np.repeat(way[:, None], 24, axis=1)


def test_a_stop_is_a_beat_and_a_start_is_none() -> None:
    stops = [0.8, 2.0, 3.2]
    found = kinematic_beats(strokes([(0.8, 0.0, 1.0), (0.4, 0.0, 0.0)] * 3), RATE_HZ)
    np.testing.assert_allclose(found, stops, atol=0.034)


def test_a_change_of_angle_at_one_speed_is_a_beat() -> None:
    turns = [0.8, 1.6, 2.4, 3.2]
    found = kinematic_beats(strokes([(0.8, angle, 1.0) for angle in (0.0, 1.6, 0.0, -1.6, 3.1)]), RATE_HZ)
    np.testing.assert_allclose(found, turns, atol=0.034)


def test_speeding_up_loses_nothing() -> None:
    faster = strokes([(0.1, 0.3, 0.1 * k) for k in range(1, 20)])
    assert deceleration(faster, RATE_HZ)[6:-6].max() < 1e-6


def test_stillness_has_no_beats_and_a_rest_is_cut() -> None:
    assert len(kinematic_beats(np.ones((300, 24, 3)), RATE_HZ)) == 0
    rest = strokes([(0.8, 0.0, 1.0), (4.0, 0.0, 0.0), (0.8, 0.0, 1.0), (0.5, 0.0, 0.0)])
    found = kinematic_beats(rest, RATE_HZ)
    assert found[0] == pytest.approx(0.8, abs=0.034)
    assert found[-1] == pytest.approx(5.6, abs=0.034)
    assert np.diff(found).max() <= BeatSettings().longest_s
    assert np.ptp(np.diff(found)) < 1e-9, "evenly"


def test_two_stops_too_near_are_one_beat() -> None:
    near = strokes([(0.8, 0.0, 1.0), (0.1, 0.0, 0.2), (0.1, 0.0, 1.0), (1.0, 0.0, 0.0)])
    assert len(kinematic_beats(near, RATE_HZ, BeatSettings(shortest_s=0.5, longest_s=2.0))) == 1


def test_settings_that_make_no_sense_are_refused() -> None:
    for kind in (
        lambda: BeatSettings(shortest_s=1.0, longest_s=1.5),
        lambda: BeatSettings(shortest_s=0.0),
        lambda: UnitShape(beats=4, poses=30),
        lambda: UnitShape(beats=0),
    ):
        with pytest.raises(ValueError, match=r"shortest_s|poses"):
            kind()


def test_units_cover_the_dance_between_its_beats() -> None:
    settings = DancingToMusicSettings()
    for seed in range(3):
        dance = clip(seed, 480)
        posed = posed_dance(dance, settings)
        assert posed is not None
        a_beat, whole = settings.unit.poses_a_beat, settings.unit.poses
        covered = np.zeros(len(posed.poses), bool)
        covered[0] = True
        for start in posed.starts:
            covered[start : start + whole] = True
        assert covered.all()
        assert (np.diff(posed.starts) == a_beat).all(), "one after each beat"
        # What lies before the first beat and after the last is less than a rest.
        longest = settings.beats.longest_s * 100.0 / 60.0 * 12.0
        assert posed.at[0] <= longest
        assert posed.at[-1] >= len(dance.ticks) - 1 - longest


def test_a_dance_without_beats_gives_no_units() -> None:
    dance = clip(0, 240)
    still = np.repeat(dance.ticks[:1], 240, axis=0)
    still[:, HEADING], still[:, DISPLACEMENT] = 0.0, 0.0
    assert posed_dance(replace(dance, ticks=still), DancingToMusicSettings()) is None


def test_pose_time_keeps_turning_and_travel_whatever_the_interval() -> None:
    ticks = ticks_from_motion(*smooth_motion(5))
    posed = PosedDance.of(ticks, [10.0, 17.5, 40.0, 46.0, 70.0], UnitShape(2, 16))
    assert len(posed.poses) == 4 * 8 + 1
    heading, way = ticks[11:71, HEADING].sum(), motion_from_ticks(ticks)[1]
    assert posed.poses[1:, HEADING].sum() == pytest.approx(heading, abs=1e-4)
    gone = motion_from_ticks(posed.poses)[1]
    length = np.linalg.norm((gone[-1] - gone[0])[[0, 2]])
    assert length == pytest.approx(np.linalg.norm((way[70] - way[10])[[0, 2]]), abs=1e-4)
    # A pose of the short interval is a third as far from the next as one of the long interval would be, in time.
    steps = np.diff(posed.at)
    assert steps[:8] == pytest.approx(np.full(8, 7.5 / 8))
    assert steps[8:16] == pytest.approx(np.full(8, 22.5 / 8))


def test_resampled_there_and_back_is_the_same_dance() -> None:
    ticks = ticks_from_motion(*smooth_motion(6))
    shape = UnitShape(4, 96)
    posed = PosedDance.of(ticks, [24.0, 36.0, 47.0, 60.0, 72.0], shape)
    start = int(posed.starts[0])
    back = stretched(posed.unit(start), posed.poses[start - 1], 48)
    even = resampled(ticks, np.interp(np.linspace(0, 4, 49), np.arange(5), [24.0, 36.0, 47.0, 60.0, 72.0]))[1:]
    joints = [forward_kinematics(*motion_from_ticks(rows))[0] for rows in (back, even)]
    offset = joints[0][0, 0] - joints[1][0, 0]
    # The first row's own step is a matter of where one comes from: both begin at the origin.
    assert np.abs(joints[0] - offset - joints[1]).max() < 0.01
    assert np.abs(back[:, CONTACTS] - even[:, CONTACTS]).max() < 0.35, "they are switched within a pose"


@pytest.mark.parametrize("ticks", [24, 48, 53])
def test_a_stretched_unit_turns_and_travels_as_far(ticks: int) -> None:
    posed = PosedDance.of(ticks_from_motion(*smooth_motion(7)), np.arange(10.0, 100.0, 9.0), UnitShape())
    start = int(posed.starts[1])
    unit = posed.unit(start)
    found = stretched(unit, posed.poses[start - 1], ticks)
    assert len(found) == ticks
    assert found[:, HEADING].sum() == pytest.approx(unit[:, HEADING].sum(), abs=1e-3)
    ends = []
    for rows in (found, unit):
        way = np.concatenate([posed.poses[start - 1 : start], rows])
        went = motion_from_ticks(way)[1]
        ends.append(went[-1] - went[0])
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-3)


def test_bad_pose_time_is_refused() -> None:
    ticks = ticks_from_motion(*smooth_motion(8, 60))
    for beats in ([3.0], [3.0, 2.0], [3.0, 70.0], [-1.0, 5.0]):
        with pytest.raises(ValueError, match="beats"):
            PosedDance.of(ticks, beats, UnitShape())
    with pytest.raises(ValueError, match="last"):
        stretched(ticks[1:33], ticks[0], 0)


def test_mirroring_in_pose_time_is_mirroring_the_dance() -> None:
    dance = clip(2, 240)
    beats = np.arange(5.0, 200.0, 11.0)
    ours = PosedDance.of(dance.ticks, beats, UnitShape()).mirrored()
    theirs = PosedDance.of(dance.mirrored().ticks, beats, UnitShape())
    np.testing.assert_allclose(ours.poses[2:], theirs.poses[2:], atol=2e-4)


def test_jumps_are_seen_at_joins_and_nowhere_else() -> None:
    time_s = np.arange(0.0, 40.0, 1.0 / RATE_HZ)
    smooth = np.sin(time_s)[:, None, None] * np.ones((1, 24, 3)) * 0.3
    joins = np.arange(2.0, 39.0, 2.0)
    assert join_figures(smooth, RATE_HZ, joins).ratio == pytest.approx(1.0, abs=0.35)
    torn = smooth + 0.05 * np.floor(time_s / 2.0)[:, None, None]
    found = join_figures(torn, RATE_HZ, joins)
    assert found.jumps == 1.0
    assert found.ratio > 5.0
    assert found.inside == pytest.approx(join_figures(smooth, RATE_HZ, joins).inside)
    assert join_displacements(torn, RATE_HZ, [4.0])[0] == pytest.approx(0.05 * np.sqrt(3.0) * RATE_HZ, rel=0.2)
    for wrong in ([], [3.0], [100.0, 200.0]):
        with pytest.raises(ValueError, match="join"):
            join_figures(smooth, RATE_HZ, wrong)
