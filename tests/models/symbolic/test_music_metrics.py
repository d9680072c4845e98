"""The measures of music on pieces for which the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.types import Key
from models.symbolic.music_metrics import (
    MusicMeasures,
    beat_coverage,
    beat_hit,
    corpus_ranges,
    empty_bar_rate,
    groove_similarity,
    note_density,
    onset_tempo_bpm,
    onset_times_s,
    pitch_class_entropy,
    polyphony,
    random_shift_null,
    scale_consistency,
    tempo_error,
)
from models.symbolic.step_grid import StepGrid, empty, voice_from_notes


def piece(lead: list[int], step: int = 4, bpm: float = 120.0) -> StepGrid:
    """A melody of equal notes, `step` steps each."""
    steps = len(lead) * step
    starts = np.arange(len(lead)) * step
    voice, velocity = voice_from_notes(steps, starts, starts + step, lead, np.full(len(lead), 0.5))
    grid = empty(steps, bpm, 4, 0, "x", "abc", "train", (False, False, False, True))
    return replace(grid, lead=voice, lead_velocity=velocity)


def test_beats_are_covered_and_hit_within_the_tolerance() -> None:
    beats = np.arange(10) * 0.5
    assert beat_coverage(beats + 0.099, beats) == 1.0
    assert beat_coverage(beats + 0.101, beats) == 0.0
    onsets = np.array([0.0, 0.25, 0.5, 0.5, 0.75])
    assert beat_hit(onsets, beats) == pytest.approx(0.5)  # one chord counts once
    assert beat_coverage(onsets, beats) == pytest.approx(0.2)
    assert beat_hit(onsets, beats, tolerance_s=0.3) == 1.0
    assert np.isnan(beat_hit(np.array([]), beats))
    assert beat_coverage(np.array([]), beats) == 0.0


def test_the_null_is_what_chance_gives() -> None:
    beats = np.arange(100) * 0.5
    # A stretch of 0.2 s round each beat of 0.5 s: by chance two onsets in five hit.
    assert random_shift_null(beat_hit, beats.copy(), beats) == pytest.approx(0.4, abs=0.08)
    assert beat_hit(beats, beats) == 1.0
    assert random_shift_null(beat_hit, beats, beats, seed=3) == random_shift_null(beat_hit, beats, beats, seed=3)


def test_tempo_errors() -> None:
    assert tempo_error(120.0, 120.0) == 0.0
    assert tempo_error(60.0, 120.0) == 1.0
    assert tempo_error(60.0, 120.0, octaves=True) == 0.0
    assert tempo_error(126.0, 120.0) == pytest.approx(0.0704, abs=1e-3)


def test_the_tempo_of_the_onsets() -> None:
    for bpm in (90.0, 120.0, 133.0):
        assert onset_tempo_bpm(piece([60, 62] * 30, bpm=bpm)) == pytest.approx(bpm, rel=0.02)
        # Notes on every beat and a half are another tempo, which no octave mends.
        syncopated = onset_tempo_bpm(piece([60, 62] * 30, step=6, bpm=bpm))
        assert tempo_error(syncopated, bpm, octaves=True) == pytest.approx(0.415, abs=0.03)
    assert np.isnan(onset_tempo_bpm(piece([60] * 2)))


def test_entropy_counts_pitch_classes() -> None:
    assert pitch_class_entropy(piece([60] * 16)) == 0.0
    assert pitch_class_entropy(piece([60, 72, 48, 60] * 4)) == 0.0
    assert pitch_class_entropy(piece([60, 62, 64, 65] * 4)) == pytest.approx(2.0)
    changing = piece([60] * 4 + [62] * 4 + [64] * 4 + [65] * 4)
    assert pitch_class_entropy(changing, 1) == 0.0
    assert pitch_class_entropy(changing, 4) == pytest.approx(2.0)


def test_scales() -> None:
    scale = [60, 62, 64, 65, 67, 69, 71, 72]
    assert scale_consistency(piece(scale)) == 1.0
    assert scale_consistency(piece([n + 5 for n in scale])) == 1.0
    chromatic = piece(list(range(60, 72)))
    assert scale_consistency(chromatic) == pytest.approx(7 / 12)
    assert scale_consistency(piece(scale), Key(9, True)) == 1.0
    assert scale_consistency(piece(scale), Key(1)) == pytest.approx(3 / 8)  # F and both Cs are in D flat major


def test_groove_is_one_for_equal_bars_and_falls_with_each_difference() -> None:
    assert groove_similarity(piece([60] * 32)) == 1.0
    grid = piece([60] * 8)
    lead, velocity = grid.lead.copy(), grid.lead_velocity.copy()
    lead[[20, 21, 22, 23]], velocity[20] = -1, 0.0
    assert groove_similarity(replace(grid, lead=lead, lead_velocity=velocity)) == pytest.approx(1.0 - 1 / 16)
    assert np.isnan(groove_similarity(piece([60] * 4)))


def test_density_polyphony_and_empty_bars() -> None:
    grid = piece([60] * 32)
    assert note_density(grid) == 1.0
    assert polyphony(grid) == 1.0
    bass = np.concatenate([grid.lead[:64], np.full(64, -1)])
    grid = replace(
        grid, bass=bass, bass_velocity=np.where(bass >= 0, 0.5, 0), known=np.array([False, True, False, True])
    )
    assert polyphony(grid) == pytest.approx(1.5)
    nothing = empty(128, 100.0, 4, 0, "x", "abc", "train")
    assert empty_bar_rate(nothing) == 1.0
    assert np.isnan(polyphony(nothing))
    assert empty_bar_rate(piece([60] * 32)) == 0.0


def test_onset_times_follow_the_tempo() -> None:
    np.testing.assert_allclose(onset_times_s(piece([60] * 8, bpm=90.0)), np.arange(8) * 60 / 90, rtol=1e-6)


def test_a_corpus_has_ranges_and_noise_lies_outside() -> None:
    rng = np.random.default_rng(0)
    scale = np.array([60, 62, 64, 65, 67, 69, 71])
    tunes = [piece(scale[rng.integers(0, 7, 64)].tolist()) for _ in range(30)]
    ranges = corpus_ranges(tunes)
    noise = MusicMeasures.of(piece(rng.integers(60, 72, 64).tolist()))
    assert ranges["scale_consistency"].pieces == 30
    assert not ranges["scale_consistency"].holds(noise.scale_consistency)
    assert ranges["note_density"].holds(noise.note_density)
    assert not corpus_ranges([piece([60])])
