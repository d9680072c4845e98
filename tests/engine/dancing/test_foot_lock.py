"""Feet in contact stay where they stand, feet in the air are left alone, and nothing jumps in between."""

import numpy as np
import pytest

from engine.body import pose_algebra as algebra
from engine.body.legs import MOVED_JOINTS
from engine.body.skeleton import PARENTS, REST_OFFSETS_M, forward_kinematics
from engine.dancing.foot_lock import FootLock, FootLockSettings
from engine.dancing.idle import idle_pose
from tests.engine.walking import Walk, acceleration, points, slides_m, walk


class Locked:
    """A motion after the foot lock: rotations, translation, which points were held, how many feet were let go."""

    def __init__(self, motion: Walk, settings: FootLockSettings | None = None) -> None:
        lock = FootLock(settings)
        self.rotations, self.translation = motion.rotations.copy(), motion.translation.copy()
        held, self.released, self.touched = [], 0, []
        for i in range(len(motion.rotations)):
            quaternions = algebra.from_axis_angle(motion.rotations[i])
            result = lock.apply(quaternions, motion.translation[i], motion.contacts[i], 1.0 / motion.fps if i else 0.0)
            if result.rotations is not None:
                self.rotations[i, MOVED_JOINTS] = algebra.to_axis_angle(result.rotations)
            self.translation[i, 1] += result.rise_m
            self.released += result.released
            self.touched.append(result.rotations is not None)
            held.append(lock.held)
        self.held = np.array(held)

    @property
    def points(self) -> np.ndarray:
        return points(self.rotations, self.translation)


def seconds(motion: Walk) -> np.ndarray:
    return np.arange(len(motion.rotations)) / motion.fps


def drifting(motion: Walk, x_m_s: float = 0.08, float_m: float = 0.015) -> Walk:
    """Slide the whole dancer sideways, and let it float and sink."""
    t = seconds(motion)
    moved = motion.translation.copy()
    moved[:, 0] += x_m_s * t
    moved[:, 1] += float_m * np.sin(2.1 * t)
    return Walk(motion.fps, motion.rotations, moved, motion.contacts)


def noisy(motion: Walk, seed: int = 0) -> Walk:
    """Add what a network adds: slow wandering of every joint and the root, and doubtful contacts."""
    rng = np.random.default_rng(seed)
    window = np.hanning(21)
    window /= np.sqrt((window**2).sum())

    def wander(*shape: int) -> np.ndarray:
        white = rng.normal(size=(len(motion.rotations), *shape))
        return np.apply_along_axis(np.convolve, 0, white, window, "same")

    return Walk(
        motion.fps,
        motion.rotations + np.radians(1.5) * wander(24, 3),
        motion.translation + 0.008 * wander(3),
        np.clip(motion.contacts + 0.15 * wander(4), 0.0, 1.0),
    )


def standing(count: int = 60) -> Walk:
    pose = idle_pose(0.0, 0.0)
    return Walk(
        60.0,
        np.tile(pose.rotations, (count, 1, 1)),
        np.tile(pose.translation_m, (count, 1)),
        np.ones((count, 4)),
    )


@pytest.mark.parametrize("fps", [24.0, 60.0, 144.0])
def test_sliding_feet_are_held(fps) -> None:
    motion = drifting(walk(fps=fps))
    in_contact = motion.contacts > 0.5
    assert np.median(slides_m(motion.points(), in_contact)) > 0.015
    locked = Locked(motion)
    slides = slides_m(locked.points, in_contact)
    assert len(slides) >= 12
    assert np.median(slides) < 0.005
    assert max(slides) < 0.01
    assert locked.released == 0


