"""Starting a run where it finds itself: one CPU, one GPU, or the processes that `torchrun` started."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.precision.amp import MixedPrecision
from lightning.fabric.plugins.precision.precision import Precision
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.strategies.single_device import SingleDeviceStrategy
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather

from engine.errors import UserError

Device = Literal["auto", "cpu", "cuda"]


class WholeBatches(MixedPrecision):
    """Mixed precision whose batches stay as they are: Fabric's own rounds targets to eight bits, too."""

    def convert_input(self, data: Any) -> Any:
        """Return the input of a forward pass."""
        return data


def open_fabric(device: Device = "auto", *, bfloat16: bool = False) -> Fabric:
    """Return a launched Fabric: of all processes of `torchrun`, or of this process alone.

    Args:
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        bfloat16: matrix products in bfloat16; weights, their average and the optimiser stay in float32.

    Raises:
        UserError: there is no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("this torch sees no GPU", 'train with device = "cpu" or "auto"')
    accelerator = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    precision = WholeBatches("bf16-mixed", accelerator) if bfloat16 else Precision()
    everywhere, here = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if everywhere > 1:
        # Terms of a loss come and go with the step: a network may sit one out.
        strategy = DDPStrategy(
            process_group_backend="nccl" if accelerator == "cuda" else "gloo", find_unused_parameters=True
        )
        fabric = Fabric(
            accelerator=accelerator,
            strategy=strategy,
            devices=here,
            num_nodes=everywhere // here,
            plugins=[precision],
        )
    else:
        place = torch.device("cuda", 0) if accelerator == "cuda" else torch.device("cpu")
        fabric = Fabric(accelerator=accelerator, strategy=SingleDeviceStrategy(device=place), plugins=[precision])
    fabric.launch()
    return fabric


def my_places(fabric: Fabric, batch: int) -> range:
    """Return the places in the global batch that this process draws. Raises UserError if they cannot be even."""
    if batch % fabric.world_size:
        raise UserError(
            f"a batch of {batch} cannot be shared by {fabric.world_size} processes", "make it a multiple of them"
        )
    share = batch // fabric.world_size
    return range(fabric.global_rank * share, (fabric.global_rank + 1) * share)


LEAST_COUNT = 1e-3
"""Below any share that a process has of a count: a loss over nothing, divided by this, is 0."""


def mean_of_all(counts: Tensor) -> Tensor:
    """Return the mean of counts over all processes, without a gradient.

    For a loss over whatever a batch happens to hold. Divided by this, and not by a process's own count, the mean of the
    processes' losses (and so of their gradients) is the loss of the whole batch. All processes must ask, equally often:
    in learning only, for when something is measured one process is alone.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return counts
    total = counts.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def rows_of_all(rows: Tensor) -> Tensor:
    """Return the rows (n, ...) of all processes together, in the order of their places, with their gradients.

    For a loss that is not a mean over sequences: every process then computes the whole of it.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    return torch.cat(list(all_gather(rows)))  # type: ignore[no-untyped-call]
