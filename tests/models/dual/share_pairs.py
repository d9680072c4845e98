"""Run by `test_dual` under torchrun: a few steps of the dual objective; the first process writes their losses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from test_dual import Data, staged_losses  # noqa: E402

if __name__ == "__main__":
    torch.set_num_threads(1)
    losses = staged_losses(Data(Path(sys.argv[1])))
    if losses:
        Path(sys.argv[2]).write_text(json.dumps(losses))
