"""What the data gave beside the weights: bases and scales without which the same weights mean something else.

A checkpoint keeps a few numbers of each array, so that weights are not joined with what other data gave. They are no
digest of the bytes: the same data fitted on another machine differs by rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError

log = logging.getLogger(__name__)

Fitted = Mapping[str, NDArray[np.floating]]
"""Arrays by name."""
_NUMBERS = 8
_TOLERANCE = 1e-4
"""Relative: another machine's rounding is far below it (1e-7), of 40 clips one fewer above (1e-2)."""


def summaries(fitted: Fitted) -> dict[str, list[float]]:
    """Return a few numbers of each array that change with its values, their order and their signs."""
    return {name: _summary(values) for name, values in fitted.items()}


def require_same(saved: Mapping[str, Sequence[float]] | None, fitted: Fitted, run: Path) -> None:
    """Raise UserError if a run's weights go with other arrays than these; names that it does not know are not compared.

    Args:
        saved: `summaries` of the run's; None: it does not say.
        fitted: what the weights are to be joined with.
        run: its folder.
    """
    if saved is None:
        log.warning("%s does not say which data it was trained on: not checked", run)
        return
    others = [name for name, now in summaries(fitted).items() if name in saved and not _same(saved[name], now)]
    if others:
        raise UserError(
            f"{run} was trained on other data: {', '.join(others)} differ",
            "give the --data and --music, and the settings, that it was trained on",
        )


def _summary(values: NDArray[np.floating]) -> list[float]:
    flat = np.asarray(values, np.float64).ravel()
    waves = np.cos(np.arange(_NUMBERS)[:, None] * np.arange(len(flat)))
    return [float(value) for value in waves @ flat / np.sqrt(max(len(flat), 1))]


def _same(saved: Sequence[float], now: Sequence[float]) -> bool:
    largest = max(abs(value) for value in saved)
    return bool(np.allclose(saved, now, rtol=0.0, atol=_TOLERANCE * largest))
