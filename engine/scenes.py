"""Scenes of a show file, found by name or index."""

from __future__ import annotations

from collections.abc import Mapping

from engine.settings import SceneSettings


def find_scene(scenes: Mapping[str, SceneSettings], wished: float | str) -> tuple[str, SceneSettings]:
    """Return the name and the settings of a scene. Raises ValueError for one that the show file does not have."""
    names = list(scenes)
    if not isinstance(wished, str):
        if not 0 <= int(wished) < len(names):
            raise ValueError(f"no scene {int(wished)}; the show file has {len(names)}")
        wished = names[int(wished)]
    if wished not in scenes:
        raise ValueError(f"unknown scene '{wished}'; known: {', '.join(names) or 'none'}")
    return wished, scenes[wished]
