"""The auto-condition curriculum: four published schedules, and the stretches they give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.learning.own_history import Form, OwnHistorySettings, own_mask, stretch_length

LONG = 10**9


def lengths(form: Form, rate: float, epochs: list[float], limit: int = LONG) -> list[int]:
    return [stretch_length(OwnHistorySettings(form=form, rate=rate, length=7), t, limit) for t in epochs]


def test_the_four_schedules_are_the_published_ones() -> None:
    epochs = [0.0, 1.0, 5.0, 10.0, 20.0]
    assert lengths("const", 0.3, epochs) == [7] * 5
    assert lengths("linear", 0.3, epochs) == [0, 0, 1, 3, 6]
    assert lengths("square", 0.3, epochs) == [0, 0, 7, 30, 120]
    assert lengths("exponential", 0.3, epochs) == [0, 0, math.floor(0.3 * math.e**5), 6607, 145549558]


def test_the_published_rate_gives_one_own_step_after_a_hundred_epochs() -> None:
    assert lengths("linear", 0.01, [99.9, 100.0, 1000.0]) == [0, 1, 10]


def test_a_stretch_is_no_longer_than_the_sequence_and_never_overflows() -> None:
    assert lengths("exponential", 0.01, [1e6], limit=72) == [72]
    assert lengths("square", 1.0, [1e6], limit=72) == [72]


def test_own_and_true_chunks_take_turns() -> None:
    settings = OwnHistorySettings(form="const", length=3, truth=4)
    random = np.random.default_rng(0)
    masks = np.stack([own_mask(settings, random, 50, 0.0, 0.5) for _ in range(300)])
    assert not masks[:, 0].any(), "nothing precedes the first chunk"
    for mask in masks[:, 1:]:
        edges = np.flatnonzero(np.diff(mask.astype(int)))
        inner = np.diff(edges)
        assert set(inner[mask[edges[:-1] + 1]].tolist()) == {3}
        assert set(inner[~mask[edges[:-1] + 1]].tolist()) == {4}
    # The phase is drawn: wherever in the sequence, three chunks of seven are own.
    assert np.abs(masks[:, 1:].mean(axis=0) - 3 / 7).max() < 0.12


def test_scattered_chunks_have_the_mean_share() -> None:
    random = np.random.default_rng(0)
    masks = np.stack([own_mask(OwnHistorySettings(), random, 50, 0.0, 0.4) for _ in range(500)])
    assert masks[:, 1:].mean() == pytest.approx(0.4, abs=0.03)
    assert masks[:, 1:].mean(axis=1).std() > 0.15, "sequences differ: from all true to mostly own"


@pytest.mark.parametrize("wrong", [{"rate": -1.0}, {"truth": 0}, {"passes": 0}, {"epoch_steps": 0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="own history"):
        OwnHistorySettings(**wrong)  # type: ignore[arg-type]
