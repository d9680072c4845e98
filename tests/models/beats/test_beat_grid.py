"""Learning the grid judge: its windows show the true grid first, and what is written can be read and tells it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from engine.beats.grid_judge import BINS, CHANNELS, GridJudge

torch = pytest.importorskip("torch")

from models.beats.cache import labels  # noqa: E402
from models.beats.corpus import Clip  # noqa: E402
from models.beats.grid import train, windows  # noqa: E402

HOPS = 3000


def beaten(period: float, first: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """Return bands in which low and high parts rise on the beat, and high parts alone half-way; and the beats."""
    bands = np.random.default_rng(int(period)).random((HOPS, 88)).astype(np.float32) * 0.1
    at = np.arange(HOPS)
    on, off = (at - first) % period, (at - first - period / 2) % period
    bands[:, 12:24] += 2.0 * (np.exp(-on / 5) + np.exp(-off / 5))[:, None]
    bands[:, :6] += 3.0 * np.exp(-on / 8)[:, None]
    bands[:, 24:50] += 2.0 * np.exp(-on / 8)[:, None]
    return bands, np.arange(first, HOPS - 1, period)


def test_windows_show_the_true_grid_first() -> None:
    bands, beats = beaten(52.0)
    shown, counted = windows(bands, beats, np.random.default_rng(0))
    assert len(shown) > 8
    low = np.stack(shown)[:, :4, : BINS * CHANNELS].reshape(-1, 4, BINS, CHANNELS)[..., 0].mean(axis=0)
    assert low.argmax(axis=1).tolist() == [0, 6, 9, 3], "in place, and moved by a half and by a quarter either way"
    assert all(which[0] for which in counted)
    assert not any(which[4] for which in counted), "double this tempo is faster than the filter knows"


def test_what_is_written_tells_the_beat_from_the_off_beat(tmp_path: Path) -> None:
    clips = [beaten(period) for period in (44.0, 50.0, 57.0, 65.0, 74.0, 84.0)]
    silent = np.zeros((0, 2))
    truths = [labels(Clip(np.zeros(1, np.float32), b / 100, np.arange(len(b)) % 4, silent, 4), HOPS) for _, b in clips]
    np.save(tmp_path / "labels_000.npy", np.stack(truths))
    np.save(tmp_path / "features_000.npy", np.stack([bands for bands, _ in clips]).astype(np.float16))
    train(tmp_path, tmp_path / "judge.safetensors", epochs=80, passes=2, seed=3)
    judge = GridJudge(load_file(tmp_path / "judge.safetensors"))
    bands, beats = beaten(61.0)
    for row in bands[:1500]:
        judge.hear(row)
    assert judge.scores(61.0, float(beats[3])).argmax() == 0
    assert judge.scores(61.0, float(beats[3]) + 30.5).argmax() == 1
