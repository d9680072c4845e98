"""Recorded sessions: what comes out of a replay is what the show showed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from engine import session as session_module
from engine.errors import UserError
from engine.pipeline import Pipeline
from engine.playing.pipeline import PlayingPipeline
from engine.playing.render import perform, with_heartbeats
from engine.playing.rule_composer import RuleComposer
from engine.render import collect
from engine.session import OutputDigest, Session, SessionRecorder
from engine.settings import ShowSettings, load_show
from engine.types import (
    NS_PER_S,
    AudioBlock,
    ControlEvent,
    NoteEvent,
    Observation,
    PoseFrame,
    PoseLandmarks,
    TempoReference,
)
from tests.engine.dance_poses import dance, make_playing
from tests.engine.fakes import blocks, make_pipeline, music
from tests.waiting import PATIENCE_S, wait_until


def show() -> list[Observation]:
    """Audio in odd blocks, a control in between, a change of device, a gap."""
    samples = music(2.0)
    stereo = np.repeat(music(1.0, rate=44_100, seed=1), 2, axis=1)
    observations: list[Observation] = [*blocks(samples, 333)]
    observations.insert(50, ControlEvent(observations[49].time_ns, "style", "waltz"))
    last = observations[-1]
    assert isinstance(last, AudioBlock)
    observations += [
        AudioBlock(b.sample_index, b.time_ns, b.samples, b.sample_rate_hz, 100 if b.sample_index == 0 else 0)
        for b in blocks(stereo, 512, 44_100, last.time_ns)
    ]
    return observations


def record(folder: Path, pipeline: Pipeline) -> str:
    recorder = SessionRecorder(folder, ShowSettings())
    digest = OutputDigest()
    for observation in show():
        events = pipeline.push(observation)
        digest.add(events)
        recorder.record(observation, events)
    recorder.close()
    return digest.hexdigest()


def test_a_replay_gives_the_same_poses(tmp_path: Path) -> None:
    digest = record(tmp_path, make_pipeline())
    session = Session(tmp_path)
    assert session.settings == ShowSettings()
    assert session.digest == digest
    assert session.lost == 0
    _, _, report = collect(make_pipeline(), session.observations())
    assert report.digest == digest


def test_observations_survive_to_the_bit(tmp_path: Path) -> None:
    record(tmp_path, make_pipeline())
    replayed = list(Session(tmp_path).observations())
    for one, two in zip(show(), replayed, strict=True):
        if isinstance(one, AudioBlock):
            assert isinstance(two, AudioBlock)
            assert (one.samples == two.samples).all()
            assert (one.sample_index, one.time_ns, one.gap_samples, one.sample_rate_hz) == (
                two.sample_index,
                two.time_ns,
                two.gap_samples,
                two.sample_rate_hz,
            )
        else:
            assert one == two


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    record(tmp_path, make_pipeline())
    with pytest.raises(UserError, match="already holds"):
        SessionRecorder(tmp_path, ShowSettings())


def test_settings_are_kept(tmp_path: Path) -> None:
    settings = load_show(None, ["dancer.seed=7", "output.fps=50"])
    SessionRecorder(tmp_path, settings).close()
    assert Session(tmp_path).settings == settings


@pytest.mark.parametrize("damage", ["no folder", "no json", "json", "line", "audio missing", "audio short"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "session"
    record(folder, make_pipeline())
    about, lines, audio = folder / "session.json", folder / "observations.jsonl", folder / "audio-000.wav"
    if damage == "no folder":
        folder = tmp_path / "nothing"
    elif damage == "no json":
        about.unlink()
    elif damage == "json":
        about.write_text(json.dumps({"settings": {"dancer": {"sneed": 1}}}))
    elif damage == "line":
        lines.write_text(lines.read_text()[:-20] + "\n")
    elif damage == "audio missing":
        audio.unlink()
    else:
        audio.write_bytes(audio.read_bytes()[: audio.stat().st_size // 2])
    with pytest.raises(UserError) as caught:
        list(Session(folder).observations())
    assert "\n" not in str(caught.value)


def watched() -> list[Observation]:
    """Return what a show observes that a dancer plays: heartbeats, landmarks, poses, a clock from outside."""
    random = np.random.default_rng(0)
    landmarks = [
        PoseLandmarks(k * 33_333_333 + 1, random.normal(size=(33, 3)), random.random(33), random.random((33, 2)), 0.75)
        for k in range(20)
    ]
    references = [TempoReference(k * 250_000_000 + 2, k * 0.5 + 0.1, 121.7, "link", k < 8) for k in range(12)]
    others: list[Observation] = [*dance(4.0), *landmarks, *references, ControlEvent(3_000_000_000, "triggers", "free")]
    return [*with_heartbeats(sorted(others, key=lambda o: o.time_ns))]


def test_what_a_camera_and_a_clock_say_survives_to_the_bit(tmp_path: Path) -> None:
    recorder = SessionRecorder(tmp_path, ShowSettings(), "band")
    for observation in watched():
        recorder.record(observation, [])
    recorder.close()
    session = Session(tmp_path)
    assert (session.cast, session.lost, session.has_sound) == ("band", 0, False)
    for one, two in zip(watched(), session.observations(), strict=True):
        assert type(one) is type(two)
        for name in type(one).__dataclass_fields__:
            first, second = getattr(one, name), getattr(two, name)
            assert (np.array_equal(first, second)) if isinstance(first, np.ndarray) else first == second


def test_a_played_show_is_replayed_note_by_note(tmp_path: Path) -> None:
    def core() -> PlayingPipeline:
        return make_playing(RuleComposer(), 'triggers.mode="free"')

    recorder, live = SessionRecorder(tmp_path, ShowSettings(), "band"), core()
    notes = 0
    for observation in watched():
        events = live.push(observation)
        notes += sum(isinstance(event, NoteEvent) for event in events)
        recorder.record(observation, events)
    recorder.close()
    assert notes > 20
    assert perform(core(), Session(tmp_path).observations()).digest == Session(tmp_path).digest


@pytest.mark.parametrize("damage", ["landmarks", "pose"])
def test_a_damaged_line_is_named(tmp_path: Path, damage: str) -> None:
    recorder = SessionRecorder(tmp_path, ShowSettings(), "band")
    for observation in watched():
        recorder.record(observation, [])
    recorder.close()
    lines = (tmp_path / "observations.jsonl").read_text()
    (tmp_path / "observations.jsonl").write_text(lines.replace(f'"{damage}": "', f'"{damage}": "AAAA', 1))
    with pytest.raises(UserError, match="damaged"):
        list(Session(tmp_path).observations())


@pytest.mark.parametrize(
    ("key", "number"), [("time_ns", "1e400"), ("time_ns", "1e23"), ("frames", "-1e400"), ("audio", "-1")]
)
def test_a_number_that_cannot_be_is_damage(tmp_path: Path, key: str, number: str) -> None:
    recorder = SessionRecorder(tmp_path, ShowSettings())
    recorder.record(AudioBlock(0, 10**7, np.zeros((480, 1), np.float32), 48_000), [])
    recorder.close()
    path = tmp_path / "observations.jsonl"
    path.write_text(re.sub(rf'"{key}": \d+', f'"{key}": {number}', path.read_text()))
    session = Session(tmp_path)
    assert session.length_s == 0.0
    with pytest.raises(UserError, match="damaged"):
        list(session.observations())


def same(one: Observation, two: Observation) -> bool:
    if isinstance(one, AudioBlock) and isinstance(two, AudioBlock):
        return one.time_ns == two.time_ns and bool((one.samples == two.samples).all())
    return one == two


def test_a_show_that_is_cut_off_keeps_all_but_its_last_second(tmp_path: Path) -> None:
    recorder = SessionRecorder(tmp_path / "night", ShowSettings())
    observed = show()
    for observation in observed:
        recorder.record(observation, [])
    try:
        cut = Session(tmp_path / "night")
        assert cut.cut_off
        end_ns = observed[-1].time_ns - NS_PER_S
        wait_until(lambda: any(o.time_ns >= end_ns for o in cut.observations()), "it is not on the disk")
        shutil.copytree(tmp_path / "night", tmp_path / "killed")
    finally:
        recorder.close()
    assert not Session(tmp_path / "night").cut_off
    whole = list(Session(tmp_path / "killed").observations())
    assert all(same(one, two) for one, two in zip(observed, whole, strict=False))
    assert Session(tmp_path / "killed").length_s == (whole[-1].time_ns - whole[0].time_ns) / NS_PER_S

    lines = tmp_path / "killed" / "observations.jsonl"
    lines.write_text(lines.read_text()[:-20])
    assert len(list(Session(tmp_path / "killed").observations())) == len(whole) - 1, "a line that is cut is left out"
    audio = tmp_path / "killed" / "audio-000.wav"
    audio.write_bytes(audio.read_bytes()[: audio.stat().st_size // 2])
    assert 100 < len(list(Session(tmp_path / "killed").observations())) < 200, (
        "and what has no sound, with all after it"
    )
    audio.unlink()
    assert not list(Session(tmp_path / "killed").observations())


@pytest.mark.parametrize("there", [True, False])
def test_of_a_show_that_did_not_take_place_nothing_is_left(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "night"
    if there:
        folder.mkdir()
    recorder = SessionRecorder(folder, ShowSettings())
    for observation in show():
        recorder.record(observation, [])
    recorder.discard()
    assert folder.exists() == there
    assert not there or not list(folder.iterdir())
    SessionRecorder(folder, ShowSettings()).discard()


def full(*arguments: object, **named: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("fails", ["write_text", "open"])
def test_a_disk_that_is_full_is_known_before_the_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, fails: str
) -> None:
    folder = tmp_path / "night"
    if there:
        folder.mkdir()
        (folder / "notes.txt").touch()
    monkeypatch.setattr(Path, fails, full)
    with pytest.raises(UserError, match=r"cannot record into .*night: No space left on device"):
        SessionRecorder(folder, ShowSettings())
    assert [path.name for path in tmp_path.rglob("*")] == (["night", "notes.txt"] if there else [])


def test_a_disk_that_fills_ends_the_recording_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = SessionRecorder(tmp_path, ShowSettings())
    monkeypatch.setattr(os, "fsync", full)
    observed = show()
    for observation in observed:
        recorder.record(observation, [])
    wait_until(lambda: recorder.failure is not None)
    recorder.close()
    assert recorder.failure == "No space left on device"
    assert not (tmp_path / "session.json.new").exists()
    assert Session(tmp_path).cut_off


def test_a_disk_that_fills_at_the_very_end_ends_the_recording_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = SessionRecorder(tmp_path, ShowSettings())
    for observation in show()[:60]:  # less than a second
        recorder.record(observation, [])
    monkeypatch.setattr(session_module, "_END_S", PATIENCE_S)
    monkeypatch.setattr(recorder, "_save", full)
    begun_s = time.monotonic()
    recorder.close()
    assert time.monotonic() - begun_s < 0.5 * PATIENCE_S
    assert (recorder.failure, recorder.lost) == ("No space left on device", 60)
    assert Session(tmp_path).cut_off, "though its end could be written"
    assert Session(tmp_path).lost == 60


def test_a_disk_that_hangs_keeps_no_show_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    back = threading.Event()
    monkeypatch.setattr(session_module, "_END_S", 0.05)
    recorder = SessionRecorder(tmp_path, ShowSettings())
    monkeypatch.setattr(os, "fsync", lambda file: back.wait(PATIENCE_S))
    silence = np.zeros((480, 1), np.float32)
    try:
        for index in range(5000):
            recorder.record(AudioBlock(index * 480, (index + 1) * NS_PER_S // 100, silence, 48_000), [])
        recorder.close()
        assert recorder.failure == "the disk is too slow, or hangs; 5000 of 5000 observations are not on it"
        assert Session(tmp_path).cut_off
    finally:
        back.set()
    wait_until(lambda: not Session(tmp_path).cut_off, "once the disk is back, what waits is written")
    assert Session(tmp_path).lost == recorder.lost > 0
    assert len(list(Session(tmp_path).observations())) == 5000 - recorder.lost


def test_a_crowd_is_not_in_the_digest() -> None:
    def pose(performer: str) -> PoseFrame:
        return PoseFrame(1, 0, np.zeros((24, 3)), np.zeros(3), np.zeros(4), performer)

    def digest(*performers: str) -> tuple[int, str]:
        total = OutputDigest()
        total.add([pose(performer) for performer in performers])
        return total.frames, total.hexdigest()

    assert digest("", "1", "23", "camera") == digest("", "camera")
    assert digest("") != digest("", "partner")
