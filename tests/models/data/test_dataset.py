"""Prepared clips and their statistics."""

import contextlib
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from engine.whole_files import whole_file
from models.data.dataset import FORMAT, PreparedClip, PreparedData, Statistics, runs


def clip(name: str = "a", split: str = "train", ticks: int = 300, seed: int = 1, **changes: object) -> PreparedClip:
    rng = np.random.default_rng(seed)
    made = PreparedClip(
        name=name,
        style="waltz",
        split=split,
        beats_per_bar=3,
        tempo_locked=True,
        has_audio=True,
        plausible=True,
        music_bpm=87.0,
        first_tick=5,
        rotations=rng.normal(size=(ticks, 24, 3)).astype(np.float32),
        translation_m=rng.normal(size=(ticks, 3)).astype(np.float32),
        contacts=rng.random((ticks, 4)).astype(np.float32),
        features=rng.normal(size=(ticks, 7)).astype(np.float32),
        tempo_bpm=np.full(ticks, 87.0, np.float32),
        motion_time_s=np.arange(ticks) / 17.4,
        music_time_s=np.arange(ticks) / 17.4 + 2.0,
        beat_coherence=np.ones(ticks, np.float32),
        energy_m_s=rng.random(ticks).astype(np.float32),
        repeats_test=np.zeros(ticks, bool),
    )
    return dataclasses.replace(made, **changes)


def folder_of(path: Path, clips: list[PreparedClip]) -> Path:
    (path / "clips").mkdir()
    for one in clips:
        one.save(path / "clips" / f"{one.name}.npz")
    Statistics.of([c for c in clips if c.split == "train"]).save(path / "statistics.npz")
    index = {"format": FORMAT, "feature_digest": "abc", "clips": [c.name for c in clips]}
    (path / "prepared.json").write_text(json.dumps(index))
    return path


def test_a_clip_survives_the_disk_without_pickles(tmp_path: Path) -> None:
    one = clip()
    one.save(tmp_path / "a.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    again = PreparedClip.load(tmp_path / "a.npz")
    for field in dataclasses.fields(PreparedClip):
        before, after = getattr(one, field.name), getattr(again, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after)
            assert before.dtype == after.dtype
        else:
            assert before == after
            assert type(before) is type(after)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert all(archive[key].dtype != object for key in archive.files)


def test_a_damaged_clip_is_the_users_error(tmp_path: Path) -> None:
    clip().save(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    for path in (tmp_path / "a.npz", tmp_path / "missing.npz"):
        with pytest.raises(UserError, match="prepare"):
            PreparedClip.load(path)


def test_protocol_b_keeps_only_runs_that_no_held_out_clip_repeats(tmp_path: Path) -> None:
    repeats = np.zeros(300, bool)
    repeats[100:110] = repeats[220:] = True
    clips = [clip("a", repeats_test=repeats), clip("t", "test", repeats_test=~repeats)]
    data = PreparedData.load(folder_of(tmp_path, clips))
    parts = data.split("train", protocol="B", min_ticks=96)
    assert [(p.name, p.ticks, p.first_tick) for p in parts] == [("a@0", 100, 5), ("a@110", 110, 115)]
    np.testing.assert_array_equal(parts[1].features, clips[0].features[110:220])
    assert not any(p.repeats_test.any() for p in parts)
    assert [c.name for c in data.split("test", protocol="B")] == ["t"]
    assert [c.ticks for c in data.split("train")] == [300]


def test_implausible_clips_are_not_trained_on_but_stay_in_the_test(tmp_path: Path) -> None:
    clips = [clip("a"), clip("b", plausible=False), clip("t", "test", plausible=False)]
    data = PreparedData.load(folder_of(tmp_path, clips))
    assert [c.name for c in data.split("train")] == ["a"]
    assert [c.name for c in data.split("train", plausible=False)] == ["a", "b"]
    assert [c.name for c in data.split("test")] == ["t"]


def test_statistics_are_those_of_training_music(tmp_path: Path) -> None:
    loud = clip("a", seed=2)
    silent = clip("b", has_audio=False, features=np.full((300, 7), 99.0, np.float32))
    statistics = Statistics.of([loud, silent])
    np.testing.assert_allclose(statistics.feature_mean, loud.features.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(statistics.feature_std, loud.features.std(axis=0), rtol=1e-4)
    with pytest.raises(ValueError, match="training split"):
        Statistics.of([loud, clip("t", "test")])
    statistics.save(tmp_path / "s.npz")
    again = Statistics.load(tmp_path / "s.npz")
    speeds = np.concatenate([loud.energy_m_s, silent.energy_m_s])
    for style in (None, "waltz"):
        ranks = again.energy(speeds, style)
        assert ranks.min() == 0.0
        assert ranks.max() == 1.0
        assert np.median(ranks) == pytest.approx(0.5, abs=0.01)


def test_a_folder_that_was_not_prepared_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pasdedeux prepare"):
        PreparedData.load(tmp_path)
    (tmp_path / "prepared.json").write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(UserError, match="another version"):
        PreparedData.load(tmp_path)


def test_statistics_are_replaced_only_by_whole_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, statistics = tmp_path / "statistics.npz", Statistics.of([clip()])
    statistics.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["statistics.npz"]
    before = path.read_bytes()

    def full(file: Path, **_: np.ndarray) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        statistics.save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prepared.json", b'{"format": 1, "cl'),
        ("prepared.json", b"[]"),
        ("prepared.json", b'{"format": 1, "feature_digest": "abc", "clips": null}'),
        ("statistics.npz", None),
        ("statistics.npz", b""),
        ("statistics.npz", b"no archive"),
    ],
)
def test_a_damaged_folder_is_the_users_error(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = folder_of(tmp_path, [clip()]) / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(UserError, match=f"{name}.*pasdedeux prepare"):
        PreparedData.load(tmp_path)


def test_runs() -> None:
    mask = np.array([1, 1, 0, 0, 1, 0, 1], bool)
    assert list(runs(mask)) == [(0, 2), (4, 5), (6, 7)]
    assert list(runs(np.zeros(3, bool))) == []


def test_two_processes_that_write_one_file_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, mine, theirs = tmp_path / "clip.npz", clip(), os.getpid() + 1
    with whole_file(path) as partial:
        partial.write_bytes(b"half of another process'")
        monkeypatch.setattr(os, "getpid", lambda: theirs)
        mine.save(path)
        assert PreparedClip.load(path).name == "a"
        partial.write_bytes(path.read_bytes())
    assert [file.name for file in tmp_path.iterdir()] == ["clip.npz"]
    with contextlib.suppress(OSError), whole_file(path) as partial:
        partial.touch()
        raise OSError("the disk is full")
    assert [file.name for file in tmp_path.iterdir()] == ["clip.npz"]
    assert PreparedClip.load(path).name == "a"
