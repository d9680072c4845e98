"""Audio files: every usual kind is read, every broken one is one clear line, and playing keeps time."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.audio import files
from engine.audio.files import AudioFileSensor, open_audio, read_hops
from engine.clock import VirtualClock
from engine.errors import UserError
from engine.features import FeatureExtractor
from engine.types import NS_PER_S, AudioBlock, Observation, StatusEvent
from tests.waiting import PATIENCE_S

KINDS = {"wav": "PCM_16", "flac": "PCM_24", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return np.repeat((0.5 * np.sin(2 * np.pi * 440 * t))[:, None], channels, axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "rate", "channels"),
    [
        ("wav", 8_000, 1),
        ("wav", 192_000, 8),
        ("flac", 96_000, 2),
        ("flac", 8_000, 8),
        ("ogg", 44_100, 2),
        ("mp3", 48_000, 2),
        ("mp3", 22_050, 1),
    ],
)
def test_every_usual_kind_is_read(tmp_path: Path, kind: str, rate: int, channels: int) -> None:
    path = tmp_path / f"song.{kind}"
    soundfile.write(path, tone(0.5, rate, channels), rate, subtype=KINDS[kind])
    with open_audio(path) as audio:
        assert (audio.sample_rate_hz, audio.channels) == (rate, channels)
        assert audio.duration_s == pytest.approx(0.5, abs=0.1)
        blocks = list(audio.blocks(1000, start_ns=NS_PER_S))
    assert blocks[0].samples.shape == (1000, channels)
    assert blocks[0].time_ns == NS_PER_S + 1000 * NS_PER_S // rate
    assert [block.sample_index for block in blocks] == [1000 * i for i in range(len(blocks))]
    sound = np.concatenate([block.samples for block in blocks])
    assert np.abs(sound).max() == pytest.approx(0.5, abs=0.1)
    hops, ends = read_hops(path)
    assert len(hops) == len(ends) >= 48
    assert np.allclose(np.diff(ends), 0.01, atol=1e-6)
    assert FeatureExtractor().extract(hops.ravel())[-1, -1] == 1.0


def test_float_files_beyond_full_scale_and_with_nan_are_read(tmp_path: Path) -> None:
    sound = tone(0.2, 48_000) * 4
    sound[1000] = np.nan
    soundfile.write(tmp_path / "hot.wav", sound, 48_000, subtype="DOUBLE")
    hops, _ = read_hops(tmp_path / "hot.wav")
    assert np.all(np.isfinite(hops))
    assert np.abs(hops).max() == pytest.approx(2.0, abs=0.2)  # the running mean has only begun


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / "song.wav"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty file":
        path.write_bytes(b"")
    elif kind == "no samples":
        soundfile.write(path, np.zeros((0, 1)), 48_000)
    elif kind == "text":
        path = folder / "song.mp3"
        path.write_text("this is not music\n" * 100)
    elif kind == "raw":
        path = folder / "song.raw"
        path.write_bytes(bytes(1000))
    elif kind == "rate":
        soundfile.write(path, np.zeros((100, 1)), 100)
    elif kind == "truncated flac":
        whole = folder / "whole.flac"
        soundfile.write(whole, tone(1.0, 48_000), 48_000)
        path = folder / "song.flac"
        path.write_bytes(whole.read_bytes()[:60])
    return path


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "empty file", "no samples", "text", "raw", "rate", "truncated flac"]
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    path = bad_file(tmp_path, kind)
    with pytest.raises(UserError) as caught:
        open_audio(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, contents = tmp_path_factory.mktemp("whole"), {}
    for kind, subtype in KINDS.items():
        soundfile.write(folder / f"a.{kind}", tone(0.2, 44_100, 2), 44_100, subtype=subtype)
        contents[kind] = (folder / f"a.{kind}").read_bytes()
    return contents


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_is_an_error_or_sound_but_nothing_else(
    whole_files: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    content = bytearray(whole_files[kind][: data.draw(st.integers(0, 6000))])
    for _ in range(data.draw(st.integers(0, 8))):
        if content:
            content[data.draw(st.integers(0, min(len(content) - 1, 120)))] = data.draw(st.integers(0, 255))
    content += data.draw(st.binary(max_size=200))
    path = tmp_path / f"garbage.{kind}"
    path.write_bytes(content)
    try:
        with open_audio(path) as audio:
            total = 0
            for block in audio.blocks(4096):
                total += len(block.samples)
                if total > 1_000_000:  # a header may promise hours; it is enough that they come bit by bit
                    break
    except UserError as error:
        refusal = str(error)
    else:
        refusal = str(path)
    assert str(path) in refusal


class Stage:
    """Runs a silent sensor in virtual time and keeps what comes."""

    def __init__(self, path: Path, stop_after: int | None = None, **options: bool) -> None:
        self.blocks: list[AudioBlock] = []
        self.events: list[StatusEvent] = []
        self.ends = 0
        self.clock = VirtualClock(5 * NS_PER_S)
        self.late_ns: list[int] = []
        self._stop_after = stop_after
        self._done = threading.Event()
        self.sensor = AudioFileSensor(path, self.clock, on_end=self._on_end, **options)
        self.sensor.start(self._deliver, self.events.append)
        assert self._done.wait(PATIENCE_S)
        self.sensor.stop()
        self.sensor.stop()

    def _deliver(self, block: Observation) -> None:
        assert isinstance(block, AudioBlock)
        self.blocks.append(block)
        self.late_ns.append(self.clock.now_ns() - block.time_ns)
        if len(self.blocks) == self._stop_after:
            self.sensor.stop()
            self._done.set()

    def _on_end(self) -> None:
        self.ends += 1
        self._done.set()


def test_playing_silently_is_paced_by_the_clock(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", tone(1.0, 44_100, 2), 44_100, subtype="FLOAT")
    stage = Stage(tmp_path / "song.wav", silent=True)
    assert stage.ends == 1
    assert len(stage.blocks) == 100
    assert set(stage.late_ns) == {0}
    assert stage.blocks[0].time_ns == 5 * NS_PER_S + NS_PER_S // 100
    assert stage.blocks[-1].time_ns == 6 * NS_PER_S
    assert np.array_equal(np.concatenate([b.samples for b in stage.blocks]), tone(1.0, 44_100, 2))
    assert [(event.level, event.message) for event in stage.events] == [("info", "song.wav is over")]


def test_a_loop_has_no_seam_and_ends_only_when_stopped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", tone(0.25, 48_000), 48_000)
    stage = Stage(tmp_path / "song.wav", silent=True, loop=True, stop_after=110)
    assert stage.ends == 0
    assert len(stage.blocks) == 110
    assert np.all(np.diff([b.sample_index for b in stage.blocks]) == [len(b.samples) for b in stage.blocks][:-1])
    assert stage.blocks[-1].time_ns == 5 * NS_PER_S + 11 * NS_PER_S // 10


def test_a_missing_file_is_refused_at_start(tmp_path: Path) -> None:
    sensor = AudioFileSensor(tmp_path / "none.wav", VirtualClock())
    with pytest.raises(UserError, match="no such file"):
        sensor.start(lambda block: None, lambda event: None)
    sensor.stop()


def test_a_file_that_breaks_in_mid_play_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "song.wav", tone(1.0, 48_000), 48_000)
    intact = files.AudioFile.read
    reads = iter(range(100))

    def read(self: files.AudioFile, frames: int) -> np.ndarray:
        if next(reads) == 30:
            raise UserError("song.wav cannot be read as audio", "give a better one")
        return intact(self, frames)

    monkeypatch.setattr(files.AudioFile, "read", read)
    stage = Stage(tmp_path / "song.wav", silent=True)
    assert len(stage.blocks) == 29  # `open_audio` read once
    assert [event.level for event in stage.events] == ["error", "info"]
    assert stage.ends == 1


def test_without_an_output_the_file_plays_silently_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_speaker(*_: object) -> None:
        raise UserError("there is no sound output", "plug one in")

    monkeypatch.setattr(files, "Speaker", no_speaker)
    soundfile.write(tmp_path / "song.wav", tone(0.1, 48_000), 48_000)
    stage = Stage(tmp_path / "song.wav")
    assert len(stage.blocks) == 10
    assert stage.events[0].level == "info"
    assert "silently" in stage.events[0].message
    with pytest.raises(UserError, match="no sound output"):
        AudioFileSensor(tmp_path / "song.wav", VirtualClock(), device="Hall").start(print, print)
