"""The dancer between its model and the stage: where it rests, what it begins anew, what is dropped and made again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.body.skeleton import JOINT_NAMES, axis_angle_to_quaternion, forward_kinematics
from engine.features import FeatureSpec
from engine.pipeline import Pipeline
from engine.settings import load_show
from engine.types import NS_PER_S, AudioBlock, BeatState, BeatTimeline, MotionChunk, MotionRequest, PoseFrame
from tests.engine.fakes import Walker, blocks, make_pipeline, music

ANKLES = [JOINT_NAMES.index(f"{side}_ankle") for side in ("left", "right")]


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros((round(seconds * 48_000), 1), np.float32)


def evening(*parts: NDArray[np.float32]) -> list[AudioBlock]:
    return list(blocks(np.concatenate(parts)))


def poses(pipeline: Pipeline, heard: Iterable[AudioBlock]) -> list[PoseFrame]:
    return [event for block in heard for event in pipeline.push(block) if isinstance(event, PoseFrame)]


def test_who_rests_at_the_edge_of_the_stage_stands_still() -> None:
    pipeline = make_pipeline(settings=load_show(None, ["dancer.stage_radius_m=2", "dancer.rest_after_s=0.5"]))
    frames = poses(pipeline, evening(music(2.5), silence(13.0)))
    rest = frames[-10 * 60 :]
    joints, turned = forward_kinematics(
        np.array([frame.rotations for frame in rest]), np.array([frame.translation_m for frame in rest])
    )
    assert np.hypot(*rest[0].translation_m[[0, 2]]) > 0.7 * 2.0, "so far out that who travels is steered"
    ankles = np.asarray(joints)[:, ANKLES]
    assert np.ptp(ankles, axis=0).max() < 0.02, "the feet neither slide nor drift"
    heading = np.arctan2(np.asarray(turned)[:, 0, 0, 2], np.asarray(turned)[:, 0, 2, 2])
    assert np.degrees(np.ptp(np.unwrap(heading))) < 10.0, "it sways, and does not turn"


class Diary(Walker):
    """A walker that keeps the seeds it was reset with."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds: list[int] = []

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.seeds.append(seed)


def test_a_model_that_failed_once_begins_anew_once_and_not_after_every_rest() -> None:
    walker = Diary()
    pipeline = make_pipeline(walker, settings=load_show(None, ["dancer.seed=3", "dancer.rest_after_s=0.3"]))
    for number, block in enumerate(evening(*[music(3.0), silence(2.0)] * 3)):
        failing = number >= 100 and not pipeline.metrics.counter("model_lost")
        walker.fail = RuntimeError("out of memory") if failing else None
        pipeline.push(block)
    assert walker.seeds == [3, 4]


def test_however_fast_sides_change_little_is_made_again_and_the_last_wish_counts() -> None:
    def dance(wishes_a_second: int) -> tuple[int, PoseFrame]:
        walker = Walker()
        pipeline = make_pipeline(walker)
        frames: list[PoseFrame] = []
        for number, block in enumerate(evening(music(6.0))):
            frames += poses(pipeline, [block])
            if wishes_a_second and 200 <= number < 400 and number % (100 // wishes_a_second) == 0:
                pipeline.dancer.set_mirror(not pipeline.dancer.mirror)
        assert not pipeline.dancer.mirror
        return len(walker.requests), frames[-1]

    (calm, plain), (slow, _), (fast, shown) = dance(0), dance(10), dance(100)
    # Six chunks a second; each change makes what lies ahead again, little more than a beat.
    assert calm < slow <= fast + 4 < calm + 2 * 6 * 4
    np.testing.assert_allclose(shown.rotations[16:18], plain.rotations[16:18], atol=0.05)


def test_a_side_that_is_changed_and_changed_back_at_once_changes_nothing() -> None:
    def dance(restless: bool) -> list[float]:
        walker = Walker()
        pipeline = make_pipeline(walker)
        for block in evening(music(3.0)):
            pipeline.push(block)
            for on in (True, False) if restless else ():
                pipeline.dancer.set_mirror(on)
        return [request.first_tick for request in walker.requests]

    assert dance(True) == dance(False)


class Slider(Walker):
    """Creeps on feet that it says stand: the guard holds them, further and further behind."""

    def step(self, request: MotionRequest) -> MotionChunk:
        chunk = super().step(request)
        return replace(chunk, root_delta_m=0.5 * chunk.root_delta_m, contacts=np.ones_like(chunk.contacts))


def test_a_panic_does_not_let_go_of_the_feet_at_once() -> None:
    pipeline = make_pipeline(Slider())
    frames: list[PoseFrame] = []
    for number, block in enumerate(evening(music(5.0))):
        if number >= 200 and number % 23 == 0:
            pipeline.dancer.panic()
        frames += poses(pipeline, [block])
    quaternions = np.asarray(axis_angle_to_quaternion(np.array([frame.rotations for frame in frames], float)))
    turns = 2.0 * np.arccos(np.clip(np.abs(np.vecdot(quaternions[1:], quaternions[:-1])), 0.0, 1.0))
    assert turns.max() * 60.0 < 6.0, "held by 13 cm and let go in one frame, knees would turn at 11 rad/s"


def test_who_is_let_go_goes_on_from_where_they_were_held() -> None:
    pipeline = make_pipeline(settings=load_show(None, ["dancer.stage_radius_m=6"]))
    frames: list[PoseFrame] = []
    for number, block in enumerate(evening(music(14.0))):
        if number in (400, 1000):
            pipeline.dancer.hold(number == 400)
        frames += poses(pipeline, [block])
    speed = np.linalg.norm(np.diff([frame.translation_m for frame in frames], axis=0), axis=1) * 60.0
    let_go = speed[10 * 60 :]
    assert speed[5 * 60 : 10 * 60].max() < 0.01, "held"
    assert np.median(let_go) > 0.5, "and they walk on"
    assert let_go.max() < 1.5 * speed[2 * 60 : 4 * 60].max(), "at the pace at which they came, not dragged"
    _, turned = forward_kinematics(
        np.array([frame.rotations for frame in frames]), np.array([frame.translation_m for frame in frames])
    )
    heading = np.unwrap(np.arctan2(np.asarray(turned)[:, 0, 0, 2], np.asarray(turned)[:, 0, 2, 2]))
    assert np.abs(np.diff(heading)).max() < 0.1, "nor spun round"


@pytest.mark.parametrize("beats", [0.02, 0.05, 0.3])
def test_where_the_beat_is_found_sooner_the_dancer_catches_up_without_a_jerk(beats: float) -> None:
    dancer = make_pipeline(settings=load_show(None, ["dancer.stage_radius_m=9"])).dancer
    hop_ns, silent, shown = NS_PER_S // 100, FeatureSpec().silence, []
    for hop in range(800):
        # Two seconds of each; a frame is a twenty-fifth of a beat.
        ahead = beats * (hop // 200)
        dancer.update(hop * hop_ns, BeatState(BeatTimeline(120.0, ahead, 0), 0.9, 4, 0), silent, True)
        if hop % 2 == 0:
            shown.append(dancer.frame(hop * hop_ns, hop * hop_ns, hop * hop_ns).translation_m)
    speed = np.linalg.norm(np.diff(shown, axis=0), axis=1)
    assert speed[50:].max() < 1.6 * np.median(speed[50:])
