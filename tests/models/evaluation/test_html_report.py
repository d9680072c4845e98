"""The page of an evaluation: it is whole, alone, says what was measured, and plays."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_evaluation import BPM, HOSTILE, SYSTEMS, evaluation
from typer.testing import CliRunner

from engine.cli.commands import app
from engine.errors import UserError
from models.data.clip_sources import ClipSource
from models.evaluation.html.groups import ABLATION, FIELD, OURS, REAL, grouped
from models.evaluation.html.page import PAGE_FILE, PageSettings, page, write_page
from models.evaluation.html.players import pack, packed_songs, sound_uri
from models.evaluation.html.published import published_tables
from models.evaluation.reading import read_evaluations
from models.evaluation.report import DANCES_FOLDER, JSON_FILE, number

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_VOID = {"meta", "br", "input"}


class Reader(HTMLParser):
    """Reads a page: every element must be closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[tuple[str, dict[str, str], dict[str, str]]] = []
        """Of each table row: its head, values by figure, and texts by figure."""
        self.texts: list[str] = []
        self.json = ""
        self._figure = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append(("", {}, {}))
        if tag == "td" and found.get("data-figure"):
            self._figure = str(found["data-figure"])
            self.rows[-1][1].setdefault(self._figure, str(found["data-value"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "td":
            self._figure = ""

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script" and self.elements[-1][1].get("id") == "dances":
            self.json += data
        elif self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)
            if self.open[-1] == "th" and self.rows:
                head, values, texts = self.rows[-1]
                self.rows[-1] = (head + data, values, texts)
            if self._figure and self.open[-1] in ("b", "span"):
                self.rows[-1][2].setdefault(self._figure, data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    evaluation(folder)
    return write_page([folder], folder, PageSettings(seconds=8.0))


def test_the_page_is_whole_and_loads_nothing(made: Path) -> None:
    text = made.read_text()
    reader = Reader(text)
    assert not re.search(r"https?:|url\(|@import|\bfetch\(|XMLHttpRequest|import\(", text)
    for _, attributes in reader.elements:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith("#")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    policy = next(str(a["content"]) for t, a in reader.elements if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 1 + reader.count("script") - 1  # a style, the scripts, but not the data


def test_every_figure_on_the_page_is_that_of_the_evaluation(made: Path) -> None:
    report = json.loads((made.parent / JSON_FILE).read_text())
    reader = Reader(made.read_text())
    seen: dict[str, set[str]] = {}
    for head, values, texts in reader.rows:
        for figure, value in values.items():
            expected = report["systems"][head][figure]["value"]
            assert float(value) == expected
            share = texts[figure].endswith("%")
            assert texts[figure] == (f"{100 * expected:.0f} %" if share else number(expected))
            seen.setdefault(head, set()).add(figure)
    assert set(seen) == set(SYSTEMS)
    assert {"frechet_kinetic_training", "frechet_geometric_held-out", "style_accuracy", "feet_hit_rate"} <= seen[
        "gmd raw"
    ]
    text = "".join(reader.texts)
    for said in ("5.50", "1,234,567", "4.00", "250 ×", "0, 1", "12.5 → 13.5", "abc1234", "A note & more.", "halves"):
        assert said in text


def test_hostile_names_stay_text(made: Path) -> None:
    text = made.read_text()
    reader = Reader(text)
    assert reader.count("img") == 0
    assert reader.count("script") == 4
    assert HOSTILE in reader.texts
    assert "<img" not in text
    names = {d["system"] for song in json.loads(reader.json)["songs"] for d in song["dances"]}
    assert HOSTILE in names


def test_systems_are_grouped_and_ablations_stand_beside_what_they_leave() -> None:
    groups = grouped(SYSTEMS, {})
    assert groups[REAL] == ["real"]
    assert groups[OURS] == ["gmd raw", HOSTILE]
    assert groups[FIELD] == ["dance_revolution"]
    assert groups[ABLATION + "encoder"] == ["dance_revolution_lstm_encoder"]


def test_both_protocols_are_one_page_and_same_protocols_one_table(tmp_path: Path) -> None:
    evaluation(tmp_path / "a", ("real", "gmd raw"))
    evaluation(tmp_path / "more", ("real", "dance_revolution"))
    evaluation(tmp_path / "b", ("real", "gmd raw"), protocol="B")
    reports = read_evaluations([tmp_path])
    assert [(r.protocol, list(r.systems)) for r in reports] == [
        ("A", ["real", "gmd raw", "dance_revolution"]),
        ("B", ["real", "gmd raw"]),
    ]
    assert any("real was measured twice" in note for note in reports[0].notes)
    assert len(reports[0].dances) == 6
    text = page(reports)
    assert "Side by side" in text
    assert "Protocol B · val" in text
    Reader(text)
    labels = {d.label for song in packed_songs(reports, {}, 4.0, 1) for d in song.dances if d.system == "gmd raw"}
    assert labels == {"A · val"}  # the very same dance, once


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    evaluation(tmp_path, ("real", "gmd raw"))
    content = json.loads((tmp_path / JSON_FILE).read_text())
    for name in ("facts", "song_facts", "dances", "made"):
        del content[name]
    content |= {"styles": {}, "courses": {}, "stability": {}, "over_time": {"real": [None, None]}, "notes": []}
    for figures in content["systems"].values():
        del figures["style_accuracy"]
        figures["frechet_kinetic_training"] = {"value": None, "low": None, "high": None}
    (tmp_path / JSON_FILE).write_text(json.dumps(content))
    text = write_page([tmp_path], tmp_path / "page").read_text()
    Reader(text)
    assert "kept no dances" in text
    assert "<canvas" not in text
    assert "nan" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", text, flags=re.S).lower()


def test_only_dances_of_the_evaluation_are_read(tmp_path: Path) -> None:
    evaluation(tmp_path / "it", ("real", "gmd raw"))
    path = tmp_path / "it" / JSON_FILE
    content = json.loads(path.read_text())
    whole = next((tmp_path / "it" / DANCES_FOLDER).rglob("*.npz"))
    (tmp_path / "elsewhere.npz").write_bytes(whole.read_bytes())
    content["dances"][0]["file"] = "../../elsewhere.npz"
    content["dances"][1]["file"] = "gone.npz"
    path.write_text(json.dumps(content))
    assert len(read_evaluations([tmp_path])[0].dances) == len(content["dances"]) - 2
    whole.with_name(Path(content["dances"][2]["file"]).name).write_bytes(b"no dance")
    (tmp_path / "it" / DANCES_FOLDER / content["dances"][2]["file"]).write_bytes(b"no dance")
    songs = packed_songs(read_evaluations([tmp_path]), {}, 4.0, 1)
    assert sum(len(song.dances) for song in songs) == len(content["dances"]) - 3


@pytest.mark.parametrize("size_m", [1.0, 90.0])
def test_a_packed_dance_is_the_dance(size_m: float) -> None:
    joints = size_m * np.random.default_rng(1).standard_normal((20, 24, 3)).cumsum(axis=0) / 10.0
    unit_m, text = pack(joints)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1)
    steps = np.ascontiguousarray(planes.T).view("<i2").reshape(20, 24, 3)
    back = steps.astype(np.int64).cumsum(axis=0) * unit_m
    begin = np.array([joints[0, 0, 0], 0.0, joints[0, 0, 2]])
    assert np.abs(back - (joints - begin)).max() <= 0.51 * unit_m
    assert unit_m >= 0.001


def test_a_dance_keeps_the_beat_of_its_recording(tmp_path: Path) -> None:
    """The recording is 2 % faster than the dance and begins late: the arm is highest on the recording's beats."""
    beats = tuple(1.5 + 60.0 / (1.02 * BPM) * k for k in range(18))
    evaluation(tmp_path, ("real", "gmd raw"), beats_audio_s=beats)
    rate = 16_000
    tone = 0.3 * np.sin(2.0 * np.pi * 220.0 * np.arange(rate * 14) / rate)
    soundfile.write(tmp_path / "song.wav", tone, rate)
    source = ClipSource("fast", tmp_path / "none", 30.0, "waltz", "val", audio=tmp_path / "song.wav")
    silent, heard = packed_songs(read_evaluations([tmp_path]), {"fast": source}, 8.0, 1)
    assert silent.sound == ""
    assert heard.beats_s[:3] == pytest.approx([0.0, 0.588, 1.176], abs=1e-3)
    assert silent.beats_s[1] == pytest.approx(0.6)
    dance = heard.dances[0]
    planes = np.frombuffer(zlib.decompress(base64.b64decode(dance.joints)), np.uint8).reshape(2, -1)
    joints = np.ascontiguousarray(planes.T).view("<i2").reshape(-1, 24, 3).astype(np.int64).cumsum(axis=0)
    height = joints[:, 20, 1].astype(float)
    peaks = [k for k in range(1, len(height) - 1) if height[k - 1] < height[k] >= height[k + 1]]
    assert len(peaks) >= 10
    for peak in peaks:
        assert min(abs(peak / 30.0 - b) for b in heard.beats_s) < 0.04
    kind, _, encoded = heard.sound.partition(",")
    assert kind == "data:audio/ogg;base64"
    (tmp_path / "back.ogg").write_bytes(base64.b64decode(encoded))
    info = soundfile.info(tmp_path / "back.ogg")
    assert info.channels == 1
    assert info.duration == pytest.approx(8.5, abs=0.1)
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    broken = ClipSource("x", tmp_path, 30.0, "waltz", "val", audio=tmp_path / "broken.wav")
    assert sound_uri(broken, 0.0, 1.0) == ""


def test_published_tables_are_whole() -> None:
    for table in published_tables():
        assert len(table.figures) == len(table.columns)
        assert all(len(values) == len(table.columns) for _, values in table.rows)
        assert all(v is None or math.isfinite(v) for _, values in table.rows for v in values)
        assert table.source
        assert table.differs


def test_the_command_makes_the_page_and_refuses_what_is_none(tmp_path: Path) -> None:
    evaluation(tmp_path / "it", ("real", "gmd raw"))
    done = CliRunner().invoke(app, ["evaluate", "--report", str(tmp_path / "it"), "--page-seconds", "4"])
    assert done.exit_code == 0, done.output
    assert "MB" in done.output
    assert (tmp_path / "it" / PAGE_FILE).stat().st_size > 20_000
    for wrong in (["--report", str(tmp_path / "nothing")], [], ["--data", str(tmp_path)]):
        assert isinstance(CliRunner().invoke(app, ["evaluate", *wrong]).exception, UserError)
    (tmp_path / "it" / JSON_FILE).write_text('{"split": 1}')
    with pytest.raises(UserError, match="cannot read the evaluation"):
        read_evaluations([tmp_path])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: no browser tests")
def test_the_player_draws_moves_and_obeys(made: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=["--headless=new", "--no-sandbox"])
        tab = browser.new_page(viewport={"width": 900, "height": 700})
        complaints: list[str] = []
        requests: list[str] = []
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        tab.on("request", lambda request: requests.append(request.url))
        tab.set_default_timeout(60_000)
        tab.goto(made.as_uri())

        def shown(side: str) -> str:
            return str(tab.evaluate(f"document.getElementById('stage-{side}').toDataURL()"))

        # By selectors: the page's policy forbids the evaluation of text, which waiting for a function needs.
        tab.wait_for_selector("#player[data-ready=yes][data-seconds='0.000']")
        blank = tab.evaluate("(() => { const c = document.createElement('canvas'); "
                             "const s = document.getElementById('stage-left'); c.width = s.width; c.height = s.height; "
                             "return c.toDataURL(); })()")  # fmt: skip
        tab.keyboard.press("ArrowRight")
        tab.wait_for_selector("#player[data-seconds='1.000']")
        before = {side: shown(side) for side in ("left", "right")}
        assert blank not in before.values()
        assert before["left"] != before["right"]
        tab.keyboard.press("Space")
        tab.wait_for_selector("#player:not([data-seconds='1.000'])")
        tab.keyboard.press("Space")
        assert shown("left") != before["left"]
        assert shown("right") != before["right"]
        chosen = tab.input_value("#system-right")
        tab.keyboard.press("ArrowDown")
        assert tab.input_value("#system-right") != chosen
        assert HOSTILE in tab.eval_on_selector_all("#system-right option", "all => all.map(o => o.textContent)")
        tab.focus(".legend li:nth-child(2)")
        assert tab.eval_on_selector_all(".lines g.here", "all => all.length") == 1
        tab.hover("svg.lines")
        assert tab.inner_text(".tip").startswith("4 s\n")
        assert tab.title() == "Music to dance, measured"
        assert complaints == []
        assert requests == [made.as_uri()]
        browser.close()
