"""Systems that dance to a song: what they are given, what they give back, and that they are what they are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models import metrics
from models.artifacts import GMD_FOLDER
from models.motion.representation import HEADING
from models.music_to_dance.dances import load_dances
from models.music_to_dance.joining import BLEND_TICKS, Phrase, join
from models.music_to_dance.sequences import OTHER_STYLE, DanceClip
from models.rivals.fixed_rate import FRAME_RATE_HZ, FixedRateGmd, in_seconds
from models.rivals.gmd_dancer import GmdDancer, Sampling, ShownGmd
from models.rivals.real import MeanPose, RandomClip, RealDancer
from models.rivals.retrieval import BarRetrieval, NearestMusic, PhraseBank
from models.rivals.song import COURSES, RATE_HZ, DanceSystem, Song
from tests.models.data.stepping_folder import prepared_clip

SHIPPED = pytest.mark.skipif(not (GMD_FOLDER / "manifest.json").exists(), reason="no weights in this checkout")


@pytest.fixture(scope="module")
def dances() -> list[DanceClip]:
    clips = [prepared_clip(f"{style}-{n}", style, "train", seed=n) for style in ("waltz", "chacha") for n in range(3)]
    return list(load_dances(clips).train)


def test_a_song_keeps_its_notes_and_bars_at_every_tempo(dances: list[DanceClip]) -> None:
    songs = {course: Song.of(dances[0], 40.0, course) for course in COURSES}
    for song in songs.values():
        assert song.tick_s[-1] >= 40.0
        assert len(song.music) == len(song.tempo_bpm)
        assert song.bar_tick % 12 == 0
    count = min(len(song.music) for song in songs.values())
    assert np.array_equal(songs["slow"].music[:count], songs["fast"].music[:count])
    assert np.isclose(np.median(songs["fast"].tempo_bpm) / np.median(songs["slow"].tempo_bpm), 1.35 / 0.75)
    assert np.allclose(np.diff(songs["steady"].beats_s), 60.0 / 90.0)
    assert np.ptp(songs["drift"].tempo_bpm) > 20.0
    # The dance lasts 32 s: the song goes round by whole bars.
    bars = len(dances[0].ticks) // 36 * 36
    assert np.array_equal(songs["steady"].music[bars : bars + 20], songs["steady"].music[:20])


def test_phrases_join_without_a_jump_and_keep_to_their_own_after_the_blend(dances: list[DanceClip]) -> None:
    one, other = dances[0].ticks, dances[4].ticks
    joined = join([Phrase(one, 0, 72), Phrase(other, 36, 108)])
    assert np.array_equal(joined[:72], one[:72])
    assert np.array_equal(joined[72 + BLEND_TICKS :], other[36 + BLEND_TICKS : 108])
    # Contacts are on or off; all else must not jump.
    cut = np.abs(other[36] - one[71])[:HEADING].max()
    assert np.abs(np.diff(joined[71 : 73 + BLEND_TICKS, :HEADING], axis=0)).max() < 0.75 * cut
    with pytest.raises(ValueError, match="none to blend"):
        Phrase(one, 0, len(one))


def test_real_is_the_dance_itself(dances: list[DanceClip]) -> None:
    shown = RealDancer(dances).dance(Song.of(dances[0], 60.0), 0).shown(60.0)
    assert np.isclose(len(shown.joints) / RATE_HZ, 32.0, atol=0.2)
    feet = metrics.beat_figures(metrics.foot_beats(shown.joints, RATE_HZ), shown.beats_s)
    assert feet.alignment > feet.alignment_chance + 0.2


@pytest.mark.parametrize("course", COURSES)
def test_retrieval_keeps_the_beat_at_any_tempo_and_a_random_clip_does_not(dances: list[DanceClip], course: str) -> None:
    song = Song.of(dances[0], 30.0, course)  # type: ignore[arg-type]
    bank = PhraseBank(dances)

    def alignment(system: DanceSystem) -> metrics.BeatFigures:
        shown = system.dance(song, 1).shown(30.0)
        assert np.isclose(len(shown.joints) / RATE_HZ, 30.0, atol=0.1)
        return metrics.beat_figures(metrics.foot_beats(shown.joints, RATE_HZ), shown.beats_s)

    on_beat = alignment(BarRetrieval(bank))
    assert on_beat.alignment > on_beat.alignment_chance + 0.1
    nearest = alignment(NearestMusic(bank))
    assert nearest.alignment > nearest.alignment_chance + 0.05
    if course in ("slow", "drift"):
        assert alignment(RandomClip(dances)).alignment < on_beat.alignment - 0.1


def test_retrieval_dances_the_style_and_its_seed(dances: list[DanceClip]) -> None:
    system = BarRetrieval(PhraseBank(dances))
    song = Song.of(dances[5], 30.0)
    one, again, other = (system.dance(song, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.rotations, again.rotations)
    assert not np.array_equal(one.rotations, other.rotations)
    assert (
        np.mean(one.rotations[:, 16, 2])
        < -1.0
        < np.mean(RealDancer(dances).dance(Song.of(dances[0], 9.0), 0).rotations[:, 16, 2])
    )


def test_a_metre_that_nobody_danced_is_danced_in_bars_of_its_length(dances: list[DanceClip]) -> None:
    song = Song.of(dances[0], 20.0)
    bank = PhraseBank([d for d in dances if d.beats_per_bar == 4])
    for system in (BarRetrieval(bank), NearestMusic(bank)):
        assert len(system.dance(song, 0).time_s) == len(song.music)


def test_nearest_music_is_the_phrase_it_was_danced_to(dances: list[DanceClip]) -> None:
    song = Song.of(dances[1], 20.0)
    dance = NearestMusic(PhraseBank(dances)).dance(song, 0)
    real = RealDancer(dances).dance(song, 0)
    # The song is known: what is nearest to it is its own dance.
    ticks = slice(BLEND_TICKS, 36 * 5)
    assert np.abs(dance.rotations[ticks, 1:] - real.rotations[ticks, 1:]).mean() < 0.05


def test_the_mean_pose_holds_still(dances: list[DanceClip]) -> None:
    shown = MeanPose(dances).dance(Song.of(dances[0], 20.0), 0).shown(20.0)
    assert np.abs(np.diff(shown.joints, axis=0)).max() < 1e-6
    assert metrics.frozen_share(shown.joints, RATE_HZ) == 1.0
    assert len(metrics.foot_beats(shown.joints, RATE_HZ)) == 0


@SHIPPED
def test_the_model_dances_raw_and_as_shown(dances: list[DanceClip]) -> None:
    song = Song.of(dances[0], 8.0, "drift")
    raw, shown = GmdDancer(), ShownGmd()
    assert raw.name.endswith("raw")
    assert raw.key == shown.key
    assert GmdDancer(sampling=Sampling(energy=0.7)).key != raw.key
    for system in (raw, shown):
        dance = system.dance(song, 3)
        assert np.array_equal(dance.rotations, system.dance(song, 3).rotations)
        assert not np.array_equal(dance.rotations, system.dance(song, 4).rotations)
        seen = dance.shown(8.0)
        assert len(seen.joints) >= 8.0 * RATE_HZ - 12
        assert np.linalg.norm(np.diff(seen.joints, axis=0), axis=-1).mean() * RATE_HZ > 0.2
    # What is shown has been through the foot lock.
    points = raw.dance(song, 3).shown(8.0), shown.dance(song, 3).shown(8.0)
    slides = [metrics.foot_sliding(p.soles, p.contacts, RATE_HZ) for p in points]
    assert slides[1] < slides[0]


@SHIPPED
def test_to_a_style_that_it_has_no_name_for_the_model_dances_what_it_likes(dances: list[DanceClip]) -> None:
    song = replace(Song.of(dances[0], 4.0), style=OTHER_STYLE)
    for system in (GmdDancer(), ShownGmd(), FixedRateGmd(GMD_FOLDER)):
        assert np.isfinite(system.dance(song, 0).rotations).all()


def test_a_dance_in_seconds_is_the_same_dance_and_hears_nothing_early(dances: list[DanceClip]) -> None:
    clip = dances[0]
    seconds = in_seconds(clip)
    assert np.isclose(len(seconds.ticks) / FRAME_RATE_HZ, len(clip.ticks) * 60.0 / 90.0 / 12.0, atol=0.1)
    assert seconds.beats_per_bar is None
    before = RealDancer([clip]).dance(Song.of(clip, 20.0), 0)
    shown = before.shown(20.0), RealDancer([seconds]).dance(Song.of(seconds, 20.0), 0).shown(20.0)
    count = min(len(s.joints) for s in shown)
    # The world's heading and place begin anew with each conversion; the body is what is compared.
    bodies = [s.joints[:count] - s.joints[:count, :1] for s in shown]
    heights = [np.abs(b[..., 1]) for b in bodies]
    assert np.abs(heights[0] - heights[1]).max() < 0.03
    # A frame's music is that of a tick that has ended: tick k ends at k * 60 / 90 / 12 s.
    assert clip.music is not None
    assert seconds.music is not None
    for frame in (0, 7, 100, 333):
        newest = int(frame / FRAME_RATE_HZ * 90.0 / 60.0 * 12.0 + 1e-6)
        assert np.array_equal(seconds.music[frame], clip.music[newest])
    assert np.isclose(seconds.movement_energy().mean(), clip.movement_energy().mean(), rtol=0.05)


@SHIPPED
def test_a_fixed_rate_model_dances_to_any_course(dances: list[DanceClip]) -> None:
    system = FixedRateGmd(GMD_FOLDER)
    song = Song.of(dances[0], 8.0, "fast")
    dance = system.dance(song, 0)
    assert np.allclose(np.diff(dance.time_s), 1.0 / FRAME_RATE_HZ)
    assert dance.shown(8.0).joints.shape[0] >= 8.0 * RATE_HZ - 20
    assert np.array_equal(dance.beats_s, song.beats_s)
    assert system.key != GmdDancer().key


def test_the_nearest_music_is_sought_among_dances_with_music() -> None:
    silent = replace(prepared_clip("silent", "chacha", "train"), has_audio=False)
    dances = load_dances([prepared_clip("heard", "waltz", "train"), silent, prepared_clip("song", "chacha", "val")])
    song = Song.of(dances.val[0], 8.0)
    assert len(NearestMusic(PhraseBank(dances.train)).dance(song, 0).time_s) == len(song.music)
