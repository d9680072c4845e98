"""What figures are measured with: the kind of machine, the source, memory, and a process that keeps it busy."""

from __future__ import annotations

import multiprocessing
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def machine_kind() -> str:
    """Return the machine by its kind: cores and processor family, nothing that names it."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{os.cpu_count()} cores, {name}, {platform.system()}, Python {platform.python_version()}"


def source_commit() -> str:
    """Return the commit of this source, "unknown" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def resident_mb() -> float:
    """Return the memory of this process that is in RAM [MB]; 0 where the system does not say (not Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core and its caches busy in another process."""
    process = multiprocessing.get_context("spawn").Process(target=_burn, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _burn() -> None:
    """Keep one core and its caches busy."""
    import numpy as np

    data = np.random.default_rng(0).normal(size=(512, 512))
    while True:
        data = data @ data
        data /= np.abs(data).max()
