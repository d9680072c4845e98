"""BVH files of other programs, and our own read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.body import skeleton as sk
from engine.body.bvh import write_bvh
from engine.body.bvh_reader import read_bvh

BY_HAND = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation
  JOINT Left Leg
  {
    OFFSET 1.0 -2.0 0.5
    CHANNELS 3 Xrotation Zrotation Yrotation
    End Site
    {
      OFFSET 0 -3 0
    }
  }
  JOINT Tail
  {
    OFFSET 0 0 -1
    CHANNELS 0
  }
}
MOTION
Frames: 2
Frame Time: 0.0333
0 90 0 0 0 0 0 0 0
5 91 -1 90 0 0 0 0 90
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "clip.bvh"
    path.write_text(text)
    return path


def test_a_file_by_hand(tmp_path: Path) -> None:
    motion = read_bvh(write(tmp_path, BY_HAND))
    assert motion.names == ("Hips", "Left Leg", "Tail")
    assert motion.parents.tolist() == [-1, 0, 0]
    assert motion.frame_time_s == pytest.approx(0.0333)
    assert motion.ends[1].tolist() == [0.0, -3.0, 0.0]
    assert np.isnan(motion.ends[[0, 2]]).all()
    positions, world = motion.world()
    assert positions[0].tolist() == [[0, 90, 0], [1, 88, 0.5], [0, 90, -1]]
    # A quarter turn about Y takes +X to -Z and +Z to +X.
    np.testing.assert_allclose(positions[1], [[5, 91, -1], [5.5, 89, -2], [4, 91, -1]], atol=1e-12)
    # The leg's own turn about Y is added to the root's.
    np.testing.assert_allclose(world[1, 1] @ [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], atol=1e-12)
    assert motion.rest_positions()[1].tolist() == [1.0, -2.0, 0.5]


def test_what_we_write_is_read_back(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rotations, way = random.normal(scale=0.7, size=(9, 24, 3)), random.normal(size=(9, 3))
    path = tmp_path / "own.bvh"
    write_bvh(path, rotations, way, 1 / 60)
    motion = read_bvh(path)
    positions, _ = motion.world()
    expected, _ = sk.forward_kinematics(rotations, way)
    order = [motion.names.index(name) for name in sk.JOINT_NAMES]
    np.testing.assert_allclose(positions[:, order] / 100.0, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("HIERARCHY", "SOMETHING"), "HIERARCHY"),
        (("MOTION", "MOVES"), "MOTION"),
        (("0 90 0 0 0 0 0 0 0\n", ""), "cut off"),
        (("5 91 -1", "5 nan -1"), "NaN"),
        (("5 91 -1", "5 hm -1"), "could not convert"),
        (("Frame Time: 0.0333", "Frame Time: 0"), "frame time"),
        (("CHANNELS 0\n  }\n}", "CHANNELS 0\n  }\n"), "cut off"),
        (("3 Xrotation Zrotation", "3 Wrotation Zrotation"), "channels of Left Leg"),
        (("OFFSET 0 0 -1", "OFFSET 0 0"), "offset"),
    ],
)
def test_broken_files_are_refused_with_the_reason(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    assert change[0] in BY_HAND
    with pytest.raises(ValueError, match=reason):
        read_bvh(write(tmp_path, BY_HAND.replace(*change)))