@pytest.mark.parametrize("seed", range(3))
def test_noisy_feet_are_held_without_pops(seed) -> None:
    motion = noisy(drifting(walk(6.0)), seed)
    locked = Locked(motion)
    # The contacts flicker: what counts is what is held, and that most of what should be held is.
    assert np.median(slides_m(locked.points, locked.held)) < 0.01
    assert (locked.held & (motion.contacts > 0.6)).sum() > 0.7 * (motion.contacts > 0.6).sum()
    before = acceleration(np.asarray(forward_kinematics(motion.rotations, motion.translation)[0]), 60.0)
    after = acceleration(np.asarray(forward_kinematics(locked.rotations, locked.translation)[0]), 60.0)
    assert after.max() < 1.3 * before.max() + 30.0
    assert np.percentile(after, 99) < 1.5 * np.percentile(before, 99)


def test_bones_keep_their_length_and_the_upper_body_its_pose() -> None:
    motion = noisy(drifting(walk()))
    locked = Locked(motion)
    joints, _ = forward_kinematics(locked.rotations, locked.translation)
    bones = np.linalg.norm(joints[:, 1:] - joints[:, PARENTS[1:]], axis=-1)
    np.testing.assert_allclose(bones, np.tile(np.linalg.norm(REST_OFFSETS_M[1:], axis=1), (len(bones), 1)), atol=1e-5)
    others = np.setdiff1d(np.arange(24), MOVED_JOINTS)
    np.testing.assert_array_equal(locked.rotations[:, others], motion.rotations[:, others])
    np.testing.assert_array_equal(locked.translation[:, [0, 2]], motion.translation[:, [0, 2]])


def test_a_true_walk_is_left_alone() -> None:
    motion = walk()
    locked = Locked(motion)
    assert np.abs(locked.points - motion.points()).max() < 1e-3
    assert np.abs(locked.rotations - motion.rotations).max() < np.radians(1.0)


def test_a_foot_in_the_air_is_not_a_contact_whatever_the_network_says() -> None:
    motion = walk()
    lifted = Walk(60.0, motion.rotations, motion.translation + np.array([0.0, 0.3, 0.0]), np.ones_like(motion.contacts))
    locked = Locked(lifted)
    assert not locked.held.any()
    assert not any(locked.touched)


def test_the_heel_rises_and_the_foot_pivots_about_the_toe() -> None:
    motion = standing(90)
    turn = np.radians(np.linspace(0.0, 60.0, 90))
    # The whole dancer turns about the root: without help both feet are dragged along a circle.
    for i, yaw in enumerate(turn):
        root = algebra.multiply(
            algebra.from_axis_angle(np.array([[0.0, yaw, 0.0]])), algebra.from_axis_angle(motion.rotations[i, :1])
        )
        motion.rotations[i, 0] = algebra.to_axis_angle(root)[0]
    motion.contacts[:, [0, 2]] = 0.0
    locked = Locked(motion)
    assert locked.held[:, [1, 3]].mean() > 0.9
    toes, heels = locked.points[:, [1, 3]], locked.points[:, [0, 2]]
    assert np.linalg.norm((toes - toes[5])[5:60, :, [0, 2]], axis=-1).max() < 0.005
    sole_in = motion.points()[:, 1] - motion.points()[:, 0]
    sole_out = toes[:, 0] - heels[:, 0]
    yaw_in, yaw_out = (np.unwrap(np.arctan2(s[:, 0], s[:, 2])) for s in (sole_in, sole_out))
    np.testing.assert_allclose(yaw_out, yaw_in, atol=np.radians(2.0))
    assert np.ptp(yaw_out) > np.radians(50.0)


def test_a_flat_foot_keeps_its_direction_until_the_dancer_really_turns() -> None:
    for degrees, keeps in ((12.0, True), (70.0, False)):
        motion = standing(120)
        yaw = np.radians(degrees) * np.linspace(0.0, 1.0, 120)
        for i in range(120):
            # Only the hip turns the leg, about its own length: toe and heel swing around the ankle.
            hip = algebra.multiply(
                algebra.from_axis_angle(np.array([[0.0, yaw[i], 0.0]])),
                algebra.from_axis_angle(motion.rotations[i, 1:2]),
            )
            motion.rotations[i, 1] = algebra.to_axis_angle(hip)[0]
        locked = Locked(motion)
        sole = locked.points[:, 1] - locked.points[:, 0]
        turned = np.degrees(np.ptp(np.unwrap(np.arctan2(sole[:, 0], sole[:, 2]))))
        assert (turned < 2.0) == keeps
        pivots = locked.held[:, 1] & ~locked.held[:, 0]
        assert pivots.any() != keeps
        assert locked.held[-1, 1]


