"""A body of other proportions with other names, and BVH files of it, written without the project's own writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.body.bvh import zxy_degrees

# name: (parent, offset [cm]); arms hang in an A pose, legs are long, there is a joint more in the neck.
MIXAMO: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "Hips": (None, (0.0, 0.0, 0.0)),
    "Spine": ("Hips", (0.0, 10.0, -1.0)),
    "Spine1": ("Spine", (0.0, 12.0, -1.0)),
    "Spine2": ("Spine1", (0.0, 13.0, 0.0)),
    "Neck": ("Spine2", (0.0, 15.0, 0.0)),
    "Head": ("Neck", (0.0, 9.0, 2.0)),
    "HeadTop_End": ("Head", (0.0, 18.0, 3.0)),
    **{
        name.replace("X", side): (parent.replace("X", side), (sign * x, y, z))
        for side, sign in (("Left", 1.0), ("Right", -1.0))
        for name, parent, (x, y, z) in (
            ("XShoulder", "Spine2", (6.0, 11.0, 0.0)),
            ("XArm", "XShoulder", (12.0, -1.0, 0.0)),
            ("XForeArm", "XArm", (19.0, -19.0, 0.0)),
            ("XHand", "XForeArm", (18.0, -18.0, 0.5)),
            ("XHandMiddle1", "XHand", (6.5, -6.5, 0.0)),
            ("XUpLeg", "Hips", (9.0, -6.0, 0.0)),
            ("XLeg", "XUpLeg", (0.0, -45.0, 0.0)),
            ("XFoot", "XLeg", (0.0, -46.0, -1.0)),
            ("XToeBase", "XFoot", (0.0, -8.0, 13.0)),
        )
    },
}


def depth_first(rig: dict[str, tuple[str | None, tuple[float, float, float]]]) -> list[str]:
    """Return the joints in the order of the file's channels."""
    order: list[str] = []

    def visit(name: str) -> None:
        order.append(name)
        for child, (parent, _) in rig.items():
            if parent == name:
                visit(child)

    visit(next(name for name, (parent, _) in rig.items() if parent is None))
    return order


def write_rig(
    path: Path,
    rig: dict[str, tuple[str | None, tuple[float, float, float]]],
    rotations: dict[str, np.ndarray],
    way_cm: np.ndarray,
    frame_time_s: float,
    prefix: str = "mixamorig:",
) -> None:
    """Write a rig whose joints turn by matrices (T, 3, 3); those that are not named stay at rest."""
    frames = len(way_cm)
    lines = ["HIERARCHY"]

    def visit(name: str, depth: int) -> None:
        tab = "  " * depth
        channels = (
            "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
            if depth == 0
            else ("3 Zrotation Xrotation Yrotation")
        )
        lines.extend([f"{tab}{'JOINT' if depth else 'ROOT'} {prefix}{name}", f"{tab}{{"])
        lines.extend([f"{tab}  OFFSET {' '.join(map(str, rig[name][1]))}", f"{tab}  CHANNELS {channels}"])
        children = [child for child, (parent, _) in rig.items() if parent == name]
        for child in children:
            visit(child, depth + 1)
        if not children:
            lines.extend([f"{tab}  End Site", f"{tab}  {{", f"{tab}    OFFSET 0 0 1", f"{tab}  }}"])
        lines.append(f"{tab}}}")

    order = depth_first(rig)
    visit(order[0], 0)
    lines += ["MOTION", f"Frames: {frames}", f"Frame Time: {frame_time_s:.8f}"]
    still = np.repeat(np.eye(3)[None], frames, axis=0)
    angles = [zxy_degrees(rotations.get(name, still)) for name in order]
    table = np.concatenate([way_cm, *angles], axis=1)
    lines += [" ".join(f"{value:.6f}" for value in row) for row in table]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
