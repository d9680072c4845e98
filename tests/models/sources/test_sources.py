"""AIST++ and folders of BVH through the whole preparation: what is good is prepared, what is bad is named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from engine.body import skeleton as sk
from engine.body.bvh import write_bvh
from engine.errors import UserError
from models.data.dataset import PreparedClip, PreparedData
from models.data.music_beat import find_beat
from models.data.prepare import Summary, prepare
from models.sources.aist import music_bpm
from models.sources.array_pickle import UnsafePickle, load_arrays
from models.sources.find import read_sources
from tests.models.data.synthetic_dance import steps
from tests.models.sources.rig_writer import MIXAMO, write_rig

RATE, FIRST_BEAT_S = 48_000, 0.31


def clicks(bpm: float, seconds: float = 9.0) -> np.ndarray:
    """Return music: a soft chord, and a click on every beat, the first at `FIRST_BEAT_S`."""
    time = np.arange(round(seconds * RATE)) / RATE
    music = 0.02 * sum(np.sin(2.0 * np.pi * hz * time) for hz in (262.0, 330.0, 392.0))
    random = np.random.default_rng(1)
    for beat in np.arange(FIRST_BEAT_S, seconds - 0.1, 60.0 / bpm):
        start = round(beat * RATE)
        music[start : start + 870] += random.normal(size=870) * np.exp(-np.arange(870) / 218.0)
    return (0.5 * music).astype(np.float32)


def aist_motion(bpm: float, frames: int = 480, seed: int = 0) -> dict[str, object]:
    """Return a motion whose feet are slowest on the beat of `clicks`, in centimetres over a floor 7 cm too high."""
    lead = round((2.0 - 0.5) * 60.0 / bpm * 60.0) - round(FIRST_BEAT_S * 60.0)
    rotations, way = steps(frames + 300, 60.0, bpm=bpm)
    too_high = np.random.default_rng(seed).normal((0.0, 0.07, 0.0), 1e-4, (frames, 3))
    way = way[lead : lead + frames] + too_high
    return {
        "smpl_loss": 0.1,
        "smpl_poses": rotations[lead : lead + frames].reshape(frames, 72),
        "smpl_scaling": np.array([93.7]),
        "smpl_trans": way * 93.7,
    }


class Code:
    """What a hostile file would have called."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/a_pickle_was_run",)


def sequence(genre: str, piece: int, choreography: int = 1) -> str:
    return f"g{genre}_sBM_cAll_d04_m{genre}{piece}_ch{choreography:02d}"


