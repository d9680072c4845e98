"""BVH files, read back by a small parser that shares no code with the writer."""

import math
from pathlib import Path

import numpy as np
import pytest

from engine.body import skeleton as sk
from engine.body.bvh import write_bvh, zxy_degrees


def turn(axis: str, degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array(
        {
            "X": [[1, 0, 0], [0, c, -s], [0, s, c]],
            "Y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
            "Z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        }[axis]
    )


def read_bvh(path: Path) -> tuple[float, list[dict[str, np.ndarray]]]:
    """Return the frame time and, for each frame, the joints' world positions by name, as any BVH reader gets them."""
    words = path.read_text().split()
    joints: list[tuple[str, int, np.ndarray, list[str]]] = []
    stack: list[int] = []
    at, pending, in_end_site = 0, "", False
    while words[at] != "MOTION":
        word = words[at]
        if word in ("ROOT", "JOINT"):
            pending, in_end_site = words[at + 1], False
            at += 2
        elif word == "End":
            in_end_site = True
            at += 2
        elif word == "{":
            if in_end_site:
                stack.append(-1)
            else:
                joints.append((pending, stack[-1] if stack else -1, np.zeros(3), []))
                stack.append(len(joints) - 1)
            at += 1
        elif word == "OFFSET":
            if not in_end_site:
                joints[stack[-1]][2][:] = [float(v) for v in words[at + 1 : at + 4]]
            at += 4
        elif word == "CHANNELS":
            count = int(words[at + 1])
            joints[stack[-1]][3].extend(words[at + 2 : at + 2 + count])
            at += 2 + count
        elif word == "}":
            stack.pop()
            in_end_site = False
            at += 1
        else:
            assert word == "HIERARCHY"
            at += 1
    assert words[at + 1] == "Frames:"
    frames, frame_time = int(words[at + 2]), float(words[at + 5])
    values = np.array([float(v) for v in words[at + 6 :]])
    width = sum(len(joint[3]) for joint in joints)
    poses = []
    for row in values.reshape(frames, width):
        channel, world, rotation, position = iter(row), {}, [], []
        for name, parent, offset, channels in joints:
            move, matrix = np.zeros(3), np.eye(3)
            for kind in channels:
                value = next(channel)
                if kind.endswith("position"):
                    move["XYZ".index(kind[0])] = value
                else:
                    matrix = matrix @ turn(kind[0], value)
            if parent < 0:
                position.append(offset + move)
                rotation.append(matrix)
            else:
                position.append(position[parent] + rotation[parent] @ (offset + move))
                rotation.append(rotation[parent] @ matrix)
            world[name] = position[-1]
        poses.append(world)
    return frame_time, poses


def test_a_reader_finds_every_joint_where_forward_kinematics_puts_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    axis = rng.normal(size=(4, 24, 3))
    rotations = axis / np.linalg.norm(axis, axis=-1, keepdims=True) * rng.uniform(0.0, np.pi, size=(4, 24, 1))
    translation = rng.normal(size=(4, 3))
    write_bvh(tmp_path / "dance.bvh", rotations, translation, 1.0 / 60.0)
    frame_time, poses = read_bvh(tmp_path / "dance.bvh")
    assert frame_time == pytest.approx(1.0 / 60.0, abs=1e-9)
    expected, _ = sk.forward_kinematics(rotations, translation)
    for pose, positions in zip(poses, expected, strict=True):
        assert set(pose) == set(sk.JOINT_NAMES)
        for joint, name in enumerate(sk.JOINT_NAMES):
            np.testing.assert_allclose(pose[name] / 100.0, positions[joint], atol=2e-6)


@pytest.mark.parametrize("x", [90.0, -90.0])
def test_locked_angles_still_give_the_pose(x: float) -> None:
    matrix = turn("Z", 25.0) @ turn("X", x) @ turn("Y", -70.0)
    z, middle, y = zxy_degrees(matrix)
    np.testing.assert_allclose(turn("Z", z) @ turn("X", middle) @ turn("Y", y), matrix, atol=1e-7)


def test_angles_are_recovered_away_from_the_lock() -> None:
    matrix = turn("Z", 25.0) @ turn("X", 80.0) @ turn("Y", -170.0)
    np.testing.assert_allclose(zxy_degrees(matrix), [25.0, 80.0, -170.0], atol=1e-9)


def test_wrong_input_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    good, way = np.zeros((2, 24, 3)), np.zeros((2, 3))
    for rotations, translation, step in (
        (good[:, :23], way, 0.1),
        (good, way[:1], 0.1),
        (good, way, 0.0),
        (good * np.nan, way, 0.1),
    ):
        with pytest.raises(ValueError, match=r"expected|finite"):
            write_bvh(tmp_path / "bad.bvh", rotations, translation, step)
    assert list(tmp_path.iterdir()) == []


def test_no_frames_is_a_valid_file(tmp_path: Path) -> None:
    write_bvh(tmp_path / "empty.bvh", np.zeros((0, 24, 3)), np.zeros((0, 3)), 0.05)
    assert read_bvh(tmp_path / "empty.bvh") == (0.05, [])
