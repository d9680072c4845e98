"""HopStream: any blocks in, the same hops out, each stamped with when its newest sample sounded."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audio.resample import Hop, HopStream
from engine.features import HOP_NS, HOP_SAMPLES, FeatureExtractor
from engine.types import NS_PER_S, AudioBlock

RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)


def blocks_of(samples: np.ndarray, rate: int, size: int, start_ns: int = 0) -> list[AudioBlock]:
    return [
        AudioBlock(i, start_ns + min(i + size, len(samples)) * NS_PER_S // rate, samples[i : i + size], rate)
        for i in range(0, len(samples), size)
    ]


def hops_of(blocks: list[AudioBlock], stream: HopStream | None = None) -> list[Hop]:
    stream = stream or HopStream()
    return [hop for block in blocks for hop in stream.push(block)]


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((round(seconds * rate), channels))).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_hops_and_features_do_not_depend_on_the_block_size(rate: int) -> None:
    sound = noise(0.6, rate, 2)
    reference = hops_of(blocks_of(sound, rate, 64))
    assert len(reference) >= 59
    rows = FeatureExtractor().extract(np.concatenate([hop.samples for hop in reference]))
    for size in (65, 441, 1024, 4096):
        hops = hops_of(blocks_of(sound, rate, size))
        assert len(hops) == len(reference)
        for a, b in zip(reference, hops, strict=True):
            assert np.array_equal(a.samples, b.samples)
            assert a.end_ns == b.end_ns, "though each block's time is rounded to whole nanoseconds"
        assert np.array_equal(rows, FeatureExtractor().extract(np.concatenate([hop.samples for hop in hops])))


def test_stream_equals_file_and_without_reset_it_does_not() -> None:
    sound = noise(0.5, 44_100)
    stream = HopStream()
    first = np.stack([hop.samples for hop in hops_of(blocks_of(sound, 44_100, 512), stream)])
    again = np.stack([hop.samples for hop in hops_of(blocks_of(sound, 44_100, 512, NS_PER_S // 2), stream)])
    assert not np.array_equal(first, again[: len(first)])
    stream.reset()
    assert np.array_equal(first, np.stack([h.samples for h in hops_of(blocks_of(sound, 44_100, 512), stream)]))


@pytest.mark.parametrize("rate", RATES)
def test_a_click_is_stamped_when_it_sounded(rate: int) -> None:
    """Resampler and filter delays are in the times: the click is found where it was put, within 0.1 ms."""
    click_s = 0.3037
    t = np.arange(rate) / rate
    sound = np.exp(-0.5 * ((t - click_s) / 5e-4) ** 2).astype(np.float32)[:, None]
    start_ns = 7 * NS_PER_S
    hops = hops_of(blocks_of(sound, rate, 256, start_ns))
    y = np.concatenate([hop.samples for hop in hops])
    times = np.concatenate([hop.end_ns - HOP_NS + np.arange(1, HOP_SAMPLES + 1) * HOP_NS / HOP_SAMPLES for hop in hops])
    found_s = float((np.maximum(y - 0.05, 0) * times).sum() / np.maximum(y - 0.05, 0).sum() - start_ns) / NS_PER_S
    assert found_s - 0.5 / 48_000 == pytest.approx(click_s + 0.5 / rate, abs=1e-4)


@pytest.mark.parametrize("rate", RATES)
def test_delay_stays_under_a_millisecond(rate: int) -> None:
    stream, heard, made = HopStream(), 0, 0
    for block in blocks_of(noise(1.0, rate), rate, 16):
        heard += len(block.samples)
        made += len(stream.push(block)) * HOP_SAMPLES
        assert heard / rate - made / 48_000 < 0.010 + 0.001 + 16 / rate


@pytest.mark.parametrize("rate", [r for r in RATES if r >= 22_050])
def test_a_tone_keeps_its_frequency_and_level(rate: int) -> None:
    t = np.arange(rate) / rate
    sound = (0.5 * np.sin(2 * np.pi * 3000 * t)).astype(np.float32)[:, None]
    y = np.concatenate([hop.samples for hop in hops_of(blocks_of(sound, rate, 480))])[4800:43200]
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y)))) / (len(y) / 4)
    assert np.argmax(spectrum) == pytest.approx(3000 * len(y) / 48_000, abs=1)
    assert spectrum.max() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("rate", [88_200, 96_000, 192_000])
def test_ultrasound_does_not_fold_into_the_music(rate: int) -> None:
    t = np.arange(rate) / rate
    sound = np.sin(2 * np.pi * 42_000 * t).astype(np.float32)[:, None]
    y = np.concatenate([hop.samples for hop in hops_of(blocks_of(sound, rate, 480))])[4800:]
    assert np.abs(y).max() < 0.003  # 50 dB down


def test_direct_current_is_removed_and_bass_kept() -> None:
    t = np.arange(96_000) / 48_000
    bass = 0.3 * np.sin(2 * np.pi * 40 * t)
    hops = hops_of(blocks_of((bass + 0.4).astype(np.float32)[:, None], 48_000, 480))
    settled = np.concatenate([hop.samples for hop in hops])[48_000:]
    np.testing.assert_allclose(settled, bass[48_000:], atol=0.02)


def test_faults_are_repaired_and_counted_and_clipping_is_counted() -> None:
    sound = noise(0.1, 48_000, 2)
    sound[100, 0], sound[200, 1], sound[300, 0] = np.nan, -np.inf, 1e30
    sound[1000:1010, 1] = 1.0
    stream = HopStream()
    hops = hops_of(blocks_of(sound, 48_000, 512), stream)
    assert stream.repaired_samples == 3
    assert stream.clipped_samples == 10
    assert all(np.all(np.isfinite(hop.samples)) and np.abs(hop.samples).max() <= 1.0 for hop in hops)


def test_a_short_hole_is_silence_of_its_length_and_a_long_one_restarts() -> None:
    rate, sound = 48_000, noise(0.5, 48_000)
    for hole_s, restarted in ((0.1, False), (1.9, False), (2.5, True)):
        lost = round(hole_s * rate)
        stream = HopStream()
        before = hops_of(blocks_of(sound, rate, 480), stream)
        later = blocks_of(sound, rate, 480, (len(sound) + lost) * NS_PER_S // rate)
        first = AudioBlock(len(sound) + lost, later[0].time_ns, later[0].samples, rate, gap_samples=lost)
        after = hops_of([first, *later[1:]], stream)
        assert after[0].restarted is restarted
        assert len(after) == 50 + (0 if restarted else round(hole_s * 100))
        assert stream.lost_samples == (0 if restarted else lost)
        assert after[-1].end_ns == later[-1].time_ns
        if not restarted:
            assert np.abs(after[5].samples).max() < 1e-3
            assert after[0].end_ns - before[-1].end_ns == HOP_NS


def test_a_hole_that_others_filled_is_not_counted_twice() -> None:
    """A watchdog fed silence while the sensor was away; its gap_samples then tell of time already heard."""
    rate, sound = 48_000, noise(0.5, 48_000)
    stream = HopStream()
    hops_of(blocks_of(sound, rate, 480), stream)
    hops_of(blocks_of(np.zeros_like(sound), rate, 480, NS_PER_S // 2), stream)
    back = AudioBlock(0, NS_PER_S + HOP_NS, sound[:480], rate, gap_samples=rate // 2)
    assert [hop.end_ns for hop in stream.push(back)] == [NS_PER_S + HOP_NS]
    assert stream.lost_samples == 0


def test_another_rate_and_time_running_backwards_restart_the_stream() -> None:
    stream = HopStream()
    hops = hops_of(blocks_of(noise(0.2, 48_000), 48_000, 480), stream)
    hops += hops_of(blocks_of(noise(0.2, 44_100), 44_100, 441, NS_PER_S // 5), stream)
    hops += hops_of(blocks_of(noise(0.1, 44_100), 44_100, 441), stream)
    assert sum(hop.restarted for hop in hops) == stream.restarts == 2
    assert all(b.end_ns > a.end_ns for a, b in itertools.pairwise(hops))


def test_impossible_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="sample rate"):
        HopStream().push(AudioBlock(0, 0, np.zeros((10, 1), np.float32), 100))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_comes_in_hops_are_finite_and_time_runs_forward(data: st.DataObject) -> None:
    stream, end_ns, last = HopStream(), 0, -(10**18)
    for _ in range(data.draw(st.integers(1, 12))):
        rate = data.draw(st.sampled_from((4_000, 7_999, 44_100, 48_000, 61_000, 192_000)))
        shape = (data.draw(st.integers(0, 3000)), data.draw(st.integers(0, 8)))
        sound = np.random.default_rng(data.draw(st.integers(0, 9))).standard_normal(shape).astype(np.float32)
        if data.draw(st.booleans()) and sound.size:
            sound.flat[:: data.draw(st.integers(1, 50))] = data.draw(st.floats(width=32))
        end_ns += shape[0] * NS_PER_S // rate + data.draw(st.integers(-(10**9), 3 * 10**9))
        gap = data.draw(st.one_of(st.just(0), st.integers(-5, 10**12)))
        for hop in stream.push(AudioBlock(0, end_ns, sound, rate, gap)):
            assert hop.samples.shape == (HOP_SAMPLES,)
            assert np.all(np.isfinite(hop.samples))
            assert hop.end_ns > last
            last = hop.end_ns
