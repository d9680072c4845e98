"""Scores, tempo maps, rendering and room effects: the beats that come with a rendering are the truth."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.errors import UserError
from models.rendering import from_segments, jump, ramp, rubato, steady
from models.rendering.demo_song import SECTIONS, compose
from models.rendering.make_demo import truth_rows, write_midi
from models.rendering.mixing import limit, loudness_lufs
from models.rendering.read_abc import parse_abc
from models.rendering.rooms import band_limit, mix_at_snr, noise, overload, play_in_room, reverb, tilt
from models.rendering.scores import DRUM_CHANNEL, Score, excerpt, loop, make_notes, merge, read_midi, swing
from models.rendering.synth import SoundFont, normalise, render
from models.rendering.tempo import Segment, TempoMap

DEMO = Path(__file__).parents[3] / "config" / "demo"
RATE = 48_000
FONTS = [
    Path("/usr/share/sounds/sf2/TimGM6mb.sf2"),
    Path("/usr/share/sounds/sf2/default-GM.sf2"),
    Path("/usr/share/sounds/sf3/default-GM.sf3"),
]


def clicks(beats: int) -> Score:
    """A side stick on every beat."""
    return Score(make_notes((float(n), n + 0.1, DRUM_CHANNEL, 37, 110) for n in range(beats)), beats)


@pytest.fixture(scope="module")
def font() -> SoundFont:
    pytest.importorskip("tinysoundfont")
    path = next((p for p in FONTS if p.is_file()), None)
    if path is None:
        pytest.skip("no soundfont installed")
    return SoundFont(path)


def test_tempo_ramp_is_the_integral_of_its_tempo() -> None:
    tempo = ramp(100.0, 130.0, 64)
    fine = np.linspace(0.0, 64.0, 200_001)
    bpm = 100.0 + 30.0 * fine / 64.0
    expected = np.trapezoid(60.0 / bpm, fine)
    assert tempo.time_of(64) == pytest.approx(expected, abs=1e-6)
    assert 60.0 / np.diff(tempo.time_of([0.0, 0.01]))[0] * 0.01 == pytest.approx(100.0, rel=1e-3)


def test_tempo_jump_changes_the_period_at_once() -> None:
    tempo = jump([120.0, 90.0], 8)
    np.testing.assert_allclose(np.diff(tempo.time_of(np.arange(17))), [0.5] * 8 + [60 / 90] * 8, atol=1e-9)


def test_break_shifts_what_follows_and_only_that() -> None:
    tempo = steady(120.0, 16).with_break(8, 3.0)
    assert tempo.time_of(7.99) == pytest.approx(3.995)
    assert tempo.time_of(8) == pytest.approx(7.0)
    assert tempo.time_of(8, before_break=True) == pytest.approx(4.0)
    assert tempo.silences() == [(pytest.approx(4.0), pytest.approx(7.0))]


def test_rubato_wanders_but_never_runs_backwards() -> None:
    tempo = rubato(100.0, 200, np.random.default_rng(0), spread=0.06)
    periods = np.diff(tempo.time_of(np.arange(201)))
    assert periods.min() > 0.3
    assert 0.02 < np.log(periods).std() < 0.12


def test_rendered_clicks_start_on_their_sample(font: SoundFont) -> None:
    tempo = from_segments([Segment(4, 120.0, 120.0), Segment(4, 93.0, 93.0)]).with_break(6, 1.5)
    take = render(clicks(8), tempo, font, lead_s=0.25)
    assert len(take.beats_s) == 8
    loud = np.abs(take.samples).max(axis=1) > 1e-4
    for beat_s in take.beats_s:
        at = round(beat_s * RATE)
        assert not loud[at - 480 : at].any()
        assert loud[at : at + 240].any()  # the drum sample itself may start a few samples in


def test_nothing_is_played_in_a_break(font: SoundFont) -> None:
    score = Score(make_notes([(0.0, 16.0, 0, 60, 100)]), 16, programs={0: 16})
    take = render(score, steady(120.0, 16).with_break(8, 3.0), font)
    assert np.abs(take.samples[RATE : 2 * RATE]).max() > 1e-3
    assert np.abs(take.samples[int(5.5 * RATE) : int(6.9 * RATE)]).max() < 1e-5
    assert take.silences_s == [(pytest.approx(4.0), pytest.approx(7.0))]


def test_rendering_twice_gives_the_same_samples(font: SoundFont) -> None:
    first, second = (render(clicks(4), steady(120.0, 4), font).samples for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_missing_soundfont_is_the_users_to_mend(tmp_path: Path) -> None:
    pytest.importorskip("tinysoundfont")
    with pytest.raises(UserError, match="no such soundfont"):
        SoundFont(tmp_path / "none.sf2")


def test_excerpt_keeps_the_bar_phase() -> None:
    score = Score(make_notes((float(n), n + 0.5, 0, 60 + n, 80) for n in range(16)), 16, 4, first_downbeat=2)
    cut = excerpt(score, 5, 8)
    assert cut.downbeats().tolist() == [1, 5]
    assert cut.notes["pitch"].tolist() == list(range(65, 73))
    assert cut.notes["start"][0] == 0.0


def test_loop_and_merge_fill_the_length() -> None:
    both = merge(Score(make_notes([(0.0, 1.0, 0, 60, 80)]), 10), loop(clicks(4), 10))
    assert (both.notes["channel"] == DRUM_CHANNEL).sum() == 10
    assert both.length_beats == 10


def test_swing_moves_the_off_beat_only() -> None:
    bent = swing(Score(make_notes([(0.0, 0.5, 0, 60, 80), (0.5, 1.0, 0, 62, 80)]), 1), ratio=2.0)
    np.testing.assert_allclose(bent.notes["start"], [0.0, 2 / 3])


def test_abc_reel_has_its_pickup_and_lengths() -> None:
    tune = parse_abc("X:1\nM:2/4\nL:1/16\nK:G\n(3DEF|G2A>B c4|[GB]4 z2 f2-|f8|]\n")
    first_bar = tune.notes[tune.notes["start"] >= 2.0]
    np.testing.assert_allclose(tune.notes["start"][:3], [1.5, 1.5 + 1 / 6, 1.5 + 1 / 3])
    np.testing.assert_allclose(first_bar["start"][:4], [2.0, 2.5, 2.875, 3.0])
    assert tune.notes["pitch"][:4].tolist() == [62, 64, 66, 67]  # the key's F sharp
    tied = tune.notes[-1]
    assert (tied["pitch"], tied["start"], tied["end"]) == (78, 5.5, 8.0)


def test_room_effects_do_not_move_an_onset() -> None:
    rng = np.random.default_rng(3)
    click = np.zeros(RATE, dtype=np.float32)
    click[RATE // 2] = 0.5
    for heard in (
        reverb(click, RATE, rng, 0.5),
        tilt(click, RATE, 3.0),
        band_limit(click, RATE),
        overload(click, 6.0),
    ):
        strong = np.flatnonzero(np.abs(heard) > 0.2 * np.abs(heard).max())
        assert RATE // 2 <= strong[0] <= RATE // 2 + 48


@pytest.mark.parametrize("kind", ["white", "pink", "brown", "crowd"])
def test_noise_is_mixed_at_its_ratio(kind: str) -> None:
    rng = np.random.default_rng(5)
    music = np.sin(np.arange(2 * RATE) * 0.05).astype(np.float32)
    disturbed = mix_at_snr(music, noise(kind, len(music), RATE, rng), 12.0)
    ratio = 10.0 * np.log10(np.mean(music**2) / np.mean((disturbed - music) ** 2))
    assert ratio == pytest.approx(12.0, abs=0.1)


def test_play_in_room_never_clips_and_is_reproducible() -> None:
    music = normalise(np.random.default_rng(1).normal(size=RATE).astype(np.float32))
    first, second = (play_in_room(music, RATE, np.random.default_rng(11)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first).max() <= 1.0
    assert first.dtype == np.float32


def test_loudness_of_a_reference_tone() -> None:
    # BS.1770-4: a 997 Hz sine of 0 dBFS in one of two channels reads -3.01 LUFS.
    tone = np.zeros((RATE * 2, 2), dtype=np.float32)
    tone[:, 0] = np.sin(2 * np.pi * 997.0 * np.arange(RATE * 2) / RATE)
    assert loudness_lufs(tone, RATE) == pytest.approx(-3.01, abs=0.05)


def test_limiter_holds_its_ceiling_and_leaves_quiet_music_alone() -> None:
    loud = np.random.default_rng(0).normal(0.0, 0.5, (RATE, 2)).astype(np.float32)
    assert np.abs(limit(loud, RATE)).max() <= 0.89 + 1e-6
    quiet = loud * np.float32(0.1)
    np.testing.assert_allclose(limit(quiet, RATE), quiet, atol=1e-6)


def test_demo_assets_agree_with_the_composition() -> None:
    score, tempo, bar_beats = compose()
    with (DEMO / "demo.beats.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    assert [[str(v) for v in row] for row in truth_rows(score, tempo, bar_beats)] == rows
    times = [float(row[0]) for row in rows]
    assert all(b > a for a, b in pairwise(times))
    assert soundfile.info(DEMO / "demo.ogg").duration > times[-1]
    assert sum(s.bars * s.beats_per_bar for s in SECTIONS) == len(rows)


def test_demo_midi_plays_its_notes_at_the_rendered_times(tmp_path: Path) -> None:
    mido = pytest.importorskip("mido")
    score, tempo, _ = compose()
    write_midi(tmp_path / "demo.mid", score, tempo)
    assert (tmp_path / "demo.mid").read_bytes() == (DEMO / "demo.mid").read_bytes()
    now, played = 0.0, []
    for message in mido.MidiFile(tmp_path / "demo.mid"):
        now += message.time
        if message.type == "note_on":
            played.append(now)
    expected = np.sort(tempo.time_of(score.notes["start"]))
    np.testing.assert_allclose(np.sort(played), expected, atol=0.002)
    assert len(read_midi(tmp_path / "demo.mid").notes) == len(score.notes)


def test_demo_recording_has_its_strokes_on_the_beats() -> None:
    # Energy just after each sounding beat exceeds that just before it, in most beats: the file is aligned.
    audio, rate = soundfile.read(DEMO / "demo.ogg", dtype="float32", always_2d=True)
    mono = audio.mean(axis=1)
    with (DEMO / "demo.beats.csv").open() as file:
        beats = [float(r["time_s"]) for r in csv.DictReader(file) if r["sounding"] == "1"]
    window = int(0.02 * rate)
    rises = []
    for beat in beats:
        at = round(beat * rate)
        before = float(np.mean(np.square(mono[at - window : at])))
        rises.append(float(np.mean(np.square(mono[at : at + 2 * window]))) > 1.5 * before)
    assert np.mean(rises) > 0.85


def test_tempo_map_extrapolates_with_its_end_tempos() -> None:
    tempo = TempoMap(np.array([0.0, 4.0, 8.0]), np.array([0.0, 2.0, 6.0]))
    np.testing.assert_allclose(tempo.time_of([-2.0, 10.0]), [-1.0, 8.0])
