"""What is measured of played music: known bands give known figures, and the nulls know nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.body.pose_features import PoseFeatureSpec
from engine.playing.rule_composer import RuleComposer
from models.dance_to_music.composed import DanceToPlay, compose, grid_of
from models.dance_to_music.measure import EnergyScale, coupled, loudness, measure, movement_energy
from models.evaluation.piano_roll import draw
from tests.models.dance_to_music.gdm_fixtures import band

STEPS = 16 * 12


def _dance(seed: int = 0) -> DanceToPlay:
    spec, random = PoseFeatureSpec(), np.random.default_rng(seed)
    poses = random.standard_normal((3 * STEPS, spec.size)).astype(np.float32)
    wave = 0.5 + 0.45 * np.sin(np.arange(STEPS) / 20.0)
    return DanceToPlay(poses, 0, np.full(STEPS, 100.0), wave, 4, 0)


def test_energies_are_quantiles_of_the_training_dances() -> None:
    spec, random = PoseFeatureSpec(), np.random.default_rng(0)
    dances = [np.abs(random.standard_normal((600, spec.size))).astype(np.float32) for _ in range(2)]
    scale = EnergyScale.of(dances)
    ranks = scale(dances[0])
    assert ranks.min() >= 0.0
    assert ranks.max() <= 1.0
    assert ranks.mean() == pytest.approx(0.5, abs=0.08)
    assert not scale(np.zeros((5, spec.size), np.float32)).any()
    # Causal: what comes later changes nothing.
    changed = dances[0].copy()
    changed[300:] *= 5.0
    assert np.array_equal(movement_energy(dances[0])[:300], movement_energy(changed)[:300])


def test_music_that_follows_the_movement_is_told_from_music_that_does_not() -> None:
    energy = np.abs(np.random.default_rng(1).standard_normal(400)).cumsum() % 5.0
    coupling, null = coupled(2.0 * energy + 1.0, energy)
    assert coupling == pytest.approx(1.0)
    assert null < 0.5
    assert np.isnan(coupled(np.ones(400), energy)[0])


def test_a_known_band_has_known_figures() -> None:
    grid = band(12)
    figures = measure(grid, np.linspace(0.0, 1.0, grid.steps), "none", 0)
    # Eighths at 100 bpm: every other one is on a beat, none of the others within 100 ms.
    assert figures.beat_hit == pytest.approx(0.5)
    assert figures.beat_coverage == 1.0
    assert figures.beat_hit_null < figures.beat_hit
    assert figures.onsets == (8.0, 4.0, 1.0, 8.0)
    assert loudness(grid)[0] == pytest.approx(0.9 + 0.4 + 0.7 + 0.5 + 0.8)


def test_steps_become_the_grid_they_were() -> None:
    from engine.types import MusicStep, VoiceStep

    hold, drums = VoiceStep(hold=True), np.zeros(9, np.float32)
    steps = [
        MusicStep(drums, hold, VoiceStep((52, 55, 60), 0.5), VoiceStep((70,), 0.0)),
        MusicStep(drums, VoiceStep((40,), 0.7), hold, VoiceStep()),
        MusicStep(drums, hold, hold, hold),
    ]
    grid = grid_of(steps, 100.0, 4, 0, "three", "test", "val")
    assert grid.bass.tolist() == [-1, 40, -2]
    assert grid.chord.tolist() == [0, -2, -2]
    assert grid.lead.tolist() == [70, -1, -1]
    assert 0.0 < grid.lead_velocity[0] < 0.01


def test_a_composer_is_played_through_a_dance() -> None:
    composer = RuleComposer()
    dance = _dance()
    music = compose(composer, dance, 1, "made", "val")
    assert music.steps == STEPS
    assert np.array_equal(music.lead, compose(composer, dance, 1, "made", "val").lead)


def test_a_piece_is_drawn(tmp_path: Path) -> None:
    grid = band(8)
    draw(grid, np.linspace(0.0, 1.0, grid.steps), tmp_path / "roll.png", "a band")
    assert (tmp_path / "roll.png").stat().st_size > 10_000
