"""The judge of beats and off-beats: what it sees, when it moves the beats, and that the shipped one hears."""

from __future__ import annotations

import numpy as np
import pytest

from engine.beats.grid_judge import BINS, CHANNELS, SHIFTS_BEATS, GridJudge, picture, rises
from engine.types import BeatEstimate
from models.beats.activation import load_judge

INPUTS, HOP_NS = 428, 10_000_000
PERIOD_HOPS, FIRST_HOP = 50.0, 20.0


def attacks(length: int, period: float = PERIOD_HOPS, first: float = FIRST_HOP) -> np.ndarray:
    """Return bands (T, 88) in which everything rises at once on each beat and fades."""
    at = np.arange(length)
    since = (at - first) % period
    loud = np.where(at >= first, np.exp(-since / 8.0), 0.0)
    return np.repeat(3.0 * loud[:, None], 88, axis=1).astype(np.float32)


def judge_that_likes(shift: int) -> GridJudge:
    """Return a judge that scores a grid by the share of its attacks on the bin that lies `shift` twelfths on."""
    weights = {
        "mean": np.zeros(INPUTS, np.float32),
        "scale": np.ones(INPUTS, np.float32),
        "layer0.weight": np.zeros((1, INPUTS), np.float32),
        "layer0.bias": np.zeros(1, np.float32),
        "layer1.weight": np.ones((1, 1), np.float32),
        "layer1.bias": np.zeros(1, np.float32),
        "layer2.weight": np.full((1, 1), 4.0, np.float32),
        "layer2.bias": np.zeros(1, np.float32),
    }
    weights["layer0.weight"][0, shift * CHANNELS : (shift + 1) * CHANNELS] = 1 / CHANNELS
    return GridJudge(weights)


def follow(judge: GridJudge, bands: np.ndarray, believed_first: float) -> list[BeatEstimate | None]:
    """Return what becomes of a tracker's unchanging belief."""
    out = []
    for hop, row in enumerate(bands):
        judge.hear(row)
        beats = np.floor((hop + 1 - believed_first) / PERIOD_HOPS)
        beat_ns = round((believed_first + beats * PERIOD_HOPS) * HOP_NS)
        estimate = BeatEstimate(beat_ns, round(PERIOD_HOPS * HOP_NS), 0.9, 4, beat_ns)
        out.append(judge.correct(estimate, (hop + 1) * HOP_NS))
    return out


def phase_of(estimate: BeatEstimate) -> float:
    return (estimate.beat_ns / HOP_NS - FIRST_HOP) / PERIOD_HOPS % 1.0


def test_a_picture_shows_attacks_where_they_fall() -> None:
    bands = attacks(900)
    totals = np.concatenate([np.zeros((1, CHANNELS)), np.cumsum(rises(bands), axis=0, dtype=float)])
    seen = picture(totals, 900.0, np.array([PERIOD_HOPS] * 3), FIRST_HOP + PERIOD_HOPS * np.array([0.0, 0.5, 0.25]))
    assert seen.shape == (3, INPUTS)
    quick = seen[:, : BINS * CHANNELS].reshape(3, BINS, CHANNELS)[..., 0]
    assert quick.argmax(axis=1).tolist() == [0, 6, 9]
    assert (np.sort(quick, axis=1)[:, -2] < 0.05 * quick.max(axis=1)).all()
    assert seen[:, -8:].all(), "eight beats were heard"
    young = picture(totals[:261], 260.0, np.array([PERIOD_HOPS]), np.array([FIRST_HOP]))
    assert young[0, -8:].sum() == 4, "beats before the sound's beginning are not shown"


def test_what_is_heard_hop_by_hop_is_what_is_learned_from() -> None:
    bands = np.random.default_rng(0).random((1300, 88)).astype(np.float32) * 3
    judge = judge_that_likes(0)
    for row in bands:
        judge.hear(row)
    whole = rises(bands)[-1000:]
    order = np.arange(1300 - 1000, 1300) % 1000
    np.testing.assert_allclose(judge._recent[order], whole, atol=1e-6)


@pytest.mark.parametrize(("believed", "moved"), [(0.0, 0.0), (0.5, 0.5), (0.25, -0.25), (0.75, 0.25)])
def test_beats_are_moved_to_where_they_look_better(believed: float, moved: float) -> None:
    out = follow(judge_that_likes(0), attacks(1500), FIRST_HOP + believed * PERIOD_HOPS)
    early, late = out[250], out[-1]
    assert early is not None
    assert late is not None
    assert phase_of(early) == pytest.approx(believed, abs=1e-6), "nothing is moved before it has been heard for long"
    assert (phase_of(late) + 0.5) % 1 == pytest.approx(0.5, abs=1e-6)
    assert late.period_ns == early.period_ns
    assert late.beat_ns <= 1500 * HOP_NS
    assert late.downbeat_ns is not None
    assert (late.downbeat_ns - late.beat_ns) % late.period_ns == 0
    assert moved == pytest.approx(-believed if believed < 0.5 else 1 - believed if believed > 0.5 else 0.5)


def test_a_new_belief_is_judged_afresh() -> None:
    judge = judge_that_likes(0)
    bands = attacks(1500)
    assert phase_of(follow(judge, bands[:1000], FIRST_HOP + 25)[-1]) == pytest.approx(0.0, abs=1e-6)
    judge.hear(bands[1000])
    beat_ns = round((FIRST_HOP + 19 * PERIOD_HOPS) * HOP_NS)
    own = BeatEstimate(beat_ns, round(PERIOD_HOPS * HOP_NS), 0.9, None, None)
    assert judge.correct(own, 1001 * HOP_NS) == own, "the tracker found the beat itself: it must not be moved off"
    assert judge.correct(None, 1002 * HOP_NS) is None


def test_wrong_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"layer0\.weight"):
        GridJudge({"mean": np.zeros(INPUTS, np.float32), "scale": np.ones(INPUTS, np.float32)})
    judge = load_judge()
    broken = {"mean": judge._mean[:-1], "scale": judge._scale}
    for number, (weight, bias) in enumerate(judge._layers):
        broken |= {f"layer{number}.weight": weight, f"layer{number}.bias": bias}
    with pytest.raises(ValueError, match="428 inputs"):
        GridJudge(broken)


def test_the_shipped_judge_tells_a_drummers_beat_from_his_off_beat() -> None:
    # Bass drum on one and three, snare on two and four, hi-hat between and on: bands of the short window by height.
    hops, period = 1000, 50
    bands = np.random.default_rng(2).random((hops, 88)).astype(np.float32) * 0.05
    for half in range(hops // 25):
        at = 10 + 25 * half
        decay = np.exp(-np.arange(12) / 4.0).astype(np.float32)[: max(0, hops - at), None]
        bands[at : at + 12, 18:24] += 1.2 * decay
        if half % 4 == 0:
            bands[at : at + 12, 0:5] += 4.0 * decay
            bands[at : at + 12, 24:40] += 3.0 * decay
        elif half % 4 == 2:
            bands[at : at + 12, 6:20] += 3.5 * decay
    judge = load_judge()
    for row in bands:
        judge.hear(row)
    scores = judge.scores(float(period), 10.0)
    assert scores.argmax() == 0
    assert judge.scores(float(period), 10.0 + period / 2).argmax() == 1
    assert len(scores) == len(SHIFTS_BEATS)
