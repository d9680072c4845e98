"""The dancer's own beat: dancers of known tempo are followed, those who stand are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.beats import BeatFollower
from engine.beats.kinematic_tracker import KinematicTracker
from engine.body.skeleton import JOINT_NAMES, contact_points, forward_kinematics
from engine.types import NS_PER_S, BeatEstimate, PoseFrame

Array = NDArray[np.float64]


def posed(**degrees: tuple[float, float, float]) -> Array:
    pose = np.zeros((24, 3))
    for name, angles in {"left_shoulder": (0.0, 0.0, -65.0), "right_shoulder": (0.0, 0.0, 65.0), **degrees}.items():
        pose[JOINT_NAMES.index(name)] = np.radians(angles)
    return pose


def bounce(beat: float) -> Array:
    """The knees give, lowest on the beat."""
    k = 9.0 * (1.0 + np.cos(2.0 * np.pi * beat))
    return posed(
        left_hip=(-k, 0, 0), right_hip=(-k, 0, 0), left_knee=(2 * k, 0, 0), right_knee=(2 * k, 0, 0),
        left_ankle=(-k, 0, 0), right_ankle=(-k, 0, 0),
    )  # fmt: skip


def arms(beat: float) -> Array:
    """From pose to pose, arriving on the beat."""
    share = np.clip((beat % 1.0 - 0.4) / 0.6, 0.0, 1.0)
    share = share * share * (3.0 - 2.0 * share)
    angle = 60.0 * (1.0 - 2.0 * share) * (1.0 if int(beat // 1) % 2 else -1.0)
    return posed(left_shoulder=(0, 0, angle), right_shoulder=(0, 0, -angle))


def steps(beat: float) -> Array:
    """One foot, then the other, down on the beat."""
    lift = np.sin(np.pi * np.clip((beat % 1.0 - 0.3) / 0.7, 0.0, 1.0))
    side = "left" if int(beat // 1) % 2 else "right"
    return posed(**{f"{side}_hip": (-40.0 * lift, 0, 0), f"{side}_knee": (70.0 * lift, 0, 0)})


def frame(pose: Array, time_ns: int) -> PoseFrame:
    """Return the pose with its lowest foot on the floor."""
    joints, world = forward_kinematics(pose, np.zeros(3))
    height = -float(contact_points(joints, world)[:, 1].min())
    return PoseFrame(time_ns, time_ns, pose, np.array([0.0, height, 0.0]), np.ones(4), "camera")


def dance(
    tracker: KinematicTracker,
    figure: Callable[[float], Array],
    bpm: float,
    seconds: float,
    fps: float = 30.0,
    start_s: float = 0.0,
) -> list[tuple[float, BeatEstimate | None]]:
    told = []
    for number in range(round(seconds * fps)):
        time_s = start_s + number / fps
        told.append((time_s, tracker.process(frame(figure(time_s * bpm / 60.0), round(time_s * NS_PER_S)))))
    return told


@pytest.mark.parametrize("figure", [bounce, arms, steps])
@pytest.mark.parametrize("bpm", [84.0, 118.0, 140.0])
def test_a_dancer_in_time_is_followed(figure: Callable[[float], Array], bpm: float) -> None:
    told = dance(KinematicTracker(), figure, bpm, 16.0)
    late = [estimate for time_s, estimate in told if time_s > 10.0]
    assert all(estimate is not None for estimate in late)
    known = [estimate for estimate in late if estimate is not None]
    tempos = 60.0 * NS_PER_S / np.array([estimate.period_ns for estimate in known])
    assert np.median(np.abs(tempos / bpm - 1.0)) < 0.02
    beats = np.array([estimate.beat_ns for estimate in known]) * bpm / (60.0 * NS_PER_S)
    errors_s = ((beats + 0.5) % 1.0 - 0.5) * 60.0 / bpm
    assert np.abs(errors_s).max() < 0.12, "a fraction of the beat late, for limbs slow down before they stop"
    assert np.ptp(errors_s) < 0.06
    assert np.mean([estimate.confidence for estimate in known]) > 0.2


@pytest.mark.parametrize("fps", [15.0, 24.0, 60.0])
def test_any_frame_rate_will_do(fps: float) -> None:
    told = dance(KinematicTracker(), arms, 100.0, 14.0, fps)
    estimate = told[-1][1]
    assert estimate is not None
    assert 60.0 * NS_PER_S / estimate.period_ns == pytest.approx(100.0, rel=0.03)


def test_who_stands_still_has_no_beat_and_who_goes_on_has() -> None:
    tracker = KinematicTracker()
    assert all(estimate is None for _, estimate in dance(tracker, lambda beat: posed(), 100.0, 5.0))
    moving = dance(tracker, arms, 100.0, 10.0, start_s=5.0)
    assert moving[-1][1] is not None
    standing = dance(tracker, lambda beat: arms(25.0), 100.0, 4.0, start_s=15.0)
    assert standing[-1][1] is None
    stopped = next(time_s for time_s, estimate in standing if estimate is None)
    assert stopped < 17.0, "within a bar"
    again = dance(tracker, arms, 100.0, 4.0, start_s=19.0)
    assert again[-1][1] is not None


def test_trembling_landmarks_are_no_dance() -> None:
    rng = np.random.default_rng(0)
    tracker = KinematicTracker()
    told = dance(tracker, lambda beat: posed() + rng.normal(0.0, 0.001, (24, 3)), 100.0, 6.0)
    assert sum(estimate is not None for _, estimate in told) < 10


def test_movement_without_a_beat_is_not_sworn_to() -> None:
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.normal(0.0, 8.0, (2000, 4)), axis=0) % 120.0 - 60.0

    def wander(beat: float) -> Array:
        a, b, c, d = (np.interp(beat * 3.0, np.arange(2000), walk[:, k]) for k in range(4))
        return posed(
            left_shoulder=(0, 0, a), right_shoulder=(0, 0, b), left_hip=(0.5 * c, 0, 0), right_hip=(0, 0, d / 3)
        )

    aimless = dance(KinematicTracker(), wander, 100.0, 25.0)
    sure = [estimate.confidence for time_s, estimate in aimless if estimate is not None and time_s > 8.0]
    in_time = dance(KinematicTracker(), arms, 100.0, 25.0)
    known = [estimate.confidence for time_s, estimate in in_time if estimate is not None and time_s > 8.0]
    assert np.mean(sure) < 0.5 * np.mean(known)


def test_gaps_and_times_that_do_not_advance_are_survived() -> None:
    tracker = KinematicTracker()
    dance(tracker, arms, 100.0, 10.0)
    assert tracker.process(frame(posed(), 5 * NS_PER_S)) is None
    assert tracker.process(frame(posed(), 60 * NS_PER_S)) is None, "after a gap it starts anew"
    assert dance(tracker, arms, 90.0, 12.0, start_s=61.0)[-1][1] is not None


def test_it_is_deterministic_and_reset_forgets() -> None:
    tracker = KinematicTracker()
    first = dance(tracker, steps, 110.0, 8.0)
    tracker.reset()
    assert dance(tracker, steps, 110.0, 8.0) == first


def test_the_follower_follows_the_dancer() -> None:
    tracker, follower = KinematicTracker(), BeatFollower()
    for time_s, estimate in dance(tracker, arms, 96.0, 30.0):
        follower.update(round(time_s * NS_PER_S), estimate, active=estimate is not None)
    assert follower.state.timeline.tempo_bpm == pytest.approx(96.0, rel=0.02)
    assert follower.state.confidence > 0.3
