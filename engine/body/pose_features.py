"""What the band sees: one causal, size-free row a tick of how the dancer stands and moves.

Training and the stage run this same code, one tick at a time; `PoseFeatureSpec.digest` is stored with every model and
compared before the show.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.body.skeleton import (
    JOINT_NAMES,
    MIRROR_CONTACTS,
    MIRROR_JOINTS,
    REST_FLOOR_M,
    axis_angle_to_matrix,
    contact_points,
    forward_kinematics_matrices,
)

_AXES = ("x", "y", "z")
_CONTACTS = ("left_heel", "left_toe", "right_heel", "right_toe")
_SIDES = ("left", "right")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PoseFeatureSpec:
    """Every constant of the features; two extractors with equal digests give equal features.

    Everything is measured on the standard skeleton in units of its standing hip height, so a child and a giant who
    make the same movement give the same row. Positions are relative to the hips, in the frame of the dancer's heading
    (x to their left, y up, z forward); speeds are in units per second, turned into the same frame.

    Velocities are smoothed over 50 ms: a camera's landmarks tremble by about a centimetre, which unsmoothed is 0.3
    units per second at 30 frames a second, while an arm's accent takes 100 ms and more.

    Attributes:
        version: raised when the algorithm changes while no constant does.
        body_unit_m: one unit, the height of the standing root joint.
        joints: whose positions and velocities are given.
        limbs: whose speed and braking are given, in the world.
        velocity_smoothing_s, energy_fast_s, energy_slow_s: time constants.
        speed_limit: units per second; a faster joint is a fault of the tracking.
        yaw_limit_rad_s: the same for turning.
        brake_scale: braking [units / s^2] is divided by this: an accent's is then about one.
        brake_limit: of the divided one.
        shortest_s, longest_s: bounds of the interval between two ticks.
    """

    version: int = 1
    body_unit_m: float = round(-REST_FLOOR_M, 6)
    joints: tuple[int, ...] = (15, 9, 18, 19, 20, 21, 4, 5, 7, 8, 10, 11)
    limbs: tuple[int, ...] = (20, 21, 10, 11, 15, 0)
    velocity_smoothing_s: float = 0.05
    energy_fast_s: float = 0.15
    energy_slow_s: float = 1.5
    speed_limit: float = 8.0
    yaw_limit_rad_s: float = 12.0
    brake_scale: float = 8.0
    brake_limit: float = 4.0
    shortest_s: float = 0.01
    longest_s: float = 0.25

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of every column."""
        joints, limbs = ([JOINT_NAMES[j] for j in group] for group in (self.joints, self.limbs))
        return (
            *(f"position_{joint}_{axis}" for joint in joints for axis in _AXES),
            *("root_height", "lean_x", "lean_z"),
            *(f"contact_{name}" for name in _CONTACTS),
            *(f"velocity_{joint}_{axis}" for joint in joints for axis in _AXES),
            *(f"root_velocity_{axis}" for axis in _AXES),
            "yaw_rate",
            *(f"speed_{limb}" for limb in limbs),
            *(f"brake_{limb}" for limb in limbs),
            *(f"strike_{side}" for side in _SIDES),
            *("energy", "energy_fast", "energy_slow"),
        )

    @property
    def size(self) -> int:
        """Return P, the number of columns."""
        return len(self.names)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits of the SHA-256 over every constant and column name."""
        content = json.dumps({"constants": asdict(self), "names": self.names}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def movement(self) -> slice:
        """Columns that are zero while nothing moves."""
        return slice(self.names.index(f"velocity_{JOINT_NAMES[self.joints[0]]}_x"), self.size)

    def column(self, name: str) -> int:
        """Return the column of a feature. Raises ValueError for an unknown name."""
        return self.names.index(name)

    @cached_property
    def _mirror(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        sides = {name: JOINT_NAMES[MIRROR_JOINTS[index]] for index, name in enumerate(JOINT_NAMES)}
        sides |= {name: _CONTACTS[MIRROR_CONTACTS[index]] for index, name in enumerate(_CONTACTS)}
        sides |= {"left": "right", "right": "left"}
        columns, signs = [], []
        for name in self.names:
            kind, _, rest = name.partition("_")
            part, _, axis = rest.rpartition("_")
            if axis in _AXES and part in sides:
                columns.append(self.column(f"{kind}_{sides[part]}_{axis}"))
            else:
                columns.append(self.column(f"{kind}_{sides.get(rest, rest)}" if rest else name))
            signs.append(-1.0 if name.endswith("_x") or name == "yaw_rate" else 1.0)
        return np.array(columns), np.array(signs, np.float32)

    def mirrored(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return rows (..., P) of the same dance left to right; its own inverse."""
        columns, signs = self._mirror
        return np.asarray(np.asarray(rows, np.float32)[..., columns] * signs)