def test_a_landing_foot_glides_to_a_stop() -> None:
    motion = standing(40)
    speed = 0.4
    motion.translation[:, 0] += speed * np.arange(40) / 60.0
    motion.contacts[:20] = 0.0
    path = Locked(motion).points[:, 1, 0]
    steps = np.diff(path)
    # Full speed before; then a fraction of a step further, in ever smaller steps, and at rest.
    np.testing.assert_allclose(steps[:20], speed / 60.0, atol=1e-6)
    assert 0.3 * speed / 60.0 < steps[20] < 0.8 * speed / 60.0
    assert steps[21] < 0.5 * steps[20]
    assert path[31] - path[20] < 0.008
    assert abs(steps[30]) < 1e-4


def test_released_feet_return_to_the_motion_smoothly() -> None:
    motion = standing(90)
    motion.translation[:, 0] += np.linspace(0.0, 0.08, 90)
    motion.contacts[45:] = 0.0
    locked = Locked(motion)
    offset = np.linalg.norm(locked.points - motion.points(), axis=-1).max(axis=1)
    assert offset[44] > 0.03
    assert offset[45 + 9] < 0.3 * offset[44]
    assert offset[45 + 18] < 0.004
    # Given back at once, 4 cm would be 144 m/s² at 60 fps.
    assert acceleration(locked.points, 60.0).max() < 30.0


def test_a_foot_that_is_dragged_away_is_let_go_not_stretched() -> None:
    motion = standing(120)
    motion.translation[:, 0] += np.linspace(0.0, 1.0, 120)
    locked = Locked(motion)
    assert locked.released >= 2
    assert np.linalg.norm(locked.points - motion.points(), axis=-1).max() < 0.16


def test_the_pelvis_comes_down_when_feet_cannot_be_reached() -> None:
    motion = standing(120)
    motion.translation[:, 1] += np.linspace(0.0, 0.04, 120)
    locked = Locked(motion)
    assert (locked.translation[-1, 1] - motion.translation[-1, 1]) < -0.01
    assert locked.points[-1, :, 1].max() < 0.02
    assert np.abs(np.diff(locked.translation[:, 1], 2)).max() < 0.001


def test_no_point_ends_below_the_floor() -> None:
    rng = np.random.default_rng(0)
    motion = walk(2.0)
    for depth in (0.005, 0.03, 0.1, 0.5, 2.0):
        sunk = Walk(60.0, motion.rotations, motion.translation - [0.0, depth, 0.0], rng.random((120, 4)))
        assert Locked(sunk).points[..., 1].min() >= -0.0101
        wild = Walk(60.0, rng.normal(0.0, 1.0, (60, 24, 3)), rng.normal(0.0, depth, (60, 3)), rng.random((60, 4)))
        assert Locked(wild).points[..., 1].min() >= -0.0101


def test_reset_forgets_and_the_lock_is_deterministic() -> None:
    motion = noisy(drifting(walk(1.0)))
    first, second = Locked(motion), Locked(motion)
    np.testing.assert_array_equal(first.rotations, second.rotations)
    lock = FootLock()
    quaternions = algebra.from_axis_angle(motion.rotations[0])
    for dt in (0.0, 0.016, 0.016):
        lock.apply(quaternions, motion.translation[0], np.ones(4), dt)
    assert all(lock.held)
    lock.reset()
    assert not any(lock.held)
    far = motion.translation[0] + [3.0, 0.0, 0.0]
    result = lock.apply(quaternions, far, np.ones(4), 0.016)
    assert result.released == 0
