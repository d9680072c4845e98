"""Dance with Melody (Tang, Jia & Mao 2018): an LSTM-autoencoder of music from whose bottleneck an LSTM dances.

- The **extractor** reads a frame's acoustic features and temporal indexes and writes few *reduced* features; a second
  LSTM reads these and the indexes and must find the acoustic features again.
- The **mask** lets the reduced features pass in the frames in which a beat falls and is zero between them, so that
  what moves within a beat goes on and does not follow every change of the sound.
- The **predictor**, an LSTM too, makes the pose from the masked features and the indexes. It never sees a pose.

The loss is max(threshold, L_extr) + L_pred, both mean squared errors: music is reconstructed only as well as the
threshold asks, which keeps the reduced features free for what the dance needs.

The published indexes are the number of the frame in the piece, whether a beat falls in it, and the frames since the
beat. A show has no end that the first could be scaled by: in its place is the beat's number in a phrase, counted from
where the dance began; and the last is counted in beats, so that it means the same at every tempo. Widths, depths and
activations of the dense layers are not fixed by the paper as far as we know; they are one layer each, with a ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.field.frame_model import FrameBatch, FrameModel, FrameSizes
from models.field.frames import BEAT_SIZE
from models.field.stacked_lstm import StackedLstm

INDEXES = 3
"""Temporal indexes: whether a beat falls, the place in the beat, the beat's place in the phrase."""


@dataclass(frozen=True)
class TangSettings:
    """Sizes and losses.

    Attributes:
        reduced: features of the bottleneck.
        dense: width of the dense layers before the LSTMs.
        hidden: of each LSTM layer.
        layers: of each LSTM.
        phrase_beats: beats that are counted before the count begins again.
        mask: reduced features pass only on beats.
        threshold: mean squared error of the music, in deviations of its features, that is good enough.
        dropout: of the predictor's and the extractor's LSTM inputs, while learning.
    """

    reduced: int = 10
    dense: int = 64
    hidden: int = 128
    layers: int = 3
    phrase_beats: int = 8
    mask: bool = True
    threshold: float = 0.5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.phrase_beats < 1 or self.threshold < 0.0:
            raise ValueError("phrase_beats from 1, threshold from 0")


class _Reader(nn.Module):
    """A dense layer, the temporal indexes beside it, an LSTM, and a dense layer."""

    def __init__(self, size: int, out: int, settings: TangSettings) -> None:
        super().__init__()
        self.dense = nn.Linear(size, settings.dense)
        self.dropout = nn.Dropout(settings.dropout)
        self.lstm = StackedLstm(settings.dense + INDEXES, settings.hidden, settings.layers)
        self.out = nn.Linear(settings.hidden, out)

    def forward(self, x: Tensor, indexes: Tensor) -> Tensor:
        """Run over a sequence: x (B, N, size), indexes (B, N, 3)."""
        return self.out(self.lstm(self._join(x, indexes), self.lstm.start(len(x))))

    def step(self, x: Tensor, indexes: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run one frame: x (B, size), indexes (B, 3)."""
        hidden, state = self.lstm.step(self._join(x, indexes), state)
        return self.out(hidden), state

    def _join(self, x: Tensor, indexes: Tensor) -> Tensor:
        return torch.cat([self.dropout(torch.relu(self.dense(x))), indexes], dim=-1)


class Tang2018(FrameModel):
    """The network; see the module's description. Deterministic: one dance for each piece.

    Args:
        sizes: of a frame.
        settings: of the network.
    """

    def __init__(self, sizes: FrameSizes, settings: TangSettings) -> None:
        super().__init__(sizes)
        self.settings = settings
        acoustic = sizes.music - BEAT_SIZE
        self.extractor = _Reader(acoustic, settings.reduced, settings)
        self.reconstructor = _Reader(settings.reduced, acoustic, settings)
        self.predictor = _Reader(settings.reduced, sizes.pose, settings)

    def losses(self, batch: FrameBatch, epoch: float) -> dict[str, Tensor]:
        """Return what the reconstruction of the music costs, at least the threshold, and the error of the poses."""
        music = batch.music[:, 1:]
        reduced, indexes = self._reduce(music)
        features = _split(music)[0]
        lost = functional.mse_loss(self.reconstructor(reduced, indexes), features)
        return {
            "music": lost.clamp(min=self.settings.threshold),
            "pose": functional.mse_loss(self.predictor(reduced, indexes), batch.pose[:, 1:]),
        }

    def forward(self, music: Tensor) -> Tensor:
        """Return the poses (B, N, P) to music (B, N, M)."""
        return self.predictor(*self._reduce(music))

    def start(self, dancers: int) -> tuple[Tensor, ...]:
        """See `FrameModel.start`: the beat's number in its phrase, and the states of two LSTMs."""
        counted = self.predictor.out.weight.new_zeros(dancers, 1)
        return counted, self.extractor.lstm.start(dancers), self.predictor.lstm.start(dancers)

    def step(self, music: Tensor, pose: Tensor, noise: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `FrameModel.step`; neither the pose before nor noise is used."""
        counted, extractor, predictor = state
        music, beat, phase = _split(music)
        counted = counted + beat
        counted = torch.where(counted < self.settings.phrase_beats, counted, counted - self.settings.phrase_beats)
        indexes = self._indexes(beat, phase, counted)
        reduced, extractor = self.extractor.step(music, indexes, extractor)
        found, predictor = self.predictor.step(self._masked(reduced, beat), indexes, predictor)
        return found, counted, extractor, predictor

    def _reduce(self, music: Tensor) -> tuple[Tensor, Tensor]:
        """Return the masked reduced features (B, N, reduced) and the temporal indexes (B, N, 3)."""
        features, beat, phase = _split(music)
        indexes = self._indexes(beat, phase, torch.cumsum(beat, dim=1) % self.settings.phrase_beats)
        return self._masked(self.extractor(features, indexes), beat), indexes

    def _indexes(self, beat: Tensor, phase: Tensor, counted: Tensor) -> Tensor:
        return torch.cat([beat, phase, counted / self.settings.phrase_beats], dim=-1)

    def _masked(self, reduced: Tensor, beat: Tensor) -> Tensor:
        return reduced * beat if self.settings.mask else reduced


def _split(music: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the acoustic features (..., F), the beat (..., 1) and its phase (..., 1) of music (..., M)."""
    features, beat, phase = music.split([music.shape[-1] - BEAT_SIZE, 1, 1], dim=-1)
    return features, beat, phase
