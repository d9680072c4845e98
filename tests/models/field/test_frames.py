"""Frames: dances at a fixed rate, their music and beat, their normalisation, and frames shown at ticks."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from engine.errors import UserError
from models.field.frame_clock import FramePath, chunk_of
from models.field.frames import POSE_LIMIT, FrameScales, beat_values, limited, roll_out
from models.field.song_frames import SongFrames
from models.field.windows import FrameClip, WindowSampler, fit_scales, start_poses
from models.motion.representation import CONTACTS, HEADING, HEIGHT, motion_from_ticks
from models.music_to_dance.dances import load_dances
from models.rivals.gmd_dancer import ticks_of
from models.rivals.song import Song
from tests.models.data.stepping_folder import prepared_clip
from tests.models.music_to_dance.gmd_fixtures import clip

RATE = 15.0


@pytest.fixture(scope="module")
def clips() -> list[FrameClip]:
    prepared = [prepared_clip(f"{s}-{n}", s, "train", beats=32, seed=n) for s in ("waltz", "chacha") for n in range(2)]
    return [FrameClip.of(dance, RATE) for dance in load_dances(prepared).train]


def test_a_beat_falls_in_the_frame_after_it_and_the_phase_begins_anew() -> None:
    beat = np.arange(40) * 100.0 / 60.0 / RATE
    falls, phase = beat_values(beat).T
    assert falls.sum() == np.floor(beat[-1]) + 1
    assert falls[0] == 1.0
    assert np.all(phase[falls == 1.0] < 100.0 / 60.0 / RATE + 1e-6)
    assert np.all((phase >= 0.0) & (phase < 1.0))
    # In pieces it is the same as in one.
    parts = [beat_values(beat[k : k + 1], beat[k - 1] if k else None) for k in range(40)]
    assert np.array_equal(np.concatenate(parts), beat_values(beat))


def test_a_beat_on_a_frame_is_in_that_frame_whatever_the_rounding() -> None:
    beat = np.arange(1, 200) / 10.0 * (1.0 + 1e-12)
    falls, phase = beat_values(beat, 0.0).T
    assert np.array_equal(np.flatnonzero(falls), np.arange(9, 199, 10))
    assert phase[falls == 1.0].max() < 1e-4


def test_frames_of_a_dance_keep_its_time_and_its_beat(clips: list[FrameClip]) -> None:
    dance = load_dances([prepared_clip("w", "waltz", "train", beats=32)]).train[0]
    found = FrameClip.of(dance, RATE)
    assert len(found) == pytest.approx(len(dance.ticks) / 18.0 * RATE, abs=2)
    assert np.allclose(found.beat, np.arange(len(found)) * 90.0 / 60.0 / RATE)
    # Frame k shows what tick 1.2 k shows.
    frames, ticks = (motion_from_ticks(rows)[1] for rows in (found.dance.ticks, dance.ticks))
    assert np.allclose((frames - frames[0])[::5, 1], (ticks - ticks[0])[::6][: len(frames[::5]), 1], atol=1e-5)


def test_a_frame_hears_no_music_that_has_not_sounded() -> None:
    dance = clip(1)
    later = replace(dance, music=np.where(np.arange(len(dance.music))[:, None] < 200, dance.music, 99.0))
    one, other = (FrameClip.of(some, RATE).dance.music for some in (dance, later))
    tick_of_frame = np.arange(len(one)) / RATE * 100.0 * 12.0 / 60.0
    assert np.array_equal(one[tick_of_frame < 200], other[tick_of_frame < 200])
    assert not np.array_equal(one, other)


def test_scales_are_of_the_data_and_floored(clips: list[FrameClip]) -> None:
    scales = fit_scales(clips)
    poses = np.concatenate([scales.pose(c.dance.ticks) for c in clips])
    assert np.allclose(poses.mean(axis=0), 0.0, atol=1e-3)
    assert poses.std(axis=0).max() == pytest.approx(1.0, abs=1e-3)
    assert scales.pose_deviation.min() >= 0.01 - 1e-6
    ticks = clips[0].dance.ticks
    assert np.allclose(scales.ticks(scales.pose(ticks)), ticks, atol=1e-5)
    assert scales.music(np.full((3, len(scales.music_mean)), np.nan, np.float32), np.arange(3.0))[:, :-2].any() == 0


def test_windows_come_from_their_random_alone_and_short_dances_are_left_out_aloud(
    clips: list[FrameClip], caplog: pytest.LogCaptureFixture
) -> None:
    scales = fit_scales(clips)
    sampler = WindowSampler(clips, scales, 30)
    one, again, other = (sampler.draw([np.random.default_rng(s)], 4) for s in (1, 1, 2))
    assert one.music.shape == (1, 30, scales.music_size)
    assert one.noise.shape == (1, 30, 4)
    assert all(np.array_equal(getattr(one, n), getattr(again, n)) for n in ("music", "pose", "style", "noise"))
    assert not np.array_equal(one.pose, other.pose)
    short = min(map(len, clips))
    assert short < max(map(len, clips))
    with caplog.at_level(logging.WARNING):
        WindowSampler(clips, scales, short + 1)
    assert "shorter than a window" in caplog.text
    with pytest.raises(UserError, match="no dance holds") as caught:
        WindowSampler(clips, scales, 10_000)
    assert str(max(map(len, clips))) in caught.value.remedy


def test_a_dance_without_music_is_danced_to_average_music(clips: list[FrameClip]) -> None:
    scales = fit_scales(clips)
    silent = [replace(c, dance=replace(c.dance, music=None)) for c in clips]
    batch = WindowSampler(silent, scales, 30).draw([np.random.default_rng(0)], 0)
    assert not batch.music[..., :-2].any()
    assert batch.music[..., -1].any()
    with pytest.raises(UserError, match="no training dance has music"):
        fit_scales(silent)


def test_starts_are_poses_of_their_style(clips: list[FrameClip]) -> None:
    starts = start_poses(clips)
    assert set(starts.styles) == {clip.dance.style for clip in clips}
    for style in starts.styles:
        drawn = starts.draw(np.random.default_rng(0), int(style))
        mates = np.concatenate([c.dance.ticks for c in clips if c.dance.style == style])
        assert (mates == drawn).all(axis=1).any()
    assert starts.draw(np.random.default_rng(0), None).shape == (152,)


def test_a_song_goes_on_through_the_look_ahead(clips: list[FrameClip]) -> None:
    dance = load_dances([prepared_clip("w", "waltz", "train", beats=32)]).train[0]
    song = Song.of(dance, 10.0, "drift")
    plain, ahead = (SongFrames.of(song, RATE, look) for look in (0, 4))
    assert len(ahead.beat) == len(plain.beat) + 4
    assert np.array_equal(ahead.beat[:-4], plain.beat)
    assert np.all(np.diff(ahead.beat) > 0.0)
    assert np.allclose(
        np.interp(song.beats_s[:-1], np.arange(len(plain.beat)) / RATE, plain.beat) % 1.0 % 0.98, 0, atol=0.03
    )


def test_what_runs_away_is_limited_and_what_is_not_finite_is_the_pose_before() -> None:
    before = np.ones((2, 152), np.float32)
    pose = np.full((2, 152), 1e6, np.float32)
    pose[1, 3] = np.nan
    found = limited(pose, before)
    assert np.all(found[0] == POSE_LIMIT)
    assert np.array_equal(found[1], before[1])


def test_a_roll_out_feeds_back_what_is_shown_and_skips_the_look_ahead() -> None:
    seen: list[float] = []

    def dancing(music: np.ndarray, pose: np.ndarray, noise: np.ndarray) -> np.ndarray:
        seen.append(float(pose[0, 0]))
        return pose + 1.0

    music, noise = np.zeros((1, 6, 3), np.float32), np.zeros((1, 6, 0), np.float32)
    poses = roll_out(dancing, music, np.zeros((1, 152), np.float32), noise, 2)
    assert poses[0, :, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert seen == [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("tick_hz", [12.0, 15.0, 24.0, 28.0])
def test_frames_at_ticks_of_any_tempo_follow_the_same_path(tick_hz: float) -> None:
    dance = FrameClip.of(clip(2), RATE).dance.ticks
    path = FramePath(RATE, dance[0])
    ticks, time_s = [], 0.0
    while time_s < (len(dance) - 2) / RATE:
        while path.end_s < time_s - 1e-9:
            path.append(dance[path.next_frame + 1])
        ticks.append(path.tick(time_s))
        time_s += 1.0 / tick_hz
    found = ticks_of(chunk_of(ticks))
    rotations, way = motion_from_ticks(found)
    true_rotations, true_way = motion_from_ticks(dance[1:])
    times = np.arange(len(found)) / tick_hz
    frames_s = np.arange(len(true_way)) / RATE
    for axis in (0, 2):
        straight = np.interp(times, frames_s, true_way[:, axis])
        assert np.abs((way - way[0])[:, axis] - (straight - straight[0])).max() < 0.02
    assert np.allclose(found[:, HEIGHT], np.interp(times, frames_s, true_way[:, 1]), atol=1e-4)
    turned = np.interp(times, frames_s, np.cumsum(dance[1:, HEADING], dtype=np.float64))
    assert np.allclose(np.cumsum(found[1:, HEADING], dtype=np.float64), turned[1:] - turned[0], atol=1e-3)
    assert np.all((found[:, CONTACTS] >= 0.0) & (found[:, CONTACTS] <= 1.0))
    # A tick on a frame is the frame: proper rotations, nothing is averaged.
    on_frame = [k for k in range(len(times)) if abs(times[k] * RATE - round(times[k] * RATE)) < 1e-6]
    assert len(on_frame) > 3
    for k in on_frame:
        assert np.abs(rotations[k, 1:] - true_rotations[round(times[k] * RATE), 1:]).max() < 1e-3
    assert isinstance(FrameScales.fit(dance[:, :3], dance), FrameScales)
