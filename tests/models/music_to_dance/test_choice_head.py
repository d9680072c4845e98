"""The choice head: what it draws, what it corrects, what it is fitted to, and its exported form."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.special import ndtri  # noqa: E402

from models.music_to_dance.choice_head import choice_count, evenly, fit_as_danced, fit_choices, pick  # noqa: E402
from models.music_to_dance.choice_stage import StageChoice  # noqa: E402
from models.music_to_dance.continuity import fit_continuity  # noqa: E402
from tests.models.music_to_dance.gmd_fixtures import sampler, small_model  # noqa: E402


def test_choices_are_drawn_with_their_chances() -> None:
    chances = torch.tensor([0.5, 0.0, 0.3, 0.2])
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((20_000, 1)).astype(np.float32))
    drawn = pick(chances.expand(len(noise), 4), evenly(noise))
    assert (torch.bincount(drawn, minlength=4) / len(noise)).numpy() == pytest.approx([0.5, 0.0, 0.3, 0.2], abs=0.012)
    # Rounding must never choose what is not there.
    assert int(pick(chances[None], torch.tensor([[1.0 + 1e-6]]))) == 3


def test_a_sample_is_its_choice_corrected_and_follows_its_noise() -> None:
    model = small_model()
    context, history = torch.randn(64, 32), torch.randn(64, 24)
    noise = torch.zeros(64, 24)
    noise[:, 0] = torch.from_numpy(ndtri(np.linspace(0.01, 0.99, 64))).float()
    with torch.no_grad():
        first = model.sample(context, history, noise)
        assert torch.equal(first, model.sample(context, history, noise))
        assert float((first - model.sample(context, history, -noise)).abs().max()) > 1e-3
        chosen = pick(torch.softmax(model.head.logits(context), -1), evenly(noise[:, :1]))
        assert len(set(chosen.tolist())) > 4
        assert torch.allclose(first, model.joined(model.head.correct(chosen, context, history), history), atol=1e-6)
        cold = model.sample(context, history, noise, temperature=1e-3)
        likely = model.head.logits(context).argmax(-1)
        assert torch.allclose(cold, model.joined(model.head.correct(likely, context, history), history), atol=1e-6)


def test_straight_through_gives_the_sample_and_a_gradient_to_the_chances() -> None:
    model = small_model()
    context = torch.randn(8, 32, requires_grad=True)
    history, noise = torch.randn(8, 24), torch.randn(8, 24)
    through = model.sample_through(context, history, noise)
    assert torch.allclose(through, model.sample(context, history, noise), atol=1e-5)
    through.square().sum().backward()
    assert float(model.head.query[-1].weight.grad.abs().sum()) > 0.0


def test_fitted_choices_lie_among_the_dances_and_their_base_beats_standing_still() -> None:
    model, source = small_model(), sampler(clean_share=1.0)
    fit_choices(model.head, source)
    head = model.head
    latents = torch.from_numpy(source.clips[0].latents)[None]
    right = head.nearness(latents)
    assert torch.allclose(right.sum(-1), torch.ones(right.shape[:2]), atol=1e-5)
    choice = right.argmax(-1)[0, 1:]
    before, after = latents[0, :-1], latents[0, 1:]
    base = head.centres[choice] @ head.base_choice.T + before @ head.base_history.T + head.base_offset
    assert float((base - after).square().mean()) < 0.8 * float((after - before).square().mean())
    assert choice_count(10**6, source) == sum(len(p.latents) for p in source.clips) // 4


def test_what_hardly_any_dancer_did_is_not_danced() -> None:
    model, source = small_model(), sampler(clean_share=1.0)
    fit_choices(model.head, source)
    latents = torch.from_numpy(np.concatenate([p.latents for p in source.clips]))
    inside = ((latents >= model.head.low) & (latents <= model.head.high)).float().mean()
    assert 0.99 < float(inside) <= 1.0
    far = 100.0 * torch.randn(50, 24)
    joined = model.joined(far, torch.zeros(50, 24))
    assert bool(((joined >= model.head.low) & (joined <= model.head.high)).all())


def test_the_draw_leans_to_what_was_danced_away_from_its_mirror_image() -> None:
    model, source = small_model(), sampler(clean_share=1.0)
    source = source.over([source.clips[0].clip, source.clips[0].clip.mirrored()])
    fit_choices(model.head, source)
    context = torch.randn(40, 32)
    mirrored = torch.tensor([p.clip.is_mirrored for p in source.clips])
    nearest = [model.head.nearness(torch.from_numpy(p.latents)[None])[0].sum(0) for p in source.clips]
    image = nearest[int(mirrored.nonzero())] > 3.0 * nearest[int((~mirrored).nonzero())]
    assert 0 < int(image.sum()) < len(image)
    with torch.no_grad():
        before = model.head.chances(context, 0.8)
        assert torch.equal(before, torch.softmax(model.head.logits(context) / 0.8, dim=-1)), "untouched as it learns"
        fit_as_danced(model.head, source)
        after = model.head.chances(context, 0.8)
    # Three in four of a choice's chunks are mirrored: its odds fall at least by that share, warmed by the temperature.
    odds = (after / before)[:, image].max(dim=1).values / (after / before).max(dim=1).values
    assert float(odds.max()) < 0.25 ** (1 / 0.8) / 0.5 ** (1 / 0.8)
    assert float(after.min()) > 0.0


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_exported_form_is_the_head(temperature: float) -> None:
    model, source = small_model(), sampler(clean_share=1.0)
    fit_choices(model.head, source)
    fit_continuity(model, source, temperature)
    fit_as_danced(model.head, source)
    context, history, noise = torch.randn(50, 32), torch.randn(50, 24), torch.randn(50, 24)
    with torch.no_grad():
        staged = StageChoice(model, temperature)(context, history, noise)
        assert torch.allclose(staged, model.sample(context, history, noise, temperature), atol=2e-5)
