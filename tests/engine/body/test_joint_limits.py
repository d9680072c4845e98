"""Joint limits: what is human passes untouched, what is not comes back inside, smoothly; and the algebra beneath."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from engine.body import pose_algebra as algebra
from engine.body import skeleton as sk
from engine.body.joint_limits import limit_joints
from engine.body.skeleton import JOINT_NAMES, MIRROR_JOINTS, mirror


def random_poses(seed: int, spread: float, count: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, spread, (count, 24, 3))


def bend(**degrees: tuple[float, float, float]) -> np.ndarray:
    pose = np.zeros((24, 3))
    for name, angles in degrees.items():
        pose[JOINT_NAMES.index(name)] = np.radians(angles)
    return algebra.from_axis_angle(pose)


def difference_rad(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return 2.0 * np.arccos(np.minimum(np.abs(np.vecdot(first, second)), 1.0))


def test_small_algebra_agrees_with_the_skeletons() -> None:
    vectors = random_poses(1, 2.0, 4).reshape(-1, 3)
    vectors[0] = 0.0
    quaternions = algebra.from_axis_angle(vectors)
    np.testing.assert_allclose(quaternions, sk.axis_angle_to_quaternion(vectors), atol=1e-14)
    np.testing.assert_allclose(algebra.to_axis_angle(quaternions), sk.quaternion_to_axis_angle(quaternions), atol=1e-12)
    np.testing.assert_allclose(algebra.to_matrix(quaternions), sk.quaternion_to_matrix(quaternions), atol=1e-14)
    product = algebra.multiply(quaternions, quaternions[::-1])
    np.testing.assert_allclose(product, sk.quaternion_multiply(quaternions, quaternions[::-1]), atol=1e-14)
    identity = algebra.multiply(quaternions, algebra.conjugate(quaternions))
    np.testing.assert_allclose(identity, np.tile([0, 0, 0, 1], (len(vectors), 1)), atol=1e-14)


def test_turning_towards_goes_as_far_as_allowed_and_no_further() -> None:
    start, end = (
        algebra.from_axis_angle(random_poses(2, 0.5, 1)[0]),
        algebra.from_axis_angle(random_poses(3, 0.5, 1)[0]),
    )
    reached, late = algebra.turn_towards(start, end, 0.3)
    far = difference_rad(start, end) > 0.3
    assert far.any()
    assert set(late) == set(np.flatnonzero(far))
    np.testing.assert_array_equal(reached[~far], end[~far])
    np.testing.assert_allclose(difference_rad(start, reached)[far], 0.3, atol=1e-6)
    same, none = algebra.turn_towards(start, start, 0.0)
    np.testing.assert_allclose(same, start, atol=1e-9)
    assert none.size <= 24


def test_a_human_pose_passes_untouched() -> None:
    pose = bend(
        left_hip=(-120, 20, 30), left_knee=(130, 10, 0), right_ankle=(60, 0, 0), left_shoulder=(20, -40, -80),
        right_elbow=(0, 140, 0), spine1=(40, 10, 10), head=(0, 60, 0),
    )  # fmt: skip
    limited, changed = limit_joints(pose)
    assert limited is pose
    assert changed.size == 0


@pytest.mark.parametrize(
    ("joint", "angles", "axis", "low", "high"),
    [
        ("left_knee", (-60, 0, 0), 0, -19.1, -16),
        ("right_knee", (178, 0, 0), 0, 165, 168.1),
        ("left_elbow", (0, 70, 0), 1, 10, 13.1),
        ("right_elbow", (0, -70, 0), 1, -13.1, -10),
        ("head", (0, 150, 0), 1, 75, 78.1),
        ("left_hip", (0, -170, 0), 1, -93.1, -90),
        ("right_shoulder", (0, 0, -170), 2, -133, -120),
    ],
)
def test_an_inhuman_joint_comes_back(joint, angles, axis, low, high) -> None:
    limited, changed = limit_joints(bend(**{joint: angles}))
    assert [JOINT_NAMES[j] for j in changed] == [joint]
    kept = np.degrees(algebra.to_axis_angle(limited)[JOINT_NAMES.index(joint)])
    assert low <= kept[axis] <= high
    assert np.abs(np.delete(kept, axis)).max() < 1e-6


def test_whatever_comes_in_ends_within_the_margin() -> None:
    for pose in random_poses(4, 3.0):
        limited, _ = limit_joints(algebra.from_axis_angle(pose))
        np.testing.assert_allclose(np.linalg.norm(limited, axis=1), 1.0, atol=1e-9)
        # Inside the soft margin a second pass has little left to squeeze.
        again, _ = limit_joints(limited)
        assert np.degrees(difference_rad(limited, again)).max() < 6.0
        np.testing.assert_array_equal(limited[0], algebra.from_axis_angle(pose)[0])


def test_unchanged_joints_are_exact_and_signs_do_not_matter() -> None:
    for pose in random_poses(5, 0.8):
        quaternions = algebra.from_axis_angle(pose)
        limited, changed = limit_joints(quaternions)
        kept = np.setdiff1d(np.arange(24), changed)
        np.testing.assert_array_equal(limited[kept], quaternions[kept])
        other, changed_too = limit_joints(-quaternions)
        np.testing.assert_array_equal(changed, changed_too)
        assert difference_rad(limited, other).max() < 1e-6


def test_limit_sets_in_smoothly() -> None:
    angles = np.arange(-40.0, 0.0, 0.05)
    kept = np.array(
        [
            algebra.to_axis_angle(limit_joints(bend(left_knee=(a, 0, 0)))[0])[JOINT_NAMES.index("left_knee"), 0]
            for a in angles
        ]
    )
    slope = np.diff(np.degrees(kept)) / 0.05
    assert slope.min() >= -1e-9
    assert slope.max() < 1.0 + 1e-6
    assert np.abs(np.diff(slope)).max() < 0.05


def test_left_and_right_have_the_same_limits() -> None:
    for pose in random_poses(6, 1.5, 50):
        direct = limit_joints(algebra.from_axis_angle(pose))[0]
        mirrored = limit_joints(algebra.from_axis_angle(np.asarray(mirror(pose, np.zeros(3))[0])))[0]
        back = mirrored[MIRROR_JOINTS] * [1.0, -1.0, -1.0, 1.0]
        assert difference_rad(direct, back).max() < 1e-6


def test_agrees_with_an_independent_swing_twist_split() -> None:
    joint = JOINT_NAMES.index("head")
    for pose in random_poses(7, 1.2, 100):
        limited, changed = limit_joints(algebra.from_axis_angle(pose))
        if joint not in changed:
            continue
        for q in (algebra.from_axis_angle(pose)[joint], limited[joint]):
            twist = Rotation.from_quat([0.0, q[1], 0.0, q[3]])
            swing = (Rotation.from_quat(q) * twist.inv()).as_rotvec(degrees=True)
            assert abs(swing[1]) < 1e-6
        turn = twist.as_rotvec(degrees=True)[1]
        assert abs(turn) < 78.1
        # The swing's ellipse has radii of 65 (nod) and 55 (tilt) degrees, and 6 % of margin.
        assert np.hypot(swing[0] / 65.0, swing[2] / 55.0) < 1.061
