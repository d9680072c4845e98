"""The dancer is chosen once and kept, whoever walks in."""

from __future__ import annotations

import numpy as np
import pytest

from engine.seeing.people import Person, PersonTracker
from engine.types import NS_PER_S

ASPECT = 16 / 9
FRAME_NS = NS_PER_S // 30


def person(x: float, size: float = 1.0, y: float = 0.5) -> Person:
    """Return somebody whose hips are at a place across the picture (0 to 1), `size` times 0.6 pictures tall."""
    rng = np.random.default_rng(0)
    image = np.stack([x + rng.uniform(-0.05, 0.05, 33) * size, y + rng.uniform(-0.3, 0.3, 33) * size], 1)
    image[[11, 12, 23, 24]] = np.array([[x, y - 0.2 * size], [x, y - 0.2 * size], [x, y], [x, y]])
    return Person(np.zeros((33, 3), np.float32), np.ones(33, np.float32), image.astype(np.float32))


def where(chosen: Person | None) -> float:
    assert chosen is not None
    return float(chosen.image_xy[[23, 24], 0].mean())


@pytest.mark.parametrize(("wish", "x"), [("left", 0.2), ("middle", 0.55), ("right", 0.8), ("largest", 0.55)])
def test_the_wish_is_followed_at_the_start(wish: str, x: float) -> None:
    people = [person(0.8), person(0.2), person(0.55, 1.2)]
    assert where(PersonTracker(wish).choose(people, 0, ASPECT)) == pytest.approx(x)


def test_the_dancer_is_kept_when_somebody_larger_walks_in() -> None:
    tracker = PersonTracker("largest")
    for number in range(30):
        assert where(tracker.choose([person(0.5)], number * FRAME_NS, ASPECT)) == pytest.approx(0.5)
    for number in range(30, 90):
        walking = person(min(0.05 + 0.01 * (number - 30), 0.3), 1.5)
        people = [walking, person(0.5)] if number % 2 else [person(0.5), walking]
        assert where(tracker.choose(people, number * FRAME_NS, ASPECT)) == pytest.approx(0.5)


def test_two_who_cross_are_not_exchanged() -> None:
    tracker = PersonTracker("left")
    for number in range(90):
        share = number / 89
        first, second = person(0.2 + 0.6 * share, 1.0), person(0.8 - 0.6 * share, 0.7)
        hidden = abs(share - 0.5) < 0.06  # for a third of a second only the one in front is seen
        people = [first] if hidden else [second, first]
        chosen = tracker.choose(people, number * FRAME_NS, ASPECT)
        if not hidden:
            assert where(chosen) == pytest.approx(0.2 + 0.6 * share, abs=1e-3), number


def test_somebody_unseen_is_waited_for_and_then_replaced() -> None:
    tracker = PersonTracker("largest")
    both = [person(0.3, 1.2), person(0.7)]
    assert where(tracker.choose(both, 0, ASPECT)) == pytest.approx(0.3)
    for number in range(1, 45):
        assert tracker.choose(both[1:], number * FRAME_NS, ASPECT) is None, "the other one does not play"
    assert where(tracker.choose(both, 45 * FRAME_NS, ASPECT)) == pytest.approx(0.3), "back within two seconds"
    chosen = [tracker.choose(both[1:], number * FRAME_NS, ASPECT) for number in range(46, 120)]
    assert where(chosen[-1]) == pytest.approx(0.7)
    assert where(tracker.choose(both, 121 * FRAME_NS, ASPECT)) == pytest.approx(0.7), "and now it is theirs"


def test_nobody_is_nobody() -> None:
    tracker = PersonTracker()
    assert tracker.choose([], 0, ASPECT) is None
    assert where(tracker.choose([person(0.4)], FRAME_NS, ASPECT)) == pytest.approx(0.4)
    tracker.reset()
    assert where(tracker.choose([person(0.9)], 2 * FRAME_NS, ASPECT)) == pytest.approx(0.9)


def test_points_that_all_coincide_are_survived() -> None:
    tracker = PersonTracker()
    dot = Person(np.zeros((33, 3), np.float32), np.ones(33, np.float32), np.full((33, 2), 0.5, np.float32))
    for number in range(3):
        assert tracker.choose([dot, dot], number * FRAME_NS, ASPECT) is not None
