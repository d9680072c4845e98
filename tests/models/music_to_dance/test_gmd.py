"""The music -> dance network: forward equals step, causality, and that it can learn."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from models.music_to_dance.conditioning import CONDITION_SIZE  # noqa: E402
from models.music_to_dance.network import GmdState  # noqa: E402
from tests.models.music_to_dance.gmd_fixtures import FEATURES, small_model  # noqa: E402


def _sequence(length: int, latent_size: int = 24) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, length, size) for size in (4 * FEATURES, CONDITION_SIZE, latent_size)]


def test_forward_equals_step_beyond_a_full_ring() -> None:
    model = small_model()
    sequence = _sequence(20)
    state = GmdState.empty(model.config, batch=2)
    with torch.no_grad():
        whole = model(*sequence)
        steps = []
        for index in range(20):
            context, state = model.step(*(x[:, index] for x in sequence), state)
            steps.append(context)
    assert state.count == 20 > model.config.window
    assert float((whole - torch.stack(steps, dim=1)).abs().max()) < 1e-5


@pytest.mark.parametrize("at", [0, 7, 11])
def test_an_output_depends_on_nothing_later_and_on_all_it_should(at: int) -> None:
    model = small_model()
    sequence = [x.requires_grad_() for x in _sequence(12)]
    model(*sequence)[:, at].square().sum().backward()
    # Influence reaches back through every layer, one window each.
    for x in sequence:
        size = x.grad.abs().sum(dim=(0, 2))
        assert float(size[at + 1 :].sum()) == 0.0
        assert bool((size[max(0, at - model.config.window) : at + 1] > 0.0).all())


def test_the_ring_forgets_what_is_older_than_the_window() -> None:
    model = small_model()
    sequence = _sequence(40)
    changed = [x.clone() for x in sequence]
    changed[0][:, 0] += 1.0
    with torch.no_grad():
        difference = (model(*sequence) - model(*changed)).abs().amax(dim=(0, 2))
    layers = model.config.encoder_layers + model.config.decoder_layers
    assert float(difference[0]) > 0.0
    assert float(difference[model.config.window * layers + 1 :].max()) == 0.0
