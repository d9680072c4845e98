"""Preparation of a small synthetic data set with known beats, good clips and bad ones."""

import io
import json
import multiprocessing.reduction
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from engine.body import skeleton as sk
from engine.errors import UserError
from engine.features import FeatureSpec
from models.data import prepare as preparation
from models.data.clip_on_ticks import movement_energy, music_features
from models.data.dataset import PreparedData
from models.data.prepare import Summary, prepare
from models.motion.resampling import resample_motion
from models.sources.find import read_sources
from tests.models.data.synthetic_dance import steps, wear_markers

FPS, BPM, RATE = 24.7, 90.0, 22_050
FIRST_BEAT_S, FIRST_POSE_S, DANCE_S = 0.7, 1.0, 8.0


def clicks(seconds: float, gain: float = 0.5) -> np.ndarray:
    """Return music: a soft chord, and a click on every beat."""
    time = np.arange(round(seconds * RATE)) / RATE
    music = 0.02 * sum(np.sin(2.0 * np.pi * hz * time) for hz in (262.0, 330.0, 392.0))
    rng = np.random.default_rng(1)
    for beat in np.arange(FIRST_BEAT_S, seconds - 0.1, 60.0 / BPM):
        start = round(beat * RATE)
        music[start : start + 400] += rng.normal(size=400) * np.exp(-np.arange(400) / 100.0)
    return (gain * music).astype(np.float32)


def add_clip(folder: Path, name: str, split: str, *, audio: bool = True, seed: int = 0) -> dict[str, object]:
    folder.mkdir(exist_ok=True, parents=True)
    frames = round(DANCE_S * FPS)
    # Feet of `steps` are fastest on its beat; here they are to be so in the middle of the music's.
    lead = (FIRST_POSE_S - FIRST_BEAT_S) * BPM / 60.0 + 0.5
    long = steps(frames + 200, FPS, bpm=BPM)
    start = round((2.0 + lead) * 60.0 / BPM * FPS)
    markers = wear_markers(long[0][start : start + frames], long[1][start : start + frames])
    markers = markers + np.random.default_rng(seed).normal(scale=0.002, size=markers.shape)
    repeats = np.arange(frames) < frames // 4
    np.savez(folder / f"{name}.npz", joints_m=markers.astype(np.float32), repeats_test=repeats)
    row: dict[str, object] = {"name": name, "style": "waltz", "motion": f"{name}.npz", "fps_true": FPS, "split": split}
    if audio:
        soundfile.write(folder / f"{name}.ogg", clicks(FIRST_POSE_S + DANCE_S + 1.0), RATE)
        row |= {
            "audio": f"{name}.ogg",
            "bpm": BPM,
            "beat_phase_ref_in_clip_s": FIRST_BEAT_S,
            "clip_audio_offset_s": FIRST_POSE_S,
            "beats_per_bar": 3,
            "tempo_locked": True,
        }
    return row


