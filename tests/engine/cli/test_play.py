"""`play`, `duet`, their `check` and `replay` as they are typed, on the recorded poses of a synthetic dancer."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.seeing.poses_file import write_poses
from tests.engine.cli.typed import ROOT, Typist, typist
from tests.engine.dance_poses import dance

DEMO = ROOT / "config" / "demo" / "demo.ogg"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
RULES = ("--set", "band.model=rules")


@pytest.fixture(scope="module")
def pasdedeux() -> Iterator[Typist]:
    with typist(ENVIRONMENT) as opened:
        yield opened


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dancer") / "poses.npz"
    write_poses(path, [*dance(12.0, energy=lambda t: 0.0 if 8.0 < t < 11.0 else 1.0)])
    return path


@pytest.fixture(scope="module")
def played(pasdedeux: Typist, poses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("played")
    # One of the same in a Python of its own, as a user's are.
    for name, seed, run in (("one", 0, pasdedeux), ("two", 0, pasdedeux.afresh), ("other", 5, pasdedeux)):
        done = run("play", poses, "--render", folder / name, "--seed", seed, *RULES)
        assert done.returncode == 0, done.stderr
        assert "notes to 360 poses of" in done.stderr
    return folder


def test_a_rendering_is_deterministic_for_a_seed(played: Path) -> None:
    def digests(name: str) -> dict[str, str]:
        files = sorted((played / name).iterdir())
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    assert set(digests("one")) == {"music.mid", "notes.csv", "poses.npz"}
    assert digests("one") == digests("two")
    assert digests("one")["notes.csv"] != digests("other")["notes.csv"]
    assert digests("one")["poses.npz"] == digests("other")["poses.npz"]


def test_the_files_hold_what_they_promise(played: Path) -> None:
    with (played / "one" / "notes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["time_s", "channel", "pitch", "velocity", "duration_s"]
    sounding: dict[tuple[str, str], float] = {}
    for row in rows:
        start, key = float(row["time_s"]), (row["channel"], row["pitch"])
        assert start >= sounding.get(key, 0.0) - 2e-6, "notes of one pitch do not overlap"
        sounding[key] = start + float(row["duration_s"])
        assert 1 <= int(row["velocity"]) <= 127
        assert start + float(row["duration_s"]) < 12.0
    assert {"0", "1", "9"} <= {row["channel"] for row in rows}
    assert not [row for row in rows if 10.5 < float(row["time_s"]) < 11.0], "stillness is rest"
    with np.load(played / "one" / "poses.npz") as content:
        assert content["rotations"].shape == content["joints_m"].shape == (360, 24, 3)
        assert content["time_s"].shape == content["visibility"].shape == (360,)
        assert content["translation_m"].shape == (360, 3)


def test_an_independent_reader_opens_the_music(played: Path) -> None:
    pretty_midi = pytest.importorskip("pretty_midi", reason="pretty_midi is not installed: no independent reader")
    music = pretty_midi.PrettyMIDI(str(played / "one" / "music.mid"))
    with (played / "one" / "notes.csv").open() as file:
        starts = sorted(float(row["time_s"]) for row in csv.DictReader(file))
    heard = sorted(note.start for instrument in music.instruments for note in instrument.notes)
    assert heard == pytest.approx(starts, abs=2e-3)
    assert all(note.end > note.start for instrument in music.instruments for note in instrument.notes)


def test_the_shipped_composer_plays(pasdedeux: Typist, poses: Path, tmp_path: Path) -> None:
    done = pasdedeux("play", poses, "--render", tmp_path, "--duration", 8)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[0]) > 5


def test_a_duet_is_rendered_to_a_song(pasdedeux: Typist, poses: Path, tmp_path: Path) -> None:
    done = pasdedeux("duet", poses, "--audio", DEMO, "--render", tmp_path, "--duration", 8, *RULES)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "music.mid").exists()


def test_a_recorded_duet_is_replayed_to_the_byte(pasdedeux: Typist, poses: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        done = pasdedeux(
            *("duet", poses, "--audio", DEMO, "--duration", 3, "--web", "off", "--osc", target),
            *("--record", tmp_path / "night", "--set", "triggers.mode=free", *RULES),
        )
        assert done.returncode == 0, done.stderr
        listener.setblocking(False)
        received = [listener.recv(2048) for _ in range(20)]
    assert any(b"/pdd/camera/" in packet for packet in received)
    lines = (tmp_path / "night" / "observations.jsonl").read_text().splitlines()
    assert {"audio", "pose"} <= {key for line in lines for key in json.loads(line)}
    done = pasdedeux("replay", tmp_path / "night", "--render", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert "identical to the show" in done.stderr
    assert "not identical" not in done.stderr


def test_check_says_ready_or_what_to_fix(pasdedeux: Typist, poses: Path, tmp_path: Path) -> None:
    done = pasdedeux("check", poses, "--for", "play", "--web", "off", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ready" in done.stdout
    done = pasdedeux("check", tmp_path / "nobody.mp4", "--for", "duet", "--audio", DEMO, "--web", "off", *RULES)
    assert done.returncode == 2
    assert "nobody.mp4" in done.stdout


def _bad_inputs(poses: Path, tmp_path: Path) -> dict[str, list[object]]:
    cut, text, wrong = tmp_path / "cut.npz", tmp_path / "words.mp4", tmp_path / "wrong.npz"
    cut.write_bytes(poses.read_bytes()[:20_000])
    text.write_text("these are words")
    np.savez(wrong, time_s=np.arange(3.0), rotations=np.zeros((3, 23, 3)), translation_m=np.zeros((3, 3)))
    out = tmp_path / "o"
    return {
        "no camera of that name": ["play", "No Such Camera", "--web", "off", *RULES],
        "missing video": ["play", tmp_path / "nowhere.mp4", "--render", out, *RULES],
        "not a video": ["play", text, "--render", out, *RULES],
        "not a video, live": ["play", text, "--web", "off", *RULES],
        "truncated poses": ["play", cut, "--render", out, *RULES],
        "wrong skeleton": ["play", wrong, "--render", out, *RULES],
        "a song": ["play", DEMO, "--render", out, *RULES],
        "render a camera": ["play", "--render", out, *RULES],
        "no such composer": ["play", poses, "--render", out, "--set", "band.model=nobody"],
        "no such key": ["play", poses, "--render", out, "--set", "band.key=H", *RULES],
        "no such pose model": ["play", text, "--web", "off", "--set", "camera.model_path=nowhere.task", *RULES],
        "heavy is not shipped": ["check", text, "--for", "play", "--set", "camera.model=heavy"],
        "contradiction": ["duet", poses, "--audio", "off", "--render", out, "--set", "band.leader=audio", *RULES],
        "no such song": ["duet", poses, "--audio", tmp_path / "nowhere.ogg", "--render", out, *RULES],
        "no such MIDI port": ["play", poses, "--web", "off", "--midi", "No Such Port", *RULES],
        "no such show": ["check", "--for", "sing"],
    }


def test_bad_input_gives_one_line_and_exit_code_2(pasdedeux: Typist, poses: Path, tmp_path: Path) -> None:
    inputs = _bad_inputs(poses, tmp_path)
    for name, arguments in inputs.items():
        done = pasdedeux(*arguments)
        assert done.returncode == 2, f"{name}: {done.stderr}"
        assert "Traceback" not in done.stderr
        if arguments[0] != "check":
            assert len(done.stderr.strip().splitlines()) == 1, f"{name}: {done.stderr}"
            assert done.stderr.startswith("error: "), name
