from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.field.dance_revolution.model import DanceRevolution, DanceRevolutionSettings, own_poses_mask
from models.field.dance_revolution.settings import CurriculumSettings
from models.field.export import measure_parity, write_graph
from models.field.frame_model import FrameBatch, FrameSizes
from models.field.registry import RECIPES
from models.field.settings import FieldTrainingSettings
from models.learning.settings import build, load_recipe

SIZES = FrameSizes(music=6, pose=5, styles=3, frame_rate_hz=15.0)
FRAMES = 14
ATTENTION = DanceRevolutionSettings(
    window=4, layers=2, width=8, heads=2, feed_forward=8, kernel=3, cells=2, hidden=8, dropout=0.0
)
AHEAD = build(
    DanceRevolutionSettings,
    {"window": 5, "lookahead": 2, "width": 8, "heads": 2, "feed_forward": 8, "cells": 3, "hidden": 8, "dropout": 0.0},
    "test",
)


def of(encoder: str, form: str = "linear") -> DanceRevolutionSettings:
    names = ("window", "layers", "width", "heads", "feed_forward", "kernel", "cells", "hidden", "dropout")
    content = {name: getattr(ATTENTION, name) for name in names}
    return build(DanceRevolutionSettings, {**content, "encoder": encoder, "curriculum": {"form": form}}, "test")


ALL = [ATTENTION, AHEAD, of("lstm"), of("convolution")]


def make(settings: DanceRevolutionSettings = ATTENTION, seed: int = 3) -> DanceRevolution:
    torch.manual_seed(seed)
    model = DanceRevolution(SIZES, settings)
    with torch.no_grad():  # Zero at the start of training: an error in its use would not show.
        for name, parameter in model.named_parameters():
            if name.endswith("nearness"):
                parameter.normal_()
    return model.eval()


def draw(batch: int = 2, frames: int = FRAMES, seed: int = 5) -> FrameBatch:
    random = torch.Generator().manual_seed(seed)

    def normal(size: int) -> Tensor:
        return torch.randn(batch, frames, size, generator=random)

    return FrameBatch(normal(SIZES.music), normal(SIZES.pose), torch.zeros(batch, dtype=torch.int64), normal(32))


@torch.no_grad()
def whole(model: DanceRevolution, batch: FrameBatch, own: Tensor | None = None) -> Tensor:
    """Return the poses of frames 1 on, as far as their future is there; own poses as inputs where `own` says so."""
    embedding = model.encoder(batch.music[:, 1:])
    frames = embedding.shape[1] - model.lookahead_frames
    embedding, state = embedding[:, :frames], model.begin(batch.noise[:, 1])
    pose = batch.pose[:, :frames]
    pose = pose if own is None else model.history(embedding, pose, own[:, :frames], state)
    return model(embedding, pose, state)


@torch.no_grad()
def stepped(model: DanceRevolution, batch: FrameBatch, *, own: bool = False) -> Tensor:
    """Return the same, frame by frame, each pose from the true one before it or from the model's own."""
    state, found = model.start(len(batch.pose)), []
    for frame in range(1, batch.music.shape[1]):
        seen = max(frame - model.lookahead_frames, 1)
        before = found[-1] if own and seen > 1 else batch.pose[:, seen - 1]
        pose, *state = model.step(batch.music[:, frame], before, batch.noise[:, seen], *state)
        if frame > model.lookahead_frames:
            found.append(pose)
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("settings", ALL)
def test_steps_are_the_forward_pass(settings: DanceRevolutionSettings) -> None:
    model, batch = make(settings), draw()
    assert torch.allclose(stepped(model, batch), whole(model, batch), atol=1e-5)
    own = torch.ones(batch.pose.shape[:2], dtype=torch.bool)
    assert torch.allclose(stepped(model, batch, own=True), whole(model, batch, own), atol=1e-5)


@pytest.mark.parametrize("settings", ALL)
def test_a_pose_depends_on_the_music_up_to_its_lookahead_and_no_further(settings: DanceRevolutionSettings) -> None:
    model, batch = make(settings), draw(batch=1, frames=24)
    assert model.lookahead_frames == settings.layers * settings.lookahead
    music = batch.music.clone().requires_grad_()
    embedding = model.encoder(music[:, 1:])
    last = embedding.shape[1] - model.lookahead_frames
    found = model(embedding[:, :last], batch.pose[:, :last], model.begin(batch.noise[:, 1]))
    frame = 10
    (gradient,) = torch.autograd.grad(found[0, frame - 1].sum(), music)
    heard = gradient[0].abs().sum(dim=-1)
    newest = frame + model.lookahead_frames
    assert heard[newest] > 0.0
    assert (heard[newest + 1 :] == 0.0).all()
    if settings.encoder == "attention":
        oldest = frame - settings.layers * (settings.window - settings.lookahead)
        assert (heard[: max(oldest, 0)] == 0.0).all()
        assert heard[max(oldest, 1)] > 0.0
    if settings.encoder == "lstm":
        assert heard[1] > 0.0


def test_a_window_as_long_as_the_sequence_is_global_attention() -> None:
    model, music = make(build(DanceRevolutionSettings, {"window": 30, "width": 8, "heads": 2}, "test")), draw().music
    music.requires_grad_()
    (gradient,) = torch.autograd.grad(model.encoder(music)[0, -1, 0], music)
    assert (gradient[0].abs().sum(dim=-1) > 0.0).all()


