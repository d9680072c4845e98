"""Training runs as data: strict TOML, in which an unknown name is an error that names the nearest known one."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from engine.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class OptimiserSettings:
    """How the weights move (AdamW; Loshchilov & Hutter 2019).

    Attributes:
        steps: of the whole run; the learning rate falls as a cosine to a twentieth at its end.
        batch: sequences per step, over all processes together.
        learning_rate: largest.
        warm_up_steps: over which it rises.
        weight_decay: of matrices; vectors are left alone.
        gradient_clip: largest norm of the gradient.
        average_decay: of the running average of the weights, which is what is evaluated and exported.
    """

    steps: int = 6000
    batch: int = 16
    learning_rate: float = 8e-4
    warm_up_steps: int = 200
    weight_decay: float = 0.02
    gradient_clip: float = 1.0
    average_decay: float = 0.998


@dataclass(frozen=True)
class RunSettings:
    """What is done beside learning. Nothing here changes the weights of a step that is taken.

    Attributes:
        curve_every_steps: losses are averaged over so many steps for the curves.
        evaluate_every_steps: steps between evaluations on the validation split.
        checkpoint_every_s: time between checkpoints; each evaluation writes one, too.
        watch: figure of the evaluation by which the best step is told; smaller is better.
        patience: stop after so many evaluations without a better one; 0: never.
        sheets: draw a dance of the model at each evaluation.
    """

    curve_every_steps: int = 10
    evaluate_every_steps: int = 500
    checkpoint_every_s: float = 120.0
    watch: str = "val_latent"
    patience: int = 0
    sheets: bool = True


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises UserError if it is missing or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"training settings {path}: {error}", "give a TOML file like config/training/gmd.toml"
        ) from error


def load_recipe(path: Path) -> dict[str, Any]:
    """Read a training run's TOML file as nested tables, with what it refers to in place.

    `base` names a file beside it, whose settings hold where it says nothing; `gmd` and `gdm`, where they are names of
    files and not tables, stand for the recipes in them.

    Raises:
        UserError: a file is missing, is no TOML, or is its own base.
    """
    return _recipe(path, ())


def _recipe(path: Path, readers: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in readers:
        raise UserError(f"training settings {path}: it is its own base", "name another file, or none")
    content, readers = load_toml(path), (*readers, path.resolve())
    for name in ("gmd", "gdm"):
        if isinstance(content.get(name), str):
            content[name] = _recipe(path.parent / content[name], readers)
    base = content.pop("base", None)
    return content if base is None else _merged(_recipe(path.parent / str(base), readers), content)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over`, table by table."""
    merged = dict(base)
    for name, value in over.items():
        inner = merged.get(name)
        merged[name] = _merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return merged


def build(kind: type[T], content: Mapping[str, Any], where: str) -> T:
    """Build a dataclass of settings from nested tables.

    Raises:
        UserError: a name that does not exist (the nearest is named), or a value of the wrong type.
    """
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
            raise UserError(f"{where}: unknown setting '{name}'", hint)
        if is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise UserError(f"{where}: '{name}' is a section", f"write it as [{name}]")
            values[name] = build(hints[name], value, f"{where} [{name}]")
            continue
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise UserError(f"{where}: '{name}' = {value!r} cannot be used", problem) from error
    try:
        return kind(**values)
    except ValueError as error:
        raise UserError(f"{where}: {error}", "change the setting") from error
