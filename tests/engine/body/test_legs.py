"""Leg kinematics: the same places as the whole skeleton's, and feet that go where they are sent."""

import numpy as np
import pytest

from engine.body import pose_algebra as algebra
from engine.body import skeleton as sk
from engine.body import vectors
from engine.body.legs import KNEES, MOVED_JOINTS, place_legs, reach

STILL = [vectors.IDENTITY, vectors.IDENTITY]


def poses(count: int = 60, knee_deg: float = 40.0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        rotations = rng.normal(0.0, 0.3, (24, 3))
        rotations[KNEES] = [[np.radians(knee_deg) + rng.normal(0.0, 0.05), 0.0, 0.0] for _ in KNEES]
        made.append((algebra.from_axis_angle(rotations), rng.normal(0.0, 1.0, 3)))
    return made


def with_legs(quaternions: np.ndarray, legs: np.ndarray) -> np.ndarray:
    moved = quaternions.copy()
    moved[MOVED_JOINTS] = legs
    return moved


def test_places_agree_with_the_whole_skeleton() -> None:
    for quaternions, translation in poses():
        legs = place_legs(quaternions, translation)
        positions, world = sk.forward_kinematics(algebra.to_axis_angle(quaternions), translation)
        np.testing.assert_allclose(legs.hip, positions[[1, 2]], atol=1e-12)
        np.testing.assert_allclose(legs.knee, positions[[4, 5]], atol=1e-12)
        np.testing.assert_allclose(legs.ankle, positions[[7, 8]], atol=1e-12)
        np.testing.assert_allclose(legs.points.reshape(4, 3), sk.contact_points(positions, world), atol=1e-12)


def test_ankles_go_where_they_are_sent_and_feet_turn_as_told() -> None:
    rng = np.random.default_rng(1)
    for quaternions, translation in poses(knee_deg=65.0):
        legs = place_legs(quaternions, translation)
        wanted = legs.ankle + rng.uniform(-0.05, 0.05, (2, 3))
        turns = algebra.from_axis_angle(rng.normal(0.0, 0.2, (2, 3)))
        hips = legs.hip - np.array([0.0, 0.02, 0.0])
        rotations, reached = reach(
            quaternions, legs, hips.tolist(), wanted.tolist(), [tuple(turn) for turn in turns.tolist()]
        )
        moved = algebra.to_axis_angle(with_legs(quaternions, rotations))
        positions, world = sk.forward_kinematics(moved, translation - np.array([0.0, 0.02, 0.0]))
        _, before = sk.forward_kinematics(algebra.to_axis_angle(quaternions), translation)
        np.testing.assert_allclose(positions[[7, 8]], wanted, atol=1e-9)
        np.testing.assert_allclose(reached, wanted, atol=1e-9)
        np.testing.assert_allclose(world[[7, 8]], algebra.to_matrix(turns) @ before[[7, 8]], atol=1e-9)


def test_knees_only_bend_about_their_hinge() -> None:
    for quaternions, translation in poses():
        legs = place_legs(quaternions, translation)
        wanted = legs.ankle + np.array([0.03, 0.05, -0.02])
        rotations, _ = reach(quaternions, legs, legs.hip.tolist(), wanted.tolist(), STILL)
        turn = algebra.multiply(rotations[2:4], algebra.conjugate(quaternions[KNEES]))
        np.testing.assert_allclose(algebra.to_axis_angle(turn)[:, 1:], 0.0, atol=1e-9)


@pytest.mark.parametrize("knee_deg", [-10.0, -2.0, 0.0, 10.0, 90.0])
@pytest.mark.parametrize("exact", [False, True])
def test_nothing_asked_nothing_changed(knee_deg, exact) -> None:
    for quaternions, translation in poses(20, knee_deg):
        legs = place_legs(quaternions, translation)
        rotations, reached = reach(quaternions, legs, legs.hip.tolist(), legs.ankle.tolist(), STILL, exact=exact)
        same = np.abs(np.vecdot(rotations, quaternions[MOVED_JOINTS]))
        # Exactly reaching for where a leg already is, a nearly straight one keeps its 2 degrees of bend.
        assert same.min() > (1.0 - 2e-3 if exact else 1.0 - 1e-9)
        np.testing.assert_allclose(reached, legs.ankle, atol=2e-3 if exact else 1e-9)


@pytest.mark.parametrize("knee_deg", [-12.0, 0.0, 30.0])
def test_a_foot_pulled_away_follows_smoothly_to_the_end_of_the_leg(knee_deg) -> None:
    quaternions, translation = poses(1, knee_deg)[0]
    legs = place_legs(quaternions, translation)
    down = (legs.ankle - legs.hip) / np.linalg.norm(legs.ankle - legs.hip, axis=1)[:, None]
    angles = []
    for pull in np.arange(-0.10, 0.15, 0.0005):
        wanted = legs.ankle + down * pull
        rotations, reached = reach(quaternions, legs, legs.hip.tolist(), wanted.tolist(), STILL)
        assert np.isfinite(rotations).all()
        assert np.linalg.norm(np.array(reached) - wanted, axis=1).max() < 0.15
        angles.append(np.degrees(algebra.to_axis_angle(rotations[2:4])[:, 0]))
    steps = np.abs(np.diff(np.array(angles), axis=0))
    # Half a millimetre never moves a knee by more than this; unsoftened it would be 6 degrees at full reach.
    assert steps.max() < 2.0


def test_out_of_reach_goes_as_near_as_it_can() -> None:
    quaternions, translation = poses(1)[0]
    legs = place_legs(quaternions, translation)
    for distance in (0.0, 1e-9, 0.05, 2.0, 100.0):
        wanted = legs.hip + np.array([0.0, -distance, 0.0])
        rotations, reached = reach(quaternions, legs, legs.hip.tolist(), wanted.tolist(), STILL)
        assert np.isfinite(rotations).all()
        np.testing.assert_allclose(np.linalg.norm(rotations, axis=1), 1.0, atol=1e-9)
        lengths = np.linalg.norm(np.array(reached) - legs.hip, axis=1)
        assert (lengths < 0.82).all()


def test_vectors_agree_with_numpy() -> None:
    rng = np.random.default_rng(2)
    a, b, turn = (tuple(v) for v in rng.normal(size=(3, 3)).tolist())
    np.testing.assert_allclose(vectors.cross(a, b), np.cross(a, b))
    assert vectors.dot(a, b) == pytest.approx(np.dot(a, b))
    matrix = sk.axis_angle_to_matrix(np.array(turn))
    np.testing.assert_allclose(vectors.rotate(turn, a), matrix @ a, atol=1e-12)
    np.testing.assert_allclose(vectors.quaternion(turn), sk.axis_angle_to_quaternion(np.array(turn)), atol=1e-12)
    aligned = np.array(b) / np.linalg.norm(b)
    for turned in (
        vectors.rotate(vectors.turn_between(a, b), a),
        sk.quaternion_to_matrix(np.array(vectors.quaternion_between(a, b))) @ a,
    ):
        np.testing.assert_allclose(turned / np.linalg.norm(turned), aligned, atol=1e-12)
    opposite = tuple(-x for x in a)
    assert np.isfinite(vectors.quaternion_between(a, opposite)).all()
    assert vectors.turn_between(a, a) == vectors.ZERO
