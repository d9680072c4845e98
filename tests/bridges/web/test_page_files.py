"""The web stage's committed files: built from their sources, licensed, and of one mind with the engine."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bridges.web import messages, server
from engine.body import skeleton

WEB = Path(messages.__file__).parent


def test_committed_bundle_is_built_from_the_sources() -> None:
    digest = hashlib.sha256()
    sources = sorted(path for path in (WEB / "src").iterdir() if not path.name.endswith(".test.js"))
    for path in sources:
        digest.update(f"{path.name}\n".encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    first_line = (WEB / "static" / "app.js").read_text(encoding="utf-8").partition("\n")[0]
    assert digest.hexdigest()[:16] in first_line, "run `npm ci && npm run build` in bridges/web"
    for name in ("index.html", "icon.svg"):
        assert (WEB / "static" / name).read_bytes() == (WEB / "src" / name).read_bytes()


def test_licences_of_what_is_bundled_are_there() -> None:
    text = (WEB / "static" / "LICENSES.txt").read_text(encoding="utf-8")
    assert "The MIT License" in text
    assert "three.js authors" in text
    assert "CC0" in text
    assert "@license" in (WEB / "static" / "app.js").read_text(encoding="utf-8")


def test_lock_file_names_no_private_registry() -> None:
    for name in ("package.json", "package-lock.json"):
        urls = re.findall(r"https?://[^\"/]+", (WEB / name).read_text(encoding="utf-8"))
        assert all(
            re.fullmatch(r"https://(registry\.npmjs\.org|[a-z.]*github\.com|opencollective\.com)", u) for u in urls
        )


def test_script_and_server_agree_on_the_format() -> None:
    protocol = (WEB / "src" / "protocol.js").read_text(encoding="utf-8")
    assert f"POSE_BYTES = {messages.POSE_BYTES};" in protocol
    assert f"POSE_VERSION = {messages.POSE_VERSION};" in protocol


def test_page_and_server_agree_on_how_many_are_on_stage() -> None:
    cast = (WEB / "src" / "cast.js").read_text(encoding="utf-8")
    assert f"MAX_MEMBERS = {server.MAX_PERFORMERS - 1};" in cast, "all but the lead"


def test_every_key_that_is_named_is_the_one() -> None:
    page = (WEB / "src" / "index.html").read_text(encoding="utf-8")
    keys = (WEB / "src" / "panel.js").read_text(encoding="utf-8")
    named = re.findall(r'data-(?:control|flag|view)="(\w+)"[^>]*title="[^"]*\((\w)\)"', page)
    assert ("downbeat", "d") in named
    for name, key in named:
        assert re.search(rf'^  "?{key}"?: \["\w+", "{name}"', keys, re.MULTILINE), f"{name} is not on {key}"


def test_script_and_engine_agree_on_the_skeleton() -> None:
    source = (WEB / "src" / "skeleton.js").read_text(encoding="utf-8")
    parents = json.loads(re.search(r"PARENTS = (\[.*?\]);", source).group(1))  # type: ignore[union-attr]
    offsets = json.loads(re.sub(r",\s*\]", "]", re.search(r"OFFSETS_M = (\[.*?\n\]);", source, re.S).group(1)))  # type: ignore[union-attr]
    np.testing.assert_array_equal(parents, skeleton.PARENTS)
    np.testing.assert_array_equal(offsets, skeleton.REST_OFFSETS_M)
    height = float(re.search(r"REST_HEIGHT_M = ([\d.]+);", source).group(1))  # type: ignore[union-attr]
    assert height == pytest.approx(-skeleton.REST_FLOOR_M, abs=1e-5)


@pytest.mark.parametrize("tests", sorted((WEB / "src").glob("*.test.js")), ids=lambda path: path.name)
def test_the_pages_own_tests(tests: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the page's own unit tests (npm test in bridges/web) were not run")
    result = subprocess.run([node, "--test", str(tests)], capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
