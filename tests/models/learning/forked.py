"""Processes that have torch from the start: forked by one that has loaded it and done nothing with it.

Loading torch and Lightning takes longer than anything that these tests let a process do.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess

from tests.ports import unshared_port
from tests.waiting import PATIENCE_S, wait_until

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["lightning.fabric", "torch.utils.tensorboard", "models.learning.commands"])


def fork(work: Callable[..., object], *arguments: object, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """Start a process that does some work, on one thread.

    Args:
        work: of a module that can be imported.
        arguments: of it.
        environment: variables to be set before.
    """
    process = _context.Process(target=_work, args=(work, arguments, dict(environment or {})), daemon=True)
    process.start()
    return process


def fork_both(work: Callable[..., object], *arguments: object) -> None:
    """Do some work in two processes that find each other, told so as `torchrun --nproc_per_node 2` tells them.

    Raises:
        AssertionError: one of them failed.
    """
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "tests"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(unshared_port())}
    both = [
        fork(work, *arguments, environment={**shared, "RANK": rank, "LOCAL_RANK": rank, "ROLE_RANK": rank})
        for rank in ("0", "1")
    ]
    try:
        # If one fails, the other would wait for it.
        wait_until(lambda: all(p.exitcode == 0 for p in both) or any(p.exitcode for p in both), "no end", each_s=0.05)
        assert [process.exitcode for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
            process.join(PATIENCE_S)


def _work(work: Callable[..., object], arguments: tuple[object, ...], environment: Mapping[str, str]) -> None:
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    work(*arguments)
