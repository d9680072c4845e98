"""Settings of Dance Revolution: the recipe's section [network]."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from models.learning.own_history import OwnHistorySettings, stretch_length


@dataclass(frozen=True)
class CurriculumSettings:
    """Dynamic auto-condition learning (section 3.3 of the paper): q true poses, then p = f(epoch) own ones, and so on.

    Attributes:
        form: of f: const, floor(lambda t), floor(lambda t^2), floor(lambda e^t); or teacher forcing, which is p = 0.
        rate: lambda of the three growing forms.
        length: p of the form const.
        truth: q.
    """

    form: Literal["teacher_forcing", "const", "linear", "square", "exponential"] = "linear"
    rate: float = 0.01
    length: int = 10
    truth: int = 10

    def __post_init__(self) -> None:
        self._own_history()

    def own_length(self, epoch: float, limit: int) -> int:
        """Return p at an epoch, at most `limit`."""
        return stretch_length(self._own_history(), epoch, limit)

    def _own_history(self) -> OwnHistorySettings:
        if self.form == "teacher_forcing":
            return OwnHistorySettings("const", length=0, truth=self.truth)
        return OwnHistorySettings(self.form, self.rate, self.length, self.truth)


@dataclass(frozen=True)
class DanceRevolutionSettings:
    """Sizes and learning.

    Attributes:
        encoder: "attention" (local: the paper's; global, where the window is as long as what it is trained on),
            "lstm" or "convolution" (ConvS2S; Gehring et al. 2017).
        window: frames that an attention sees besides its own.
        lookahead: how many of them lie in the future; a pose waits for as many frames of music per layer.
        layers: of the encoder.
        width: of the encoder.
        heads: attention heads.
        feed_forward: inner width of the attention layers' perceptrons.
        kernel: frames that a convolution sees, its own included.
        dropout: in the encoder and of the embedded poses, while learning.
        cells: LSTM layers of the decoder.
        hidden: of each.
        start_deviation: of the decoder's Gaussian state before the first frame.
        curriculum: how much of its past is its own output, while it learns.
    """

    encoder: Literal["attention", "lstm", "convolution"] = "attention"
    window: int = 60
    lookahead: int = 0
    layers: int = 2
    width: int = 128
    heads: int = 8
    feed_forward: int = 256
    kernel: int = 5
    dropout: float = 0.1
    cells: int = 3
    hidden: int = 256
    start_deviation: float = 1.0
    curriculum: CurriculumSettings = field(default_factory=CurriculumSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.lookahead <= self.window:
            raise ValueError("lookahead: from 0 to the window")
        if self.lookahead and self.encoder != "attention":
            raise ValueError("lookahead: only the encoder 'attention' looks ahead")
        if self.width % self.heads:
            raise ValueError("width: a multiple of heads")
