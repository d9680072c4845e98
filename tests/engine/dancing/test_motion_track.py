"""The track: integration into the world, continuity of playback, seams."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.body.skeleton import JOINT_NAMES, quaternion_multiply, quaternion_to_axis_angle
from engine.dancing.inertia import Inertializer
from engine.dancing.motion_track import MotionTrack, Pose
from engine.types import MotionChunk


def chunk(count: int = 4, turn: float = 0.0, forward: float = 0.0, left: float = 0.0, seed: int | None = None):
    rotations = np.zeros((count, 24, 3), np.float32)
    if seed is not None:
        rotations[:, 1:] = np.random.default_rng(seed).normal(0.0, 0.2, (count, 23, 3))
    return MotionChunk(
        rotations,
        np.full(count, turn),
        np.tile([left, forward], (count, 1)),
        np.full(count, 0.95),
        np.ones((count, 4)),
    )


def test_it_walks_where_it_faces() -> None:
    track = MotionTrack()
    track.restart(0)
    track.append(chunk(forward=0.1))
    assert track.position_m == pytest.approx([0.0, 0.4])
    track.place(np.zeros(2), math.pi / 2)  # facing +X, as a positive turn about +Y takes +Z there
    track.append(chunk(forward=0.1))
    assert track.position_m == pytest.approx([0.4, 0.0])
    track.place(np.zeros(2), 0.0)
    track.append(chunk(left=0.1))
    assert track.position_m == pytest.approx([0.4, 0.0]), "the dancer's left is +X"


def test_it_turns_and_is_steered() -> None:
    track = MotionTrack()
    track.restart(8)
    track.append(chunk(turn=0.1), steer_rad=0.05)
    assert track.heading_rad == pytest.approx(0.6)
    pose, _ = track.sample(8.0)
    assert np.asarray(quaternion_to_axis_angle(pose.quaternions))[0] == pytest.approx([0.0, 0.15, 0.0])


def test_playback_is_smooth_and_passes_through_the_ticks() -> None:
    track = MotionTrack()
    track.restart(0)
    for seed in range(6):
        track.append(chunk(forward=0.05, seed=seed))
    ticks = np.arange(0.0, 22.0, 0.01)
    poses = np.stack([track.sample(tick)[0].quaternions for tick in ticks])
    assert np.linalg.norm(poses, axis=-1) == pytest.approx(1.0)
    speed = np.diff(poses, axis=0) / 0.01
    jumps = np.abs(np.diff(speed, axis=0)).max()
    assert jumps < 0.15, "velocity is continuous: it changes little within a hundredth of a tick"


def test_a_tangent_that_was_shown_is_not_changed() -> None:
    """The last tick of a chunk is shown before the next is known: no kink when it comes."""
    track = MotionTrack()
    track.restart(0)
    track.append(chunk(seed=1))
    before = track.sample(2.999)[0].quaternions
    track.append(chunk(seed=2))
    assert track.sample(2.999)[0].quaternions == pytest.approx(before)
    after = (track.sample(3.001)[0].quaternions - track.sample(3.0)[0].quaternions) / 0.001
    ahead = (track.sample(3.0)[0].quaternions - before) / 0.001
    assert after == pytest.approx(ahead, abs=0.02)


def averaged(given: list[np.ndarray], weights: list[int]) -> np.ndarray:
    mean = sum(w * q for w, q in zip(weights, given, strict=True))
    return np.asarray(mean / np.linalg.norm(mean, axis=-1, keepdims=True))


def test_a_tick_is_averaged_with_its_neighbours_but_not_across_a_seam_and_not_once_it_was_shown() -> None:
    track = MotionTrack()
    track.restart(0)
    track.append(chunk(forward=0.1, seed=1))
    given = [track._given_quaternions[k].copy() for k in range(4)]
    played = track.poses(np.arange(4))[0]
    assert np.array_equal(played[0], given[0]), "the first is where the dance begins"
    for tick in (1, 2):
        assert played[tick] == pytest.approx(averaged(given[tick - 1 : tick + 2], [1, 2, 1]))
    assert np.array_equal(played[3], given[3]), "what follows is not known yet"
    track.append(chunk(forward=-0.1, seed=2))
    given += [track._given_quaternions[k].copy() for k in range(4, 8)]
    played, roots, _ = track.poses(np.arange(8))
    legs = [JOINT_NAMES.index(f"{side}_{part}") for side in ("left", "right") for part in ("hip", "knee", "foot")]
    others = [JOINT_NAMES.index(name) for name in ("pelvis", "spine2", "head", "left_elbow", "right_wrist")]
    for tick in (2, 3, 4, 5):
        five = averaged(given[tick - 2 : tick + 3], [1, 4, 6, 4, 1])
        assert played[tick, legs] == pytest.approx(five[legs])
        # Where three ticks before and after are known.
        most = averaged(given[tick - 3 : tick + 4], [1, 6, 15, 20, 15, 6, 1]) if tick in (3, 4) else five
        assert played[tick, others] == pytest.approx(most[others])
    assert played[6] == pytest.approx(averaged(given[5:8], [1, 2, 1]))
    assert roots[3, 2] == pytest.approx((0.3 + 2 * 0.4 + 0.3) / 4), "it turns back softly"
    track.truncate(4)
    assert np.array_equal(track.poses(np.arange(4))[0][3], given[3]), "what followed is not to come"
    track.append(chunk(seed=3), seam=True)
    assert np.array_equal(track.poses(np.arange(4))[0][3], given[3])
    track.sample(6.5)
    last = track.poses(np.array([7]))[0]
    track.append(chunk(seed=4))
    assert np.array_equal(track.poses(np.array([7]))[0], last)


def test_it_knows_what_it_knows() -> None:
    track = MotionTrack()
    track.restart(4)
    assert not track.has(4.0)
    track.append(chunk())
    assert track.has(4.0)
    assert track.has(6.9)
    assert not track.has(7.0), "the stretch after the last tick needs the next one"
    assert not track.has(3.9)


def test_a_seam_is_announced_and_the_old_motion_carried_on_to_it() -> None:
    track = MotionTrack()
    track.restart(0)
    track.append(chunk(forward=0.1))
    track.append(chunk(seed=3), seam=True)
    old, first = track.sample(3.5)
    new, second = track.sample(4.0)
    assert second == first + 1
    assert old.translation_m[2] == pytest.approx(0.45)
    assert not np.allclose(old.quaternions, new.quaternions)


def test_the_ring_holds_a_long_dance() -> None:
    track = MotionTrack()
    track.restart(0)
    for step in range(500):
        track.append(chunk(forward=0.01, seed=step))
    assert track.has(track.end - 1.5)
    assert track.position_m[1] == pytest.approx(20.0)
    assert not track.has(0.0)


def test_the_inertializer_hides_a_jump_in_position_and_speed() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(24, 4))
    target /= np.linalg.norm(target, axis=-1, keepdims=True)
    still = Pose(np.tile([0.0, 0.0, 0.0, 1.0], (24, 1)), np.zeros(3), np.ones(4))
    other = Pose(target, np.array([0.5, 0.1, -0.3]), np.ones(4))
    inertializer = Inertializer()
    dt = 1.0 / 60.0
    shown = [inertializer.apply(still, dt) for _ in range(3)]
    inertializer.change(other)
    shown += [inertializer.apply(other, dt) for _ in range(120)]
    path = np.stack([pose.translation_m for pose in shown])
    steps = np.abs(np.diff(path, axis=0)).max(axis=1)
    assert steps[2] < 0.01, "the first step after the jump is small"
    assert steps.max() < 0.06
    assert shown[-1].translation_m == pytest.approx(other.translation_m, abs=1e-3)
    assert np.abs((shown[-1].quaternions * target).sum(axis=-1)) == pytest.approx(1.0, abs=1e-4)


def test_the_inertializer_takes_over_a_moving_motion_without_a_kick() -> None:
    """From rest to a motion at 2 m/s: the speed grows smoothly, it does not start at 2 m/s."""
    still = Pose(np.tile([0.0, 0.0, 0.0, 1.0], (24, 1)), np.zeros(3), np.ones(4))
    inertializer = Inertializer()
    dt = 1.0 / 60.0

    def walking(frame: float) -> Pose:
        return Pose(still.quaternions, np.array([0.0, 0.0, 2.0 * frame * dt]), still.contacts)

    shown = [inertializer.apply(still, dt) for _ in range(3)]
    inertializer.change(walking(0), walking(0.5), 0.5 * dt)
    shown += [inertializer.apply(walking(frame), dt) for frame in range(90)]
    speed = np.diff([pose.translation_m[2] for pose in shown]) / dt
    assert np.abs(np.diff(speed)).max() < 0.6, "no kick"
    assert speed[-1] == pytest.approx(2.0, abs=0.01)


def test_what_was_not_shown_can_be_made_anew() -> None:
    track = MotionTrack()
    track.restart(0)
    for seed in range(3):
        track.append(chunk(forward=0.1, turn=0.02, seed=seed))
    track.sample(2.5)
    track.truncate(8)
    assert track.end == 8
    assert track.heading_rad == pytest.approx(0.16)
    track.append(chunk(forward=0.0, seed=9), seam=True)
    pose, _ = track.sample(8.0)
    assert pose.translation_m[[0, 2]] == pytest.approx(track.position_m)
    with pytest.raises(ValueError, match="cannot forget"):
        track.truncate(8)


def test_the_whole_dance_is_brought_elsewhere() -> None:
    def dance() -> MotionTrack:
        track = MotionTrack()
        for number in range(4):
            track.append(chunk(turn=0.1, forward=0.05, seed=number))
        return track

    track, brought = dance(), dance()
    turn = 2.0
    brought.bring(5, np.array([3.0, -1.0]), track.heading_at(5) + turn)
    track.append(chunk(turn=0.1, forward=0.05, seed=4))
    brought.append(chunk(turn=0.1, forward=0.05, seed=4))
    around = np.array([[np.cos(turn), 0.0, np.sin(turn)], [0.0, 1.0, 0.0], [-np.sin(turn), 0.0, np.cos(turn)]])
    stood = track.sample(5.0)[0].translation_m
    for tick in np.arange(1.0, 18.0, 0.3):
        before, after = track.sample(tick)[0], brought.sample(tick)[0]
        moved = around @ (before.translation_m - stood) + [3.0, stood[1], -1.0]
        np.testing.assert_allclose(after.translation_m, moved, atol=1e-9)
        turned = quaternion_multiply([0.0, np.sin(turn / 2), 0.0, np.cos(turn / 2)], before.quaternions[0])
        assert abs(np.dot(after.quaternions[0], turned)) > 1.0 - 1e-9
        np.testing.assert_allclose(after.quaternions[1:], before.quaternions[1:], atol=1e-9)
