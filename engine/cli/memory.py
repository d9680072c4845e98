"""How much memory this process holds, for the benches."""

from __future__ import annotations

import os
from pathlib import Path


def resident_mb() -> float:
    """Return the memory of this process that is in RAM [MB]; 0 where the system does not say (not Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
