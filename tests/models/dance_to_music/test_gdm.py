"""The dance -> music network: forward equals step, causality, the chain of voices, and sampling."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from models.dance_to_music.conditioning import MUSIC_CONDITION_SIZE  # noqa: E402
from models.dance_to_music.network import NOISE_SIZE, pool_beats  # noqa: E402
from models.dance_to_music.tokens import DRUM_LEVELS, HISTORY_SIZE, LEVELS, PITCHED  # noqa: E402
from models.transformer import RingState  # noqa: E402
from tests.models.dance_to_music.gdm_fixtures import POSES, small_model  # noqa: E402


def _sequence(length: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, length, size) for size in (3 * POSES, MUSIC_CONDITION_SIZE, HISTORY_SIZE)]


@pytest.mark.parametrize("known", [(1.0, 1.0), (1.0, 0.0)])
def test_forward_equals_step_beyond_a_full_ring(known: tuple[float, float]) -> None:
    model = small_model()
    dance, condition, history = _sequence(20)
    seen = torch.tensor(known)
    state = RingState.empty(model.config, batch=2)
    with torch.no_grad():
        whole = model(dance, seen, condition, history)
        steps = []
        for index in range(20):
            context, state = model.step(dance[:, index], seen, condition[:, index], history[:, index], state)
            steps.append(context)
    assert state.count == 20 > model.config.window
    assert float((whole - torch.stack(steps, dim=1)).abs().max()) < 1e-5


def test_without_a_dance_the_encoder_says_nothing() -> None:
    model = small_model()
    dance, condition, history = _sequence(12)
    nobody = torch.zeros(2)
    with torch.no_grad():
        withheld = model(dance, nobody, condition, history)
        absent = model(None, nobody, condition, history)
        seen = model(dance, torch.ones(2), condition, history)
    assert torch.equal(withheld, absent)
    assert float((seen - absent).abs().max()) > 1e-3


@pytest.mark.parametrize("at", [0, 7, 11])
def test_an_output_depends_on_nothing_later_and_on_all_it_should(at: int) -> None:
    model = small_model()
    sequence = [x.requires_grad_() for x in _sequence(12)]
    dance, condition, history = sequence
    model(dance, torch.ones(2), condition, history)[:, at].square().sum().backward()
    for x in sequence:
        size = x.grad.abs().sum(dim=(0, 2))
        assert float(size[at + 1 :].sum()) == 0.0
        assert bool((size[max(0, at - model.config.window) : at + 1] > 0.0).all())


def test_each_voice_sees_those_before_it_and_no_other() -> None:
    heads = small_model().heads
    torch.manual_seed(2)
    context = torch.randn(1, 32)
    drums, voices = torch.zeros(1, 9, dtype=torch.int64), torch.tensor([[2, 3, 4]])

    def choices(drums: torch.Tensor, voices: torch.Tensor) -> list[torch.Tensor]:
        with torch.no_grad():
            logits = heads(context, drums, voices)
        return [*logits.drums[0], *(v[0] for v in logits.voices)]

    before = choices(drums, voices)
    for drum in range(9):
        changed = drums.clone()
        changed[0, drum] = 3
        moved = [not torch.equal(a, b) for a, b in zip(before, choices(changed, voices), strict=True)]
        assert moved == [other > drum for other in range(9)] + [True] * 3
    for voice in range(3):
        changed = voices.clone()
        changed[0, voice] = 7
        moved = [not torch.equal(a, b) for a, b in zip(before, choices(drums, changed), strict=True)]
        assert moved == [False] * 9 + [other > voice for other in range(3)]


def test_sampling_follows_the_distributions_that_are_learnt() -> None:
    """Drawn often, each drum's level and each voice's token are as likely as `forward` says, given the rest."""
    heads = small_model().heads
    torch.manual_seed(3)
    draws = 40_000
    context = torch.randn(1, 32).expand(draws, -1)
    noise = -torch.log(-torch.log(torch.rand(draws, NOISE_SIZE).clamp(1e-9, 1.0 - 1e-7)))
    never, one = torch.tensor([1e6]), torch.ones(4)
    with torch.no_grad():
        drums, voices, levels = heads.sample(context, noise, one, never)
        logits = heads(context, drums, voices)
    for drum in range(9):
        expected = logits.drums[:, drum].softmax(-1).mean(0)
        drawn = torch.bincount(drums[:, drum], minlength=DRUM_LEVELS) / draws
        assert float((expected - drawn).abs().max()) < 0.015
    for voice in range(3):
        expected = logits.voices[voice].softmax(-1).mean(0)
        drawn = torch.bincount(voices[:, voice], minlength=PITCHED[voice]) / draws
        assert float((expected - drawn).abs().max()) < 0.015
        level = torch.bincount(levels[:, voice], minlength=LEVELS) / draws
        assert float((logits.levels[voice].softmax(-1).mean(0) - level).abs().max()) < 0.015


def test_cold_choices_are_the_likeliest_and_the_tail_is_cut() -> None:
    heads = small_model().heads
    torch.manual_seed(4)
    context, noise = torch.randn(64, 32), 5.0 * torch.randn(64, NOISE_SIZE)
    with torch.no_grad():
        cold = heads.sample(context, noise, torch.zeros(4), torch.tensor([1e6]))
        again = heads.sample(context, -noise, torch.zeros(4), torch.tensor([1e6]))
        cut = heads.sample(context, noise, torch.ones(4), torch.tensor([0.0]))
        free = heads.sample(context, noise, torch.ones(4), torch.tensor([1e6]))
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(cold, again, cut, strict=True))
    assert not torch.equal(cold[1], free[1])


def test_embeddings_are_pooled_by_whole_beats() -> None:
    embedding = torch.arange(22, dtype=torch.float32)[None, :, None]
    # The first of the 22 steps is step 6: two steps to the next beat, then five whole beats.
    assert pool_beats(embedding, 6)[0, :, 0].tolist() == [3.5, 7.5, 11.5, 15.5, 19.5]
