"""Rigs of other names and proportions on the standard skeleton."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.body import skeleton as sk
from engine.body.bvh import write_bvh
from engine.body.bvh_reader import BvhMotion, read_bvh
from models.sources.rig_retarget import retarget
from models.sources.rigs import map_joints
from tests.models.data.synthetic_dance import J, steps
from tests.models.sources.rig_writer import MIXAMO, write_rig

_SIDE = ["UpLeg", "Leg", "Foot", "ToeBase", "Shoulder", "Arm", "ForeArm", "Hand", "FingerBase"]
CMU = ("Hips", "LHipJoint", "RHipJoint", "LowerBack", "Spine", "Spine1", "Neck", "Neck1", "Head", "LThumb", "RThumb")
CMU += tuple(side + part for side in ("Left", "Right") for part in _SIDE)
BONES = [("LeftUpLeg", "LeftLeg"), ("LeftLeg", "LeftFoot"), ("LeftFoot", "LeftToeBase"), ("LeftArm", "LeftForeArm")]
BONES += [("LeftForeArm", "LeftHand"), ("LeftHand", "LeftHandMiddle1"), ("Spine", "Spine1"), ("Neck", "Head")]
BONES += [(a.replace("Left", "Right"), b.replace("Left", "Right")) for a, b in BONES if a.startswith("Left")]


def random_rig_motion(folder: Path, frames: int = 20) -> BvhMotion:
    random = np.random.default_rng(4)
    rotations = {name: sk.axis_angle_to_matrix(random.normal(scale=0.5, size=(frames, 3))) for name in MIXAMO}
    way = random.normal((0.0, 100.0, 0.0), 20.0, (frames, 3))
    write_rig(folder / "rig.bvh", MIXAMO, rotations, way, 1 / 30)
    return read_bvh(folder / "rig.bvh")


def test_our_own_files_come_back_unchanged(tmp_path: Path) -> None:
    rotations, way = steps(60, 30.0, turn=2.0)
    write_bvh(tmp_path / "own.bvh", rotations, way, 1 / 30)
    back = retarget(read_bvh(tmp_path / "own.bvh"))
    assert back.residual_m.max() < 1e-5
    assert back.joints == tuple(range(24))
    expected, _ = sk.forward_kinematics(rotations, way)
    np.testing.assert_allclose(sk.forward_kinematics(back.rotations, back.translation_m)[0], expected, atol=1e-5)


def test_every_bone_points_where_the_rigs_does(tmp_path: Path) -> None:
    motion = random_rig_motion(tmp_path)
    moved = retarget(motion)
    theirs, _ = motion.world()
    ours, _ = sk.forward_kinematics(moved.rotations, moved.translation_m)
    names = [name.removeprefix("mixamorig:") for name in motion.names]
    twin = map_joints(motion.names)
    ours_of = {names[rig]: joint for joint, rig in twin.items()}
    for start, end in BONES:
        if end not in ours_of:
            continue
        a = theirs[:, names.index(end)] - theirs[:, names.index(start)]
        b = ours[:, ours_of[end]] - ours[:, ours_of[start]]
        cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > 1.0 - 1e-6, (start, end)


def test_the_error_is_what_the_proportions_differ_by(tmp_path: Path) -> None:
    motion = random_rig_motion(tmp_path)
    moved = retarget(motion)
    assert moved.residual_m.shape == (20, len(moved.joints))
    assert 0.01 < np.median(moved.residual_m) < 0.12
    legs = [moved.joints.index(J[name]) for name in ("left_knee", "right_knee")]
    assert np.median(moved.residual_m[:, legs]) < 0.06
    # Scaled by the legs: a rig in metres, or twice as large, gives the same dance.
    larger = BvhMotion(
        motion.names,
        motion.parents,
        motion.offsets * 2.0,
        motion.ends,
        motion.translations * 2.0,
        motion.rotations,
        motion.frame_time_s,
    )
    np.testing.assert_allclose(retarget(larger).translation_m, moved.translation_m, atol=1e-9)


def test_a_bent_knee_and_elbow_bend_the_right_way(tmp_path: Path) -> None:
    bend = sk.axis_angle_to_matrix(np.array([[1.2, 0.0, 0.0]]))
    write_rig(tmp_path / "knee.bvh", MIXAMO, {"LeftLeg": bend}, np.array([[0.0, 100.0, 0.0]]), 1 / 30)
    moved = retarget(read_bvh(tmp_path / "knee.bvh"))
    np.testing.assert_allclose(moved.rotations[0, J["left_knee"]], [1.2, 0.0, 0.0], atol=0.15)
    ours, _ = sk.forward_kinematics(moved.rotations, moved.translation_m)
    assert ours[0, J["left_ankle"], 2] < ours[0, J["left_knee"], 2] - 0.3, "the shank swings back"
    # At rest the rig's arms hang at 45 degrees, so ours must, too.
    arm = ours[0, J["left_wrist"]] - ours[0, J["left_shoulder"]]
    assert np.degrees(np.arctan2(-arm[1], arm[0])) == pytest.approx(45.0, abs=2.0)
    hand = ours[0, J["left_hand"]] - ours[0, J["left_wrist"]]
    assert np.degrees(np.arctan2(-hand[1], hand[0])) == pytest.approx(45.0, abs=2.0)


def test_a_rig_that_lies_on_its_back_is_stood_up(tmp_path: Path) -> None:
    z_up = {name: (parent, (x, -z, y)) for name, (parent, (x, y, z)) in MIXAMO.items()}
    write_rig(tmp_path / "z.bvh", z_up, {}, np.array([[0.0, 0.0, 100.0]]), 1 / 30)
    ours, _ = sk.forward_kinematics(*_motion(tmp_path / "z.bvh"))
    assert ours[0, J["head"], 1] - ours[0, J["left_ankle"], 1] > 1.2
    assert ours[0, J["left_foot"], 2] > ours[0, J["left_ankle"], 2] + 0.05


def _motion(path: Path) -> tuple[np.ndarray, np.ndarray]:
    moved = retarget(read_bvh(path))
    return moved.rotations, moved.translation_m


def test_common_rigs_are_known_by_name() -> None:
    assert map_joints(sk.JOINT_NAMES) == {joint: joint for joint in range(24)}
    cmu = {sk.JOINT_NAMES[a]: CMU[b] for a, b in map_joints(CMU).items()}
    assert len(cmu) == 24
    assert cmu["left_ankle"] == "LeftFoot"
    assert cmu["left_collar"] == "LeftShoulder"
    assert (cmu["spine1"], cmu["spine2"], cmu["spine3"]) == ("LowerBack", "Spine", "Spine1")
    smpl = tuple(f"m_avg_{side}_{part}" for side in "LR" for part in ("Hip", "Knee", "Ankle", "Foot", "Shoulder"))
    smpl += tuple(f"m_avg_{side}_{part}" for side in "LR" for part in ("Elbow", "Wrist"))
    smpl += ("m_avg_Pelvis", "m_avg_Head")
    assert {sk.JOINT_NAMES[a]: smpl[b] for a, b in map_joints(smpl).items()}["left_foot"] == "m_avg_L_Foot"


def test_what_is_no_body_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="left_knee"):
        map_joints(tuple(name for name in MIXAMO if name != "LeftLeg"))
    mirrored = {name: (parent, (-x, y, z)) for name, (parent, (x, y, z)) in MIXAMO.items()}
    write_rig(tmp_path / "m.bvh", mirrored, {}, np.zeros((1, 3)), 1 / 30)
    with pytest.raises(ValueError, match="exchanged"):
        retarget(read_bvh(tmp_path / "m.bvh"))