@pytest.mark.parametrize(
    ("form", "lengths"),
    [
        ("teacher_forcing", {0: 0, 1000: 0}),
        ("const", {0: 10, 1000: 10}),
        ("linear", {0: 0, 24: 0, 25: 1, 1000: 40}),
        ("square", {0: 0, 20: 16, 1000: 100}),
        ("exponential", {0: 0, 4: 2, 1000: 100}),
    ],
)
def test_own_stretches_grow_as_the_form_says(form: str, lengths: dict[int, int]) -> None:
    curriculum = build(CurriculumSettings, {"form": form, "rate": 0.04}, "test")
    assert {epoch: curriculum.own_length(epoch, limit=100) for epoch in lengths} == lengths


def test_own_poses_follow_true_ones_from_anywhere_in_the_pattern() -> None:
    mask = own_poses_mask(torch.linspace(-6.0, 6.0, 400), frames=40, own=3, truth=5)
    begins = set()
    for row in mask.int().tolist():
        assert row[0] == 0
        begins.add(tuple(row))
        # The first stretch may be cut by the beginning.
        edges = np.flatnonzero(np.diff(row))
        edges = edges[edges > 0]
        runs = [(row[a + 1], b - a) for a, b in itertools.pairwise(edges)]
        assert set(runs) <= {(1, 3), (0, 5)}
        assert {1, 0} == {value for value, _ in runs}
    assert len(begins) >= 7


def test_history_is_true_but_where_it_should_be_own() -> None:
    model, batch = make(), draw(frames=12)
    embedding, state = model.encoder(batch.music), model.begin(batch.noise[:, 1])
    own = own_poses_mask(torch.zeros(2), 12, own=3, truth=3)
    history = model.history(embedding, batch.pose, own, state)
    assert torch.equal(history[~own], batch.pose[~own])
    # An own pose is what the network says where it stands: the output before it.
    assert torch.allclose(history[:, 1:][own[:, 1:]], model(embedding, history, state)[:, :-1][own[:, 1:]], atol=1e-5)
    assert own[:, 1:].any()
    assert not history.requires_grad


def test_teacher_forcing_uses_no_own_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("an own pose")

    monkeypatch.setattr(DanceRevolution, "history", refuse)
    make(of("attention", "teacher_forcing")).losses(draw(), epoch=1e6)
    make(of("attention", "linear")).losses(draw(), epoch=99.0)
    with pytest.raises(AssertionError, match="own pose"):
        make(of("attention", "linear")).losses(draw(), epoch=100.0)


@pytest.mark.parametrize("settings", ALL)
def test_training_lowers_the_loss_and_overfits_one_batch(settings: DanceRevolutionSettings) -> None:
    model, batch = make(settings).train(), draw(frames=8)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-2)
    losses = []
    for step in range(120):
        loss = model.losses(batch, epoch=step / 0.6)["pose"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    assert losses[-1] < 0.3 * losses[0]


def test_noise_is_another_dance_and_the_same_noise_the_same() -> None:
    model, batch = make(), draw()
    first = stepped(model, batch, own=True)
    assert torch.equal(first, stepped(model, batch, own=True))
    other = FrameBatch(batch.music, batch.pose, batch.style, draw(seed=6).noise)
    assert not torch.allclose(first, stepped(model, other, own=True), atol=1e-3)


def test_saved_weights_dance_the_same(tmp_path) -> None:
    model, batch = make(), draw()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = make(seed=4)
    assert not torch.equal(stepped(model, batch), stepped(other, batch))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(stepped(model, batch), stepped(other, batch))


def test_the_exported_step_is_the_network(tmp_path) -> None:
    model = make(AHEAD)
    write_graph(model, tmp_path / "model.onnx")
    assert measure_parity(model, tmp_path / "model.onnx", frames=20) < 1e-5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"lookahead": 61}, "lookahead"),
        ({"encoder": "lstm", "lookahead": 1}, "looks ahead"),
        ({"width": 9}, "heads"),
        ({"curriculum": {"truth": 0}}, "truth"),
        ({"curriculum": {"form": "cubic"}}, "form"),
    ],
)
def test_wrong_settings_are_refused(content: dict[str, object], message: str) -> None:
    with pytest.raises(Exception, match=message):
        build(DanceRevolutionSettings, content, "test")


def test_ablations_differ_from_the_recipe_in_one_thing_and_own_poses_come_within_the_budget() -> None:
    recipe = FieldTrainingSettings.of(load_recipe(RECIPES / "dance_revolution.toml"))
    paths = sorted((RECIPES / "ablations").glob("*_*.toml"))
    variants = {path.stem: load_recipe(path) for path in paths}
    variants = {name: content for name, content in variants.items() if content["model"] == "dance_revolution"}
    assert len(variants) >= 8
    ends = {}
    for name, content in variants.items():
        variant = FieldTrainingSettings.of(content, name)
        assert variant.name == name
        same = replace(variant, name=recipe.name, network=recipe.network, epoch_steps=recipe.epoch_steps)
        assert same == recipe
        kept = {"curriculum": recipe.network.curriculum}
        if name.startswith("learning"):
            assert replace(variant.network, **kept) == recipe.network
        else:
            assert variant.network.curriculum == recipe.network.curriculum
            assert variant.network != recipe.network
        epoch = (recipe.optimiser.steps - 1) / variant.epoch_steps
        ends[name] = variant.network.curriculum.own_length(epoch, recipe.window_frames)
    grown = {ends[f"learning_{form}"] for form in ("square", "exponential")} | {ends["encoder_lstm"]}
    assert max(grown) - min(grown) <= 2
    assert min(grown) > recipe.window_frames // 2
    assert (ends["learning_teacher_forcing"], ends["learning_const"]) == (0, 10)
