"""The band by rules: honest, seeded, and led by how the dancer moves."""

from __future__ import annotations

import numpy as np
import pytest

from engine.body.pose_features import PoseFeatureSpec
from engine.playing.keys import scale
from engine.playing.rule_composer import RuleComposer
from engine.types import DRUMS, Key, MusicRequest, MusicStep, VoiceStep

SPEC = PoseFeatureSpec()
BARS = 8


def poses(hand_height: float = 0.4, hand_speed: float = 1.2, strike: float = 0.0) -> np.ndarray:
    row = np.zeros((3, SPEC.size), np.float32)
    row[:, SPEC.column("position_right_wrist_y")] = hand_height
    row[:, SPEC.column("speed_right_wrist")] = hand_speed
    row[:, SPEC.column("strike_left")] = strike
    return row


def piece(
    energy: float = 0.5,
    seed: int = 0,
    beats: int | None = 4,
    key: Key | None = None,
    density: float = 0.5,
    **moves: float,
) -> list[MusicStep]:
    composer = RuleComposer()
    composer.reset(seed)
    return [
        composer.step(MusicRequest(step, poses(**moves), 110.0, beats, 0, key, energy, density))
        for step in range(BARS * 4 * (beats or 4))
    ]


def voice(steps: list[MusicStep], name: str) -> list[VoiceStep]:
    return [getattr(step, name) for step in steps]


def struck(steps: list[MusicStep]) -> int:
    pitched = sum(len(v.pitches) for name in ("bass", "chord", "lead") for v in voice(steps, name))
    return pitched + sum(int((step.drums > 0).sum()) for step in steps)


def test_another_seed_is_another_piece_and_the_same_the_same() -> None:
    def text(seed: int) -> list[object]:
        return [(s.drums.tolist(), s.bass, s.chord, s.lead) for s in piece(seed=seed)]

    assert text(3) == text(3)
    assert len({str(text(seed)) for seed in range(6)}) >= 5


def test_more_energy_and_more_density_are_more_notes() -> None:
    by_energy = [struck(piece(energy)) for energy in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert by_energy == sorted(by_energy)
    assert by_energy[0] == 0
    assert by_energy[-1] > 2 * by_energy[1]
    assert struck(piece(0.5, density=0.1)) < struck(piece(0.5)) < struck(piece(0.5, density=0.9))


@pytest.mark.parametrize("key", [Key(0), Key(6, minor=True), Key(11)])
def test_it_stays_in_the_key_wished(key: Key) -> None:
    steps = piece(0.9, key=key)
    pitches = {pitch % 12 for name in ("bass", "chord", "lead") for v in voice(steps, name) for pitch in v.pitches}
    assert pitches <= set(scale(key))
    assert len(pitches) >= 5


@pytest.mark.parametrize("beats", [3, 4, None])
def test_bars_begin_with_a_bass_drum_and_a_new_chord(beats: int | None) -> None:
    steps = piece(0.5, beats=beats)
    length = 4 * (beats or 4)
    for bar in range(BARS):
        first = steps[bar * length]
        assert first.drums[DRUMS.index("kick")] > 0
        assert len(first.chord.pitches) == 3
        assert first.bass.pitches


def test_everything_is_playable_and_what_is_held_was_struck() -> None:
    for energy in (0.1, 0.5, 1.0):
        for name in ("bass", "chord", "lead"):
            sounds = False
            for step in voice(piece(energy), name):
                assert all(24 <= pitch <= 103 for pitch in step.pitches)
                assert 0.0 <= step.velocity <= 1.0
                assert sounds or not step.hold or step.pitches
                sounds = bool(step.pitches) or (sounds and step.hold)


def test_the_lead_is_as_high_as_the_hand_and_rests_with_it() -> None:
    def mean(height: float) -> float:
        return float(np.mean([v.pitches[0] for v in voice(piece(0.6, hand_height=height), "lead") if v.pitches]))

    assert mean(-0.1) + 7 < mean(0.4) < mean(1.0) - 7
    assert not [v for v in voice(piece(0.6, hand_speed=0.1), "lead") if v.pitches]
    assert not voice(piece(0.6, hand_speed=0.1), "lead")[-1].hold


def test_a_foot_that_lands_strikes_the_bass_drum() -> None:
    kick = DRUMS.index("kick")

    def kicks(strike: float) -> int:
        return sum(int(step.drums[kick] > 0) for step in piece(0.4, strike=strike))

    assert kicks(1.0) > 1.5 * kicks(0.0)
