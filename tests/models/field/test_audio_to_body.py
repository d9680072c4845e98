"""Audio to Body Dynamics: it learns, hears no more than it says, and step by step is what it is over a sequence."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from engine.errors import UserError  # noqa: E402
from models.field.audio_to_body import AudioToBody, AudioToBodySettings  # noqa: E402
from models.field.frame_model import FrameBatch, FrameSizes  # noqa: E402

SIZES = FrameSizes(music=12, pose=7, styles=5, frame_rate_hz=15.0)
SETTINGS = AudioToBodySettings(width=32, coefficients=6, difference_frames=2, delay_frames=3, dropout=0.0)


def network() -> AudioToBody:
    torch.manual_seed(0)
    return AudioToBody(SIZES, SETTINGS).eval()


def batch(frames: int = 40) -> FrameBatch:
    torch.manual_seed(1)
    style = torch.zeros(3, dtype=torch.int64)
    return FrameBatch(torch.randn(3, frames, 12), torch.randn(3, frames, 7), style, torch.zeros(3, frames, 0))


def test_step_by_step_it_says_what_it_says_over_a_sequence() -> None:
    model, windows = network(), batch()
    with torch.no_grad():
        whole = model(windows.music)
        state, said = model.start(3), []
        shapes = [part.shape for part in state]
        for frame in range(windows.music.shape[1]):
            pose, *state = model.step(windows.music[:, frame], windows.pose[:, 0], windows.noise[:, 0], *state)
            assert [part.shape for part in state] == shapes
            said.append(pose)
    assert torch.allclose(torch.stack(said, dim=1), whole, atol=1e-5)


def test_it_hears_as_far_ahead_as_it_declares_and_no_further() -> None:
    model, windows = network(), batch()
    music = windows.music.clone().requires_grad_(True)
    frame = 20
    # The pose of a frame is said `lookahead_frames` later.
    model(music)[:, frame + model.lookahead_frames].sum().backward()
    heard = music.grad.abs().sum(dim=(0, 2)).nonzero().flatten()
    assert int(heard.max()) == frame + 3 == frame + model.lookahead_frames


def test_the_loss_compares_a_pose_with_what_is_said_after_the_delay() -> None:
    model, windows = network(), batch()
    with torch.no_grad():
        said = model(windows.music)
        windows.pose = torch.cat([said[:, 3:], torch.full((3, 3, 7), 9.0)], dim=1)
        assert float(model.losses(windows, 0.0)["pose"]) < 1e-10
        windows.pose = said
        assert float(model.losses(windows, 0.0)["pose"]) > 1e-4


def test_only_coefficients_and_their_differences_are_heard() -> None:
    model, windows = network(), batch()
    with torch.no_grad():
        before = model(windows.music)
        windows.music[..., 6:] += 5.0
        assert torch.equal(model(windows.music), before)
        windows.music[..., :6] += 5.0
        assert not torch.allclose(model(windows.music), before, atol=1e-2)


def test_it_overfits_a_little_dance() -> None:
    torch.manual_seed(2)
    model, windows = AudioToBody(SIZES, SETTINGS).train(), batch(24)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(250):
        loss = model.losses(windows, 0.0)["pose"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[10] < losses[0]
    assert losses[-1] < 0.05 * losses[0]


def test_more_coefficients_than_features_are_refused() -> None:
    with pytest.raises(UserError, match="14 coefficients of 10 features"):
        AudioToBody(SIZES, AudioToBodySettings())
    with pytest.raises(ValueError, match="sizes from 1"):
        AudioToBodySettings(width=0)
