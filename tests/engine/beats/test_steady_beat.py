"""The long memory of the beat, on peaks and beliefs written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.beats.activation_tracker import Activation, ActivationTracker
from engine.beats.beat_filter import Belief
from engine.beats.steady_beat import SteadyBeat

LOUD = 0.1


def peaks(times: np.ndarray, hops: int, height: float = 0.6) -> np.ndarray:
    """Return an activation (hops,) with a peak at each time [hops]; its first entry is hop 1."""
    at = np.arange(1, hops + 1)
    near = np.exp(-0.5 * ((at[:, None] - times[None]) / 1.2) ** 2).max(axis=1)
    return np.asarray(0.01 + height * near)


def believed(hop: int, beat: float, period: float, probability: float = 0.8) -> Belief:
    return Belief((hop - beat) / period % 1.0, period, probability)


def off_beat(belief: Belief, hop: int, beat: float, period: float) -> float:
    """Return by how many hops a belief lies after the beat."""
    error = (hop - belief.phase * belief.period_hops - beat) / period
    return (error - round(error)) * period


def test_a_filter_that_swings_about_a_steady_beat_is_steadied() -> None:
    period, steady, errors, periods = 61.3, SteadyBeat(), [], []
    heard = peaks(20.4 + period * np.arange(60), 3600)
    for hop in range(1, 3601):
        steady.hear(float(heard[hop - 1]))
        swing = 3.0 * math.sin(hop / 70.0)
        belief = steady.refine(believed(hop, 20.4 + swing, period * (1 + 0.01 * math.cos(hop / 70.0))))
        if hop > 1200:
            errors.append(off_beat(belief, hop, 20.4, period))
            periods.append(belief.period_hops)
    assert np.abs(errors).max() < 0.7, "the filter is 3 hops beside it"
    assert np.abs(np.array(periods) / period - 1).max() < 0.002


def test_scattered_strokes_are_averaged() -> None:
    rng = np.random.default_rng(5)
    period, steady, errors = 52.0, SteadyBeat(), []
    scatter = np.clip(rng.normal(0, 1.5, 80), -3, 3)
    heard = peaks(period * np.arange(80) + scatter, 4100)
    for hop in range(1, 4101):
        steady.hear(float(heard[hop - 1]))
        newest = math.floor(hop / period)
        belief = steady.refine(believed(hop, newest * period + scatter[newest], period))
        errors.append(off_beat(belief, hop, 0.0, period))
    assert np.std(scatter) > 1.3
    assert np.std(errors[1500:]) < 0.6


def test_the_beat_stands_while_the_filter_walks_off_where_beats_are_left_out() -> None:
    period, steady = 70.0, SteadyBeat()
    times = period * np.arange(60)
    heard = peaks(times[(times < 2000) | (np.arange(60) % 3 != 1)], 4000)
    for hop in range(1, 4001):
        steady.hear(float(heard[hop - 1]))
        away = hop > 2000
        belief = steady.refine(believed(hop, 13.0 if away else 0.0, 80.5 if away else period, 0.5))
        if hop > 500:
            assert abs(off_beat(belief, hop, 0.0, period)) < 1.0, hop


@pytest.mark.parametrize("after", [48.0, 75.0])
def test_a_tempo_that_is_played_overthrows_it_within_four_beats(after: float) -> None:
    period, steady = 60.0, SteadyBeat()
    times = np.concatenate([period * np.arange(26), 25 * period + after * np.arange(1, 30)])
    heard = peaks(times, 2400)
    taken = None
    for hop in range(1, 2401):
        steady.hear(float(heard[hop - 1]))
        jumped = hop > 25 * period + after
        belief = steady.refine(believed(hop, 25 * period if jumped else 0.0, after if jumped else period))
        if jumped and taken is None and abs(belief.period_hops / after - 1) < 0.01:
            taken = hop
    assert taken is not None
    assert taken - 25 * period < 4.5 * after


def test_a_tempo_that_moves_is_followed_as_the_filter_does() -> None:
    steady = SteadyBeat()
    at, times = 0.0, []
    while at < 4000:
        times.append(at)
        at += 60.0 * (1 + 0.08 * math.sin(at / 500.0))
    beats = np.array(times)
    heard, errors = peaks(beats, 3900), []
    for hop in range(1, 3901):
        steady.hear(float(heard[hop - 1]))
        newest = int(np.searchsorted(beats, hop, side="right")) - 1
        period = beats[newest + 1] - beats[newest]
        belief = steady.refine(believed(hop, beats[newest], period))
        if newest > 8:
            errors.append(off_beat(belief, hop, beats[newest], period))
    assert np.abs(errors).max() < 5.0
    assert np.median(np.abs(errors)) < 1.5


def test_the_double_tempo_is_taken_at_once() -> None:
    steady = SteadyBeat()
    heard = peaks(80.0 * np.arange(30), 2000)
    for hop in range(1, 2001):
        steady.hear(float(heard[hop - 1]))
        belief = steady.refine(believed(hop, 0.0, 80.0 if hop <= 1900 else 40.0))
    assert belief.period_hops == pytest.approx(40.0)


def test_it_forgets_at_reset() -> None:
    def run(steady: SteadyBeat) -> list[Belief]:
        heard = peaks(55.0 * np.arange(20), 900)
        out = []
        for hop in range(1, 901):
            steady.hear(float(heard[hop - 1]))
            out.append(steady.refine(believed(hop, 2.0 * math.sin(hop / 50.0), 55.0)))
        return out

    steady = SteadyBeat()
    first = run(steady)
    assert run(steady) != first
    steady.reset()
    assert run(steady) == first


class Written:
    """An activation function that says what is written."""

    delay_ns = 0
    tempo_classes_bpm = None
    hears_bars = False

    def __init__(self, heard: np.ndarray) -> None:
        self._heard, self._hop = heard, 0

    def process(self, bands: np.ndarray) -> Activation:
        self._hop += 1
        return Activation(float(self._heard[self._hop - 1]))

    def reset(self) -> None:
        self._hop = 0


@pytest.mark.parametrize(("level", "kept"), [(LOUD, True), (1e-5, False)])
def test_music_that_leaves_beats_out_keeps_its_beat_and_silence_does_not(level: float, kept: bool) -> None:
    period = 61.0
    times = period * np.arange(80)
    pause = (times > 1900) & (times < 2300)
    heard = peaks(times[~pause], 2500)
    tracker = ActivationTracker(Written(heard))
    bands = np.zeros(88, np.float32)
    for hop in range(1, 2501):
        sounding = LOUD if hop < 1900 or hop > 2300 else level
        estimate = tracker.process_bands(bands, sounding, hop * 10_000_000)
        if hop == 2320:
            assert (tracker._steady._beats > 25) == kept
    assert estimate is not None
    assert estimate.period_ns == pytest.approx(period * 1e7, rel=0.01)
