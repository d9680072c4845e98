"""Trackers with the follower behind them, on click tracks made here."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.beats import TRACKERS, BeatFollower, create_tracker
from engine.errors import UserError
from engine.protocols import BeatTracker
from engine.types import NS_PER_S, BeatEstimate

RATE, HOP, HOP_NS = 48_000, 480, 10_000_000


def clicks(times_s: NDArray[np.float64], length_s: float, gain: float = 0.3) -> NDArray[np.float32]:
    """Short decaying bursts of sound with a body and an edge, like a woodblock, over a quiet room."""
    rng = np.random.default_rng(3)
    out = rng.normal(0, 1e-4, round(length_s * RATE))
    t = np.arange(round(0.06 * RATE)) / RATE
    burst = gain * np.exp(-t / 0.012) * (np.sin(2 * np.pi * 900 * t) + 0.5 * np.sin(2 * np.pi * 220 * t))
    for time in times_s:
        start = round(time * RATE)
        end = min(len(out), start + len(burst))
        out[start:end] += burst[: end - start]
    return out.astype(np.float32)


def grid(bpm: float, start_s: float, end_s: float) -> NDArray[np.float64]:
    return np.arange(start_s, end_s, 60 / bpm)


def follow(tracker: BeatTracker, audio: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (beat times as emitted [s], confidence of every hop)."""
    follower, beats, confidence, last = BeatFollower(), [], [], -1
    state = follower.state
    for hop in range(len(audio) // HOP):
        end_ns = (hop + 1) * HOP_NS
        beat = int(np.floor(state.timeline.beat_at(end_ns)))
        if beat > last:
            beats.append(state.timeline.time_of(beat) / NS_PER_S)
            last = beat
        samples = audio[hop * HOP : (hop + 1) * HOP]
        estimate = tracker.process(samples, end_ns)
        state = follower.update(end_ns, estimate, active=float(np.abs(samples).max()) > 1e-5)
        confidence.append(state.confidence)
    return np.array(beats), np.array(confidence)


def offsets_s(beats: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each true beat's distance from the nearest emitted one, signed (+ is late)."""
    nearest = beats[np.abs(beats[None] - true[:, None]).argmin(axis=1)]
    return nearest - true


@pytest.fixture(params=TRACKERS)
def tracker(request: pytest.FixtureRequest) -> BeatTracker:
    if request.param == "aubio" and importlib.util.find_spec("aubio") is None:
        pytest.skip("aubio is not installed")
    return create_tracker(request.param)


@pytest.mark.parametrize("bpm", [60, 72, 97, 120, 151, 180])
def test_flux_locks_on_clicks_within_three_seconds(bpm: float) -> None:
    true = grid(bpm, 0.4, 12)
    beats, confidence = follow(create_tracker("flux"), clicks(true, 12))
    late = offsets_s(beats, true[(true > 0.4 + max(3.0, 240 / bpm)) & (true < 11.8)])
    assert np.abs(late).max() < 0.035
    assert abs(np.median(late)) < 0.015
    spacing = np.diff(beats[beats > 5])
    assert np.median(spacing) == pytest.approx(60 / bpm, rel=0.02)
    assert confidence[-100:].mean() > 0.5


def test_flux_follows_a_tempo_jump() -> None:
    true = np.concatenate([grid(100, 0.4, 10), grid(132, 10, 18)])
    beats, _ = follow(create_tracker("flux"), clicks(true, 18))
    late = offsets_s(beats, true[(true > 13) & (true < 17.8)])
    assert np.abs(late).max() < 0.04


def test_flux_keeps_time_through_a_break() -> None:
    true = grid(120, 0.5, 20)
    sounding = true[(true < 8.2) | (true > 12.2)]
    beats, confidence = follow(create_tracker("flux"), clicks(sounding, 20))
    during = offsets_s(beats, true[(true > 8.2) & (true < 12.2)])
    assert np.abs(during).max() < 0.02
    after = offsets_s(beats, true[(true > 12.2) & (true < 19.5)])
    assert np.abs(after).max() < 0.03
    assert confidence[1210] < 0.6 * confidence[800]


def test_no_confidence_in_silence(tracker: BeatTracker) -> None:
    _, confidence = follow(tracker, np.zeros(5 * RATE, np.float32))
    assert confidence.max() < 0.1


def test_gain_does_not_matter_to_flux() -> None:
    true = grid(110, 0.4, 10)
    for gain in (0.01, 0.9):
        beats, _ = follow(create_tracker("flux"), clicks(true, 10, gain))
        assert np.abs(offsets_s(beats, true[(true > 5) & (true < 9.8)])).max() < 0.03


def collect(tracker: BeatTracker, audio: NDArray[np.float32]) -> list[BeatEstimate | None]:
    return [tracker.process(audio[i : i + HOP], (i // HOP + 1) * HOP_NS) for i in range(0, len(audio) - HOP + 1, HOP)]


def test_deterministic_and_reset(tracker: BeatTracker) -> None:
    audio = clicks(grid(100, 0.4, 6), 6)
    first = collect(tracker, audio)
    tracker.reset()
    assert first == collect(tracker, audio)
    assert any(e is not None for e in first)


def test_survives_what_is_not_a_number(tracker: BeatTracker) -> None:
    audio = clicks(grid(120, 0.4, 8), 8)
    audio[RATE : RATE + 4800] = np.nan
    audio[2 * RATE : 2 * RATE + 48] = np.inf
    audio[3 * RATE : 3 * RATE + 48] = 1e30
    estimates = collect(tracker, audio)
    last = estimates[-1]
    assert last is not None
    assert np.isfinite([last.beat_ns, last.period_ns, last.confidence]).all()


def test_protocol_attributes(tracker: BeatTracker) -> None:
    assert (tracker.sample_rate_hz, tracker.hop_samples) == (RATE, HOP)


def test_unknown_tracker_is_the_users_error() -> None:
    with pytest.raises(UserError, match="choose one of flux, aubio or neural"):
        create_tracker("magic")
