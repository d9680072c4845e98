"""Shlizerman et al. 2018, "Audio to Body Dynamics" (CVPR): an LSTM with a time delay from MFCC to the body.

One LSTM layer hears mel-frequency cepstral coefficients and their differences, and says each pose a few frames late,
when it has heard what comes after. Nothing of the body is fed back: the dance is a function of the music alone, and
the same for every seed but for the pose it begins in, which is not seen again.

As published (the authors' code): one layer of 200, 14 coefficients and their differences (28
values), delay of 0.2 s, dropout 0.1 before the linear output, squared errors (L2), learning rate 1e-3. Ours: the
output is our z-scored pose of 152 values where theirs are principal components of 2-D key points, and differences look
only backwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import UserError
from models.field.frame_model import FrameBatch, FrameModel, FrameSizes
from models.field.frames import BEAT_SIZE


@dataclass(frozen=True)
class AudioToBodySettings:
    """Sizes.

    Attributes:
        width: of the LSTM.
        coefficients: of the MFCC, which are the first columns of a frame of music.
        difference_frames: a difference is taken to the frame so many before.
        delay_frames: that a pose is later than its music.
        dropout: before the output.
    """

    width: int = 200
    coefficients: int = 14
    difference_frames: int = 2
    delay_frames: int = 3
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.width, self.coefficients, self.difference_frames) < 1 or self.delay_frames < 0:
            raise ValueError("sizes from 1, delay_frames from 0")


class AudioToBody(FrameModel):
    """The network. Its state: hidden and cell (B, width), and the last coefficients (B, difference_frames, C).

    Args:
        sizes: of music and pose.
        settings: of the network.
    """

    def __init__(self, sizes: FrameSizes, settings: AudioToBodySettings) -> None:
        super().__init__(sizes)
        if settings.coefficients > sizes.music - BEAT_SIZE:
            raise UserError(
                f"{settings.coefficients} coefficients of {sizes.music - BEAT_SIZE} features", "ask for fewer"
            )
        self.settings, self.lookahead_frames = settings, settings.delay_frames
        self.lstm = nn.LSTM(2 * settings.coefficients, settings.width, batch_first=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.out = nn.Linear(settings.width, sizes.pose)

    def losses(self, batch: FrameBatch, epoch: float) -> dict[str, Tensor]:
        """Return the mean squared error; see `FrameModel.losses`."""
        delay = self.settings.delay_frames
        said = self(batch.music)[:, delay:]
        return {"pose": functional.mse_loss(said, batch.pose[:, : said.shape[1]])}

    def forward(self, music: Tensor) -> Tensor:
        """Return the poses (B, T, P) said at each frame of music (B, T, M): that of `delay_frames` before it."""
        heard = music[..., : self.settings.coefficients]
        # Before a window began there was average music.
        before = functional.pad(heard, (0, 0, self.settings.difference_frames, 0))[:, : heard.shape[1]]
        hidden, _ = self.lstm(torch.cat([heard, self._difference(heard, before)], dim=-1))
        return self.out(self.dropout(hidden))

    def start(self, dancers: int) -> tuple[Tensor, ...]:
        """Return the state before the first frame."""
        s, like = self.settings, self.out.weight
        return (
            like.new_zeros(dancers, s.width),
            like.new_zeros(dancers, s.width),
            like.new_zeros(dancers, s.difference_frames, s.coefficients),
        )

    def step(self, music: Tensor, pose: Tensor, noise: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the next pose and the new state; see `FrameModel.step`."""
        hidden, cell, past = state
        heard = music[:, : self.settings.coefficients]
        given = torch.cat([heard, self._difference(heard, past[:, 0])], dim=-1)[:, None]
        out, (hidden, cell) = self.lstm(given, (hidden[None], cell[None]))
        return self.out(out[:, 0]), hidden[0], cell[0], torch.cat([past[:, 1:], heard[:, None]], dim=1)

    def _difference(self, heard: Tensor, before: Tensor) -> Tensor:
        return (heard - before) / self.settings.difference_frames
