"""Devices: found by name, listed without ever raising, left alone when their driver hangs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from importlib.abc import MetaPathFinder

import pytest

from engine.audio import devices
from engine.audio.devices import close_stream, find_device, list_devices, open_stream, rescan, stream_rate
from engine.errors import UserError
from tests.engine.audio.fake_portaudio import FakePortAudio
from tests.waiting import PATIENCE_S

NAMES = ("Mic Array", "Scarlett 2i2 USB", "Scarlett", "Speakers", "Mixer")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    fake = FakePortAudio(NAMES)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`import sounddevice` raises OSError, as it does where libportaudio2 is missing."""

    class Broken(MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    finder = Broken()
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    sys.meta_path.insert(0, finder)
    yield
    sys.meta_path.remove(finder)


def test_devices_are_listed_with_what_a_user_must_know(fake: FakePortAudio) -> None:
    listed = list_devices(with_rates=True)
    assert listed.problem == ""
    assert [device.name for device in listed.devices] == list(NAMES)
    assert [device.index for device in listed.devices if device.default_input] == [0]
    assert [device.index for device in listed.devices if device.default_output] == [1]
    assert listed.devices[1].rates_hz == (44_100, 48_000, 88_200, 96_000)
    assert listed.devices[1].host == "Core Audio"


@pytest.mark.parametrize(
    ("wanted", "output", "found"),
    [
        (None, False, "Mic Array"),
        (None, True, "Scarlett 2i2 USB"),
        ("scarlett", False, "Scarlett"),
        ("2i2", False, "Scarlett 2i2 USB"),
        (" Mixer ", False, "Mixer"),
        (1, False, "Scarlett 2i2 USB"),
        ("4", False, "Mixer"),
        ("speak", True, "Speakers"),
    ],
)
def test_a_device_is_found_by_name_part_or_index(
    fake: FakePortAudio, wanted: str | int | None, output: bool, found: str
) -> None:
    assert find_device(wanted, output=output).name == found


@pytest.mark.parametrize("wanted", ["Behringer", 17, 3])
def test_a_device_that_is_not_there_is_named_with_those_that_are(fake: FakePortAudio, wanted: str | int) -> None:
    with pytest.raises(UserError, match=f"no sound input is called '{wanted}'.*2: Scarlett"):
        find_device(wanted)


def test_no_input_at_all(fake: FakePortAudio) -> None:
    fake.names = ("Speakers",)
    with pytest.raises(UserError, match="there is no sound input"):
        find_device(None)


def test_without_portaudio_the_list_says_what_to_install(without_library: None) -> None:
    listed = list_devices()
    assert listed.devices == ()
    assert "PortAudio library not found" in listed.problem
    assert "apt install libportaudio2" in listed.remedy
    with pytest.raises(UserError, match="libportaudio2"):
        find_device(None)


def test_a_broken_sound_system_is_a_reason_not_an_exception(
    fake: FakePortAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("host error")

    monkeypatch.setattr(fake, "query_hostapis", broken)
    assert "host error" in list_devices().problem


def test_no_devices_is_a_reason_with_a_remedy(fake: FakePortAudio) -> None:
    fake.names = ()
    assert "no sound device" in list_devices().problem
    assert list_devices().remedy


def test_alsa_is_asked_for_48_khz_and_others_keep_their_rate(fake: FakePortAudio) -> None:
    fake.rate = 44_100.0
    assert stream_rate(find_device("Mixer")) == 44_100
    fake.host = "ALSA"
    assert stream_rate(find_device("Mixer")) == 48_000


def test_rescan_spares_open_streams(fake: FakePortAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_CLOSE_S", PATIENCE_S)
    stream = open_stream(lambda: fake.InputStream(callback=print))
    rescan()
    assert fake.rescans == 0
    close_stream(stream)
    assert stream.closed
    rescan()
    assert fake.rescans == 1


def test_a_hanging_driver_is_left_to_itself(fake: FakePortAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_CLOSE_S", 0.01)
    answer = threading.Event()
    closed = threading.Event()
    fake.on_abort = lambda: closed.set() if answer.wait(PATIENCE_S) else None
    stream = open_stream(lambda: fake.InputStream(callback=print))
    close_stream(stream)  # returns although `abort` does not
    rescan()
    assert fake.rescans == 0
    answer.set()
    assert closed.wait(PATIENCE_S)
