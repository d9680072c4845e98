"""The idle sway: feet planted, on the beat, human, and a generator like any other."""

import numpy as np
import pytest

from engine.body import pose_algebra as algebra
from engine.body.joint_limits import limit_joints
from engine.body.skeleton import JOINT_NAMES, forward_kinematics
from engine.dancing.idle import SWAY_BEATS, idle_pose
from engine.dancing.idle_generator import IdleGenerator
from engine.types import MotionRequest
from tests.engine.walking import points


def sway(energy: float, beats: float = 8.0, per_beat: int = 48) -> tuple[np.ndarray, np.ndarray]:
    poses = [idle_pose(i / per_beat, energy) for i in range(int(beats * per_beat))]
    return np.array([p.rotations for p in poses]), np.array([p.translation_m for p in poses])


def request(first_tick: int, count: int = 4, energy: float = 0.5) -> MotionRequest:
    return MotionRequest(first_tick, np.zeros((count, 3), np.float32), 120.0, 4, 0, None, energy)


@pytest.mark.parametrize("energy", [0.0, 0.5, 1.0])
def test_feet_stay_put_on_the_floor(energy) -> None:
    feet = points(*sway(energy))
    assert np.ptp(feet, axis=0).max() < 1e-6
    np.testing.assert_allclose(feet[..., 1], 0.0, atol=1e-6)


@pytest.mark.parametrize("energy", [0.0, 1.0])
def test_every_pose_is_human_and_symmetric_enough_to_stand(energy) -> None:
    rotations, translation = sway(energy)
    assert all(limit_joints(algebra.from_axis_angle(pose))[1].size == 0 for pose in rotations)
    joints, _ = forward_kinematics(rotations, translation)
    index = JOINT_NAMES.index
    # Hands hang beside the thighs, the head is up, the weight stays between the feet.
    assert (joints[:, index("left_wrist"), 1] < joints[:, index("pelvis"), 1] + 0.1).all()
    assert (joints[:, index("left_wrist"), 0] > joints[:, index("left_hip"), 0] + 0.05).all()
    assert (joints[:, index("head"), 1] > 1.4).all()
    assert (np.abs(joints[:, index("spine2"), 0]) < 0.1).all()
    assert (np.abs(joints[:, index("spine2"), 2]) < 0.08).all()
    knees = np.degrees(rotations[:, [4, 5], 0])
    assert knees.min() > 5.0
    assert knees.max() < 45.0


def test_sways_side_to_side_and_gives_on_each_beat() -> None:
    _, translation = sway(1.0, per_beat=48)
    x, y = translation[:, 0], translation[:, 1]
    assert int(np.argmax(x)) % int(SWAY_BEATS * 48) == 48
    assert np.ptp(x) > 0.05
    lows = [i for i in range(1, len(y) - 1) if y[i] < y[i - 1] and y[i] <= y[i + 1]]
    assert all(min(i % 48, 48 - i % 48) <= 4 for i in lows)
    assert np.ptp(translation[:, 1]) > 0.02
    assert np.ptp(sway(0.0)[1][:, 0]) < 0.6 * np.ptp(x)


def test_repeats_without_a_seam() -> None:
    for energy in (0.0, 1.0):
        np.testing.assert_allclose(idle_pose(0.0, energy).rotations, idle_pose(8.0, energy).rotations, atol=1e-9)
        rotations, _ = sway(energy)
        assert np.abs(np.diff(rotations, axis=0)).max() < np.radians(2.0)
    np.testing.assert_array_equal(idle_pose(1.0, 7.0).rotations, idle_pose(1.0, 1.0).rotations)


@pytest.mark.parametrize("count", [1, 4, 6])
def test_generator_answers_any_chunk_length_on_the_tick_grid(count) -> None:
    generator = IdleGenerator()
    generator.reset(3)
    chunks = [generator.step(request(first, count)) for first in range(0, 240, count)]
    assert all(chunk.rotations.shape == (count, 24, 3) for chunk in chunks)
    assert all((chunk.contacts == 1.0).all() and (chunk.heading_delta_rad == 0.0).all() for chunk in chunks)
    # Put together in the world, the feet stay where they are while the energy grows.
    rotations = np.concatenate([chunk.rotations for chunk in chunks]).astype(float)
    root = np.cumsum(np.concatenate([chunk.root_delta_m for chunk in chunks]).astype(float), axis=0)
    height = np.concatenate([chunk.root_height_m for chunk in chunks]).astype(float)
    feet = points(rotations, np.stack([root[:, 0], height, root[:, 1]], axis=1))
    assert np.ptp(feet, axis=0).max() < 1e-4


def test_generator_takes_up_energy_gradually_and_repeats_itself_after_reset() -> None:
    generator = IdleGenerator()
    loud = [generator.step(request(first, energy=1.0)).root_height_m.min() for first in range(0, 96, 4)]
    assert min(loud[-3:]) < min(loud[:3]) - 0.005
    generator.reset(0)
    again = [generator.step(request(first, energy=1.0)).root_height_m.min() for first in range(0, 96, 4)]
    assert loud == again
