"""Dancing to Music: losses that fall, dances that repeat by their seed, whole runs, and what is exported of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
import torch

from engine.errors import UserError
from engine.types import TICKS_PER_BEAT
from models.field.dancing_to_music.compose import UnitDancer, UnitPlan, dance_through
from models.field.dancing_to_music.data import UnitBank
from models.field.dancing_to_music.du_vae import DuVae, Gaussian
from models.field.dancing_to_music.mm_gan import CompositionBatch, MmGan
from models.field.dancing_to_music.settings import (
    DancingToMusicSettings,
    HearingSettings,
    NetworkSettings,
)
from models.field.dancing_to_music.style_classifier import MusicStyleClassifier
from models.field.dancing_to_music.tables import UnitTables
from models.learning.settings import OptimiserSettings, RunSettings
from models.motion.representation import DISPLACEMENT, HEADING, HEIGHT, TICK_SIZE
from tests.models.music_to_dance.gmd_fixtures import clip

ROOT = Path(__file__).parents[3]
TINY = DancingToMusicSettings(
    network=NetworkSettings(
        initial=4, movement=8, dance=8, style=6, style_noise=4, unit_width=16, dance_width=16, units=2
    ),
    hearing=HearingSettings(ticks=24),
    decomposition=OptimiserSettings(steps=3, batch=4, warm_up_steps=2, learning_rate=2e-3),
    optimiser=OptimiserSettings(steps=2, batch=4, warm_up_steps=2, learning_rate=2e-3),
    run=RunSettings(watch="frechet", evaluate_every_steps=100, curve_every_steps=1, sheets=False),
    device="cpu",
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def falls(loss: Callable[[], dict[str, torch.Tensor]], weights: dict[str, float], model: torch.nn.Module) -> list[str]:
    """Overfit; return the names of the losses that did not fall to four fifths."""
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    first = {name: float(value.detach()) for name, value in loss().items()}
    for _ in range(60):
        optimiser.zero_grad()
        sum(weights.get(name, 0.0) * value for name, value in loss().items()).backward()
        optimiser.step()
    last = {name: float(value.detach()) for name, value in loss().items()}
    return [name for name in weights if last[name] > 0.8 * first[name]]


def test_each_loss_of_the_units_falls() -> None:
    torch.manual_seed(0)
    model, units = DuVae(8, 4, 6, 24), torch.randn(6, 8, TICK_SIZE)
    noise = torch.randn(6, 4), torch.randn(6, 6)
    with torch.no_grad():
        for encoder in (model.encode_initial, model.encode_movement):
            encoder.head.mean.bias.fill_(1.0)
    assert falls(lambda: model.losses(units, *noise), {"unit": 10.0}, copy.deepcopy(model)) == ["unit"], "of a copy"
    assert (
        falls(lambda: model.losses(units, *noise), {"unit": 10.0, "kl_initial": 0.3, "kl_movement": 0.3}, model) == []
    )


def test_each_loss_of_the_composition_falls_for_whom_it_is() -> None:
    torch.manual_seed(0)
    batch = CompositionBatch(torch.randn(8, 3, 6), torch.tanh(torch.randn(8, 5)), torch.randn(8, 7), torch.randn(8, 11))

    def fresh() -> MmGan:
        torch.manual_seed(1)
        model = MmGan(3, 6, 7, 5, 4, 24)
        with torch.no_grad():
            model.encode.head.mean.bias.fill_(1.0)
        return model

    # The two sides of a game cannot both win: each is asked alone, against the other as it is.
    makers = {"movements": 10.0, "style": 3.0, "kl_dance": 0.1, "fool_movements": 1.0, "fool_dance": 1.0}
    judges = {"judge_movements": 1.0, "judge_dance": 1.0}
    for weights in (makers, judges):
        model = fresh()
        assert falls(lambda: model.losses(batch), weights, model) == []  # noqa: B023


def test_each_side_of_the_game_moves_its_own_weights() -> None:
    model = MmGan(3, 6, 7, 5, 4, 24)
    batch = CompositionBatch(torch.randn(8, 3, 6), torch.tanh(torch.randn(8, 5)), torch.randn(8, 7), torch.randn(8, 11))
    judges = [*model.judge_movements.parameters(), *model.judge_dance.parameters()]
    makers = [p for p in model.parameters() if all(p is not judge for judge in judges)]
    losses = model.losses(batch)
    fooled = torch.autograd.grad(
        losses["fool_movements"] + losses["fool_dance"], judges, allow_unused=True, retain_graph=True
    )
    assert all(gradient is None for gradient in fooled)
    judged = torch.autograd.grad(losses["judge_movements"] + losses["judge_dance"], makers, allow_unused=True)
    assert all(gradient is None for gradient in judged)


def test_divergence_is_that_of_the_normal_distributions() -> None:
    mean, deviation = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 2.0]])
    ours = Gaussian(mean, 2.0 * deviation.log()).divergence()
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, deviation), torch.distributions.Normal(0.0, 1.0)
    ).sum()
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_the_classifier_separates_two_styles() -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)

    def pieces(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        # Three beats and four beats to the bar, loud on the first.
        labels = np.arange(count) % 2
        music = 0.3 * random.standard_normal((count, 24, 2)).astype(np.float32)
        for row, label in enumerate(labels):
            music[row, int(random.integers(3)) :: 3 + label, 0] += 2.0
        return torch.from_numpy(music), torch.from_numpy(labels)

    model = MusicStyleClassifier(2, 12, 2)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(*pieces(32)).backward()
        optimiser.step()
    assert model.accuracy(*pieces(200)) > 0.9
    assert model.style(pieces(4)[0]).abs().max() <= 1.0


class Counting:
    """A unit model whose units say which they are: every pose of unit n of sequence s is s + n / 10."""

    def __init__(self) -> None:
        self.heard: list[np.ndarray] = []
        self.given: list[np.ndarray] = []

    def compose(self, music: np.ndarray, noise: np.ndarray) -> np.ndarray:
        self.heard.append(music)
        return np.array([[len(self.heard)], [len(self.heard) + 0.1]], np.float32)

    def next_unit(self, pose: np.ndarray, movement: np.ndarray, noise: np.ndarray) -> np.ndarray:
        self.given.append(pose)
        unit = np.repeat(pose[None], 8, axis=0)
        unit[:, HEIGHT] = movement[0]
        return unit


def counting_dancer() -> tuple[UnitDancer, Counting]:
    dance = clip(0)
    start = dance.ticks[:1].copy()
    start[:, HEADING], start[:, DISPLACEMENT] = 0.0, 0.0
    ones, zeros = np.ones(TICK_SIZE, np.float32), np.zeros(TICK_SIZE, np.float32)
    tables = UnitTables(zeros, ones, np.zeros(2, np.float32), np.ones(2, np.float32), start, np.zeros(1, np.int32))
    model = Counting()
    return UnitDancer(model, tables, UnitPlan(beats=4, heard_ticks=24, noise=3, initial_noise=2)), model


def test_units_begin_and_end_on_beats() -> None:
    dancer, model = counting_dancer()
    ticks = dance_through(dancer, np.zeros((12 * 20, 2), np.float32), np.full(240, 100.0), 2, 0, 0)
    for number, name in enumerate([1.0, 1.1, 2.0, 2.1]):
        last = (number + 1) * 4 * TICKS_PER_BEAT
        assert ticks[last, HEIGHT] == pytest.approx(name, abs=1e-5), "the last pose falls on the beat"
        assert ticks[last + 1, HEIGHT] > name + 0.005, "and the next unit begins at the next tick"
    # Each unit goes on from the last pose of the one before.
    assert [pose[HEIGHT] for pose in model.given[1:4]] == pytest.approx([1.0, 1.1, 2.0])


@pytest.mark.parametrize("first", [4, 8])
def test_a_dance_that_begins_within_a_beat_is_on_the_beat_after_a_unit(first: int) -> None:
    dancer, _ = counting_dancer()
    ticks = np.concatenate([dancer.dance(tick, 4) for tick in range(first, 120, 4)])
    last = 4 * TICKS_PER_BEAT - first
    assert ticks[last, HEIGHT] == pytest.approx(1.0, abs=1e-5)
    assert ticks[last + 1, HEIGHT] > 1.0005


def test_where_the_timeline_is_set_anew_a_unit_begins_at_once() -> None:
    dancer, _ = counting_dancer()
    for tick in range(0, 24, 4):
        dancer.dance(tick, 4)
    ticks = np.concatenate([dancer.dance(tick, 4) for tick in range(100, 200, 4)])
    rises = np.flatnonzero(np.abs(np.diff(ticks[:, HEIGHT])) > 1e-4) + 100
    assert (ticks[:3, HEIGHT] > 1.0).all() or rises[0] <= 102
    assert ticks[144 - 100, HEIGHT] == pytest.approx(1.1, abs=1e-5), "and ends on a beat"
    kept, _ = counting_dancer()
    whole = np.concatenate([kept.dance(tick, 4) for tick in (*range(0, 24, 4), *range(48, 96, 4))])
    assert whole[48, HEIGHT] == pytest.approx(1.0, abs=1e-5), "whole beats skipped disturb nothing"


def test_a_sequence_is_composed_to_the_music_before_it_and_no_later() -> None:
    dancer, model = counting_dancer()
    music = np.repeat(np.arange(240, dtype=np.float32)[:, None] / 100.0, 2, axis=1)
    dance_through(dancer, music, np.full(240, 100.0), 2, 0, 0)
    assert model.heard[0].shape == (24, 3)
    assert not model.heard[0].any(), "nothing has been heard"
    # The second sequence begins after eight beats, is asked for at tick 96, and hears up to tick 94.
    np.testing.assert_allclose(model.heard[1][:, 0], music[94 - 23 : 95, 0], atol=1e-6)


def test_heard_in_learning_is_what_is_heard_on_stage() -> None:
    dances = [clip(seed, 480) for seed in range(2)]
    bank = UnitBank(dances, TINY, mirrored=True)
    assert len(bank.dances) == 4
    place = bank.every_place()[7]
    music, styles = bank.music([place])
    dance = bank.dances[place.dance]
    tick = int(dance.posed.at[dance.posed.starts[place.unit] - 1])
    expected = bank.tables.music(dances[place.dance].music[tick - 25 : tick - 1], 100.0)
    np.testing.assert_allclose(music[0].numpy(), expected, atol=1e-6)
    assert int(styles[0]) == dances[place.dance].style
    random = [np.random.default_rng(0)]
    assert not torch.equal(bank.music([place], random)[0], music), "disturbed while learning"
    units = bank.units([np.random.default_rng(n) for n in range(9)])
    assert units.shape == (9, 32, TICK_SIZE)
    assert float(units.std()) == pytest.approx(1.0, abs=0.35)


def test_too_little_dance_is_refused() -> None:
    with pytest.raises(UserError, match="as long as a unit"):
        UnitBank([clip(0, 30)], TINY, mirrored=False)
    with pytest.raises(UserError, match="music"):
        UnitBank([replace(clip(0, 480), music=None)], TINY, mirrored=False)
    with pytest.raises(UserError, match="sequence"):
        UnitBank([clip(0, 480)], replace(TINY, network=replace(TINY.network, units=60)), mirrored=False)
