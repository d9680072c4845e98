"""`config/shows/default.toml`: every setting there is, with the default that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.settings import SceneSettings, Section, ShowSettings, TriggerZoneSettings, load_show

DEFAULT = Path(__file__).parents[2] / "config" / "shows" / "default.toml"
SHOW = ShowSettings()
SECTIONS: dict[str, type[Section]] = {
    **{name: type(getattr(SHOW, name)) for name in ShowSettings.model_fields if name != "scenes"},
    "triggers.zones": TriggerZoneSettings,
    "scenes.verse": SceneSettings,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_it_names_every_setting(section: str) -> None:
    # What has no default is named behind a "#".
    headed = re.split(r"^(?:# )?\[+([\w.]+)\]+", DEFAULT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    texts = dict(zip(headed[1::2], headed[2::2], strict=True))
    named = set(re.findall(r"^(?:# )?(\w+) = ", texts[section], flags=re.MULTILINE))
    assert named == set(SECTIONS[section].model_fields) - {"zones"}


def test_what_it_sets_are_the_defaults() -> None:
    assert load_show(DEFAULT) == SHOW