def write_index(folder: Path, rows: list[dict[str, object]]) -> None:
    (folder / "index.json").write_text(json.dumps(rows))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("raw")
    pairs = data / "pairs"
    rows = [add_clip(pairs, "good", "train"), add_clip(pairs, "held_out", "test", seed=1)]
    bad = ("cut_short", "wrong_shape", "has_nan", "silent", "no_audio", "no_motion")
    rows += [add_clip(pairs, name, "train", seed=2) for name in bad]
    whole = (pairs / "cut_short.npz").read_bytes()
    (pairs / "cut_short.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(pairs / "wrong_shape.npz", joints_m=np.zeros((300, 17, 3), np.float32))
    with np.load(pairs / "has_nan.npz") as archive:
        markers = archive["joints_m"]
    markers[50, 3, 1] = np.nan
    np.savez(pairs / "has_nan.npz", joints_m=markers)
    soundfile.write(pairs / "silent.ogg", np.zeros(RATE * 9, np.float32), RATE)
    (pairs / "no_audio.ogg").unlink()
    (pairs / "no_motion.npz").unlink()
    rows.append({"name": "no_fps", "motion": "good.npz", "style": "waltz", "split": "train"})
    rows.append({**rows[0], "name": "bad_split", "split": "holdout"})
    write_index(pairs, rows)
    alone = data / "motion_only"
    write_index(alone, [add_clip(alone, "alone", "train", audio=False, seed=3)])
    return data


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("prepared")
    return out, prepare(raw, out, iterations=12, console=Console(quiet=True))


def test_good_clips_are_made_and_bad_ones_named_with_the_reason(prepared: tuple[Path, Summary]) -> None:
    out, summary = prepared
    assert sorted(summary.made) == ["alone", "good", "held_out"]
    for name, reason in {
        "cut_short": "cannot be read",
        "wrong_shape": "shape",
        "has_nan": "NaN",
        "silent": "silent",
        "no_audio": "no audio file",
        "no_motion": "no motion file",
        "no_fps": "fps_true",
        "bad_split": "holdout",
    }.items():
        assert reason in summary.skipped[name]
    assert len(summary.skipped) == 8
    sources = PreparedData.load(out).sources
    assert sources == dict.fromkeys(("good", "held_out", "alone"), "pairs")


def test_a_second_run_makes_nothing_and_a_changed_clip_alone_is_made_again(
    raw: Path, prepared: tuple[Path, Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = prepared
    before = {path.name: path.read_bytes() for path in (out / "clips").iterdir()}
    again = prepare(raw, out, iterations=12, console=Console(quiet=True))
    assert again.made == ()
    assert sorted(again.ready) == ["alone", "good", "held_out"]
    assert {path.name: path.read_bytes() for path in (out / "clips").iterdir()} == before

    song = raw / "pairs" / "held_out.ogg"
    original = song.read_bytes()
    # Music changes, movement does not: the fit, which is what takes long, is kept.
    monkeypatch.setattr(preparation, "fit_markers", lambda *_: pytest.fail("fitted again"))
    try:
        soundfile.write(song, clicks(FIRST_POSE_S + DANCE_S + 1.0, gain=0.3), RATE)
        assert prepare(raw, out, iterations=12, console=Console(quiet=True)).made == ("held_out",)
    finally:
        song.write_bytes(original)
        prepare(raw, out, iterations=12, console=Console(quiet=True))


def test_sheets_that_are_asked_for_later_are_drawn_once(
    raw: Path, prepared: tuple[Path, Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, drawn = prepared[0], []

    def draw(_motion: object, _source: object, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        drawn.append(path.name)

    monkeypatch.setattr(preparation, "_draw", draw)
    for _ in range(2):
        again = prepare(raw, out, iterations=12, sheets=True, console=Console(quiet=True))
        assert sorted(again.ready) == ["alone", "good", "held_out"]
    assert sorted(drawn) == ["alone.png", "good.png", "held_out.png"]


def test_what_an_earlier_run_kept_and_the_disk_damaged_is_made_again(
    raw: Path, prepared: tuple[Path, Summary], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(prepared[0], tmp_path / "out"))
    for damaged in ("calibration.npz", "fits/good.npz"):
        (out / damaged).write_bytes(b"no archive")
    again = prepare(raw, out, iterations=12, console=Console(quiet=True))
    assert sorted(again.ready) == ["alone", "good", "held_out"]


def test_a_good_clip_stays_where_a_bad_one_has_its_name(raw: Path, tmp_path: Path) -> None:
    (row,) = json.loads((raw / "motion_only" / "index.json").read_text())
    row["motion"] = str(raw / "motion_only" / "alone.npz")
    write_index(tmp_path, [row, row, {**row, "split": "holdout"}])
    summary = prepare(tmp_path, tmp_path / "out", iterations=2, console=Console(quiet=True))
    assert summary.made == ("alone",)
    assert "the first is kept" in summary.skipped["alone"]
    assert [clip.name for clip in PreparedData.load(tmp_path / "out").clips] == ["alone"]


def test_ticks_lie_on_the_beat_of_the_music(prepared: tuple[Path, Summary]) -> None:
    data = PreparedData.load(prepared[0])
    assert data.feature_digest == FeatureSpec().digest
    (clip,) = data.split("test")
    # Twelve ticks a beat, tick 12 n on the n-th beat after the first one danced.
    ticks = clip.first_tick + np.arange(clip.ticks)
    beats = (clip.music_time_s - FIRST_BEAT_S) * BPM / 60.0
    np.testing.assert_allclose(beats * 12.0 - ticks, np.round(beats[0] * 12.0 - ticks[0]), atol=1e-6)
    assert round(beats[0] * 12.0 - ticks[0]) % 12 == 0
    assert 0 <= clip.first_tick <= 12
    # A click on beat n sounds at tick 12 n, so its onset belongs to the tick that ends after it: 12 n + 1.
    onset = clip.features[:, FeatureSpec().column("onset")]
    by_tick = [onset[(ticks % 12) == k].mean() for k in range(12)]
    assert int(np.argmax(by_tick)) == 1
    assert by_tick[0] < 0.3 * by_tick[1]


def test_motion_and_music_are_of_the_same_moment_where_they_agree(prepared: tuple[Path, Summary]) -> None:
    (clip,) = PreparedData.load(prepared[0]).split("test")
    apart = clip.music_time_s - (clip.motion_time_s + FIRST_POSE_S)
    assert np.abs(apart).max() < 0.1, "in seconds: the synthetic dancer keeps the beat"
    assert clip.tempo_bpm.mean() == pytest.approx(BPM, rel=0.03)
    # Feet are slowest on the beat.
    positions, world = sk.forward_kinematics(clip.rotations, clip.translation_m)
    speed = np.linalg.norm(np.gradient(sk.contact_points(positions, world), axis=0), axis=-1).sum(axis=1)
    ticks = clip.first_tick + np.arange(clip.ticks)
    by_tick = np.array([speed[(ticks % 12) == k].mean() for k in range(12)])
    phase = np.angle((by_tick * np.exp(-2j * np.pi * np.arange(12) / 12)).sum()) / (2.0 * np.pi) % 1.0
    assert 0.35 < 1.0 - phase < 0.65


def test_motion_without_music_is_silent_on_its_own_beat(prepared: tuple[Path, Summary]) -> None:
    clip = next(c for c in PreparedData.load(prepared[0]).clips if c.name == "alone")
    assert not clip.has_audio
    assert np.isnan(clip.music_time_s).all()
    np.testing.assert_array_equal(clip.features, np.repeat(FeatureSpec().silence[None], clip.ticks, axis=0))
    assert clip.music_bpm == pytest.approx(BPM, rel=0.09)


def test_every_array_is_finite_and_flags_follow_the_source(prepared: tuple[Path, Summary]) -> None:
    for clip in PreparedData.load(prepared[0]).clips:
        for array in (clip.rotations, clip.translation_m, clip.features, clip.tempo_bpm, clip.energy_m_s):
            assert np.isfinite(array).all()
        assert clip.plausible
        assert (np.diff(clip.motion_time_s) > 0).all()
        boundary = int(clip.repeats_test.sum())
        assert clip.repeats_test[:boundary].all()
        assert boundary / clip.ticks == pytest.approx(0.25, abs=0.05)


def test_statistics_ignore_held_out_clips(prepared: tuple[Path, Summary]) -> None:
    data = PreparedData.load(prepared[0])
    (good,) = [c for c in data.clips if c.name == "good"]
    np.testing.assert_allclose(data.statistics.feature_mean, good.features.mean(axis=0), atol=1e-4)


def test_a_folder_without_clips_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pairs/index"):
        prepare(tmp_path, tmp_path / "out", console=Console(quiet=True))
    (tmp_path / "index.json").write_text("[")
    with pytest.raises(UserError, match="JSON"):
        prepare(tmp_path, tmp_path / "out", console=Console(quiet=True))
    write_index(tmp_path, [{"name": "x", "motion": "x.npz", "fps_true": 25, "style": "waltz", "split": "train"}])
    with pytest.raises(UserError, match="no motion file"):
        prepare(tmp_path, tmp_path / "out", console=Console(quiet=True))


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    write_index(tmp_path, [{"name": "../x", "motion": "x.npz", "fps_true": 25, "style": "waltz", "split": "train"}])
    sources, bad = read_sources(tmp_path)
    assert sources == []
    assert "path" in bad["../x"]


def test_brackets_in_names_and_facts_are_printed_as_they_are(raw: Path, tmp_path: Path) -> None:
    rows = json.loads((raw / "motion_only" / "index.json").read_text())
    rows[0] |= {"motion": str(raw / "motion_only" / "alone.npz"), "style": "waltz [slow]"}
    write_index(tmp_path, [*rows, {**rows[0], "name": "take [two]", "split": "[/x]"}])
    said = io.StringIO()
    prepare(tmp_path, tmp_path / "out", iterations=2, console=Console(file=said, width=200))
    assert "left out take [two]: its index row is unusable (split '[/x]')" in said.getvalue()
    assert "waltz [slow]" in said.getvalue()


def test_facts_that_cannot_be_are_named_and_the_other_clips_remain(tmp_path: Path) -> None:
    good = {
        "name": "good",
        "motion": "x.npz",
        "fps_true": 25,
        "style": "waltz",
        "split": "train",
        "audio": "x.ogg",
        "bpm": 90.0,
        "beat_phase_ref_in_clip_s": 0.5,
        "clip_audio_offset_s": 1.0,
        "beats_per_bar": 3,
        "tempo_locked": True,
    }
    wrong: dict[str, object] = {
        "beat_phase_ref_in_clip_s": float("nan"),
        "clip_audio_offset_s": 1e300,
        "beats_per_bar": 0,
        "bpm": float("inf"),
        "fps_true": float("nan"),
        "split": "holdout",
    }
    rows = [good, {**good, "name": ""}, {**good, "name": "endless", "beats_per_bar": float("inf")}]
    write_index(tmp_path, rows + [{**good, "name": key, key: value} for key, value in wrong.items()])
    sources, bad = read_sources(tmp_path)
    assert [source.name for source in sources] == ["good"]
    assert bad.keys() == {"", "endless", *wrong}
    assert "0 beats a bar" in bad["beats_per_bar"]


@pytest.mark.parametrize("content", ["5", "null", '{"name": "x"}'])
def test_an_index_that_is_no_list_is_the_users_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match="no list of clips"):
        read_sources(tmp_path)


def test_resampling_meets_the_frames_and_is_smooth_between_them() -> None:
    rotations, way = steps(100, 25.0, turn=3.0)  # two turns and more: the axis-angle of the root wraps
    times = np.arange(0.2, 3.7, 1.0 / 100.0)
    fine_rotations, fine_way = resample_motion(rotations, way, 25.0, times)
    truth_rotations, _ = steps(400, 100.0, turn=3.0)
    got, _ = sk.forward_kinematics(fine_rotations, fine_way)
    at = np.rint(times * 100.0).astype(int)
    true, _ = sk.forward_kinematics(truth_rotations[at], fine_way)
    assert np.linalg.norm(got - true, axis=-1).max() < 0.02
    whole = resample_motion(rotations, way, 25.0, np.arange(100) / 25.0)
    frames, _ = sk.forward_kinematics(rotations, way)
    np.testing.assert_allclose(sk.forward_kinematics(*whole)[0], frames, atol=1e-5)


def test_energy_is_the_speed_of_the_joints() -> None:
    way = np.zeros((200, 3))
    way[:, 2] = np.arange(200) * 0.05
    energy = movement_energy(np.zeros((200, 24, 3)), way, np.arange(200) / 20.0)
    np.testing.assert_allclose(energy, 1.0, rtol=1e-5)


def test_features_know_when_their_hop_ended() -> None:
    rows, ends_s = music_features(np.zeros(4_800 + 100, np.float32))
    assert len(rows) == 10
    np.testing.assert_allclose(ends_s, np.arange(1, 11) / 100.0)


def test_what_is_the_users_to_mend_comes_through_from_another_process() -> None:
    error = UserError("no such thing", "make one")
    again = multiprocessing.reduction.ForkingPickler.loads(multiprocessing.reduction.ForkingPickler.dumps(error))
    assert (str(again), again.problem, again.remedy) == (str(error), error.problem, error.remedy)
