"""Aud-MoCoGAN: steps are the whole, it is causal, a dance keeps its content, and the game is played fairly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import UserError
from models.field.aud_mocogan import AudMocogan, AudMocoganSettings
from models.field.frame_model import FrameBatch, FrameSizes
from models.field.registry import RECIPES
from models.field.settings import FieldTrainingSettings
from models.learning.settings import build, load_recipe

SIZES = FrameSizes(music=5, pose=6, styles=3, frame_rate_hz=15.0)
SMALL = AudMocoganSettings(
    content_size=4, noise_size=3, motion_width=12, generator_width=24, discriminator_width=16, scales=2, start_frames=8
)
FRAMES = 16


def make(settings: AudMocoganSettings = SMALL, seed: int = 1) -> AudMocogan:
    torch.manual_seed(seed)
    return AudMocogan(SIZES, settings).eval()


def draw(seed: int, batch: int = 4) -> FrameBatch:
    """Return windows of a toy dance: it swings with the music, around a place of its own."""
    random = torch.Generator().manual_seed(seed)
    music = torch.randn(batch, FRAMES, SIZES.music, generator=random)
    place = 0.5 * torch.randn(batch, 1, SIZES.pose, generator=random) + torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0, -2.0])
    pose = place + 0.3 * music[..., :1]
    noise = torch.randn(batch, FRAMES, SMALL.content_size + SMALL.noise_size, generator=random)
    return FrameBatch(music, pose, torch.zeros(batch, dtype=torch.int64), noise)


@torch.no_grad()
def stepped(model: AudMocogan, batch: FrameBatch) -> Tensor:
    state, pose, found = model.start(len(batch.music)), torch.zeros_like(batch.pose[:, 0]), []
    for frame in range(batch.music.shape[1]):
        pose, *state = model.step(batch.music[:, frame], pose, batch.noise[:, frame], *state)
        found.append(pose)
    return torch.stack(found, dim=1)


def test_steps_are_the_forward_pass() -> None:
    model, batch = make(), draw(0)
    with torch.no_grad():
        whole = model(batch.music, batch.noise)
    assert torch.allclose(whole, stepped(model, batch), atol=1e-5)
    assert model.noise_size == batch.noise.shape[-1]


def test_a_pose_depends_on_no_later_music_or_noise() -> None:
    model, batch = make(), draw(0, batch=1)
    music, noise = batch.music.clone().requires_grad_(), batch.noise.clone().requires_grad_()
    for gradient in torch.autograd.grad(model(music, noise)[0, 9].sum(), (music, noise)):
        heard = gradient[0].abs().sum(dim=-1)
        assert (heard[:10] > 0.0).all()
        assert not heard[10:].any()
    assert model.lookahead_frames == 0


def test_the_content_is_drawn_once_a_dance() -> None:
    model, batch = make(), draw(0, batch=1)
    later, first = batch.noise.clone(), batch.noise.clone()
    later[:, 1:, : SMALL.content_size] += 5.0
    first[:, 0, : SMALL.content_size] += 5.0
    with torch.no_grad():
        made, same, other = (model(batch.music, noise) for noise in (batch.noise, later, first))
    assert torch.equal(made, same)
    assert ((made - other).abs().amax(dim=-1) > 1e-3).all()


def test_each_side_of_the_game_moves_only_its_own_weights() -> None:
    model = make().train()
    losses = model.losses(draw(0), epoch=0.0)
    critics = [*model.frame_critic.parameters(), *model.sequence_critic.parameters()]
    makers = [*model.motion.parameters(), *model.generator.parameters()]
    for name, loss in losses.items():
        mine, theirs = (makers, critics) if name.startswith("generator") else (critics, makers)
        found = torch.autograd.grad(loss, mine, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.any() for g in found), name
        assert all(g is None for g in torch.autograd.grad(loss, theirs, retain_graph=True, allow_unused=True)), name


def test_sequences_grow() -> None:
    model, batch = make(), draw(0)
    late = FrameBatch(batch.music.clone(), batch.pose.clone(), batch.style, batch.noise)
    late.music[:, 12:], late.pose[:, 12:] = 7.0, 7.0
    with torch.no_grad():
        early = [float(model.losses(b, epoch=3.0)["critic_sequence"]) for b in (batch, late)]
        whole = [float(model.losses(b, epoch=100.0)["critic_sequence"]) for b in (batch, late)]
    assert early[0] == early[1]
    assert whole[0] != whole[1]


def _play(model: AudMocogan, weights: list[torch.nn.Parameter], steps: int) -> None:
    optimiser = torch.optim.Adam(weights, lr=1e-3, betas=(0.5, 0.9))
    for step in range(steps):
        losses = model.train().losses(draw(10 + step, batch=16), epoch=100.0)
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    model.eval()


def test_critics_learn_to_tell_dance_from_what_is_made() -> None:
    model, held_out = make(), draw(1, batch=16)
    _play(model, [*model.frame_critic.parameters(), *model.sequence_critic.parameters()], 40)
    with torch.no_grad():
        made = model(held_out.music, held_out.noise)
        real, fake = (model.sequence_critic(pose, held_out.music) for pose in (held_out.pose, made))
        assert real.mean() > fake.mean() + 1.5
        assert model.frame_critic(held_out.pose).mean() > model.frame_critic(made).mean() + 0.4


def test_what_is_made_nears_the_dance() -> None:
    model = make()
    far = _distance(model)
    _play(model, list(model.parameters()), 150)
    assert _distance(model) < 0.55 * far


def _distance(model: AudMocogan) -> float:
    """Return how far means and deviations of made poses are from those of the dance."""
    batch = draw(2, batch=64)
    with torch.no_grad():
        made = model(batch.music, batch.noise).flatten(0, 1)
    real = batch.pose.flatten(0, 1)
    return float((made.mean(0) - real.mean(0)).norm() + (made.std(0) - real.std(0)).norm())


def test_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    model, other, batch = make(), make(seed=2), draw(0)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(stepped(model, batch), stepped(other, batch))


def test_its_step_is_a_graph(tmp_path: Path) -> None:
    model, batch = make(), draw(0)
    state = model.start(4)
    inputs = (batch.music[:, 0], batch.pose[:, 0], batch.noise[:, 0], *state)
    path = tmp_path / "step.onnx"
    names = [f"in{k}" for k in range(len(inputs))]
    torch.onnx.export(
        _Step(model).eval(), inputs, str(path), dynamo=True, opset_version=20, input_names=names, verbose=False
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
    with torch.no_grad():
        expected = model.step(*inputs)
    for mine, theirs in zip(expected, found, strict=True):
        assert np.abs(mine.numpy() - theirs).max() < 1e-5


class _Step(torch.nn.Module):
    def __init__(self, model: AudMocogan) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, music: Tensor, pose: Tensor, noise: Tensor, a: Tensor, b: Tensor, c: Tensor
    ) -> tuple[Tensor, ...]:
        return self.model.step(music, pose, noise, a, b, c)


def test_the_recipe_builds_and_wrong_sizes_are_refused() -> None:
    settings = FieldTrainingSettings.of(load_recipe(RECIPES / "aud_mocogan.toml"))
    assert isinstance(settings.network, AudMocoganSettings)
    assert settings.window_frames >= settings.network.shortest_frames
    with pytest.raises(UserError, match="start_frames"):
        build(AudMocoganSettings, {"start_frames": 4, "scales": 3}, "test")
