"""The beat filter on activations written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from engine.beats.beat_filter import BeatFilter, FilterSettings
from engine.beats.spectrum import HOPS_PER_S


def heard(period_hops: int, on: float, between: float, length_s: float = 20.0) -> np.ndarray:
    """Return an activation with beats each `period_hops` of height `on`, and something midway."""
    hop = np.arange(round(length_s * HOPS_PER_S)) % period_hops
    from_beat = np.minimum(hop, period_hops - hop)
    midway = np.abs(hop - period_hops / 2)
    return 0.02 + on * np.exp(-0.5 * from_beat**2) + between * np.exp(-0.5 * midway**2)


@pytest.mark.parametrize("period_hops", [34, 46, 60, 75, 92])
def test_a_steady_beat_is_found_at_its_tempo_and_phase(period_hops: int) -> None:
    beat_filter = BeatFilter()
    for activation in heard(period_hops, 0.6, 0.0)[: 12 * period_hops + 1]:
        beat_filter.step(float(activation))
    belief = beat_filter.belief()
    assert belief.period_hops == pytest.approx(period_hops, rel=0.02)
    assert min(belief.phase, 1 - belief.phase) < 0.05, "the newest hop is a beat"
    assert belief.probability > 0.8


def test_weak_strokes_midway_do_not_double_a_slow_tempo() -> None:
    def period(settings: FilterSettings) -> float:
        beat_filter = BeatFilter(settings)
        for activation in heard(92, 0.6, 0.1):
            beat_filter.step(float(activation))
        return beat_filter.belief().period_hops

    assert period(FilterSettings()) == pytest.approx(92, rel=0.02)
    deaf_to_it = FilterSettings(between_bpm=1.0, highest=12.0)
    assert period(deaf_to_it) == pytest.approx(46, rel=0.02), "the case is one where it matters"


def test_strokes_as_strong_midway_do() -> None:
    beat_filter = BeatFilter()
    for activation in heard(92, 0.6, 0.6):
        beat_filter.step(float(activation))
    assert beat_filter.belief().period_hops == pytest.approx(46, rel=0.02)