class PoseFeatureExtractor:
    """Turn one pose a tick into a feature row; causal and deterministic.

    A pose that is not finite counts as the one before (as standing at rest, if there was none).

    Threads: one.
    """

    def __init__(self, spec: PoseFeatureSpec | None = None) -> None:
        self.spec = spec = spec or PoseFeatureSpec()
        self._joints, self._limbs = list(spec.joints), list(spec.limbs)
        self._energies_s = np.array([spec.energy_fast_s, spec.energy_slow_s])
        self._rest = (np.zeros((24, 3)), np.array([0.0, spec.body_unit_m, 0.0]), np.ones(4))
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self._pose: tuple[Array, Array, Array] = self._rest
        self._known = False
        self._last_body: Array = np.zeros((24, 3))
        self._last_root: Array = np.zeros(3)
        self._last_heading = 0.0
        self._last_contacts = np.zeros(4)
        self._velocity = np.zeros((24, 3))
        self._root_velocity = np.zeros(3)
        self._yaw_rate = 0.0
        self._speeds = np.zeros(len(self._limbs))
        self._energies = np.zeros(2)

    def process(
        self, rotations: ArrayLike, translation_m: ArrayLike, contacts: ArrayLike, interval_s: float
    ) -> NDArray[np.float32]:
        """Return the row (P,) float32 of one tick.

        Args:
            rotations: (24, 3) axis-angle [rad], the root's in the world.
            translation_m: (3,) root joint in the world.
            contacts: (4,) in [0, 1]: left heel, left toe, right heel, right toe.
            interval_s: time since the tick before; ignored in the first call.
        """
        spec = self.spec
        turns, root, touch = (np.asarray(a, np.float64) for a in (rotations, translation_m, contacts))
        if np.isfinite(turns).all() and np.isfinite(root).all() and np.isfinite(touch).all():
            self._pose = (turns, root, np.clip(touch, 0.0, 1.0))
        turns, root, touch = self._pose
        interval = interval_s if math.isfinite(interval_s) else spec.longest_s
        interval = min(max(interval, spec.shortest_s), spec.longest_s)

        joints, world = forward_kinematics_matrices(axis_angle_to_matrix(turns), np.zeros(3))
        soles = contact_points(joints, world) / spec.body_unit_m
        body = np.asarray(joints / spec.body_unit_m, np.float64)
        root = root / spec.body_unit_m
        heading = math.atan2(world[0, 0, 2], world[0, 2, 2])
        if not self._known:
            self._last_body, self._last_root, self._last_heading = body, root, heading
            self._last_contacts, self._known = touch, True
        self._move(body, root, heading, interval)

        sine, cosine = math.sin(heading), math.cos(heading)
        # Rows times this matrix are vectors in the heading frame: the yaw taken out.
        frame = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
        moving = self._velocity + self._root_velocity
        speeds = np.linalg.norm(moving, axis=1)
        brakes = np.maximum(self._speeds - speeds[self._limbs], 0.0) / (interval * spec.brake_scale)
        self._speeds = speeds[self._limbs]
        rising = np.maximum(touch - self._last_contacts, 0.0)
        self._last_contacts = touch
        energy = speeds.mean()
        self._energies += (energy - self._energies) * (1.0 - np.exp(-interval / self._energies_s))
        lean = frame.T @ world[0, :, 1]
        row = np.concatenate(
            [
                (body[self._joints] @ frame).ravel(),
                (-soles[:, 1].min(), lean[0], lean[2]),
                touch,
                (self._velocity[self._joints] @ frame).ravel(),
                self._root_velocity @ frame,
                (self._yaw_rate,),
                self._speeds,
                np.minimum(brakes, spec.brake_limit),
                (rising[:2].max(), rising[2:].max()),
                (energy, *self._energies),
            ]
        )
        return row.astype(np.float32)

    def _move(self, body: Array, root: Array, heading: float, interval: float) -> None:
        """Follow the velocities of the joints about the hips, of the hips, and of the heading."""
        spec = self.spec
        keep = math.exp(-interval / spec.velocity_smoothing_s)
        velocity = _limited((body - self._last_body) / interval, spec.speed_limit)
        root_velocity = _limited((root - self._last_root) / interval, spec.speed_limit)
        turn = math.remainder(heading - self._last_heading, 2.0 * math.pi) / interval
        turn = min(max(turn, -spec.yaw_limit_rad_s), spec.yaw_limit_rad_s)
        self._velocity = velocity + keep * (self._velocity - velocity)
        self._root_velocity = root_velocity + keep * (self._root_velocity - root_velocity)
        self._yaw_rate = turn + keep * (self._yaw_rate - turn)
        self._last_body, self._last_root, self._last_heading = body, root, heading


def _limited(velocity: Array, limit: float) -> Array:
    """Shorten vectors (..., 3) that are longer than `limit`."""
    length = np.linalg.norm(velocity, axis=-1, keepdims=True)
    return np.asarray(velocity * np.minimum(1.0, limit / np.maximum(length, 1e-9)))