@pytest.fixture(scope="module")
def aist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("aist")
    motions = data / "aist_plusplus_final" / "motions"
    motions.mkdir(parents=True)
    (data / "music").mkdir()
    good = [(sequence("BR", 2), 100.0), (sequence("HO", 1), 115.0), (sequence("BR", 2, 2), 100.0)]
    for seed, (name, bpm) in enumerate(good):
        (motions / f"{name}.pkl").write_bytes(pickle.dumps(aist_motion(bpm, seed=seed)))
    soundfile.write(data / "music" / "mBR2.wav", clicks(100.0), RATE)
    soundfile.write(data / "music" / "mHO1.wav", clicks(115.0), RATE)
    soundfile.write(data / "music" / "mPO0.wav", np.zeros(RATE * 9, np.float32), RATE)
    bad = {name: aist_motion(80.0) for name in (sequence("PO", 0), sequence("LO", 0), sequence("KR", 0))}
    bad[sequence("LO", 0)]["smpl_poses"] = Code()
    bad[sequence("KR", 0)]["smpl_poses"] = np.zeros((480, 69))
    with_nan = aist_motion(80.0)
    with_nan["smpl_trans"] = np.where(np.arange(480)[:, None] == 9, np.nan, with_nan["smpl_trans"])
    bad[sequence("WA", 0)] = with_nan
    bad[sequence("JB", 0)] = {"smpl_trans": np.zeros((480, 3))}
    bad[sequence("MH", 0)] = bad[sequence("LH", 0)] = aist_motion(80.0)
    bad["dancer_without_a_name"] = aist_motion(80.0)
    for name, content in bad.items():
        (motions / f"{name}.pkl").write_bytes(pickle.dumps(content))
    whole = (motions / f"{good[0][0]}.pkl").read_bytes()
    (motions / f"{sequence('JS', 0)}.pkl").write_bytes(whole[: len(whole) // 2])
    splits = motions.parent / "splits"
    splits.mkdir()
    trained = [good[0][0], good[1][0], *bad, sequence("JS", 0)]
    (splits / "crossmodal_train.txt").write_text("\n".join(n for n in trained if n != sequence("LH", 0)))
    (splits / "crossmodal_val.txt").write_text("")
    (splits / "crossmodal_test.txt").write_text(good[2][0] + "\n")
    (motions.parent / "ignore_list.txt").write_text(sequence("MH", 0) + "\n")
    return data


@pytest.fixture(scope="module")
def prepared_aist(aist: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("prepared")
    return out, prepare(aist, out, console=Console(quiet=True))


def clip(out: Path, name: str) -> PreparedClip:
    return next(c for c in PreparedData.load(out).clips if c.name == name)


def test_aist_good_sequences_are_made_and_bad_ones_named(prepared_aist: tuple[Path, Summary]) -> None:
    _, summary = prepared_aist
    assert sorted(summary.made) == sorted([sequence("BR", 2), sequence("BR", 2, 2), sequence("HO", 1)])
    for name, reason in {
        sequence("PO", 0): "silent",
        sequence("LO", 0): "contains code (posix.system)" if os.name == "posix" else "contains code",
        sequence("KR", 0): "shapes",
        sequence("WA", 0): "NaN",
        sequence("JB", 0): "smpl_poses",
        sequence("MH", 0): "ignore list",
        sequence("LH", 0): "none of the cross-modal splits",
        sequence("JS", 0): "pickle is broken",
        "dancer_without_a_name": "not that of an AIST++",
    }.items():
        assert reason in summary.skipped[name], name
    assert len(summary.skipped) == 9
    assert not Path("/tmp/a_pickle_was_run").exists()


def test_aist_is_on_the_beat_of_its_music_and_on_the_floor(prepared_aist: tuple[Path, Summary]) -> None:
    for name, bpm, style in ((sequence("BR", 2), 100.0, "break"), (sequence("HO", 1), 115.0, "house")):
        made = clip(prepared_aist[0], name)
        assert (made.style, made.split, made.tempo_locked) == (style, "train", True)
        assert made.music_bpm == pytest.approx(bpm, rel=2e-3)
        ticks = made.first_tick + np.arange(made.ticks)
        beat = (made.music_time_s - FIRST_BEAT_S) * bpm / 60.0
        apart = (beat - ticks / 12.0 + 0.5) % 1.0 - 0.5
        assert np.abs(apart).max() < 0.06, "a click is a beat"
        assert np.abs(made.music_time_s - made.motion_time_s).max() < 0.12, "music and motion begin together"
        positions, world = sk.forward_kinematics(made.rotations, made.translation_m)
        assert abs(np.percentile(sk.contact_points(positions, world)[..., 1].min(axis=1), 5)) < 0.01
        assert made.contacts.mean() > 0.2
    assert clip(prepared_aist[0], sequence("BR", 2, 2)).split == "test"


def test_aist_again_makes_nothing(aist: Path, prepared_aist: tuple[Path, Summary]) -> None:
    again = prepare(aist, prepared_aist[0], console=Console(quiet=True))
    assert again.made == ()
    assert len(again.ready) == 3


def test_aist_without_its_split_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "motions").mkdir()
    (tmp_path / "motions" / f"{sequence('BR', 0)}.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(UserError, match=r"crossmodal_train\.txt"):
        read_sources(tmp_path)


def test_tempos_of_aist() -> None:
    assert [music_bpm("BR", piece) for piece in range(6)] == [80, 90, 100, 110, 120, 130]
    assert [music_bpm("HO", piece) for piece in range(6)] == [110, 115, 120, 125, 130, 135]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    content = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.ones((2, 2), np.float32)),
        "c": np.float64(2),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    back = load_arrays(tmp_path / "a.pkl")
    assert np.array_equal(back["a"], content["a"])
    assert np.array_equal(back["b"], content["b"])
    assert back["c"] == 2.0


class Huge:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return np.ndarray, ((1 << 40,), "f8")


@pytest.mark.parametrize(
    "content", [{"a": Code()}, {"a": Huge()}, {"a": np.array([Code()], object)}, {"a": "text"}, [1, 2], {"a": {1, 2}}]
)
def test_a_pickle_of_anything_else_is_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="pickle") as caught:
        load_arrays(tmp_path / "a.pkl")
    assert isinstance(caught.value, UnsafePickle) or "broken" in str(caught.value)
    assert not Path("/tmp/a_pickle_was_run").exists()


def test_a_folder_of_bvh_with_audio(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    rotations, way = steps(300, 30.0, bpm=100.0)
    for folder in ("train/salsa", "test/salsa"):
        (data / folder).mkdir(parents=True)
        write_bvh(data / folder / "own.bvh", rotations, way, 1 / 30)
        soundfile.write(data / folder / "own.wav", clicks(100.0, 11.0), RATE)
    swing = 0.6 * np.sin(np.pi * np.arange(300) / 30.0 * 100.0 / 60.0)
    turns = np.zeros((300, 3))
    turns[:, 0] = swing
    legs = {"LeftUpLeg": sk.axis_angle_to_matrix(turns), "RightUpLeg": sk.axis_angle_to_matrix(-turns)}
    upright = np.repeat([[0.0, 100.0, 0.0]], 300, axis=0)
    write_rig(data / "train" / "rig.bvh", MIXAMO, legs, upright, 1 / 30)
    (data / "train" / "rig.toml").write_text('style = "walk"\n')
    write_rig(data / "train" / "wrong.bvh", {"Hips": MIXAMO["Hips"]}, {}, upright, 1 / 30)
    (data / "train" / "cut.bvh").write_text((data / "train" / "rig.bvh").read_text()[:-200])
    write_rig(data / "train" / "short.bvh", MIXAMO, {}, upright[:20], 1 / 30)
    write_rig(data / "train" / "noisy.bvh", MIXAMO, legs, upright, 1 / 30)
    noise = np.random.default_rng(0).normal(scale=0.1, size=RATE * 10).astype(np.float32)
    soundfile.write(data / "train" / "noisy.wav", noise, RATE)
    write_rig(data / "train" / "typo.bvh", MIXAMO, legs, upright, 1 / 30)
    (data / "train" / "typo.toml").write_text('stile = "walk"\n')
    write_rig(data / "train" / "untold.bvh", MIXAMO, legs, upright, 1 / 30)
    (data / "train" / "untold.toml").write_text("bpm = 100.0\nbeat_s = nan\n")

    summary = prepare(data, out, console=Console(quiet=True))
    assert sorted(summary.made) == ["test_salsa_own", "train_rig", "train_salsa_own"]
    for name, reason in {
        "train_wrong": "no joint known as",
        "train_cut": "cut off",
        "train_short": "shorter",
        "train_noisy": "no steady beat",
        "train_typo": "did you mean 'style'",
        "train_untold": "a beat at nan s",
    }.items():
        assert reason in summary.skipped[name], name
    own = clip(out, "train_salsa_own")
    assert (own.style, own.split, own.has_audio) == ("salsa", "train", True)
    assert own.music_bpm == pytest.approx(100.0, rel=5e-3)
    assert clip(out, "test_salsa_own").split == "test"
    rig = clip(out, "train_rig")
    assert (rig.style, rig.has_audio) == ("walk", False)
    with np.load(out / "fits" / "train_rig.npz") as fit:
        assert 0.005 < np.median(fit["residual"]) < 0.12, "the error of other proportions is reported"
    with np.load(out / "fits" / "train_salsa_own.npz") as fit:
        assert fit["residual"].max() < 1e-4


def test_suffixes_in_capitals_and_linked_folders_are_read(aist: Path, tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere" / "salsa"
    elsewhere.mkdir(parents=True)
    rotations, way = steps(10, 30.0, bpm=100.0)
    write_bvh(elsewhere / "own.BVH", rotations, way, 1 / 30)
    soundfile.write(elsewhere / "own.WAV", clicks(100.0, 1.0), RATE)
    (elsewhere / "round").symlink_to(tmp_path / "elsewhere")
    (data / "train").mkdir(parents=True)
    (data / "train" / "salsa").symlink_to(elsewhere)
    found, bad = read_sources(data)
    assert bad == {}
    assert [(s.name, s.style, s.split) for s in found] == [("train_salsa_own", "salsa", "train")]
    assert found[0].audio == data / "train" / "salsa" / "own.WAV"

    (data / "aist").symlink_to(aist)
    linked, there = read_sources(data)[0], read_sources(aist)[0]
    assert [s.name for s in linked if s.kind == "aist"] == [s.name for s in there]
    assert [s.audio is None for s in linked if s.kind == "aist"] == [s.audio is None for s in there]


def test_a_name_in_another_encoding_is_written_as_far_as_it_can_be(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"sal\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has names in one encoding only")
    write_bvh(folder / "own.bvh", *steps(10, 30.0, bpm=100.0), 1 / 30)
    found, bad = read_sources(tmp_path)
    assert [(s.name, s.style) for s in found] == [("sal?_own", "sal?")]
    assert bad == {}


def test_a_dance_lasts_as_long_at_every_frame_rate(tmp_path: Path) -> None:
    data, out = tmp_path / "data" / "train", tmp_path / "out"
    data.mkdir(parents=True)
    for fps in (30, 240):
        rotations, way = steps(7 * fps, float(fps), bpm=100.0)
        write_bvh(data / f"at_{fps}.bvh", rotations, way, 1 / fps)
        soundfile.write(data / f"at_{fps}.wav", clicks(100.0, 8.0), RATE)
        (data / f"at_{fps}.toml").write_text(f"bpm = 100.0\nbeat_s = {FIRST_BEAT_S}\n")

    summary = prepare(data.parent, out, console=Console(quiet=True))
    assert summary.skipped == {}
    slow, quick = clip(out, "train_at_30"), clip(out, "train_at_240")
    assert abs(slow.ticks - quick.ticks) <= 1


@pytest.mark.parametrize(("bpm", "known"), [(90.0, None), (128.0, None), (100.0, 100.0)])
def test_the_beat_of_clicks_is_found(bpm: float, known: float | None) -> None:
    found = find_beat(clicks(bpm, 12.0), known)
    assert found is not None
    assert found.bpm == pytest.approx(bpm, rel=2e-3)
    late = ((found.beat_s - FIRST_BEAT_S) * bpm / 60.0 + 0.5) % 1.0 - 0.5
    assert abs(late) * 60.0 / bpm < 0.02
    assert found.clearness > 5.0
