from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.field.export import measure_parity, write_graph
from models.field.frame_model import FrameBatch, FrameSizes
from models.field.tang_2018 import Tang2018, TangSettings
from models.learning.settings import build

SIZES = FrameSizes(music=8, pose=5, styles=3, frame_rate_hz=15.0)
SETTINGS = TangSettings(reduced=4, dense=8, hidden=8, layers=2, phrase_beats=3, threshold=0.0)
FRAMES, BEAT_FRAMES = 30, 4


def make(settings: TangSettings = SETTINGS, seed: int = 3) -> Tang2018:
    torch.manual_seed(seed)
    return Tang2018(SIZES, settings).eval()


def draw(frames: int = FRAMES, seed: int = 5) -> FrameBatch:
    """Return two windows with a beat every fourth frame, in the second of them a frame later."""
    random = torch.Generator().manual_seed(seed)
    music = torch.randn(2, frames, SIZES.music, generator=random)
    place = (torch.arange(frames) - torch.tensor([[1], [2]])) % BEAT_FRAMES
    music[..., -2] = (place == 0).float()
    music[..., -1] = place / BEAT_FRAMES
    pose = torch.randn(2, frames, SIZES.pose, generator=random)
    return FrameBatch(music, pose, torch.zeros(2, dtype=torch.int64), torch.zeros(2, frames, 0))


@torch.no_grad()
def stepped(model: Tang2018, music: Tensor) -> Tensor:
    state, found = model.start(len(music)), []
    for frame in music.unbind(1):
        pose, *state = model.step(
            frame, frame.new_zeros(len(music), SIZES.pose), frame.new_zeros(len(music), 0), *state
        )
        found.append(pose)
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("mask", [True, False])
def test_steps_are_the_forward_pass_over_many_phrases(mask: bool) -> None:
    model, music = make(replace(SETTINGS, mask=mask)), draw(frames=60).music
    assert torch.allclose(stepped(model, music), model(music), atol=1e-5)


def test_a_pose_hears_no_later_frame() -> None:
    model, music = make(), draw().music.requires_grad_()
    (gradient,) = torch.autograd.grad(model(music)[0, 10].sum(), music)
    assert (gradient[0, 11:] == 0.0).all()
    # Frame 9 is a beat: what sounded there has passed.
    assert gradient[0, 9, :-2].abs().sum() > 0.0


def test_sound_passes_on_beats_alone() -> None:
    model, music = make(), draw().music
    other = music.clone()
    other[0, 6, :-2] += 3.0  # Beats are in frames 1, 5 and 9.
    changed = (model(other) - model(music)).abs().sum(dim=-1)[0]
    assert (changed[:9] == 0.0).all()
    assert changed[9] > 0.0
    without = make(replace(SETTINGS, mask=False))
    assert (without(other) - without(music))[0, 6].abs().sum() > 0.0


def test_the_beat_in_the_phrase_is_counted_and_begins_again() -> None:
    model, music = make(), draw().music
    _, indexes = model._reduce(music)
    assert torch.equal(indexes[0, 1::BEAT_FRAMES, 0], torch.ones(8))
    found = [round(3.0 * float(place)) for place in indexes[0, :, 2]]
    assert found == [0, *(beat % 3 for beat in range(1, 8) for _ in range(BEAT_FRAMES)), 8 % 3]
    assert torch.equal(indexes[..., 1], music[..., -1])


def test_the_loss_of_the_music_is_no_lower_than_its_threshold() -> None:
    batch = draw()
    threshold = 2.0 * make().losses(batch, epoch=0.0)["music"].item()
    model = make(replace(SETTINGS, threshold=threshold))
    assert model.losses(batch, epoch=0.0)["music"].item() == pytest.approx(threshold)
    model.losses(batch, epoch=0.0)["music"].backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_training_lowers_both_losses_and_overfits_one_batch() -> None:
    model, batch = make(replace(SETTINGS, hidden=16)).train(), draw(frames=9)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(150):
        loss = model.losses(batch, epoch=0.0)
        optimiser.zero_grad()
        (loss["music"] + loss["pose"]).backward()
        optimiser.step()
        losses.append({name: value.item() for name, value in loss.items()})
    assert sum(losses[1].values()) < sum(losses[0].values())
    assert losses[-1]["pose"] < 0.3 * losses[0]["pose"]
    assert losses[-1]["music"] < losses[0]["music"]


def test_saved_weights_dance_the_same(tmp_path) -> None:
    model, other, music = make(), make(seed=4), draw().music
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert not torch.equal(stepped(model, music), stepped(other, music))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(stepped(model, music), stepped(other, music))


def test_the_exported_step_is_the_network(tmp_path) -> None:
    model = make()
    write_graph(model, tmp_path / "model.onnx")
    assert measure_parity(model, tmp_path / "model.onnx", frames=20) < 1e-5


@pytest.mark.parametrize("content", [{"phrase_beats": 0}, {"threshold": -1.0}, {"hiden": 3}])
def test_wrong_settings_are_refused(content: dict[str, object]) -> None:
    with pytest.raises(Exception, match="test"):
        build(TangSettings, content, "test")
