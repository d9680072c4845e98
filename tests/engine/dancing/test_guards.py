"""The guards as a whole: whatever comes in, what goes out can be shown; and what was fine is not touched."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.body import pose_algebra as algebra
from engine.body.joint_limits import limit_joints
from engine.body.legs import MOVED_JOINTS
from engine.body.skeleton import forward_kinematics
from engine.dancing.guards import Fault, GuardedPose, PoseGuard
from engine.dancing.idle import idle_pose
from tests.engine.walking import Walk, acceleration, points, walk

FRAME_NS = 16_666_667
NUMBERS = st.one_of(
    st.floats(-7.0, 7.0),
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 49.0, -49.0, 99.0, 1e30, -1e30, 1e300, 1e-300, np.pi]),
)
GARBAGE = st.tuples(
    hnp.arrays(np.float64, (24, 3), elements=NUMBERS),
    hnp.arrays(np.float64, 3, elements=NUMBERS),
    hnp.arrays(np.float64, 4, elements=NUMBERS),
    st.integers(-FRAME_NS, 20 * FRAME_NS),
)
# Most numbers wild or all of them tame: both paths through the guards are taken.
TAME = st.tuples(
    hnp.arrays(np.float64, (24, 3), elements=st.floats(-3.0, 3.0)),
    hnp.arrays(np.float64, 3, elements=st.floats(-5.0, 5.0)),
    hnp.arrays(np.float64, 4, elements=st.floats(-1.0, 2.0)),
    st.integers(0, 3 * FRAME_NS),
)


def run(guard: PoseGuard, motion: Walk) -> list[GuardedPose]:
    return [
        guard.apply(motion.time_ns(i), motion.rotations[i], motion.translation[i], motion.contacts[i])
        for i in range(len(motion.rotations))
    ]


def joints(poses: list[GuardedPose]) -> np.ndarray:
    rotations = np.array([pose.rotations for pose in poses], dtype=float)
    translation = np.array([pose.translation_m for pose in poses], dtype=float)
    return np.asarray(forward_kinematics(rotations, translation)[0])


def angle_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    a, b = (algebra.from_axis_angle(np.asarray(r, dtype=float)) for r in (first, second))
    turn = algebra.to_axis_angle(algebra.multiply(a, algebra.conjugate(b)))
    return np.asarray(np.linalg.norm(turn, axis=1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.one_of(GARBAGE, TAME), min_size=1, max_size=12))
def test_whatever_comes_in_can_be_shown(frames) -> None:
    guard, now, shown = PoseGuard(2.5), 0, []
    times = []
    for rotations, translation, contacts, dt_ns in frames:
        now += dt_ns
        pose = guard.apply(now, rotations, translation, contacts)
        shown.append(pose)
        times.append(dt_ns)
        for array, shape in ((pose.rotations, (24, 3)), (pose.translation_m, (3,)), (pose.contacts, (4,))):
            assert array.dtype == np.float32
            assert array.shape == shape
            assert np.isfinite(array).all()
        assert np.hypot(pose.translation_m[0], pose.translation_m[2]) <= 2.5 + 1e-5
        assert pose.contacts.min() >= 0.0
        assert pose.contacts.max() <= 1.0
        low = points(pose.rotations.astype(float), pose.translation_m.astype(float))[:, 1].min()
        assert low > -0.0105
    for before, after, dt_ns in zip(shown, shown[1:], times[1:], strict=False):
        dt = min(max(dt_ns * 1e-9, 0.0), 0.1)
        moved = after.translation_m - before.translation_m
        assert np.hypot(moved[0], moved[2]) <= 6.0 * dt + 1e-5
        free = np.setdiff1d(np.arange(24), MOVED_JOINTS)
        assert angle_between(after.rotations, before.rotations)[free].max() <= 20.0 * dt + 1e-3
    assert guard.counts.poses == len(frames)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.one_of(GARBAGE, TAME), min_size=1, max_size=6))
def test_same_input_same_bytes(frames) -> None:
    def play() -> bytes:
        guard, now, out = PoseGuard(2.5), 0, b""
        for rotations, translation, contacts, dt_ns in frames:
            now += dt_ns
            pose = guard.apply(now, rotations, translation, contacts)
            out += pose.rotations.tobytes() + pose.translation_m.tobytes() + bytes([int(pose.faults)])
        return out

    assert play() == play()


def test_a_sound_pose_passes_bit_for_bit() -> None:
    guard = PoseGuard(2.5)
    for i in range(30):
        pose = idle_pose(i / 30, 1.0)
        rotations, translation = pose.rotations.astype(np.float32), pose.translation_m.astype(np.float32)
        shown = guard.apply(i * FRAME_NS, rotations, translation, np.zeros(4, np.float32))
        np.testing.assert_array_equal(shown.rotations, rotations)
        np.testing.assert_array_equal(shown.translation_m, translation)
        assert shown.faults == Fault(0)


def test_a_true_walk_shows_no_fault() -> None:
    guard, motion = PoseGuard(10.0), walk()
    shown = run(guard, motion)
    assert all(pose.faults == Fault(0) for pose in shown)
    assert np.abs(joints(shown) - np.asarray(forward_kinematics(motion.rotations, motion.translation)[0])).max() < 2e-3


@pytest.mark.parametrize(
    ("where", "bad"),
    [("rotations", np.nan), ("rotations", 1e6), ("translation", -np.inf), ("translation", 60.0), ("contacts", np.nan)],
)
def test_a_loss_is_carried_on_and_handed_back_without_a_jump(where, bad) -> None:
    motion, guard = walk(4.0), PoseGuard(10.0)
    lost = range(90, 130)
    for i in lost:
        getattr(motion, where)[i].flat[0] = bad
    shown = run(guard, motion)
    assert guard.counts.unusable == len(lost)
    assert all((Fault.UNUSABLE in pose.faults) == (i in lost) for i, pose in enumerate(shown))
    moved, truth = joints(shown), np.asarray(forward_kinematics(walk(4.0).rotations, walk(4.0).translation)[0])
    # No seam: at the loss and at the return the shown motion accelerates no more than a brisk dancer does.
    assert acceleration(moved, 60.0).max() < acceleration(truth, 60.0).max() + 60.0
    # It goes on for a moment, and comes to rest.
    assert moved[93, 0, 2] > moved[90, 0, 2] + 0.01
    assert np.abs(moved[129] - moved[128]).max() < 0.01
    # A second and a half later it is the walk again.
    assert np.abs(moved[-1] - truth[-1]).max() < 0.01


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_poses_lost_here_and_there_do_not_shake_the_dancer(share) -> None:
    motion, guard = walk(4.0), PoseGuard(10.0)
    truth = np.asarray(forward_kinematics(motion.rotations, motion.translation)[0])
    lost = np.random.default_rng(0).random(len(motion.rotations)) < share
    lost[0], lost[-40:] = False, False
    motion.translation[lost] = np.nan
    moved = joints(run(guard, motion))
    assert guard.counts.unusable == lost.sum()
    # Simply holding the last good pose would shake far more.
    newest_good = np.maximum.accumulate(np.where(lost, 0, np.arange(len(lost))))
    assert acceleration(moved, 60.0).max() < 0.5 * acceleration(truth[newest_good], 60.0).max()
    assert np.abs(moved[-1] - truth[-1]).max() < 0.01


def test_a_dancer_lost_in_a_jump_comes_down() -> None:
    guard, pose = PoseGuard(2.5), idle_pose(0.0, 0.0)
    for i in range(120):
        height = np.array([0.0, 0.02 * min(i, 20), 0.0])
        bad = np.nan if i > 20 else 0.0
        shown = guard.apply(i * FRAME_NS, pose.rotations, pose.translation_m + height + bad, np.zeros(4))
    assert points(shown.rotations.astype(float), shown.translation_m.astype(float))[:, 1].min() < 0.03


def test_without_any_usable_pose_the_dancer_stands() -> None:
    guard = PoseGuard(2.5)
    for i in range(5):
        shown = guard.apply(i * FRAME_NS, np.full((24, 3), np.nan), np.zeros(3), np.zeros(4))
    np.testing.assert_allclose(shown.rotations, idle_pose(0.0, 0.0).rotations, atol=1e-3)
    assert guard.counts.unusable == 5


def test_a_teleport_becomes_a_run_and_a_flip_a_turn() -> None:
    guard, pose = PoseGuard(2.5), idle_pose(0.0, 0.0)
    guard.apply(0, pose.rotations, pose.translation_m, np.zeros(4))
    there, flipped = pose.translation_m + np.array([1.5, 0.0, 0.0]), pose.rotations.copy()
    flipped[16] += [0.0, 0.0, 2.0]
    shown = [guard.apply(i * FRAME_NS, flipped, there, np.zeros(4)) for i in range(1, 30)]
    x = np.array([s.translation_m[0] for s in shown])
    assert np.diff(x).max() == pytest.approx(6.0 / 60.0, rel=1e-3)
    assert x[-1] == pytest.approx(1.5, abs=1e-4)
    turned = np.array([angle_between(s.rotations, pose.rotations)[16] for s in shown])
    assert np.diff(turned).max() == pytest.approx(20.0 / 60.0, rel=1e-2)
    np.testing.assert_allclose(shown[-1].rotations, flipped, atol=1e-4)
    assert Fault.ROOT_SPEED in shown[0].faults
    assert Fault.JOINT_SPEED in shown[0].faults
    assert shown[-1].faults == Fault(0)
    assert guard.counts.root_speed == sum(Fault.ROOT_SPEED in s.faults for s in shown) > 10


def test_after_reset_the_next_pose_may_be_anywhere() -> None:
    guard, pose = PoseGuard(2.5), idle_pose(0.0, 0.0)
    guard.apply(0, pose.rotations, pose.translation_m, np.ones(4))
    guard.reset()
    shown = guard.apply(FRAME_NS, pose.rotations, pose.translation_m + np.array([1.5, 0.0, 0.0]), np.ones(4))
    assert shown.translation_m[0] == pytest.approx(1.5)
    assert guard.counts.poses == 2


@pytest.mark.parametrize("times", [[0, 0, 0], [FRAME_NS, 0, 5], [0, 10**12, 10**12 + 1]])
def test_a_clock_that_stands_or_runs_back_moves_nothing_far(times) -> None:
    guard, pose = PoseGuard(2.5), idle_pose(0.0, 0.0)
    shown = [
        guard.apply(t, pose.rotations, pose.translation_m + np.array([float(i), 0.0, 0.0]), np.ones(4))
        for i, t in enumerate(times)
    ]
    steps = np.diff([s.translation_m[0] for s in shown])
    assert steps.max() <= 6.0 * 0.1 + 1e-6
    assert np.isfinite(steps).all()


def test_walking_off_the_stage_ends_softly_at_its_edge() -> None:
    guard, pose = PoseGuard(2.0), idle_pose(0.0, 0.0)
    where = []
    for i in range(240):
        at = pose.translation_m + np.array([1.2 * i / 60.0, 0.0, 0.4 * i / 60.0])
        shown = guard.apply(i * FRAME_NS, pose.rotations, at, np.zeros(4))
        where.append(shown.translation_m[[0, 2]].astype(float))
    radius = np.linalg.norm(where, axis=1)
    assert radius.max() < 2.0
    assert radius[-1] > 1.95
    assert np.diff(radius).min() > -1e-6
    # Braked over the margin, not stopped dead: 1.26 m/s in one frame would be 76 m/s².
    assert np.abs(np.diff(radius, 2)).max() * 3600.0 < 10.0
    assert guard.counts.off_stage > 0


def test_joints_are_limited_and_counted() -> None:
    guard, pose = PoseGuard(2.5), idle_pose(0.0, 0.0)
    broken = pose.rotations.copy()
    broken[[4, 18]] = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    for i in range(30):
        shown = guard.apply(i * FRAME_NS, broken, pose.translation_m, np.zeros(4))
    assert guard.counts.joint_limit == 30
    assert np.degrees(shown.rotations[18, 1]) < 13.2
    assert limit_joints(algebra.from_axis_angle(shown.rotations.astype(float)))[0][4] @ algebra.from_axis_angle(
        shown.rotations.astype(float)
    )[4] > np.cos(np.radians(2.0))


def test_the_root_stays_between_floor_and_sky() -> None:
    guard, pose = PoseGuard(2.5), idle_pose(0.0, 0.0)
    for i in range(120):
        shown = guard.apply(i * FRAME_NS, pose.rotations, np.array([0.0, 40.0, 0.0]), np.zeros(4))
    assert shown.translation_m[1] <= 2.2 + 1e-5
    assert Fault.OFF_STAGE in shown.faults
