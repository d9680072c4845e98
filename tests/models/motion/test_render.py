"""Contact sheets: a picture appears, and left is where the legend says."""

from pathlib import Path

import numpy as np
from matplotlib import image

from engine.body import skeleton as sk
from models.motion.sheets import contact_sheet
from tests.models.data.synthetic_dance import steps, wear_markers


def share_of(picture: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    """Return (H, W) true where a pixel is nearly `colour`."""
    return np.abs(picture[..., :3] - np.array(colour)).max(axis=-1) < 0.12


def test_the_dancers_left_is_blue_and_on_the_right_of_the_front_view(tmp_path: Path) -> None:
    rotations = np.zeros((1, 24, 3))
    rotations[0, 0, 1] = 2.0  # whichever way the dancer faces
    positions, _ = sk.forward_kinematics(rotations, np.array([[0.0, -sk.REST_FLOOR_M, 0.0]]))
    contact_sheet(positions, tmp_path / "sheets" / "one.png", frames=[0], columns=1)
    picture = image.imread(tmp_path / "sheets" / "one.png")
    front = picture[:, : picture.shape[1] // 2]
    left = share_of(front, (0.12, 0.37, 0.84)).nonzero()[1]
    right = share_of(front, (0.84, 0.18, 0.18)).nonzero()[1]
    assert len(left) > 50
    assert len(right) > 50
    assert left.min() > right.max()


def test_markers_contacts_and_soles_are_drawn(tmp_path: Path) -> None:
    motion = steps(30, 25.0)
    positions, world = sk.forward_kinematics(*motion)
    plain, full = tmp_path / "plain.png", tmp_path / "full.png"
    contact_sheet(positions, plain, np.arange(30) / 25.0, count=4, columns=4)
    contact_sheet(
        positions,
        full,
        count=4,
        columns=4,
        markers=wear_markers(*motion),
        contacts=np.ones((30, 4)),
        sole_points=sk.contact_points(positions, world),
        facing="world",
        title="steps",
    )
    green, orange = (0.04, 0.6, 0.24), (0.89, 0.6, 0.0)
    assert not share_of(image.imread(plain), green).any()
    assert share_of(image.imread(full), green).sum() > 100
    assert share_of(image.imread(full), orange).sum() > 50
