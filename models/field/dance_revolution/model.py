"""Dance Revolution (Huang et al. 2021): its network and how it learns.

A music encoder embeds each frame; LSTM cells on top of each other read the pose before; a linear layer makes the pose
from both: h_i = RNN(h_{i-1}, y_{i-1}), y_i = [h_i; z_i] W + b (section 3.3 of the paper). The loss is L1.

While it learns, true and own poses take turns as the pose before (dynamic auto-condition). As in the published code an
own pose is input, not a path for gradients, which flow through the cells alone. So own poses can be found first,
frame by frame without gradients, and the sequence then be run as a whole: the same gradient, for half of the time.

Departures, beside what a stage asks for (`models.field.dance_revolution.encoders`): where in the pattern a sequence
begins is drawn, since ours begin anywhere in a dance; own poses are found without dropout, as they are on the stage;
and the published code feeds each cell with the one below as it was a frame before, the paper's equation does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.field.dance_revolution.encoders import make_encoder
from models.field.dance_revolution.settings import DanceRevolutionSettings
from models.field.frame_model import FrameBatch, FrameModel, FrameSizes
from models.field.stacked_lstm import StackedLstm

__all__ = ["DanceRevolution", "DanceRevolutionSettings", "own_poses_mask"]

_NOISE_SIZE = 32
"""Directions in which the decoder's first state varies: a dance needs one, and frames of noise are drawn for all."""


class DanceRevolution(FrameModel):
    """The network; see the module's description.

    Its first state is Gaussian, as the published one: the same music and start pose give as many dances as one likes.

    Args:
        sizes: of a frame.
        settings: of the network.
    """

    noise_size = _NOISE_SIZE

    def __init__(self, sizes: FrameSizes, settings: DanceRevolutionSettings) -> None:
        super().__init__(sizes)
        self.settings = settings
        self.encoder = make_encoder(sizes.music, settings)
        self.lookahead_frames = self.encoder.lookahead
        self.embed = nn.Linear(sizes.pose, settings.hidden)
        self.dropout = nn.Dropout(settings.dropout)
        self.decoder = StackedLstm(settings.hidden, settings.hidden, settings.cells)
        self.out = nn.Linear(settings.hidden + settings.width, sizes.pose)
        directions = functional.normalize(torch.randn(_NOISE_SIZE, self.decoder.state_rows * settings.hidden), dim=0)
        self.register_buffer("directions", settings.start_deviation * directions)

    def losses(self, batch: FrameBatch, epoch: float) -> dict[str, Tensor]:
        """Return the L1 loss of all poses but the first, which is given, and the last, whose future is not there."""
        embedding = self.encoder(batch.music[:, 1:])
        frames = embedding.shape[1] - self.lookahead_frames
        embedding, pose = embedding[:, :frames], batch.pose[:, :frames]
        state = self.begin(batch.noise[:, 1])
        own = self.settings.curriculum.own_length(epoch, frames)
        if own:
            mask = own_poses_mask(batch.noise[:, 0, 0], frames, own, self.settings.curriculum.truth)
            pose = self.history(embedding.detach(), pose, mask, state)
        found = self(embedding, pose, state)
        return {"pose": functional.l1_loss(found, batch.pose[:, 1 : frames + 1])}

    def forward(self, embedding: Tensor, pose: Tensor, state: Tensor) -> Tensor:
        """Return the poses (B, N, P).

        Args:
            embedding: (B, N, width) of their music.
            pose: (B, N, P), those before.
            state: of the decoder, before the first.
        """
        hidden = self.decoder(self.dropout(self.embed(pose)), state)
        return self.out(torch.cat([hidden, embedding], dim=-1))

    @torch.no_grad()
    def history(self, embedding: Tensor, pose: Tensor, own: Tensor, state: Tensor) -> Tensor:
        """Return the poses before (B, N, P), with the network's own where `own` (B, N) says so; see `forward`."""
        before = [pose[:, 0]]
        for frame in range(pose.shape[1] - 1):
            found, state = self._next(embedding[:, frame], before[-1], state)
            before.append(torch.where(own[:, frame + 1, None], found.to(pose.dtype), pose[:, frame + 1]))
        return torch.stack(before, dim=1)

    def begin(self, noise: Tensor) -> Tensor:
        """Return the decoder's first state (B, 2 cells, hidden) for noise (B, Z)."""
        return (noise @ self.get_buffer("directions")).unflatten(-1, (self.decoder.state_rows, -1))

    def start(self, dancers: int) -> tuple[Tensor, ...]:
        """See `FrameModel.start`: steps taken, as far as they matter, the decoder's and the encoder's state."""
        return self.out.weight.new_zeros(dancers, 1), self.decoder.start(dancers), *self.encoder.start(dancers)

    def step(self, music: Tensor, pose: Tensor, noise: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `FrameModel.step`; the noise of the first frame that is seen is the dance's, the rest is not used."""
        taken, hidden, *memory = state
        embedding, *memory = self.encoder.step(music, *memory)
        # Until the first frame that is seen the decoder stands at its beginning.
        begun = (taken > self.lookahead_frames)[:, :, None]
        found, hidden = self._next(embedding, pose, torch.where(begun, hidden, self.begin(noise)))
        return found, (taken + 1.0).clamp(max=self.lookahead_frames + 1.0), hidden, *memory

    def _next(self, embedding: Tensor, pose: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        hidden, state = self.decoder.step(self.embed(pose), state)
        return self.out(torch.cat([hidden, embedding], dim=-1)), state


def own_poses_mask(gaussian: Tensor, frames: int, own: int, truth: int) -> Tensor:
    """Return which poses (B, frames) are the network's own: `own` of them take turns with `truth` true ones.

    Args:
        gaussian: (B,), which decides where in the pattern each sequence begins.
        frames: of the sequence; its first pose is always true, since nothing precedes it.
        own: p.
        truth: q.
    """
    period = own + truth
    first = (torch.special.ndtr(gaussian) * period).long().clamp(max=period - 1)
    mask = (torch.arange(frames, device=gaussian.device) + first[:, None]) % period >= truth
    mask[:, 0] = False
    return mask
