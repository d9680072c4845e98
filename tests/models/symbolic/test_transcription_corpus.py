"""Rendered bands: their truth is where they sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.symbolic.pitch_activations import LOWEST_PITCH, PITCHES, PitchNetwork
from models.symbolic.step_grid import STEPS_PER_BEAT
from models.symbolic.transcription_corpus import Mix, chord_labels, hear, make_mix
from models.symbolic.transcription_training import Example, load_examples, make_examples, sources
from tests.models.rendering.test_rendering import FONTS
from tests.models.symbolic.test_corpora import write_groove, write_pop909

pytest.importorskip("tinysoundfont")


@pytest.fixture(scope="module")
def bands(tmp_path_factory: pytest.TempPathFactory) -> list[Mix]:
    font = next((path for path in FONTS if path.is_file()), None)
    if font is None:
        pytest.skip("no soundfont installed")
    folder = tmp_path_factory.mktemp("midi")
    write_pop909(folder / "pop909.zip")
    write_groove(folder / "groove.zip")
    found = sources(folder, "train", [font])
    paths = make_examples(found, folder / "work", 2, seed=5)
    assert paths == make_examples(found, folder / "work", 2, seed=5)
    assert len(load_examples(folder / "work")) == 2
    paths[0].write_bytes(b"broken")
    assert len(load_examples(folder / "work")) == 1
    return [make_mix(found, np.random.default_rng(seed)) for seed in range(8)]


def test_every_band_is_whole(bands: list[Mix]) -> None:
    for band in bands:
        assert len(band.step_s) == band.grid.steps + 1
        assert band.grid.steps % (STEPS_PER_BEAT * band.grid.beats_per_bar) == 0
        assert band.grid.known.all()
        assert np.isfinite(band.samples).all()
        assert band.step_s[-1] < len(band.samples) / band.rate_hz + 0.2
        assert (chord_labels(band.grid) >= 0).any()
    assert {band.grid.beats_per_bar for band in bands} == {3, 4}


def test_the_bass_sounds_where_the_truth_says(bands: list[Mix]) -> None:
    network = PitchNetwork()
    there, beside = [], []
    for band in bands[:4]:
        heard = hear(band, network)[:, 2 * PITCHES : 3 * PITCHES]
        at = np.flatnonzero(band.grid.bass >= 0)
        row = band.grid.bass[at] - LOWEST_PITCH
        there.append(heard[at, row].mean())
        beside.append(heard[np.minimum(at + 2, len(heard) - 1), row].mean())
    assert np.mean(there) > 0.4
    assert np.mean(there) > 2.0 * np.mean(beside)


def test_an_example_keeps_the_truth(bands: list[Mix], tmp_path: Path) -> None:
    example = Example.of(bands[0], PitchNetwork())
    example.save(tmp_path / "0000.npz")
    (back,) = load_examples(tmp_path)
    np.testing.assert_array_equal(back.bass, bands[0].grid.bass)
    np.testing.assert_array_equal(back.features, example.features)
    assert np.flatnonzero(back.downbeats)[0] == 0
