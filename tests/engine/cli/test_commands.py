"""The commands as a user types them, in processes of their own."""

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
import soundfile

from engine.body.skeleton import forward_kinematics
from engine.cli.options import CommonOptions
from engine.errors import UserError
from tests.engine.cli.typed import ROOT, Typist, typist
from tests.ports import unshared_port

IDLE = ("--set", "dancer.model=idle")
DEMO = ROOT / "config" / "demo" / "demo.ogg"
# No sound server is looked for: what these tests try does not depend on one.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PULSE_SERVER": "unix:/nonexistent", "TERM": "dumb"}


@pytest.fixture(scope="module")
def pasdedeux() -> Iterator[Typist]:
    with typist(ENVIRONMENT) as opened:
        yield opened


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the first 8 s of the demo song."""
    samples, rate = soundfile.read(DEMO, frames=8 * 48_000)
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, samples, rate)
    return path


@pytest.fixture(scope="module")
def rendered(pasdedeux: Typist, song: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("render")
    # One of the same in a Python of its own, as a user's are.
    for name, seed, run in (("one", 5, pasdedeux), ("same", 5, pasdedeux.afresh), ("other", 6, pasdedeux)):
        done = run("dance", song, "--render", out / name, "--seed", seed)
        assert done.returncode == 0, done.stderr
    return out


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(rendered: Path) -> None:
    assert sorted(digests(rendered / "one")) == ["beats.csv", "dance.bvh", "dance.npz"]
    assert digests(rendered / "one") == digests(rendered / "same")
    one, other = digests(rendered / "one"), digests(rendered / "other")
    assert one["dance.npz"] != other["dance.npz"]
    assert one["beats.csv"] == other["beats.csv"], "the seed is the dancer's, not the tracker's"


def test_the_files_hold_what_they_promise(rendered: Path) -> None:
    with np.load(rendered / "one" / "dance.npz") as dance:
        time_s, rotations = dance["time_s"], dance["rotations"]
        translation, joints = dance["translation_m"], dance["joints_m"]
    assert len(time_s) == pytest.approx(8 * 60, abs=2)
    assert np.diff(time_s) == pytest.approx(1 / 60, abs=1e-6)
    assert rotations.shape == joints.shape == (len(time_s), 24, 3)
    assert translation.shape == (len(time_s), 3)
    assert joints == pytest.approx(forward_kinematics(rotations, translation)[0], abs=1e-5)
    with (rendered / "one" / "beats.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["time_s", "beat_index", "bar_beat", "tempo_bpm", "confidence"]
    late = [float(row["tempo_bpm"]) for row in rows if float(row["time_s"]) > 6.0]
    assert late == pytest.approx([118.0] * len(late), abs=3.0)


def test_a_recorded_show_is_replayed_to_the_byte(pasdedeux: Typist, song: Path, tmp_path: Path) -> None:
    done = pasdedeux("dance", song, "--duration", 3, "--web", "off", "--record", tmp_path / "night")
    assert done.returncode == 0, done.stderr
    done = pasdedeux("replay", tmp_path / "night", "--render", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert "identical to the show" in done.stderr
    assert "not identical" not in done.stderr
    assert json.loads((tmp_path / "night" / "session.json").read_text())["poses"] > 30


def test_of_a_session_a_part_is_rendered_and_what_is_left_of_a_broken_one(
    pasdedeux: Typist, song: Path, tmp_path: Path
) -> None:
    night = tmp_path / "night"
    done = pasdedeux("dance", song, "--duration", 3, "--web", "off", "--record", night, *IDLE)
    assert done.returncode == 0, done.stderr

    def replayed(*arguments: object) -> tuple[int, float, str]:
        done = pasdedeux("replay", night, "--render", tmp_path / "again", *arguments)
        with np.load(tmp_path / "again" / "dance.npz") as dance:
            return done.returncode, len(dance["time_s"]) / 60.0, done.stderr

    code, seconds, _ = replayed("--duration", 1)
    assert code == 0
    assert seconds < 2.0
    audio = night / "audio-000.wav"
    audio.write_bytes(audio.read_bytes()[: audio.stat().st_size // 2])
    code, seconds, said = replayed()
    assert code == 2
    assert 1.0 < seconds < 2.7
    assert said.splitlines()[-1].startswith(f"error: the session in {night} is damaged")
    assert f"what comes before is in {tmp_path / 'again'}" in said
    about = json.loads((night / "session.json").read_text())
    (night / "session.json").write_text(json.dumps({"settings": about["settings"]}))
    code, _, said = replayed()
    assert code == 0, said
    assert "the show was cut off:" in said


def test_check_says_ready_or_what_to_fix(pasdedeux: Typist, song: Path) -> None:
    port = unshared_port()
    with socket.create_server(("127.0.0.1", port)):
        done = pasdedeux("check", song, "--web", port)
        assert done.returncode == 2
        assert str(port) in done.stdout
    done = pasdedeux("check", song, "--web", port)
    assert done.returncode == 0, done.stdout
    assert "ready" in done.stdout


def _bad_inputs(tmp_path: Path) -> dict[str, list[object]]:
    broken, empty, text = tmp_path / "broken.wav", tmp_path / "empty.flac", tmp_path / "words.ogg"
    broken.write_bytes(b"RIFF\x00\x10\x00\x00WAVEfmt junk")
    empty.write_bytes(b"")
    text.write_text("these are words")
    show = tmp_path / "show.toml"
    show.write_text("[dancer]\nenrgy = 1\n")
    return {
        "missing file": ["dance", tmp_path / "nowhere.wav", "--render", tmp_path / "o"],
        "broken file": ["dance", broken, "--render", tmp_path / "o"],
        "empty file": ["dance", empty, "--render", tmp_path / "o"],
        "no audio": ["dance", text, "--web", "off", *IDLE],
        "unknown setting": ["dance", DEMO, "--show", show],
        "unknown override": ["dance", DEMO, "--set", "dancer.enrgy=1"],
        "unknown style": ["dance", DEMO, "--render", tmp_path / "o", "--style", "breakdance"],
        "unknown model": ["dance", DEMO, "--render", tmp_path / "o", "--set", "dancer.model=nobody"],
        "no port": ["dance", DEMO, "--web", "eighty"],
        "no target": ["dance", DEMO, "--web", "off", "--osc", "host:port:port", *IDLE],
        "render a microphone": ["dance", "--render", tmp_path / "o"],
        "no such device": ["dance", "No Such Device", "--web", "off", *IDLE],
        "not a session": ["replay", tmp_path],
        "into a file": ["dance", DEMO, "--duration", "2", "--render", show / "sub", *IDLE],
        **{
            f"{seconds} seconds": ["dance", DEMO, "--duration", seconds, "--render", tmp_path / "o", *IDLE]
            for seconds in ("nan", "inf", "-1", "0")
        },
        "a song of a long name": ["dance", "x" * 300 + ".wav", "--web", "off", *IDLE],
        "a model of a long name": ["dance", DEMO, "--duration", "2", "--web", "off", "--model", "x" * 300],
        "a session of a long name": ["dance", DEMO, "--duration", "2", "--web", "off", "--record", "x" * 300, *IDLE],
        "poses of a long name": ["play", "x" * 300 + ".npz", "--web", "off"],
        "no data": ["prepare", "--data", tmp_path, "--out", tmp_path / "o"],
    }


def test_a_port_is_a_number_however_it_is_written() -> None:
    assert CommonOptions(web=["08765", "８７６６"]).settings().web.ports == (8765, 8766)


def test_what_is_set_to_no_effect_is_refused_and_in_a_show_file_left_alone(tmp_path: Path) -> None:
    show = tmp_path / "show.toml"
    show.write_text('[crowd]\nsize = 5\n[midi]\nrecord = "night.mid"\n')
    for plays, other, own in (
        (True, "crowd.size=5", "midi.record=a.mid"),
        (False, "midi.record=a.mid", "crowd.size=5"),
    ):
        with pytest.raises(UserError, match=f": leave {other.partition('=')[0]} out"):
            CommonOptions(overrides=[other]).settings_for(plays)
        assert CommonOptions(show, overrides=[own]).settings_for(plays).crowd.size == 5
    assert CommonOptions(show, overrides=["crowd.size=0"]).settings_for(plays=True).crowd.size == 0


def test_bad_input_gives_one_line_and_exit_code_2(pasdedeux: Typist, tmp_path: Path) -> None:
    for name, arguments in _bad_inputs(tmp_path).items():
        done = pasdedeux(*arguments)
        said = done.stderr.strip().splitlines()
        assert done.returncode == 2, f"{name}: {done.stderr}"
        assert said, name
        assert "Traceback" not in done.stderr, name
        assert said[-1].startswith("error: "), f"{name}: {said}"


def test_figures_are_compared_with_figures_of_the_same_kind(pasdedeux: Typist, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    for content in ({}, [], {"scaling": {}}, {"model": {"steps": []}}, {"model": {"steps": [3]}, "live": {}}):
        old.write_text(json.dumps(content))
        done = pasdedeux("bench", "--seconds", 1, "--compare", old, "--set", "dancer.model=nobody")
        assert done.returncode == 2
        assert done.stderr == f"error: {old} holds no figures of bench: give a file made by bench --json\n"


def test_an_empty_argument_is_a_variable_that_is_not_set(pasdedeux: Typist) -> None:
    for option in ("--osc", "--vmc", "--midi", "--web", "--show", "--model", "--render", "--record", "--report"):
        for given in ([option, ""], [f"{option}="]):
            done = pasdedeux("dance", DEMO, *IDLE, "--duration", 0.1, *given)
            assert done.stderr == f"error: there is nothing after {option}: is a variable of the shell not set?\n"
            assert done.returncode == 2
    assert pasdedeux("dance", "").stderr.startswith("error: there is nothing after dance: ")
    done = pasdedeux("check", DEMO, "--web", "off", "--set", "vmc.performer=", *IDLE)
    assert done.returncode == 0, done.stdout


def test_figures_that_can_go_nowhere_are_refused_before_the_work(pasdedeux: Typist, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text("the last show's")
    for place in (tmp_path, tmp_path / "no" / "figures.json", kept / "figures.json"):
        for command in (["dance", DEMO, "--duration", 1, "--web", "off", *IDLE, "--report"], ["bench", "--json"]):
            done = pasdedeux(*command, place)
            assert done.returncode == 2, done.stderr
            assert done.stdout == ""
            (line,) = done.stderr.splitlines()
            assert line.startswith(f"error: cannot write {place}: ")
    done = pasdedeux("dance", DEMO, "--duration", 1, "--web", "off", *IDLE, "--report", kept)
    assert done.returncode == 0, done.stderr
    assert "sections" in json.loads(kept.read_text())


def test_a_rendering_that_can_go_nowhere_or_leaves_something_out_is_refused_before_the_work(
    pasdedeux: Typist, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.write_text("not a folder")
    nowhere = tmp_path / "no-song.wav", tmp_path / "no-video.mp4", tmp_path / "no-session"
    for command, source in zip(("dance", "play", "replay"), nowhere, strict=True):
        for place in (kept, kept / "sub", tmp_path / ("x" * 300)):
            done = pasdedeux(command, source, "--render", place)
            assert done.returncode == 2, done.stderr
            assert done.stderr.startswith(f"error: cannot write into {place}: ")
    for command, source in zip(("dance", "play", "duet"), (DEMO, *nowhere[1:]), strict=True):
        for option in ("--record", "--report"):
            done = pasdedeux(command, source, "--render", tmp_path / "out", option, tmp_path / "live")
            assert done.returncode == 2, done.stderr
            assert done.stderr.startswith(f"error: {option} is of a live show")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


def test_an_occupied_port_is_named(pasdedeux: Typist, song: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = pasdedeux("dance", song, "--web", port)
    assert done.returncode == 2
    assert str(port) in done.stderr


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("localhost", "localhost")])
def test_the_stage_that_is_named_can_be_opened(pasdedeux: Typist, song: Path, host: str, shown: str) -> None:
    one, two = unshared_port(), unshared_port()
    arguments = ("--web", one, "--web", two, "--set", f"web.host={host}", "--duration", 0.1, *IDLE)
    done = pasdedeux("dance", song, *arguments)
    assert done.returncode == 0, done.stderr
    said = [line.strip() for line in done.stderr.splitlines() if "http" in line]
    assert said == [f"stage: http://{shown}:{port}" for port in (one, two)]


@pytest.mark.parametrize("kind", ["8 kHz", "192 kHz", "silence", "clipping", "direct current", "six channels"])
def test_odd_audio_is_danced_to(pasdedeux: Typist, tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    rate = {"8 kHz": 8_000, "192 kHz": 192_000}.get(kind, 44_100)
    samples = rng.normal(0.0, 0.1, (3 * rate, 6 if kind == "six channels" else 2)).astype(np.float32)
    if kind == "silence":
        samples[:] = 0.0
    elif kind == "clipping":
        samples = (samples * 100.0).clip(-1.0, 1.0)
    elif kind == "direct current":
        samples[:] = 0.7
    soundfile.write(tmp_path / "odd.wav", samples, rate)
    done = pasdedeux("dance", tmp_path / "odd.wav", "--render", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out" / "dance.npz") as dance:
        assert np.isfinite(dance["joints_m"]).all()
        assert len(dance["time_s"]) == pytest.approx(180, abs=2)
