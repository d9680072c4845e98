"""The marker set: subjects that change within a clip, exchanged head labels, standing feet."""

import tracemalloc

import numpy as np

from models.data import markers as mk
from tests.models.data.synthetic_dance import steps, wear_markers

FPS = 25.0


def two_subjects(fade: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Return a clip of 600 frames that fades from one subject to another at frame 300, and the true share."""
    motion = steps(600, FPS)
    offsets = mk.NOMINAL_OFFSETS_M.copy()
    offsets[[mk.LEFT_KNEE, mk.RIGHT_KNEE], 1] -= 0.08  # the knee markers sit lower on the second
    share = np.clip((np.arange(600) - 300) / fade, 0.0, 1.0)
    first, second = wear_markers(*motion), wear_markers(*motion, offsets)
    return first + share[:, None, None] * (second - first), share


def test_right_is_right() -> None:
    markers = wear_markers(*steps(1, FPS, turn=0.0))[0]
    for right, left in ((3, 12), (4, 13), (6, 15), (7, 16), (8, 17), (9, 18), (10, 19), (11, 20), (0, 1)):
        assert markers[right, 0] < markers[left, 0]


def test_subjects_are_found_and_followed_through_a_cross_fade() -> None:
    clip, share = two_subjects()
    centres = mk.find_subjects([(clip, FPS)])
    assert len(centres) == 2
    weights = mk.subject_weights(clip, FPS, centres)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-9)
    second = int(np.argmax(weights[-1]))
    clear = np.abs(np.arange(600) - 310) > 30
    np.testing.assert_allclose(weights[clear, second], share[clear], atol=0.05)
    assert np.abs(np.diff(weights[:, second])).max() < 0.2


def test_one_dancer_is_one_subject_whatever_they_do() -> None:
    assert len(mk.find_subjects([(wear_markers(*steps(400, FPS)), FPS)])) == 1


def test_exchanged_head_labels_are_put_right() -> None:
    markers = wear_markers(*steps(100, FPS))
    mixed = markers.copy()
    mixed[40:70, [0, 1]] = mixed[40:70, [1, 0]]
    np.testing.assert_allclose(mk.tidy_head(mixed), mk.tidy_head(markers), atol=1e-12)
    np.testing.assert_allclose(mk.tidy_head(markers), markers, atol=1e-12)
    # A pair across the shoulders' axis says nothing about the head's turn: only its middle is kept.
    across = markers.copy()
    shoulders = markers[:, mk.LEFT_SHOULDER] - markers[:, mk.RIGHT_SHOULDER]
    across[:, 1] = across[:, 0] + np.cross(shoulders, [0.0, 1.0, 0.0])
    tidy = mk.tidy_head(across)
    np.testing.assert_allclose(tidy[:, 0], across[:, [0, 1]].mean(axis=1), atol=1e-9)
    np.testing.assert_allclose(tidy[:, 1], tidy[:, 0], atol=1e-9)


def test_a_stepping_foot_is_labelled_and_does_not_chatter() -> None:
    frames = 250
    markers = np.zeros((frames, mk.MARKER_COUNT, 3))
    rng = np.random.default_rng(3)
    lifted = (np.arange(frames) % 50) >= 35
    swing = np.where(lifted, np.sin(np.pi * ((np.arange(frames) % 50) - 35) / 15.0), 0.0)
    for marker, rest in ((mk.LEFT_HEEL, 0.03), (mk.LEFT_TOE, 0.01)):
        markers[:, marker, 1] = rest + 0.15 * swing
        markers[:, marker, 2] = np.cumsum(lifted * 0.03)
    markers += rng.normal(scale=0.002, size=markers.shape)
    labels = mk.contact_labels(markers, FPS)
    left = labels[:, :2]
    middle_of_stance, middle_of_swing = (np.arange(frames) % 50) == 18, (np.arange(frames) % 50) == 42
    assert left[middle_of_stance].min() == 1.0
    assert left[middle_of_swing].max() == 0.0
    assert np.abs(np.diff(left, axis=0)).sum(axis=0).max() <= 10, "two changes a step"
    assert labels[:, 2:].min() == 1.0, "the other foot never moves"


def test_contacts_of_a_long_dance_take_little_memory() -> None:
    points = np.random.default_rng(0).normal(scale=1e-3, size=(7_000, 4, 3)).cumsum(axis=0)
    tracemalloc.start()
    mk.label_contacts(points, 120.0)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One window of four seconds a frame would be 15 kB.
    assert largest < 6_000 * len(points)
