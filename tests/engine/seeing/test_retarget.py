"""Landmarks to the skeleton: what is known comes back, what is hidden stays plausible, nothing jumps or breaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.body.skeleton import (
    JOINT_NAMES,
    contact_points,
    forward_kinematics,
    forward_kinematics_matrices,
    matrix_to_axis_angle,
    rest_positions_m,
)
from engine.seeing import landmark_pose as lp
from engine.seeing.calibration import SIGHT_SHARE
from engine.seeing.landmark_pose import solve_pose
from engine.seeing.retarget import LandmarkRetargeter
from engine.types import NS_PER_S, PoseFrame, PoseLandmarks
from tests.engine.seeing.figure import posed

Array = NDArray[np.float64]
FOCAL = 1.3
JOINTS = {11: 16, 12: 17, 13: 18, 14: 19, 15: 20, 16: 21, 23: 1, 24: 2, 25: 4, 26: 5, 27: 7, 28: 8}


def body(rotations: Array, root: Array | None = None) -> Array:
    """Return the landmarks (33, 3) [m] in the world of a pose of the standard skeleton."""
    root = np.array([0.0, 0.976, 0.0]) if root is None else root
    joints, world = forward_kinematics(rotations, root)
    soles = contact_points(joints, world)
    points = np.zeros((33, 3))
    for landmark, joint in JOINTS.items():
        points[landmark] = joints[joint]
    head = world[15]
    for landmark, offset in {
        lp.NOSE: (0.0, 0.05, 0.12), lp.LEFT_EYE: (0.03, 0.09, 0.09), lp.RIGHT_EYE: (-0.03, 0.09, 0.09),
        lp.LEFT_EAR: (0.07, 0.06, 0.0), lp.RIGHT_EAR: (-0.07, 0.06, 0.0),
        lp.MOUTH_LEFT: (0.02, 0.01, 0.09), lp.MOUTH_RIGHT: (-0.02, 0.01, 0.09),
    }.items():  # fmt: skip
        points[landmark] = joints[15] + head @ np.array(offset)
    for side, hand, sign in ((0, 20, 1.0), (1, 21, -1.0)):
        for landmark, z in ((17, -0.02), (19, 0.02), (21, 0.04)):
            points[landmark + side] = joints[hand] + world[hand] @ np.array([sign * 0.09, 0.0, z])
    for landmark, point in zip(lp.FOOT_POINTS, soles, strict=True):
        points[landmark] = point
    return points


def seen(
    points: Array, time_ns: int, camera_m: tuple[float, float] = (1.0, 4.0), visible: float = 0.95
) -> PoseLandmarks:
    """Return what a landmarker would say of a body before a camera at a height and distance."""
    height, distance = camera_m
    depth = distance - points[:, 2]
    image = np.stack([0.5 + FOCAL * points[:, 0] / depth / (16 / 9), 0.5 - FOCAL * (points[:, 1] - height) / depth], 1)
    hips = 0.5 * (points[lp.LEFT_HIP] + points[lp.RIGHT_HIP])
    # The landmarker's axes lean to the line of sight to the person.
    angle = SIGHT_SHARE * np.arctan2(hips[0], distance - hips[2])
    across, towards = np.array([np.cos(angle), 0.0, np.sin(angle)]), np.array([-np.sin(angle), 0.0, np.cos(angle)])
    turned = (points - hips) @ np.stack([across, [0.0, 1.0, 0.0], towards], axis=1)
    return PoseLandmarks(time_ns, turned, np.full(33, visible), image)


def run(retargeter: LandmarkRetargeter, pose: Array, frames: int = 90, start: int = 0) -> PoseFrame:
    """Return the pose after a body has stood for a while, at 30 pictures a second."""
    frame = None
    for number in range(start, start + frames):
        frame = retargeter.process(seen(body(pose), number * NS_PER_S // 30))
    assert frame is not None
    return frame


def limbs(rotations: Array) -> Array:
    joints, _ = forward_kinematics(rotations, np.zeros(3))
    pairs = [(16, 18), (18, 20), (17, 19), (19, 21), (1, 4), (4, 7), (2, 5), (5, 8), (0, 12)]
    directions = np.array([joints[b] - joints[a] for a, b in pairs])
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def away_deg(a: Array, b: Array) -> Array:
    return np.asarray(np.degrees(np.arccos(np.clip((limbs(a) * limbs(b)).sum(axis=1), -1.0, 1.0))))


DANCES = {
    "standing": posed(),
    "arms": posed(left_shoulder=(0, -40, 30), left_elbow=(0, -70, 0), right_shoulder=(0, 30, -60)),
    "squat": posed(left_hip=(-70, 20, 10), right_hip=(-70, -20, -10), left_knee=(90, 0, 0), right_knee=(90, 0, 0)),
    "kick": posed(left_hip=(-70, 0, 10), right_knee=(15, 0, 0), right_hip=(-8, 0, 0)),
    "passé": posed(left_hip=(-60, 70, 50), left_knee=(110, 0, 0)),
    "bent": posed(spine1=(20, 0, 0), spine2=(20, 0, 0), spine3=(15, 10, 0)),
    "back turned": posed(pelvis=(0, 170, 0), left_shoulder=(0, 0, 50)),
}


@pytest.mark.parametrize("name", DANCES)
def test_the_analytic_pose_points_its_limbs_where_the_landmarks_are(name: str) -> None:
    points = body(DANCES[name])
    local = solve_pose(points)
    assert np.allclose(local @ np.swapaxes(local, -1, -2), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(local), 1.0)
    away = away_deg(matrix_to_axis_angle(local), DANCES[name])
    assert away[:8].max() < 6.0, away.round(1)
    assert away[8] < 12.0, "the spine is told by its ends only"


@pytest.mark.parametrize("name", DANCES)
def test_a_standing_body_comes_out_as_it_went_in(name: str) -> None:
    frame = run(LandmarkRetargeter(), DANCES[name])
    away = away_deg(frame.rotations.astype(np.float64), DANCES[name])
    assert np.median(away) < 9.0, away.round(1)
    assert away.max() < 22.0, away.round(1)
    assert frame.performer == "camera"
    assert frame.time_ns == frame.source_ns == 89 * NS_PER_S // 30


def test_the_shipped_body_stands_where_it_stands() -> None:
    frame = run(LandmarkRetargeter(), posed())
    joints, world = forward_kinematics(frame.rotations, frame.translation_m)
    assert abs(frame.translation_m[1] - 0.976) < 0.03
    assert np.abs(contact_points(joints, world)[:, 1]).max() < 0.03
    assert frame.contacts.min() > 0.8
    assert np.abs(frame.translation_m[[0, 2]]).max() < 0.05


def test_steps_to_the_side_and_to_the_camera_are_followed() -> None:
    retargeter = LandmarkRetargeter()
    run(retargeter, posed(), 60)
    frame = None
    for number in range(60, 210):
        share = min((number - 60) / 60, 1.0)
        points = body(posed(), np.array([0.8 * share, 0.976, 0.6 * share]))
        frame = retargeter.process(seen(points, number * NS_PER_S // 30))
    assert frame is not None
    assert frame.translation_m[0] == pytest.approx(0.8, abs=0.12), "to the picture's right"
    assert frame.translation_m[2] == pytest.approx(0.6, abs=0.25), "depth is told by size alone"
    assert abs(frame.translation_m[1] - 0.976) < 0.05


def test_a_jump_leaves_the_floor_and_lands() -> None:
    retargeter = LandmarkRetargeter()
    run(retargeter, posed(), 60)
    heights, contacts = [], []
    for number in range(60, 110):
        t = (number - 60) / 30
        rise = max(0.0, 2.4 * t - 4.9 * t * t)
        frame = retargeter.process(seen(body(posed(), np.array([0.0, 0.976 + rise, 0.0])), number * NS_PER_S // 30))
        assert frame is not None
        heights.append(float(frame.translation_m[1]))
        contacts.append(float(frame.contacts.max()))
    assert max(heights) > 0.976 + 0.12, "the body rises by 29 cm; a few centimetres are kept for the floor"
    assert min(contacts) < 0.2
    assert heights[-1] == pytest.approx(0.976, abs=0.04)
    assert contacts[-1] > 0.8


def test_feet_do_not_slide_under_a_swaying_body() -> None:
    retargeter = LandmarkRetargeter()
    rng = np.random.default_rng(1)
    points_m, standing = [], []
    for number in range(240):
        sway = 8.0 * np.sin(2 * np.pi * number / 40)
        pose = posed(pelvis=(0, 0, -sway), left_hip=(0, 0, sway), right_hip=(0, 0, sway))
        joints, _ = forward_kinematics(pose, np.zeros(3))
        ankles = 0.5 * (joints[7] + joints[8])
        points = body(pose, np.array([-ankles[0], 0.976, 0.0])) + rng.normal(0.0, 0.004, (33, 3))
        frame = retargeter.process(seen(points, number * NS_PER_S // 30))
        assert frame is not None
        joints, world = forward_kinematics(frame.rotations, frame.translation_m)
        points_m.append(contact_points(joints, world))
        standing.append(frame.contacts > 0.6)
    steps = np.linalg.norm(np.diff(np.array(points_m), axis=0)[60:, :, [0, 2]], axis=2) * 30.0
    held = (np.array(standing)[1:] & np.array(standing)[:-1])[60:]
    assert held.mean() > 0.6
    assert np.median(steps[held]) < 0.02, "m/s"


def test_mirror_swaps_sides() -> None:
    plain, mirrored = run(LandmarkRetargeter(), DANCES["arms"]), run(LandmarkRetargeter(mirror=True), DANCES["arms"])
    left, right = JOINT_NAMES.index("left_shoulder"), JOINT_NAMES.index("right_shoulder")
    assert np.allclose(plain.rotations[left] * [1, -1, -1], mirrored.rotations[right], atol=1e-5)
    assert plain.translation_m[0] == pytest.approx(-mirrored.translation_m[0])


def test_nobody_is_no_pose() -> None:
    retargeter = LandmarkRetargeter()
    assert retargeter.process(seen(body(posed()), 0, visible=0.0)) is None
    assert retargeter.process(seen(body(posed()), NS_PER_S)) is not None
    assert retargeter.process(seen(body(posed()), NS_PER_S)) is None, "not later than the last"
    assert retargeter.process(seen(body(posed()), NS_PER_S // 2)) is None


@pytest.mark.parametrize("part", ["positions_m", "visibility", "image_xy", "aspect"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_picture_that_is_not_numbers_is_refused_and_the_next_is_taken(part: str, bad: float) -> None:
    retargeter, clean = LandmarkRetargeter(), LandmarkRetargeter()
    for number in range(60):
        landmarks = seen(body(DANCES["arms"]), number * NS_PER_S // 30)
        if number == 30:
            spoilt = np.array(getattr(landmarks, part), copy=True)
            spoilt.flat[-1] = bad
            landmarks = replace(landmarks, **{part: spoilt if part != "aspect" else bad})
            assert retargeter.process(landmarks) is None
            continue
        frame, expected = retargeter.process(landmarks), clean.process(landmarks)
        assert frame is not None
        assert expected is not None
        assert np.array_equal(frame.rotations, expected.rotations)
        assert np.array_equal(frame.translation_m, expected.translation_m)


def test_hidden_legs_stand_still() -> None:
    retargeter = LandmarkRetargeter()
    rng = np.random.default_rng(2)
    frames = []
    for number in range(120):
        points = body(DANCES["arms"])
        landmarks = seen(points, number * NS_PER_S // 30, (1.4, 1.2))  # a web camera on a table: the waist up
        positions, visibility = landmarks.positions_m.copy(), landmarks.visibility.copy()
        positions[lp.LEFT_KNEE :] += rng.normal(0.0, 0.3, (8, 3))
        visibility[lp.LEFT_KNEE :] = 0.02
        frames.append(retargeter.process(PoseLandmarks(landmarks.time_ns, positions, visibility, landmarks.image_xy)))
    poses = np.stack([frame.rotations for frame in frames if frame is not None])
    assert len(poses) == 120
    assert np.abs(np.diff(poses[60:, [1, 2, 4, 5, 7, 8]], axis=0)).max() < 0.02, "legs that are not seen do not dance"
    assert np.abs(poses[-1, [4, 5], 0]).max() < 0.6
    away = away_deg(poses[-1].astype(np.float64), DANCES["arms"])
    assert away[:4].max() < 22.0, "and the arms do"


def test_a_hidden_arm_sinks_and_comes_back_without_a_jump() -> None:
    retargeter = LandmarkRetargeter()
    up = posed(left_shoulder=(0, 0, 60))
    wrists = []
    for number in range(210):
        landmarks = seen(body(up), number * NS_PER_S // 30)
        if 60 <= number < 150:
            positions, visibility = landmarks.positions_m.copy(), landmarks.visibility.copy()
            positions[[13, 15, 17, 19, 21]] = 0.0
            visibility[[13, 15, 17, 19, 21]] = 0.0
            landmarks = PoseLandmarks(landmarks.time_ns, positions, visibility, landmarks.image_xy)
        frame = retargeter.process(landmarks)
        assert frame is not None
        joints, _ = forward_kinematics(frame.rotations, frame.translation_m)
        wrists.append(joints[20] - joints[0])
    height = np.array(wrists)[:, 1]
    assert height[59] > 0.6
    assert height[149] < 0.3, "in three seconds it has sunk"
    assert height[-1] > 0.6, "and it is back"
    assert np.linalg.norm(np.diff(np.array(wrists), axis=0), axis=1).max() < 0.2


def test_a_flip_of_the_landmarks_is_a_turn_not_a_jump() -> None:
    retargeter = LandmarkRetargeter()
    before = run(retargeter, posed(), 30)
    after = retargeter.process(seen(body(posed(pelvis=(0, 180, 0))), NS_PER_S))
    assert after is not None
    a, _ = forward_kinematics(before.rotations, before.translation_m)
    b, _ = forward_kinematics(after.rotations, after.translation_m)
    assert np.linalg.norm(b - a, axis=1).max() < 0.45


def test_a_knee_that_seems_to_bend_backwards_is_straightened() -> None:
    points = body(posed())
    points[[lp.LEFT_KNEE, lp.RIGHT_KNEE], 2] -= 0.06
    rotations = matrix_to_axis_angle(solve_pose(points))
    joints, _ = forward_kinematics(rotations, np.zeros(3))
    for hip, knee, ankle in ((1, 4, 7), (2, 5, 8)):
        thigh, shank = joints[knee] - joints[hip], joints[ankle] - joints[knee]
        assert np.cross(thigh, shank)[0] / np.linalg.norm(thigh) / np.linalg.norm(shank) > -0.06


def test_it_is_deterministic_and_reset_is_a_new_start() -> None:
    a, b = LandmarkRetargeter(), LandmarkRetargeter()
    first = run(a, DANCES["arms"])
    assert np.array_equal(first.rotations, run(b, DANCES["arms"]).rotations)
    a.reset()
    again = run(a, DANCES["arms"])
    assert np.array_equal(first.rotations, again.rotations)
    assert np.array_equal(first.translation_m, again.translation_m)


def test_smoothing_calms_what_trembles() -> None:
    def tremble(smoothing: float) -> float:
        retargeter, rng, poses = LandmarkRetargeter(smoothing), np.random.default_rng(3), []
        for number in range(90):
            points = body(posed()) + rng.normal(0.0, 0.01, (33, 3))
            frame = retargeter.process(seen(points, number * NS_PER_S // 30))
            assert frame is not None
            poses.append(frame.rotations)
        return float(np.abs(np.diff(np.array(poses)[30:], axis=0)).mean())

    raw, usual, calm = tremble(0.0), tremble(0.5), tremble(1.0)
    assert calm < usual < raw
    assert calm < 0.4 * raw


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_whatever_is_said_the_pose_is_finite_and_human(seed: int, smoothing: float) -> None:
    rng = np.random.default_rng(seed)
    retargeter = LandmarkRetargeter(smoothing)
    for number in range(12):
        kind = rng.integers(4)
        points = rng.normal(0.0, 1.0, (33, 3)) * (0.0 if kind == 0 else 10.0 ** rng.integers(-3, 3))
        image = rng.normal(0.5, 10.0 ** rng.integers(-3, 3), (33, 2)) if kind < 3 else np.full((33, 2), 0.5)
        time_ns = number * int(rng.integers(1, NS_PER_S))
        frame = retargeter.process(PoseLandmarks(time_ns, points, rng.random(33), image))
        if frame is not None:
            assert np.isfinite(frame.rotations).all()
            assert np.isfinite(frame.translation_m).all()
            assert ((frame.contacts >= 0.0) & (frame.contacts <= 1.0)).all()


def test_the_rest_pose_gives_the_rest_pose() -> None:
    local = solve_pose(body(np.zeros((24, 3))))
    joints, _ = forward_kinematics_matrices(local, np.zeros(3))
    assert np.abs(joints - rest_positions_m()).max() < 0.05
