"""What every system of the field that lives at a fixed frame rate has in common: its batches and its interface."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class FrameBatch:
    """B windows of T frames of real dance.

    Attributes:
        music: (B, T, M) normalised; see `models.field.frames`.
        pose: (B, T, P) normalised.
        style: (B,) int64, index in `models.music_to_dance.conditioning.STYLES`, or one more for any other style.
        noise: (B, T, Z) Gaussian, drawn per window, so that a batch decides everything random.
    """

    music: Tensor
    pose: Tensor
    style: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> FrameBatch:
        """Return the batch on a device."""
        return FrameBatch(*(part.to(device) for part in (self.music, self.pose, self.style, self.noise)))


@dataclass(frozen=True)
class FrameSizes:
    """What a frame model is told when it is built.

    Attributes:
        music: M, values of a frame of music.
        pose: P, values of a pose.
        styles: number of styles in `FrameBatch.style`.
        frame_rate_hz: of both.
    """

    music: int
    pose: int
    styles: int
    frame_rate_hz: float


class FrameModel(nn.Module):
    """A recurrent dancer: a frame of music in, the next pose out, with an explicit state of fixed shape.

    `losses` (for training) and `step` (for the stage) are the same network: over a window the outputs of the two agree
    within 1e-5. A dance begins with `lookahead_frames` steps whose poses nobody sees and which are not fed back: the
    start pose stands in for them while the model hears the music that it waits for.

    Attributes:
        noise_size: Z, Gaussian numbers that it takes a frame (0: deterministic).
        lookahead_frames: frames of music after a pose's own frame that it waits for (0: causal).
        sizes: of its inputs and its output.

    Args:
        sizes: of its inputs and its output.
    """

    noise_size: int = 0
    lookahead_frames: int = 0

    def __init__(self, sizes: FrameSizes) -> None:
        super().__init__()
        self.sizes = sizes

    def losses(self, batch: FrameBatch, epoch: float) -> dict[str, Tensor]:
        """Return the weighted losses by name.

        Args:
            batch: windows of real dance.
            epoch: of the training, for curricula; one epoch is `FieldTrainingSettings.epoch_steps` steps.
        """
        raise NotImplementedError

    def start(self, dancers: int) -> tuple[Tensor, ...]:
        """Return the state before the first frame: tensors whose first axis is the dancers."""
        raise NotImplementedError

    def step(self, music: Tensor, pose: Tensor, noise: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the next pose (B, P) and the new state (of the same shapes).

        Exportable as ONNX (opset 20): no Python branch on a value.

        Args:
            music: (B, M) of the newest frame, which is `lookahead_frames` after the one whose pose is asked for.
            pose: (B, P) of the frame before the one that is asked for.
            noise: (B, Z).
            state: of the step before.
        """
        raise NotImplementedError
