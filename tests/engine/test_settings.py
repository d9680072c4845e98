"""The show file: strict, typed, and helpful when wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import UserError
from engine.settings import ShowSettings, load_show

SHOWS = sorted((Path(__file__).parents[2] / "config" / "shows").glob("*.toml"))


@pytest.mark.parametrize("path", SHOWS, ids=lambda path: path.stem)
def test_every_shipped_show_loads(path: Path) -> None:
    assert load_show(path) != ShowSettings() or path.stem == "default"


def test_there_are_shipped_shows() -> None:
    assert SHOWS


def test_later_wins(tmp_path: Path) -> None:
    show = tmp_path / "show.toml"
    show.write_text('[dancer]\nenergy = 0.3\nseed = 4\n[scenes.verse]\nstyle = "waltz"\n')
    settings = load_show(show, ["dancer.energy=0.9", "dancer.style=rumba"], ["dancer.seed=1", "output.fps=30"])
    assert settings.dancer.energy == 0.9
    assert settings.dancer.seed == 4
    assert settings.dancer.style == "rumba"
    assert settings.output.fps == 30.0
    assert settings.scenes["verse"].style == "waltz"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[dancer]\nenergie = 1", "perhaps you meant 'dancer.energy'"),
        ("[danser]\nenergy = 1", "perhaps you meant 'dancer'"),
        ("[midi.programs]\nleed = 80", "perhaps you meant 'midi.programs.lead'"),
        ("[midi.programs]\nlead = 128", "midi.programs.lead"),
        ("[scenes.a]\nstile = 'x'", "style"),
        (
            "[[triggers.zones]]\npart = 'head'\nnote = 40\nchanel = 2",
            "perhaps you meant 'triggers.zones.0.channel'",
        ),
        (f"[scenes.{'x' * 65}]\nenergy = 0.5", "at most 64 characters"),
        ("[dancer]\nenergy = 7", "dancer.energy"),
        ("[dancer]\nenergy = nan", "dancer.energy"),
        ("[output]\nfps = 'many'", "output.fps"),
        ("[web]\nports = [70000]", "web.ports"),
        ("this is = = not toml", "not valid TOML"),
        ("dancer = 3", "dancer"),
    ],
)
def test_a_wrong_show_gives_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    show = tmp_path / "show.toml"
    show.write_text(text)
    with pytest.raises(UserError) as caught:
        load_show(show)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_voice_gets_another_program_and_the_others_keep_theirs() -> None:
    assert load_show(None).midi.programs.sent() == {"bass": 33, "chord": 4, "lead": 11}
    changed = load_show(None, ["midi.programs.lead=80", "midi.programs.chord=-1"])
    assert changed.midi.programs.sent() == {"bass": 33, "lead": 80}


@pytest.mark.parametrize("key", ["audio.device", "audio.output_device", "camera.device", "synth.output_device"])
def test_a_device_may_be_a_name_or_an_index(key: str) -> None:
    section, name = key.split(".")
    given = [getattr(getattr(load_show(None, [f"{key}={text}"]), section), name) for text in ("2", '"2"', "Scarlett")]
    assert given == ["2", "2", "Scarlett"]
    with pytest.raises(UserError, match=key):
        load_show(None, [f"{key}=true"])


def test_an_address_may_be_a_port_alone() -> None:
    show = load_show(None, ["osc.listen=9001", "osc.targets=[9000]", 'vmc.targets=["127.0.0.1:39539", 39540]'])
    assert (show.osc.listen, show.osc.targets, show.vmc.targets) == ("9001", ("9000",), ("127.0.0.1:39539", "39540"))


def test_a_host_may_have_the_brackets_of_an_address_and_no_port() -> None:
    hosts = [load_show(None, [f'web.host="{host}"']).web.host for host in ("[::1]", "::1", "0.0.0.0", "stage.local")]
    assert hosts == ["::1", "::1", "0.0.0.0", "stage.local"]
    for host in ("[::1]:80", "127.0.0.1:80", "http://localhost"):
        with pytest.raises(UserError, match=r"'web\.host' .*: give a name or an address alone; ports"):
            load_show(None, [f'web.host="{host}"'])


def test_one_where_several_may_be_is_said_to_need_a_list() -> None:
    with pytest.raises(UserError, match=r"'osc.targets' \('127.0.0.1:9000'\): write it as a list"):
        load_show(None, ["osc.targets=127.0.0.1:9000"])


@pytest.mark.parametrize("override", ["dancer.energy", "=3", "dancer..x=1", "dancer.energy.deep=1", "nonsense=1"])
def test_a_wrong_override_is_refused(override: str) -> None:
    with pytest.raises(UserError):
        load_show(None, [override])


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"nowhere\.toml"):
        load_show(Path("nowhere.toml"))


def test_a_show_may_be_written_with_an_editor_of_windows(tmp_path: Path) -> None:
    show = tmp_path / "show.toml"
    show.write_bytes(b"\xef\xbb\xbf[dancer]\r\nenergy = 0.8\r\n")
    assert load_show(show).dancer.energy == 0.8


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    show = tmp_path / "show.toml"
    show.write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="not valid TOML"):
        load_show(show)
