"""Motion to tick vectors to latents and back, and the torch kinematics against the NumPy ones."""

from __future__ import annotations

import numpy as np
import pytest

from engine.body.skeleton import contact_points, forward_kinematics
from models.motion.representation import (
    CONTACTS,
    MotionRepresentation,
    chunk_from_ticks,
    motion_from_ticks,
    split_heading,
    ticks_from_motion,
    yaw_matrix,
)
from tests.models.music_to_dance.gmd_fixtures import clip, smooth_motion


def _places(rotations: np.ndarray, translation: np.ndarray) -> np.ndarray:
    return np.asarray(forward_kinematics(rotations, translation)[0])


def test_a_motion_survives_the_way_to_ticks_and_back() -> None:
    rotations, translation, contacts = smooth_motion(0)
    ticks = ticks_from_motion(rotations, translation, contacts)
    back = _places(*motion_from_ticks(ticks))
    there = _places(rotations, translation)
    # The way back begins over the origin facing +Z: compare after one rigid motion about the vertical.
    from engine.body.skeleton import axis_angle_to_matrix

    turn = split_heading(axis_angle_to_matrix(rotations[1, 0]))[0]
    turned_back = split_heading(axis_angle_to_matrix(motion_from_ticks(ticks)[0][1, 0]))[0]
    there, back = there[1:] - [translation[1, 0], 0, translation[1, 2]], back[1:] - back[1, 0] * [1, 0, 1]
    there = there @ yaw_matrix(turn - turned_back)
    assert np.abs(there - back).max() < 1e-3
    assert np.array_equal(ticks[:, CONTACTS], contacts)


def test_ticks_do_not_depend_on_place_or_facing() -> None:
    rotations, translation, contacts = smooth_motion(1)
    ticks = ticks_from_motion(rotations, translation, contacts)
    from engine.body.skeleton import axis_angle_to_matrix, matrix_to_axis_angle

    turn = yaw_matrix(2.0)
    moved = rotations.copy()
    moved[:, 0] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(rotations[:, 0]))
    again = ticks_from_motion(moved, translation @ turn.T + [3.0, 0.0, -2.0], contacts)
    assert np.abs(ticks - again).max() < 1e-5


def test_a_full_latent_is_exact_and_a_short_one_is_close_and_scaled() -> None:
    motions = [clip(seed).ticks for seed in range(3)]
    full = MotionRepresentation.fit(motions, 4, 4 * 152)
    ticks = motions[0][:360]
    assert np.abs(full.decode(full.encode(ticks)) - ticks).max() < 2e-3
    short = MotionRepresentation.fit(motions, 4, 48)
    latents = short.encode(ticks)
    assert latents.shape == (90, 48)
    assert 0.5 < latents.var(axis=0).mean() < 2.0
    assert latents[:, 0].std() > 2.0 * latents[:, -1].std()


def test_a_chunk_holds_what_its_ticks_say() -> None:
    ticks = clip(2).ticks[8:12]
    chunk = chunk_from_ticks(ticks)
    rotations, _ = motion_from_ticks(np.concatenate([ticks[:1] * 0 + ticks[:1], ticks[1:]]))
    assert chunk.rotations.shape == (4, 24, 3)
    assert np.abs(chunk.rotations[:, 1:] - rotations[:, 1:]).max() < 1e-4
    assert np.abs(split_heading(_matrix(chunk.rotations[:, 0]))[0]).max() < 1e-5


def _matrix(rotation: np.ndarray) -> np.ndarray:
    from engine.body.skeleton import axis_angle_to_matrix

    return np.asarray(axis_angle_to_matrix(rotation))


def test_torch_and_numpy_kinematics_agree() -> None:
    torch = pytest.importorskip("torch")
    from models.motion.kinematics import place_run

    ticks = clip(3).ticks[20:30].copy()
    ticks[0, 145:148] = 0.0
    rotations, translation = motion_from_ticks(ticks)
    positions, world = forward_kinematics(rotations, translation)
    joints, soles = place_run(torch.from_numpy(ticks)[None])
    assert np.abs(joints[0].numpy() - positions).max() < 1e-4
    assert np.abs(soles[0].numpy() - contact_points(positions, world)).max() < 1e-4
