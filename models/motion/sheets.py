"""Contact sheets: stick figures of a dance, front and side, to look at with one's own eyes.

No statistic has yet caught every way in which a fitted or generated dance can be wrong; a picture has.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engine.body.skeleton import JOINT_NAMES, PARENTS

_COLOURS = {"left": "#1f5fd6", "right": "#d62f2f", "middle": "#222222"}


def _side(joint: int) -> str:
    name = JOINT_NAMES[joint]
    return name.split("_")[0] if "_" in name else "middle"


def _views(positions: NDArray[np.floating], facing: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the horizontal axes (3,) of a front view (dancer's left to the right of the picture) and a side view."""
    if facing == "world":
        return np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    left = positions[1] - positions[2] + 0.5 * (positions[16] - positions[17])
    left = left * [1.0, 0.0, 1.0]
    left = left / max(float(np.linalg.norm(left)), 1e-6)
    return left, np.cross(left, [0.0, 1.0, 0.0])


def _figure(
    axes: Axes,
    positions: NDArray[np.floating],
    across: NDArray[np.floating],
    markers: NDArray[np.floating] | None,
    points: NDArray[np.floating] | None,
) -> None:
    x = (positions - positions[0]) @ across
    y = positions[:, 1]
    joints = range(1, len(PARENTS))
    lines = [[(x[PARENTS[j]], y[PARENTS[j]]), (x[j], y[j])] for j in joints]
    axes.add_collection(LineCollection(lines, colors=[_COLOURS[_side(j)] for j in joints], linewidths=1.6))
    head = positions[15] + 0.9 * (positions[15] - positions[12])
    axes.plot((head - positions[0]) @ across, head[1], "o", color="none", markeredgecolor="#222222", markersize=9)
    if markers is not None:
        axes.plot((markers - positions[0]) @ across, markers[:, 1], ".", color="#0a9a3c", markersize=3)
    if points is not None:
        axes.plot((points - positions[0]) @ across, points[:, 1], "s", color="#e39a00", markersize=3)
    axes.axhline(0.0, color="#999999", linewidth=0.7)
    axes.set_xlim(-1.0, 1.0)
    axes.set_ylim(-0.15, 2.05)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def contact_sheet(
    positions: NDArray[np.floating],
    path: Path,
    times_s: NDArray[np.floating] | None = None,
    *,
    frames: Sequence[int] | None = None,
    count: int = 12,
    columns: int = 6,
    markers: NDArray[np.floating] | None = None,
    contacts: NDArray[np.floating] | None = None,
    sole_points: NDArray[np.floating] | None = None,
    facing: str = "dancer",
    title: str = "",
) -> None:
    """Draw stick figures of chosen frames into a PNG, each from the front and from its side.

    Blue is the dancer's left, red their right. In the front view their left is on the picture's right, as if
    the viewer stood behind them; in the side view they look to the right.

    Args:
        positions: (T, 24, 3) joints [m], Y up.
        path: PNG to write; its folder is made.
        times_s: (T,) printed over each figure; without it the frame number.
        frames: which frames; default `count` spread evenly.
        count: how many, when `frames` is not given.
        columns: figures (pairs of views) per row.
        markers: (T, M, 3) drawn as green dots over the figure.
        contacts: (T, 4) printed as L/l/R/r (heels in capitals) where they are over one half.
        sole_points: (T, 4, 3) drawn as orange squares.
        facing: "dancer" turns each figure to face the same way, "world" keeps the stage's axes.
        title: printed above all.
    """
    chosen = list(frames) if frames is not None else list(np.linspace(0, len(positions) - 1, count).astype(int))
    rows = -(-len(chosen) // columns)
    # A Figure of its own, not pyplot's: no display, no global state.
    figure = Figure(figsize=(2.75 * columns, 1.75 * rows))
    table = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in table.flat:
        axes.set_axis_off()
    for place, frame in enumerate(chosen):
        pair = table[place // columns, 2 * (place % columns) : 2 * (place % columns) + 2]
        for axes, across in zip(pair, _views(positions[frame], facing), strict=True):
            axes.set_axis_on()
            _figure(
                axes,
                positions[frame],
                across,
                None if markers is None else markers[frame],
                None if sole_points is None else sole_points[frame],
            )
        label = f"{times_s[frame]:.2f} s" if times_s is not None else str(frame)
        if contacts is not None:
            label += " " + "".join(c for c, on in zip("LlRr", contacts[frame] > 0.5, strict=True) if on)
        pair[0].set_title(label, fontsize=7, pad=2)
    if title:
        figure.suptitle(title, fontsize=9)
    figure.tight_layout(pad=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
