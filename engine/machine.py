"""The kind of machine and the source that figures were measured with."""

from __future__ import annotations

import os
import platform
import subprocess
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
