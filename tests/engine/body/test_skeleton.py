"""The skeleton: forward kinematics against a slow loop, rotation round trips, mirroring, contact points."""

import timeit

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from engine.body import skeleton as sk


def random_rotations(rng: np.random.Generator, *shape: int, largest: float = np.pi) -> np.ndarray:
    axis = rng.normal(size=(*shape, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    return axis * rng.uniform(0.0, largest, size=(*shape, 1))


def test_tables_describe_one_tree_with_sides_in_place() -> None:
    assert len(sk.JOINT_NAMES) == len(set(sk.JOINT_NAMES)) == sk.JOINT_COUNT
    assert (sk.PARENTS[1:] < np.arange(1, 24)).all()
    rest = sk.rest_positions_m()
    for joint, name in enumerate(sk.JOINT_NAMES):
        side, _, part = name.rpartition("_")
        other = {"left": "right_", "right": "left_", "": ""}[side]
        assert sk.JOINT_NAMES[sk.MIRROR_JOINTS[joint]] == other + part
        if name.startswith("left_"):
            assert rest[joint, 0] > 0.05
    assert (rest[[10, 11], 2] > rest[[7, 8], 2]).all(), "the toes point to +Z"


def test_forward_kinematics_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    rotations, translation = random_rotations(rng, 5, 24), rng.normal(size=(5, 3))
    positions, world = sk.forward_kinematics(rotations, translation)
    for frame in range(5):
        local = Rotation.from_rotvec(rotations[frame]).as_matrix()
        p, w = [translation[frame]], [local[0]]
        for joint in range(1, 24):
            parent = sk.PARENTS[joint]
            p.append(p[parent] + w[parent] @ sk.REST_OFFSETS_M[joint])
            w.append(w[parent] @ local[joint])
        np.testing.assert_allclose(positions[frame], p, atol=1e-12)
        np.testing.assert_allclose(world[frame], w, atol=1e-12)


def test_leading_axes_and_dtype_are_kept() -> None:
    rng = np.random.default_rng(2)
    rotations = random_rotations(rng, 2, 3, 24).astype(np.float32)
    translation = rng.normal(size=(2, 3, 3)).astype(np.float32)
    positions, world = sk.forward_kinematics(rotations, translation)
    assert positions.shape == (2, 3, 24, 3)
    assert world.shape == (2, 3, 24, 3, 3)
    one, _ = sk.forward_kinematics(rotations[1, 2], translation[1, 2])
    np.testing.assert_allclose(one, positions[1, 2], atol=1e-6)
    quaternions = sk.axis_angle_to_quaternion(rotations)
    for result in (
        positions,
        world,
        quaternions,
        sk.contact_points(positions, world),
        sk.quaternion_to_axis_angle(quaternions),
        sk.quaternion_multiply(quaternions, quaternions),
        sk.slerp(quaternions, quaternions[::-1], 0.3),
        sk.matrix_to_axis_angle(world),
        sk.matrix_to_six_d(world),
        sk.six_d_to_matrix(sk.matrix_to_six_d(world)),
        *sk.mirror(rotations, translation),
    ):
        assert result.dtype == np.float32


@pytest.mark.parametrize("largest", [0.0, 1e-9, 1e-4, 1.0, np.pi])
def test_rotation_round_trips(largest: float) -> None:
    rotations = random_rotations(np.random.default_rng(3), 200, largest=largest)
    matrix = sk.axis_angle_to_matrix(rotations)
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(rotations).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(sk.matrix_to_axis_angle(matrix), rotations, atol=1e-7)
    np.testing.assert_allclose(
        sk.quaternion_to_axis_angle(sk.axis_angle_to_quaternion(rotations)), rotations, atol=1e-9
    )
    np.testing.assert_allclose(sk.six_d_to_matrix(sk.matrix_to_six_d(matrix)), matrix, atol=1e-12)


def test_half_turns_about_every_axis_survive() -> None:
    axes = np.concatenate([np.eye(3), -np.eye(3), random_rotations(np.random.default_rng(4), 50)])
    rotations = np.pi * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    matrix = sk.axis_angle_to_matrix(rotations)
    again = sk.matrix_to_axis_angle(matrix)
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), np.pi, atol=1e-6)
    np.testing.assert_allclose(sk.axis_angle_to_matrix(again), matrix, atol=1e-6)


def test_quaternion_product_is_composition() -> None:
    a, b = random_rotations(np.random.default_rng(5), 2, 40)
    product = sk.quaternion_multiply(sk.axis_angle_to_quaternion(a), sk.axis_angle_to_quaternion(b))
    expected = sk.axis_angle_to_matrix(a) @ sk.axis_angle_to_matrix(b)
    np.testing.assert_allclose(sk.quaternion_to_matrix(product), expected, atol=1e-12)


