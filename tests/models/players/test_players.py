"""Retrieval and the blind composer: what they may know, and that they find what they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.body.pose_features import PoseFeatureSpec
from engine.errors import UserError
from engine.playing.rule_composer import RuleComposer
from engine.types import Key, MusicRequest, MusicStep
from models.dance_to_music.bands import MusicPiece
from models.dance_to_music.composed import grid_of
from models.dance_to_music.data import piece_of
from models.dance_to_music.tokens import TokenGrid
from models.players.phrase_retrieval import MusicPhraseBank, PhraseRetrieval
from models.players.unconditional import Withheld
from tests.models.dance_to_music.gdm_fixtures import band

SIZE = PoseFeatureSpec().size
BARS = 8


def _danced(seed: int, place: float) -> MusicPiece:
    """Return a band to which somebody moves about a place of their own."""
    piece = piece_of(band(BARS, 0, seed))
    assert piece is not None
    noise = np.random.default_rng(seed).standard_normal((48 * BARS, SIZE))
    return replace(piece, poses=(place + 0.1 * noise).astype(np.float32))


@pytest.fixture(scope="module")
def bank() -> MusicPhraseBank:
    return MusicPhraseBank([_danced(seed, float(seed)) for seed in range(3)])


def _play(player: PhraseRetrieval, rows: np.ndarray, seed: int = 0, beats: int = 4) -> list[MusicStep]:
    player.reset(seed)
    return [player.step(MusicRequest(k, poses, 100.0, beats, 0, Key(0))) for k, poses in enumerate(rows)]


def _leads(steps: list[MusicStep]) -> list[int]:
    return [max(step.lead.pitches, default=0) for step in steps]


def _tokens(steps: list[MusicStep]) -> TokenGrid:
    return TokenGrid.of(grid_of(steps, 100.0, 4, 0, "played", "test", "val"), Key(0))


@pytest.mark.parametrize("dancer", [0, 2])
def test_it_plays_the_music_to_which_was_moved_alike(bank: MusicPhraseBank, dancer: int) -> None:
    rows = np.full((32 * 3, 3, SIZE), float(dancer), np.float32)
    steps = _play(PhraseRetrieval(bank), rows)
    played, source = _tokens(steps), _danced(dancer, 0.0).tokens
    starts = range(0, source.steps - 31, 16)
    for begin in (0, 32, 64):
        lead = played.voices[begin : begin + 32, 2]
        assert any(np.array_equal(lead, source.voices[s : s + 32, 2]) for s in starts)
        assert (played.drums[begin : begin + 32, 0] > 0).any()


def test_what_is_played_depends_on_no_later_pose_and_the_seed_decides(bank: MusicPhraseBank) -> None:
    player = PhraseRetrieval(bank)
    rows = np.random.default_rng(3).standard_normal((96, 3, SIZE)).astype(np.float32)
    changed = rows.copy()
    changed[40:] += 5.0
    first = _leads(_play(player, rows, 1))
    # A phrase is chosen at its first bar line, so what is seen after it is heard from the next one on.
    assert first[:64] == _leads(_play(player, changed, 1))[:64]
    assert first == _leads(_play(player, rows, 1))
    assert any(first != _leads(_play(player, rows, seed)) for seed in (2, 3))
    assert any(step.bass.pitches for step in _play(player, rows, 1))


def test_random_phrases_do_not_look(bank: MusicPhraseBank) -> None:
    player = PhraseRetrieval(bank, by_movement=False)
    still, wild = np.zeros((96, 3, SIZE), np.float32), np.full((96, 3, SIZE), 2.0, np.float32)
    assert _leads(_play(player, still, 4)) == _leads(_play(player, wild, 4))


def test_a_metre_that_nobody_danced_is_cut_from_what_there_is(bank: MusicPhraseBank) -> None:
    assert {phrase.steps for phrase in bank.phrases(3)} == {24}
    assert len(_play(PhraseRetrieval(bank), np.zeros((48, 3, SIZE), np.float32), beats=3)) == 48
    with pytest.raises(UserError, match="no piece holds"):
        bank.phrases(16 * BARS)
    with pytest.raises(UserError, match="no music with its dance"):
        MusicPhraseBank([replace(_danced(0, 0.0), poses=None)])


class _Spy(RuleComposer):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[MusicRequest] = []

    def step(self, request: MusicRequest) -> MusicStep:
        self.asked.append(request)
        return super().step(replace(request, poses=np.zeros_like(request.poses)))


@pytest.mark.parametrize("energy", [True, False])
def test_a_blind_composer_sees_nobody(energy: bool) -> None:
    spy = _Spy()
    blind = Withheld(spy, energy=energy)
    blind.step(MusicRequest(3, np.ones((3, SIZE), np.float32), 97.0, 3, 1, Key(2), 0.9, 0.2))
    (asked,) = spy.asked
    assert np.isnan(asked.poses).all()
    assert asked.energy == (0.9 if energy else 0.5)
    assert (asked.step, asked.tempo_bpm, asked.beats_per_bar, asked.key, asked.density) == (3, 97.0, 3, Key(2), 0.2)
    assert blind.info.name == ("rules without the poses" if energy else "rules without the dance")
