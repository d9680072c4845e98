"""Evaluations read back from disk, and put together where they measured the same songs in the same way."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import UserError
from models.evaluation.cache import KeptDance
from models.evaluation.facts import Made, SongFacts, SystemFacts
from models.evaluation.report import DANCES_FOLDER, JSON_FILE, Figures, Report
from models.evaluation.stability import Stability
from models.metrics import Interval

Value = TypeVar("Value")


def read_evaluations(folders: Sequence[Path]) -> list[Report]:
    """Return all evaluations under some folders, by protocol; the files of their dances are absolute.

    Those of the same songs, split, protocol, length and seeds are one, with the systems of all.

    Raises:
        UserError: there is none, or one cannot be read.
    """
    found: list[Report] = []
    for folder in folders:
        paths = sorted(folder.rglob(JSON_FILE)) if folder.is_dir() else []
        if not paths:
            raise UserError(f"{folder} holds no {JSON_FILE}", "run `pasdedeux evaluate --data DIR --out DIR` first")
        for path in paths:
            report = read_report(path)
            twin = next((i for i, other in enumerate(found) if _alike(other, report)), None)
            if twin is None:
                found.append(report)
            else:
                found[twin] = _together(found[twin], report)
    return sorted(found, key=lambda r: (r.split, r.protocol))


def read_report(path: Path) -> Report:
    """Read what `Report.save` wrote, of this version or an older one. Raises UserError if it cannot."""
    try:
        content = json.loads(path.read_text())
        return Report(
            split=str(content["split"]),
            protocol=str(content["protocol"]),
            seeds=int(content["seeds"]),
            seconds=float(content["seconds"]),
            songs=tuple(map(str, content["songs"])),
            floors={str(k): _float(v) for k, v in content["floors"].items()},
            style_accuracy_validation=_float(content["style_accuracy_validation"]),
            systems=_systems(content["systems"]),
            styles={str(k): _systems(v) for k, v in content["styles"].items()},
            over_time={str(k): [_float(v) for v in values] for k, values in content["over_time"].items()},
            stability={str(k): _stability(v) for k, v in content["stability"].items()},
            courses={str(k): _systems(v) for k, v in content["courses"].items()},
            notes=tuple(map(str, content["notes"])),
            hours=_float(content["hours"]),
            facts={str(k): _facts(v) for k, v in content.get("facts", {}).items()},
            song_facts=tuple(_song(s) for s in content.get("song_facts", [])),
            dances=tuple(_dances(content.get("dances", []), path.parent / DANCES_FOLDER)),
            differences={str(k): _systems(v) for k, v in content.get("differences", {}).items()},
            made=Made(**{f.name: str(content.get("made", {}).get(f.name, "")) for f in fields(Made)}),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read the evaluation {path} ({error})", "evaluate again") from error


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _systems(content: Mapping[str, Any]) -> dict[str, Figures]:
    return {
        str(system): {
            str(name): Interval(_float(f["value"]), _float(f["low"]), _float(f["high"])) for name, f in figures.items()
        }
        for system, figures in content.items()
    }


def _stability(content: Mapping[str, Any]) -> Stability:
    numbers = {f.name: _float(content.get(f.name)) for f in fields(Stability) if f.name != "dances"}
    return Stability(dances=int(content["dances"]), **numbers)


def _facts(content: Mapping[str, Any]) -> SystemFacts:
    parameters = content["parameters"]
    return SystemFacts(
        str(content["group"]),
        None if parameters is None else int(parameters),
        str(content["lookahead"]),
        tuple(map(int, content["training_seeds"])),
    )


def _song(content: Mapping[str, Any]) -> SongFacts:
    beats = tuple(map(float, content["beats_audio_s"]))
    return SongFacts(str(content["name"]), str(content["style"]), float(content["bpm"]), beats)


def _dances(content: Sequence[Mapping[str, Any]], folder: Path) -> list[KeptDance]:
    """Return the dances whose files are there, and nowhere else than in their folder."""
    found = []
    for row in content:
        path = (folder / str(row["file"])).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            continue
        names = (str(row["system"]), str(row["song"]), str(row["course"]), int(row["seed"]))
        took = (_float(row["dance_s"]), _float(row["processor_s"]), str(row["machine"]))
        found.append(KeptDance(*names, str(path), *took))
    return found


def _alike(one: Report, other: Report) -> bool:
    return all(
        getattr(one, name) == getattr(other, name) for name in ("split", "protocol", "seeds", "seconds", "songs")
    )


def _together(one: Report, other: Report) -> Report:
    """Return both as one; where both have a system, the former's figures stay, and a note says if they differ."""
    twice = [n for n, f in other.systems.items() if n in one.systems and repr(f) != repr(one.systems[n])]
    notes = [f"{name} was measured twice with different outcomes: the first evaluation is shown." for name in twice]
    known = {(d.system, d.song, d.course, d.seed) for d in one.dances}
    new = tuple(d for d in other.dances if (d.system, d.song, d.course, d.seed) not in known)
    return replace(
        one,
        systems=_joined(one.systems, other.systems),
        styles=_each(one.styles, other.styles),
        over_time=_joined(one.over_time, other.over_time),
        stability=_joined(one.stability, other.stability),
        courses=_each(one.courses, other.courses),
        notes=tuple(dict.fromkeys([*one.notes, *other.notes, *notes])),
        hours=one.hours + other.hours,
        facts=_joined(one.facts, other.facts),
        song_facts=one.song_facts or other.song_facts,
        dances=one.dances + new,
        differences=_each(one.differences, other.differences),
    )


def _joined(one: Mapping[str, Value], other: Mapping[str, Value]) -> dict[str, Value]:
    return {**one, **{key: value for key, value in other.items() if key not in one}}


def _each(one: Mapping[str, Mapping[str, Value]], other: Mapping[str, Mapping[str, Value]]) -> dict[str, Any]:
    return {key: _joined(one.get(key, {}), other.get(key, {})) for key in dict.fromkeys([*one, *other])}
