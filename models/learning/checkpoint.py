"""A run's state in one file that appears only when it is whole: a run killed at any moment goes on from the last one.

`training.safetensors` holds the weights, their average and the optimiser as tensors, and everything else in its header.
Generator states are not in it because there are none (see `models.learning.randomness`), nor is a place in the data:
both follow from the seed and the step. `training.json` repeats the header for people and for export.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.errors import UserError
from engine.whole_files import whole_file
from models.learning.fitted import Fitted, require_same, summaries

log = logging.getLogger(__name__)

_FILE, _FACTS = "training.safetensors", "training.json"
_BESIDE_LEARNING = ("name", "device", "run")
"""Settings that do not change what is learnt."""


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: optimiser steps taken.
        seconds: spent in them.
        best: smallest watched figure so far, None before the first evaluation.
        best_step: when that was.
        stale: evaluations since.
        sums: of the curve's values since its last point, by name.
        counts: values in each sum.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def save(
    folder: Path,
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    settings: object,
    fitted: Fitted,
) -> None:
    """Write the checkpoint of a run; `settings` is a dataclass, `fitted` what the data gave beside the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("model", model), ("average", average)):
        tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
    for index, parameter in enumerate(_parameters(optimiser)):
        for name, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{index}.{name}"] = torch.as_tensor(value)
    said = {"settings": asdict(settings), "fitted": summaries(fitted)}  # type: ignore[call-overload]
    facts = json.dumps({**asdict(progress), **said}, indent=1)
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with whole_file(folder / _FILE) as partial:
        save_file(whole, partial, metadata={"progress": facts})
    with whole_file(folder / _FACTS) as partial:
        partial.write_text(facts)


def is_run(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint."""
    return (folder / _FILE).is_file()


def resume(
    folder: Path,
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: object,
    fitted: Fitted,
) -> Progress:
    """Set everything to what `save` wrote, and return how far it was; other settings than it began with are logged.

    Raises:
        UserError: there is no checkpoint, or it is of another network or of other data.
    """
    try:
        tensors = load_file(folder / _FILE)
        facts = _facts(folder)
        now = json.loads(json.dumps(asdict(settings)))  # type: ignore[call-overload]
        changed = _changes(facts.get("settings", {}), now)
        if changed:
            log.warning("%s goes on with other settings than it began with: %s", folder, ", ".join(changed))
        require_same(facts.get("fitted"), fitted, folder)
        for prefix, module in (("model", model), ("average", average)):
            mine = {n.removeprefix(prefix + "."): v for n, v in tensors.items() if n.startswith(prefix + ".")}
            module.load_state_dict(mine)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"checkpoint {folder}: {str(error).splitlines()[0]}", "start a new run, or give the settings it began with"
        ) from error
    for index, parameter in enumerate(_parameters(optimiser)):
        prefix = f"optimiser.{index}."
        mine = {n.removeprefix(prefix): v.to(parameter.device) for n, v in tensors.items() if n.startswith(prefix)}
        if mine:
            optimiser.state[parameter] = mine
    known = Progress.__dataclass_fields__
    return Progress(**{name: value for name, value in facts.items() if name in known})


def _facts(folder: Path) -> dict[str, Any]:
    with safe_open(folder / _FILE, "pt") as file:
        facts = (file.metadata() or {}).get("progress")
    # Runs begun before the header existed kept it beside the tensors.
    content: dict[str, Any] = json.loads(facts if facts is not None else (folder / _FACTS).read_text())
    return content


def _changes(began: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> list[str]:
    """Return what differs of the settings that both know and that shape learning."""
    changed: list[str] = []
    for name in [name for name in now if name in began and name not in _BESIDE_LEARNING]:
        before, after = began[name], now[name]
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changed += _changes(before, after, f"{where}{name}.")
        elif before != after:
            changed.append(f"{where}{name} = {after!r} (was {before!r})")
    return changed


def _parameters(optimiser: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    for group in optimiser.param_groups:
        yield from group["params"]
