"""The beat network: NumPy against torch, its weights, and the tracker made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.beats import BeatFollower
from engine.beats.spectrum import BandSpectrum
from engine.errors import UserError
from engine.types import NS_PER_S
from models.beats.activation import (
    BANDS,
    FRONT_HOPS,
    STRIDE_HOPS,
    WEIGHTS,
    BeatActivation,
    create_tracker,
    load,
)

HOP, RATE, HOP_NS = 480, 48_000, 10_000_000


def band_limited_clicks(bpm: float, length_s: float, start_s: float = 0.4) -> np.ndarray:
    rng = np.random.default_rng(3)
    out = rng.normal(0, 1e-4, round(length_s * RATE))
    t = np.arange(round(0.06 * RATE)) / RATE
    burst = 0.3 * np.exp(-t / 0.012) * (np.sin(2 * np.pi * 900 * t) + 0.5 * np.sin(2 * np.pi * 220 * t))
    for time in np.arange(start_s, length_s - 0.1, 60 / bpm):
        at = round(time * RATE)
        out[at : at + len(burst)] += burst
    return out.astype(np.float32)


def test_numpy_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    weights = load_file(WEIGHTS[0])
    bands = np.random.default_rng(0).random((60, BANDS)).astype(np.float32) * 4
    network = BeatActivation(weights)
    heard = [network.process(b) for b in bands]

    layers = {name: torch.from_numpy(value) for name, value in weights.items()}
    front, units = len(weights["front.bias"]), len(weights["gru1.weight_hh_l0"][0])
    one = torch.nn.GRU(front, units, batch_first=True)
    two = torch.nn.GRU(units, units, batch_first=True)
    one.load_state_dict({k.removeprefix("gru1."): v for k, v in layers.items() if k.startswith("gru1.")})
    two.load_state_dict({k.removeprefix("gru2."): v for k, v in layers.items() if k.startswith("gru2.")})
    x = torch.from_numpy((bands - weights["mean"]) * weights["scale"])
    x = torch.cat([torch.zeros(FRONT_HOPS - STRIDE_HOPS, BANDS), x])
    windows = x.unfold(0, FRONT_HOPS, STRIDE_HOPS).swapaxes(1, 2).reshape(-1, FRONT_HOPS * BANDS)
    with torch.no_grad():
        front = torch.relu(windows @ layers["front.weight"].T + layers["front.bias"])
        out = two(one(front[None])[0])[0][0] @ layers["head.weight"].T + layers["head.bias"]
    expected = torch.sigmoid(out[:, : 2 * STRIDE_HOPS]).reshape(-1, 2).numpy()
    found = np.array([(a.beat, a.downbeat) for a in heard])
    # The first answer of a pair is given with the pair's last hop, the second one hop later.
    np.testing.assert_allclose(found[STRIDE_HOPS - 1 :], expected[: len(found) - STRIDE_HOPS + 1], atol=1e-5)


def test_several_networks_answer_with_their_mean() -> None:
    bands = np.random.default_rng(4).random((30, BANDS)).astype(np.float32) * 4
    apart = [load(path) for path in WEIGHTS]
    together = load()

    def logit(chance: float) -> float:
        return float(np.log(chance / (1 - chance)))

    for row in bands:
        answers, mean = [network.process(row) for network in apart], together.process(row)
        if answers[0].beat > 0:
            assert logit(mean.beat) == pytest.approx(np.mean([logit(a.beat) for a in answers]), abs=1e-3)
            tempo = np.mean([a.tempo_log_chances for a in answers], axis=0)
            np.testing.assert_allclose(mean.tempo_log_chances, tempo, atol=1e-4)
    assert np.std([a.beat for a in answers]) > 1e-6, "they are not the same network"


def test_joined_networks_are_one_that_answers_with_their_mean() -> None:
    pytest.importorskip("torch")
    from models.beats.training import join

    parts = [dict(load_file(path)) for path in WEIGHTS]
    parts[-1]["mean"] = parts[-1]["mean"] + np.float32(0.1)  # which may have been taught with other statistics
    parts[-1]["scale"] = parts[-1]["scale"] * np.float32(1.1)
    joined, apart = BeatActivation(join(*parts)), BeatActivation(*parts)
    mean = np.mean([part["mean"] for part in parts], axis=0)
    for _ in range(8):  # until what each took to have been before the first hop is out of sight
        joined.process(mean), apart.process(mean)
    for network in [*joined._networks, *apart._networks]:
        network._one.reset()
        network._two.reset()
    rng = np.random.default_rng(6)
    rows = rng.random((60, BANDS)).astype(np.float32) * 4
    joined.process(rows[0]), apart.process(rows[0])  # still answer from before
    for row in rows[1:]:
        one, several = joined.process(row), apart.process(row)
        assert one.beat == pytest.approx(several.beat, abs=1e-5)
        np.testing.assert_allclose(one.tempo_log_chances, several.tempo_log_chances, atol=1e-3)


def test_reset_forgets() -> None:
    bands = np.random.default_rng(1).random((40, BANDS)).astype(np.float32) * 4
    network = load()
    first = [network.process(b).beat for b in bands]
    again = [network.process(b).beat for b in bands]
    network.reset()
    assert [network.process(b).beat for b in bands] == first
    assert again != first


def test_wrong_weights_are_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the beat network"):
        load(tmp_path / "missing.safetensors")
    broken = dict(load_file(WEIGHTS[0]))
    broken["front.bias"] = broken["front.bias"][:-1]
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(UserError, match=r"front\.bias"):
        load(tmp_path / "broken.safetensors")


@pytest.mark.parametrize("bpm", [60, 84, 120, 152, 180])
def test_clicks_are_followed_within_three_seconds(bpm: float) -> None:
    audio = band_limited_clicks(bpm, 10)
    tracker, follower, beats, last = create_tracker(), BeatFollower(), [], 0
    for hop in range(len(audio) // HOP):
        end_ns = (hop + 1) * HOP_NS
        state = follower.update(end_ns, tracker.process(audio[hop * HOP : (hop + 1) * HOP], end_ns), active=True)
        while state.timeline.beat_at(end_ns + 2 * HOP_NS) >= last + 1:
            last += 1
            beats.append(state.timeline.time_of(last) / NS_PER_S)
    true = np.arange(0.4, 9.7, 60 / bpm)
    scored = true[true > 0.4 + max(3.0, 240 / bpm)]
    late = np.array([beats[int(np.abs(np.array(beats) - t).argmin())] - t for t in scored])
    assert np.abs(late).max() < 0.05
    assert abs(np.median(late)) < 0.015
    assert np.median(np.diff([b for b in beats if b > 5])) == pytest.approx(60 / bpm, rel=0.02)


def test_the_spectrum_streams_as_it_extracts() -> None:
    audio = np.random.default_rng(2).normal(0, 0.1, 20 * HOP).astype(np.float32)
    spectrum = BandSpectrum()
    whole = spectrum.extract(audio)
    streamed = np.array([spectrum.process(h) for h in audio.reshape(-1, HOP)])
    np.testing.assert_allclose(streamed, whole, atol=2e-6)
    again = np.array([spectrum.process(h) for h in audio.reshape(-1, HOP)])
    assert not np.allclose(again, whole, atol=1e-3)  # without a reset it remembers
