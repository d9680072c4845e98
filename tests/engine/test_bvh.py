"""BVH files, read back by a reader that shares nothing with the writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.bvh import write_bvh
from engine.skeleton import JOINT_NAMES, forward_kinematics


def read_joints(path: Path) -> tuple[np.ndarray, float]:
    """Parse a BVH file and place its joints by its own hierarchy: (T, J, 3), frame time."""
    tokens = iter(path.read_text().split())
    names: list[str] = []
    offsets: list[list[float]] = []
    parents: list[int] = []
    channels: list[list[str]] = []
    stack: list[int] = []
    end_site = False
    for token in tokens:
        if token in ("ROOT", "JOINT"):
            names.append(next(tokens))
            parents.append(stack[-1] if stack else -1)
        elif token == "End":
            end_site = True
        elif token == "{":
            stack.append(-2 if end_site else len(names) - 1)
        elif token == "}":
            end_site = stack.pop() == -2 and False
        elif token == "OFFSET":
            values = [float(next(tokens)) for _ in range(3)]
            if stack[-1] != -2:
                offsets.append(values)
        elif token == "CHANNELS":
            channels.append([next(tokens) for _ in range(int(next(tokens)))])
        elif token == "MOTION":
            break
    assert next(tokens) == "Frames:"
    count = int(next(tokens))
    assert (next(tokens), next(tokens)) == ("Frame", "Time:")
    frame_time = float(next(tokens))
    data = np.array([float(token) for token in tokens]).reshape(count, -1)
    axes = {"X": 0, "Y": 1, "Z": 2}
    world = np.zeros((count, len(names), 4, 4))
    column = 0
    for joint, names_of in enumerate(channels):
        local = np.tile(np.eye(4), (count, 1, 1))
        local[:, :3, 3] = offsets[joint]
        for channel in names_of:
            value, axis = data[:, column], axes[channel[0]]
            column += 1
            step = np.tile(np.eye(4), (count, 1, 1))
            if channel.endswith("position"):
                step[:, axis, 3] = value
            else:
                i, j = (axis + 1) % 3, (axis + 2) % 3
                cosine, sine = np.cos(np.radians(value)), np.sin(np.radians(value))
                step[:, i, i] = step[:, j, j] = cosine
                step[:, i, j], step[:, j, i] = -sine, sine
            local = local @ step
        world[:, joint] = local if parents[joint] < 0 else world[:, parents[joint]] @ local
    joints = world[..., :3, 3]
    return joints[:, [names.index(name) for name in JOINT_NAMES]], frame_time


def test_an_independent_reader_sees_the_same_dance(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rotations = rng.normal(0.0, 0.8, (20, 24, 3))
    rotations[3, 4] = (np.pi / 2, 0.0, 0.0)  # a pole of the Euler angles
    rotations[4, 5] = (-np.pi / 2, 0.0, 0.0)
    translation = rng.normal(0.0, 1.0, (20, 3))
    write_bvh(tmp_path / "dance.bvh", rotations, translation, 1.0 / 60.0)
    joints_cm, frame_time = read_joints(tmp_path / "dance.bvh")
    expected, _ = forward_kinematics(rotations, translation)
    assert joints_cm / 100.0 == pytest.approx(expected, abs=2e-5)
    assert frame_time == pytest.approx(1.0 / 60.0, abs=1e-8)
