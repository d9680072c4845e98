"""Recorded sessions: what comes out of a replay is what the show showed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from engine.pipeline import Pipeline
from engine.render import collect
from engine.session import PoseDigest, Session, SessionRecorder
from engine.settings import ShowSettings, load_show
from engine.types import AudioBlock, ControlEvent, Observation
from tests.engine.fakes import blocks, make_pipeline, music


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
    digest = PoseDigest()
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
