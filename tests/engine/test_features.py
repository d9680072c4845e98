"""Features: causal, gain-robust, finite, and the same whether a file or a stream is heard."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.features import HOP_SAMPLES, SAMPLE_RATE_HZ, FeatureExtractor, FeatureSpec, TickPooler, pool_ticks

SPEC = FeatureSpec()


def column(rows: np.ndarray, name: str) -> np.ndarray:
    return rows[..., SPEC.column(name)]


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    """Four seconds at 48 kHz: kick on the beat (120 bpm), hi-hat off it, a held chord of A, a little noise."""
    rng = np.random.default_rng(5)
    t = np.arange(4 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    to_kick = t % 0.5
    to_hat = (t + 0.25) % 0.5
    sound = 0.5 * np.sin(2 * np.pi * 60 * to_kick) * np.exp(-to_kick / 0.06)
    sound += 0.2 * rng.standard_normal(len(t)) * np.exp(-to_hat / 0.02) * (t > 0.25)
    sound += 0.05 * sum(np.sin(2 * np.pi * hz * t) for hz in (440.0, 554.37, 659.26))
    return (sound + 1e-3 * rng.standard_normal(len(t))).astype(np.float32)


def test_shape_names_and_digest_describe_the_rows(music: np.ndarray) -> None:
    rows = FeatureExtractor().extract(music)
    assert rows.shape == (400, SPEC.count)
    assert rows.dtype == np.float32
    assert len(set(SPEC.names)) == SPEC.count == len(SPEC.silence)
    assert len(SPEC.digest) == 16
    assert FeatureSpec().digest == SPEC.digest


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(FeatureSpec)])
def test_every_constant_changes_the_digest(field: str) -> None:
    assert dataclasses.replace(SPEC, **{field: getattr(SPEC, field) * 2}).digest != SPEC.digest


def test_rows_do_not_depend_on_what_comes_after(music: np.ndarray) -> None:
    future = music.copy()
    future[200 * HOP_SAMPLES :] = 0.9
    now, changed = FeatureExtractor().extract(music), FeatureExtractor().extract(future)
    assert np.array_equal(now[:200], changed[:200])
    assert not np.array_equal(now[200], changed[200])


def test_stream_equals_file_and_without_reset_it_does_not(music: np.ndarray) -> None:
    extractor = FeatureExtractor()
    whole = extractor.extract(music)
    extractor.reset()
    streamed = np.stack([extractor.process(hop) for hop in music.reshape(-1, HOP_SAMPLES)])
    assert np.array_equal(whole, streamed)
    assert not np.array_equal(whole, extractor.extract(music))


@pytest.mark.parametrize("gain", [0.02, 3.0])
def test_music_at_another_gain_gives_the_same_features(music: np.ndarray, gain: float) -> None:
    rows, other = FeatureExtractor().extract(music), FeatureExtractor().extract(music * np.float32(gain))
    np.testing.assert_allclose(other, rows, atol=2e-3)


def test_a_turned_fader_is_forgotten(music: np.ndarray) -> None:
    long = np.tile(music, 10)
    turned = long * np.where(np.arange(len(long)) < len(music), 1.0, 0.1).astype(np.float32)
    level = column(FeatureExtractor().extract(turned) - FeatureExtractor().extract(long), "level")
    assert level[410:420].mean() < -1.8  # 20 dB down, in tens of dB
    assert abs(level[-100:].mean()) < 0.1


def test_onsets_show_in_their_register_within_30_ms(music: np.ndarray) -> None:
    rows = FeatureExtractor().extract(music)
    for name, first in (("onset_low", 1.0), ("onset_high", 1.25)):
        strength = column(rows, name)
        for start in np.arange(first, 3.9, 0.5):
            hop = round(start * 100)
            assert hop <= np.argmax(strength[hop - 10 : hop + 15]) + hop - 10 <= hop + 3
            assert strength[hop : hop + 4].max() > 5 * np.median(strength)


def test_chroma_finds_the_chord_and_the_centroid_the_brightness(music: np.ndarray) -> None:
    chroma = FeatureExtractor().extract(music)[100:, SPEC.column("chroma_c") : SPEC.column("chroma_b") + 1].mean(axis=0)
    assert set(np.argsort(chroma)[-3:]) == {9, 1, 4}  # A, C sharp, E
    rng = np.random.default_rng(1)
    noise = (0.1 * rng.standard_normal(SAMPLE_RATE_HZ)).astype(np.float32)
    bright = FeatureExtractor().extract(noise)[50:]
    dull = FeatureExtractor().extract(np.convolve(noise, np.ones(64) / 8, "same").astype(np.float32))[50:]
    assert column(bright, "centroid").mean() > column(dull, "centroid").mean() + 0.3
    assert column(bright, "flatness").mean() > column(dull, "flatness").mean() + 0.5


def test_silence_is_one_constant_row_and_the_gate_has_hysteresis(music: np.ndarray) -> None:
    extractor = FeatureExtractor()
    silence = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
    assert np.all(extractor.extract(silence) == SPEC.silence)
    rows = extractor.extract(np.concatenate([music, silence]))
    assert np.all(column(rows[:400], "active") == 1.0)
    assert np.all(column(rows[402:449], "active") == 1.0)
    assert np.all(rows[452:] == SPEC.silence)
    tone = np.sin(2 * np.pi * 1000 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ).astype(np.float32) * np.sqrt(2.0)
    between = (tone * 10 ** (-60 / 20)).astype(np.float32)
    fresh = FeatureExtractor()
    fresh.extract(between)
    assert not fresh.active
    fresh.extract(tone * np.float32(0.1))
    fresh.extract(between)
    assert fresh.active
    assert fresh.level_dbfs == pytest.approx(-60.0, abs=0.1)


def test_non_finite_samples_count_as_zero(music: np.ndarray) -> None:
    broken, zeroed = music.copy(), music.copy()
    where = slice(48_000, 48_100)
    broken[where], zeroed[where] = np.nan, 0.0
    broken[50_000], zeroed[50_000] = -np.inf, 0.0
    assert np.array_equal(FeatureExtractor().extract(broken), FeatureExtractor().extract(zeroed))


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.float32, (12, HOP_SAMPLES), elements=st.floats(width=32)),
    st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_rows_are_finite_whatever_comes_in(hops: np.ndarray, scale: float) -> None:
    extractor = FeatureExtractor()
    with np.errstate(over="ignore", invalid="ignore"):
        hops = hops * np.float32(scale)
    for hop in hops:
        assert np.all(np.isfinite(extractor.process(hop)))


def test_a_wrong_hop_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a hop"):
        FeatureExtractor().process(np.zeros(441, np.float32))


def test_pooling_takes_the_mean_and_of_onsets_the_maximum() -> None:
    rows = np.zeros((6, SPEC.count), np.float32)
    rows[:, SPEC.column("onset")] = rows[:, SPEC.column("level")] = np.arange(6)
    ends = np.arange(1, 7) * 0.01
    pooled = pool_ticks(rows, ends, [0.005, 0.02, 0.025, 0.06, 9.0])
    assert np.array_equal(pooled[0], SPEC.silence)
    assert column(pooled, "onset")[1:].tolist() == [1, 1, 5, 5]
    assert column(pooled, "level")[1:].tolist() == [0.5, 1, 3.5, 5]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.floats(0.0, 0.3), min_size=1, max_size=60),
    tick_steps=st.lists(st.floats(0.0, 0.5), min_size=1, max_size=40),
    seed=st.integers(0, 1000),
)
def test_streaming_pooler_equals_batch(steps: list[float], tick_steps: list[float], seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((len(steps), SPEC.count)).astype(np.float32)
    ends, ticks = np.cumsum(steps), np.cumsum(tick_steps)
    expected = pool_ticks(rows, ends, ticks)
    pooler, fed = TickPooler(), 0
    for tick, row in zip(ticks, expected, strict=True):
        while fed < len(ends) and ends[fed] <= tick + 0.05:  # a block ahead of the tick, as on stage
            pooler.push(rows[fed], round(ends[fed] * 1e9))
            fed += 1
        assert np.array_equal(pooler.pool(round(tick * 1e9)), row)
    pooler.reset()
    assert np.array_equal(pooler.pool(0), SPEC.silence)
