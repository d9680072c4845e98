"""The beat benchmark's scoring, calibration and file format: small cases with known answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bench.beats import run
from tests.bench.beats.arrangements import Sources
from tests.bench.beats.firmness import firmness_ms, offsets_s
from tests.bench.beats.items import Item, read_index, read_samples, write_index, write_item
from tests.bench.beats.peers import PEERS
from tests.bench.beats.recordings import grid_offset
from tests.bench.beats.score import (
    bootstrap,
    called_times,
    continuity,
    level_shares,
    macro_mean,
    match,
    relock_times,
    score,
    summarise,
)

BEATS = np.arange(0.5, 40.0, 0.5)


def item(beats: np.ndarray = BEATS, **changes: object) -> Item:
    values: dict[str, object] = {
        "name": "song",
        "category": "pop",
        "duration_s": 40.0,
        "beats_s": beats.tolist(),
        "silences_s": [],
        "changes_s": [],
        "recorded": False,
        "source": "made up",
    }
    return Item(**{**values, **changes})  # type: ignore[arg-type]


def said(times: np.ndarray, lead_s: float = 0.0) -> np.ndarray:
    return np.stack([times - lead_s, times], axis=1)


def test_perfect_calls_score_one() -> None:
    scores = score(item(), said(BEATS, 0.05))
    assert (scores.f_measure, scores.cmlt, scores.amlt, scores.true_level) == (1.0, 1.0, 1.0, 1.0)
    assert scores.offset_s == pytest.approx(0.0)


def test_firmness_asks_only_beats_that_have_a_call_and_leaves_out_what_is_always_so() -> None:
    late, swinging = BEATS + 0.02, BEATS + np.where(np.arange(len(BEATS)) % 2, 0.06, -0.02)
    assert offsets_s(late, BEATS) == pytest.approx(np.full(69, 0.02))
    assert len(offsets_s(late[:40], BEATS)) == 30  # from 5 s to 20 s; who is silent later is not far off
    assert len(offsets_s(np.zeros(0), BEATS)) == 0
    steady = firmness_ms({"a": [offsets_s(late, BEATS)], "b": [offsets_s(late, BEATS)]})
    assert steady["a"] == pytest.approx([0.0], abs=1e-6)
    both = firmness_ms({"a": [offsets_s(swinging, BEATS), np.zeros(0)]})["a"]
    assert both[0] == pytest.approx(80.0)
    assert np.isnan(both[1])


def test_a_beat_said_late_counts_when_it_is_said() -> None:
    # It names the right moment, but 100 ms after it: nobody could have danced it.
    emissions = np.stack([BEATS + 0.1, BEATS], axis=1)
    np.testing.assert_allclose(called_times(emissions), BEATS + 0.1)
    assert score(item(), emissions).f_measure == 0.0
    assert score(item(), emissions, shift_s=-0.1).f_measure == 1.0


def test_the_first_five_seconds_are_free() -> None:
    assert score(item(), said(BEATS[BEATS >= 5.0])).f_measure == 1.0


@pytest.mark.parametrize(("error_s", "right"), [(0.069, True), (-0.069, True), (0.072, False), (-0.072, False)])
def test_the_window_is_70_ms_either_side(error_s: float, right: bool) -> None:
    called = BEATS[(BEATS > 6.0) & (BEATS < 39.0)]
    truth = item(called)
    assert score(truth, said(called + error_s)).f_measure == (1.0 if right else 0.0)


def test_matching_is_one_to_one() -> None:
    calls, beats = match(np.array([0.95, 1.0, 1.05]), np.array([1.0]))
    assert (len(calls), beats.tolist()) == (1, [0])


def test_matching_finds_as_many_as_there_are() -> None:
    calls, _ = match(np.array([1.05, 1.12]), np.array([1.0, 1.1]))
    assert len(calls) == 2


def test_double_tempo_keeps_recall_and_halves_precision() -> None:
    scores = score(item(), said(np.arange(0.5, 40.0, 0.25)))
    assert scores.recall == 1.0
    assert scores.precision == pytest.approx(0.5, abs=0.02)
    assert scores.double > 0.95
    assert scores.cmlt < 0.1
    assert scores.amlt > 0.95


def test_half_tempo_and_off_beat_are_allowed_levels() -> None:
    half = score(item(), said(BEATS[::2]))
    assert half.half > 0.95
    assert half.amlt == pytest.approx(1.0, abs=0.05)
    off = score(item(), said(BEATS + 0.25))
    assert off.f_measure == 0.0
    assert off.amlt > 0.95


def test_continuity_breaks_where_a_beat_is_missed() -> None:
    beats = np.arange(20) * 0.5
    share, _ = continuity(np.delete(beats, 10), beats)
    assert share == pytest.approx(18 / 20)  # the missed beat, and the one after it that follows nothing


def test_three_halves_is_another_level() -> None:
    shares = level_shares(np.arange(0.0, 40.0, 0.5 / 1.5), BEATS)
    assert shares["x3/2"] > 0.95
    assert shares["other"] == pytest.approx(1.0 - shares["x1"] - shares["none"], abs=1e-9)


def test_no_calls_at_all() -> None:
    scores = score(item(), np.zeros((0, 2)))
    assert (scores.f_measure, scores.no_tempo) == (0.0, 1.0)
    assert np.isnan(scores.offset_s)


def test_calls_in_silence_are_counted_apart() -> None:
    beats = np.concatenate([np.arange(0.5, 20.0, 0.5), np.arange(24.0, 39.9, 0.5)])
    truth = item(beats, silences_s=[(20.0, 24.0)], changes_s=[24.0])
    scores = score(truth, said(BEATS))
    assert scores.f_measure == 1.0
    assert scores.silence_calls == 8  # 20.0, 20.5 ... 23.5; the call for 24.0 belongs to the return
    assert scores.silence_s == pytest.approx(4.0)
    assert scores.relock_s == [0.0]


def test_relock_is_the_first_of_four_beats_hit_in_a_row() -> None:
    beats = np.arange(0.0, 20.0, 0.5)
    late = np.concatenate([np.arange(0.0, 10.0, 0.5), np.arange(10.2, 12.0, 0.5), np.arange(12.0, 20.0, 0.5)])
    assert relock_times(late, beats, [10.0]) == [pytest.approx(2.0)]
    assert relock_times(late[late < 11.9], beats, [10.0]) == [np.inf]


def test_doubled_calls_do_not_count_as_locked() -> None:
    beats = np.arange(0.0, 20.0, 0.5)
    assert relock_times(np.arange(0.0, 20.0, 0.25), beats, [10.0]) == [np.inf]


def test_macro_mean_weighs_categories_alike() -> None:
    assert macro_mean([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]) == 0.5
    assert macro_mean([float("nan"), 1.0], ["a", "b"]) == 1.0


def test_bootstrap_interval_holds_the_mean_and_shrinks() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(0.5, 0.1, 8), rng.normal(0.5, 0.1, 200)
    low, high = bootstrap(few, ["a"] * 8)
    assert low < few.mean() < high
    low_many, high_many = bootstrap(many, ["a"] * 200)
    assert high_many - low_many < 0.5 * (high - low)


def test_grid_offset_reads_clicks_within_two_milliseconds() -> None:
    rate, rng = 48_000, np.random.default_rng(0)
    samples = rng.normal(0.0, 1e-4, 20 * rate).astype(np.float32)
    click = (np.exp(-np.arange(960) / 200) * rng.normal(size=960)).astype(np.float32)
    for beat in np.arange(0.5, 19.0, 0.6):
        at = round(beat * rate)
        samples[at : at + 960] += click
    offset_s, clarity = grid_offset(samples, rate, 0.6, 0.47)
    assert offset_s == pytest.approx(0.03, abs=0.002)
    assert clarity > 3.0


def test_item_files_round_trip_and_old_versions_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = item(silences_s=[(1.0, 2.0)])
    assert read_index(tmp_path) is None
    write_item(tmp_path, truth, np.full(480, 0.25, dtype=np.float32))
    write_index(tmp_path, [truth])
    assert read_index(tmp_path) == [truth]
    np.testing.assert_array_equal(read_samples(tmp_path, truth), np.full(480, 0.25, dtype=np.float32))
    monkeypatch.setattr("tests.bench.beats.items.VERSION", "another")
    assert read_index(tmp_path) is None


def test_tables_are_made_from_what_was_said(tmp_path: Path) -> None:
    items = [item(), item(name="tune", category="3/4", recorded=True)]
    for name, error_s in (("aubio", 0.06), ("ours", 0.0)):
        lines = [{"name": i.name, "emissions": said(BEATS + error_s).tolist(), "cpu_s": 0.01} for i in items]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    results = {n: run.judge(items, run.read_emissions(tmp_path / f"{n}.jsonl")) for n in ("aubio", "ours")}
    assert results["aubio"].summary.offset_s == pytest.approx(0.06)
    assert results["ours"].cpu_us_per_s == pytest.approx(250.0)
    text = run.table(results) + run.category_table(results)
    assert "| ours | 1.000 | 1.000-1.000 | 1.000 |" in text
    assert "| 3/4 | 1.000 | 1.000 |" in text
    assert "ours against aubio: F +0.000" in run.differences(items, results)


def test_summary_of_a_set() -> None:
    truth = [item(), item(name="lost", changes_s=[20.0])]
    summary = summarise(truth, {"song": score(truth[0], said(BEATS)), "lost": score(truth[1], np.zeros((0, 2)))})
    assert summary.means["f_measure"] == 0.5
    assert summary.relock_s == [np.inf]
    assert np.isnan(summary.recorded_f)


@pytest.mark.parametrize("name", ["ours-aubio", "ours-flux"])
def test_our_adapters_announce_clicks_ahead(name: str) -> None:
    pytest.importorskip("aubio")
    beats = np.arange(0.3, 14.0, 0.5)
    samples = np.random.default_rng(0).normal(0.0, 1e-4, 14 * 48_000).astype(np.float32)
    for beat in beats:
        at = round(beat * 48_000)
        samples[at : at + 960] += np.exp(-np.arange(960) / 200).astype(np.float32) * np.sin(np.arange(960))
    emissions, cpu_s = PEERS[name]()(samples)
    pairs = np.asarray(emissions)
    late = pairs[pairs[:, 1] > 10.0]
    assert len(late) >= 6
    assert (late[:, 0] < late[:, 1]).all()
    assert np.abs(((late[:, 1] - 0.3 + 0.25) % 0.5) - 0.25).max() < 0.05
    assert cpu_s > 0.0


def test_training_songs_are_refused() -> None:
    with pytest.raises(ValueError, match="training music"):
        Sources(Path("pop909.zip"), Path("groove.zip")).song(17, 32)
