"""LSTM cells on top of each other: a whole sequence at once for learning, one frame at a time for the stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class StackedLstm(nn.Module):
    """LSTM layers (Hochreiter & Schmidhuber 1997) whose state is one tensor, first axis the dancers.

    Args:
        size: values of an input.
        hidden: H, of each layer and of the output.
        layers: L.
    """

    def __init__(self, size: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.hidden, self.layers = hidden, layers
        self.cells = nn.LSTM(size, hidden, layers, batch_first=True)

    @property
    def state_rows(self) -> int:
        """Rows of the state: the outputs of all layers, then their cells."""
        return 2 * self.layers

    def start(self, dancers: int) -> Tensor:
        """Return the state (B, 2 L, H) of zeros."""
        return self.cells.weight_hh_l0.new_zeros(dancers, self.state_rows, self.hidden)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the outputs (B, N, H) over a sequence (B, N, size) that begins in a state (B, 2 L, H)."""
        output, cell = (part.transpose(0, 1).contiguous() for part in state.chunk(2, dim=1))
        outputs, _ = self.cells(x, (output, cell))
        return outputs

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (B, H) of one frame (B, size) and the new state."""
        # By hand: an export of nn.LSTM would carry its loop over one frame.
        outputs, cells = [], []
        for layer in range(self.layers):
            w_in, w_past, b_in, b_past = self.cells.all_weights[layer]
            gates = functional.linear(x, w_in, b_in) + functional.linear(state[:, layer], w_past, b_past)
            take, keep, new, give = gates.chunk(4, dim=-1)
            cell = torch.sigmoid(keep) * state[:, self.layers + layer] + torch.sigmoid(take) * torch.tanh(new)
            x = torch.sigmoid(give) * torch.tanh(cell)
            outputs.append(x)
            cells.append(cell)
        return x, torch.stack(outputs + cells, dim=1)