def test_slerp_turns_at_constant_speed_the_short_way() -> None:
    a = sk.axis_angle_to_quaternion([0.2, -0.4, 0.1])
    turn = np.array([0.0, 1.8, 0.6])
    b = sk.quaternion_multiply(a, sk.axis_angle_to_quaternion(turn))
    fractions = np.linspace(0.0, 1.0, 9)
    expected = sk.quaternion_multiply(a, sk.axis_angle_to_quaternion(fractions[:, None] * turn))
    for end in (b, -b):
        got = sk.slerp(a, end, fractions)
        np.testing.assert_allclose(sk.quaternion_to_matrix(got), sk.quaternion_to_matrix(expected), atol=1e-12)
    tiny = sk.axis_angle_to_quaternion(np.array([0.0, 3e-7, 0.0]))
    got = sk.slerp(sk.axis_angle_to_quaternion(np.zeros(3)), tiny, 0.5)
    np.testing.assert_allclose(sk.quaternion_to_axis_angle(got), [0.0, 1.5e-7, 0.0], atol=1e-12)


def test_six_d_accepts_what_a_network_says() -> None:
    rng = np.random.default_rng(6)
    matrix = sk.six_d_to_matrix(rng.normal(size=(100, 6)) * 3.0)
    np.testing.assert_allclose(matrix @ np.swapaxes(matrix, -1, -2), np.broadcast_to(np.eye(3), (100, 3, 3)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0, atol=1e-9)
    assert np.isfinite(sk.six_d_to_matrix(np.zeros(6))).all()


def test_mirror_is_its_own_inverse_and_reflects_every_global_rotation() -> None:
    rng = np.random.default_rng(7)
    rotations, translation = random_rotations(rng, 50, 24), rng.normal(size=(50, 3))
    once = sk.mirror(rotations, translation)
    twice = sk.mirror(*once)
    np.testing.assert_array_equal(twice[0], rotations)
    np.testing.assert_array_equal(twice[1], translation)

    reflection = np.diag([-1.0, 1.0, 1.0])
    positions, world = sk.forward_kinematics(rotations, translation)
    mirrored_positions, mirrored_world = sk.forward_kinematics(*once)
    np.testing.assert_allclose(mirrored_world, reflection @ world[:, sk.MIRROR_JOINTS] @ reflection, atol=1e-12)
    gap = np.linalg.norm(mirrored_positions - positions[:, sk.MIRROR_JOINTS] @ reflection, axis=-1)
    assert gap.max() <= sk.MIRROR_TOLERANCE_M
    assert sk.MIRROR_TOLERANCE_M < 0.09


def test_mirror_is_exact_on_a_symmetric_skeleton(monkeypatch: pytest.MonkeyPatch) -> None:
    even = 0.5 * (sk.REST_OFFSETS_M + sk.REST_OFFSETS_M[sk.MIRROR_JOINTS] * [-1.0, 1.0, 1.0])
    _, ancestors, contacts = sk._CONSTANTS[np.dtype(np.float64)]
    monkeypatch.setitem(sk._CONSTANTS, np.dtype(np.float64), (even[1:, :, None], ancestors, contacts))
    rng = np.random.default_rng(8)
    rotations, translation = random_rotations(rng, 20, 24), rng.normal(size=(20, 3))
    positions, _ = sk.forward_kinematics(rotations, translation)
    mirrored, _ = sk.forward_kinematics(*sk.mirror(rotations, translation))
    np.testing.assert_allclose(mirrored, positions[:, sk.MIRROR_JOINTS] * [-1.0, 1.0, 1.0], atol=1e-12)


def test_contact_points_are_level_at_rest_and_move_with_the_foot() -> None:
    positions, world = sk.forward_kinematics(np.zeros((24, 3)), [0.0, -sk.REST_FLOOR_M, 0.0])
    points = sk.contact_points(positions, world)
    np.testing.assert_allclose(points[:, 1], 0.0, atol=1e-12)
    assert 0.95 < -sk.REST_FLOOR_M < 1.0
    assert (points[[0, 1], 0] > 0).all(), "left first"
    assert (points[[2, 3], 0] < 0).all(), "then right"
    assert (points[[0, 2], 2] < points[[1, 3], 2]).all(), "heel before toe"

    raised = np.zeros((24, 3))
    raised[sk.JOINT_NAMES.index("left_ankle"), 0] = 0.6  # toe down
    tipped = sk.contact_points(*sk.forward_kinematics(raised, [0.0, -sk.REST_FLOOR_M, 0.0]))
    assert tipped[1, 1] < -0.05 < 0.0 < tipped[0, 1]
    np.testing.assert_allclose(tipped[2:], points[2:], atol=1e-12)


def test_one_pose_is_cheap() -> None:
    rotations = random_rotations(np.random.default_rng(9), 24).astype(np.float32)
    translation = np.zeros(3, dtype=np.float32)
    seconds = min(timeit.repeat(lambda: sk.forward_kinematics(rotations, translation), number=50, repeat=10)) / 50
    # The budget is 0.15 ms; ten times that only fails on a real regression, such as a loop over joints and frames.
    assert seconds < 1.5e-3
