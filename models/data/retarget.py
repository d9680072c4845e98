"""Fit the standard SMPL skeleton to motion-capture markers: inverse kinematics over a whole clip at once.

Each marker is carried by one joint at a fixed offset. `calibrate` learns, per subject, these offsets and one
scale from marker space to SMPL's size; `fit_markers` then finds the rotations of a clip. The result is always the
standard skeleton with constant bones; the root's way is scaled with the body.

The objective is a weighted sum of robust squared errors (a maximum a posteriori estimate; Adam, Kingma & Ba
2015): markers, a rest prior on joints that markers say little about, knees and elbows as hinges that bend one
way, small accelerations, soles on the floor while they stand and never below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.body import skeleton
from models.data import markers as mk
from models.data.retarget_start import first_guess

Array = NDArray[np.float64]

# Joints that no marker informs stay at rest: toes (the toe marker sits on the shoe's ball) and fingers.
FIXED_JOINTS = (10, 11, 22, 23)
FREE_JOINTS = tuple(j for j in range(24) if j not in FIXED_JOINTS)

# Every term of the objective is a squared error over its sigma squared: how much of it is nothing unusual.
_MARKER_SIGMA_M = 0.015
_ROBUST_SIGMAS = 3.0
"""Beyond this many sigmas a marker pulls no harder: markers are lost and jump."""
# Forearm markers slide on the skin and jump in every waltz clip.
_MARKER_WEIGHT = {5: 0.4, 22: 0.4, 14: 0.4, 21: 0.4, 6: 0.8, 15: 0.8}
_OFFSET_SIGMA_M = 0.025
_OFFSET_SHARE = 0.05
"""Calibration frames resemble one another: one in twenty counts as independent against the prior on offsets."""
# How far a joint is turned without anybody asking why [degrees]; small where markers say little (no marker lies
# beyond the wrist, the spine's bend is seen only as a whole).
_REST_SIGMA_DEG = {
    "spine1": 16.0,
    "spine2": 16.0,
    "spine3": 16.0,
    "left_collar": 10.0,
    "right_collar": 10.0,
    "neck": 16.0,
    "head": 20.0,
    "left_hip": 90.0,
    "right_hip": 90.0,
    "left_shoulder": 90.0,
    "right_shoulder": 90.0,
    "left_elbow": 90.0,
    "right_elbow": 90.0,
    "left_wrist": 10.0,
    "right_wrist": 10.0,
    "left_ankle": 40.0,
    "right_ankle": 40.0,
}
_SIDEWAYS_SIGMA_RAD = 0.18
_WRONG_BEND_SIGMA_RAD = 0.13
_TWIST_SIGMA_RAD = 1.0
_ACCELERATION_SIGMA = 30.0  # m/s^2: what 2 cm of marker noise would be at 25 frames per second
_TURN_SIGMA = 200.0  # rad/s^2
_FLOOR_SIGMA_M = 0.01
_SLIDE_SIGMA = 0.15  # m/s: ballroom feet turn and glide while they stand


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `calibrate` found out about K subjects.

    Attributes:
        centres: (K, 3) what tells them apart (`markers.subject_features`) [m].
        scale: (K,) from marker metres to SMPL metres.
        offsets_m: (K, 23, 3) markers in the frames of `markers.MARKER_CARRIERS`.
    """

    centres: Array
    scale: Array
    offsets_m: Array


@dataclass(frozen=True, slots=True)
class FittedMotion:
    """A clip on the standard skeleton, at the clip's own frame rate.

    Attributes:
        rotations: (T, 24, 3) axis-angle [rad]. translation_m: (T, 3). contacts: (T, 4) in {0, 1}.
        fps: frames per second.
        residual_m: (T, 23) distance of each marker from where the fitted body carries it, in SMPL metres.
        target_m: (T, 23, 3) the markers in SMPL metres, as they were aimed at.
    """

    rotations: NDArray[np.float32]
    translation_m: NDArray[np.float32]
    contacts: NDArray[np.float32]
    fps: float
    residual_m: NDArray[np.float32]
    target_m: NDArray[np.float32]


def scale_markers(markers: NDArray[np.floating], scale: Array) -> Array:
    """Scale markers (T, 23, 3) by (T,) about the floor under the hips, whose own way is scaled step by step.

    So a cross-fade between subjects of different size does not sweep the dancer over the floor.
    """
    points = np.asarray(markers, dtype=np.float64)
    centre = points[:, [mk.LEFT_HIP, mk.RIGHT_HIP]].mean(axis=1)
    centre[:, 1] = 0.0
    steps = np.diff(centre, axis=0, prepend=centre[:1]) * scale[:, None]
    way = centre[:1] * scale[0] + np.cumsum(steps, axis=0)
    scaled: Array = (points - centre[:, None]) * scale[:, None, None] + way[:, None]
    return scaled


def calibrate(
    clips: Sequence[tuple[NDArray[np.floating], float]], frames: int = 1500, iterations: int = 400
) -> Calibration:
    """Learn marker offsets and scale of every subject that occurs in clips of (markers (T, 23, 3), fps).

    Args:
        clips: training clips; held-out ones must not be among them.
        frames: how many frames to use, spread evenly over subjects and time.
        iterations: of the optimiser.
    """
    centres = mk.find_subjects(clips)
    weights = [mk.subject_weights(markers, fps, centres) for markers, fps in clips]
    points, share = np.concatenate([mk.tidy_head(m) for m, _ in clips]), np.concatenate(weights)
    chosen = []
    for subject in range(len(centres)):
        clean = np.flatnonzero(share[:, subject] > 0.95)
        chosen.append(clean[np.linspace(0, len(clean) - 1, min(len(clean), frames // len(centres))).astype(int)])
    index = np.concatenate(chosen)
    problem = _Problem(points[index], share[index], None, fps=25.0, connected=False)
    problem.solve(iterations, learn_body=True)
    return Calibration(centres, problem.scale_table(), problem.offset_table())


def fit_markers(
    markers: NDArray[np.floating],
    fps: float,
    calibration: Calibration,
    iterations: int = 300,
) -> FittedMotion:
    """Fit one clip of markers (T, 23, 3) [m, Y up]; deterministic."""
    share = mk.subject_weights(markers, fps, calibration.centres)
    contacts = mk.contact_labels(markers, fps)
    problem = _Problem(mk.tidy_head(markers), share, calibration, fps=fps, connected=True, contacts=contacts)
    problem.solve(iterations, learn_body=False)
    return problem.result(contacts)


class _Problem:
    """One optimisation: T frames that follow one another, or (`connected=False`) are unrelated samples."""

    def __init__(
        self,
        points: Array,
        share: Array,
        calibration: Calibration | None,
        *,
        fps: float,
        connected: bool,
        contacts: NDArray[np.float32] | None = None,
    ) -> None:
        self.points, self.share, self.fps, self.connected = points, share, fps, connected
        subjects = share.shape[1]
        scale = np.array([_rough_scale(points[share[:, k] > 0.5]) for k in range(subjects)])
        offsets = np.repeat(mk.NOMINAL_OFFSETS_M[None], subjects, axis=0)
        if calibration is not None:
            scale, offsets = calibration.scale, calibration.offsets_m
        self.log_scale = torch.tensor(np.log(scale), dtype=torch.float32)
        self.offsets = torch.tensor(offsets, dtype=torch.float32)
        self.nominal = torch.tensor(mk.NOMINAL_OFFSETS_M, dtype=torch.float32)
        self.weights = torch.tensor(share, dtype=torch.float32)
        target = scale_markers(points, share @ scale) if connected else points * (share @ scale)[:, None, None]
        self.start_scale = torch.tensor(share @ scale, dtype=torch.float32)
        self.target = torch.tensor(target, dtype=torch.float32)
        rotations, translation = first_guess(target)
        matrices = skeleton.axis_angle_to_matrix(rotations)
        self.six_d = torch.tensor(skeleton.matrix_to_six_d(matrices)[:, FREE_JOINTS], dtype=torch.float32)
        self.translation = torch.tensor(translation, dtype=torch.float32)
        self.contacts = None if contacts is None else torch.tensor(contacts, dtype=torch.float32)
        self.marker_weight = torch.tensor([_MARKER_WEIGHT.get(m, 1.0) for m in range(mk.MARKER_COUNT)])
        sigma = np.radians([_REST_SIGMA_DEG.get(name, np.inf) for name in skeleton.JOINT_NAMES])
        self.rest_weight = torch.tensor(1.0 / sigma**2, dtype=torch.float32)
        self.body = _Body()

    def solve(self, iterations: int, *, learn_body: bool) -> None:
        """Minimise; the learning rate falls to nothing along a cosine, so the end does not jitter."""
        pose = [self.six_d, self.translation]
        groups: list[dict[str, Any]] = [{"params": pose[:1], "lr": 0.03}, {"params": pose[1:], "lr": 0.01}]
        if learn_body:
            groups.append({"params": [self.offsets, self.log_scale], "lr": 0.003})
        parameters = [p.requires_grad_(True) for g in groups for p in g["params"]]
        adam = torch.optim.Adam(groups, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, iterations, eta_min=0.0)
        for _ in range(iterations):
            adam.zero_grad(set_to_none=True)
            torch.autograd.backward(self._energy(learn_body))
            adam.step()
            schedule.step()
        for parameter in parameters:
            parameter.requires_grad_(False)

    def _pose(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        local = self.body.matrices(self.six_d)
        positions, world = self.body.forward(local, self.translation)
        return local, positions, world

    def _aim(self) -> torch.Tensor:
        """Return the markers in SMPL metres under the scale as it is now."""
        scale = torch.exp(self.log_scale)
        now = (self.weights @ scale) / self.start_scale
        return self.target * now[:, None, None]

    def _errors(self, positions: torch.Tensor, world: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
        offsets = torch.einsum("tk,kmi->tmi", self.weights, self.offsets)
        carried = torch.einsum("tmij,tmj->tmi", world[:, self.body.carriers], offsets)
        return positions[:, self.body.carriers] + carried - aim

    def _energy(self, learn_body: bool) -> torch.Tensor:
        frames = self.target.shape[0]
        local, positions, world = self._pose()
        aim = self._aim() if learn_body else self.target
        squared = (self._errors(positions, world, aim) / _MARKER_SIGMA_M).square().sum(-1)
        # Pseudo-Huber: squared up to a few sigmas, then linear.
        width = _ROBUST_SIGMAS**2
        robust = width * ((1.0 + squared * (2.0 / width)).sqrt() - 1.0)
        energy = (robust * self.marker_weight).sum()
        # 3 - trace = 2 (1 - cos angle): close to the squared angle, and smooth up to half a turn.
        away = 3.0 - local.diagonal(dim1=-2, dim2=-1).sum(-1)
        energy = energy + (away * self.rest_weight).sum()
        energy = energy + self._hinges(local)
        points = self.body.contact_points(positions, world)
        below = torch.relu(-points[..., 1]) / _FLOOR_SIGMA_M
        energy = energy + below.square().sum()
        if self.contacts is not None:
            energy = energy + (self.contacts * (points[..., 1] / _FLOOR_SIGMA_M).square()).sum()
        if self.connected:
            energy = energy + self._smoothness(local, positions, points)
        if learn_body:
            shift = ((self.offsets - self.nominal) / _OFFSET_SIGMA_M).square().sum()
            energy = energy + shift * (_OFFSET_SHARE * frames)
        return energy / frames

    def _hinges(self, local: torch.Tensor) -> torch.Tensor:
        """Let knees and elbows bend in one plane, one way, with little twist."""
        energy = local.new_zeros(())
        for hinge in self.body.hinges:
            bone = local[:, hinge.joint] @ self.body.directions[hinge.child]
            sideways = bone[:, hinge.axis] - self.body.directions[hinge.child, hinge.axis]
            energy = energy + (sideways / _SIDEWAYS_SIGMA_RAD).square().sum()
            wrong = torch.relu(-hinge.forward * bone[:, 2])
            energy = energy + (wrong / _WRONG_BEND_SIGMA_RAD).square().sum()
            turned = 2.0 * (1.0 - local[:, hinge.joint, hinge.axis, hinge.axis])
            energy = energy + turned.sum() / _TWIST_SIGMA_RAD**2
        return energy

    def _smoothness(self, local: torch.Tensor, positions: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        acceleration = (positions[2:] - 2.0 * positions[1:-1] + positions[:-2]) * self.fps**2
        turn = (local[2:] - 2.0 * local[1:-1] + local[:-2]) * self.fps**2
        energy = (acceleration / _ACCELERATION_SIGMA).square().sum() + (turn / _TURN_SIGMA).square().sum()
        if self.contacts is not None:
            speed = (points[1:] - points[:-1]) * self.fps
            both = self.contacts[1:] * self.contacts[:-1]
            energy = energy + (both[..., None] * (speed / _SLIDE_SIGMA).square()).sum()
        return energy

    def scale_table(self) -> Array:
        return np.exp(self.log_scale.numpy().astype(np.float64))

    def offset_table(self) -> Array:
        return self.offsets.numpy().astype(np.float64)

    def result(self, contacts: NDArray[np.float32]) -> FittedMotion:
        with torch.no_grad():
            local, positions, world = self._pose()
            residual = self._errors(positions, world, self.target).norm(dim=-1)
        rotations = skeleton.matrix_to_axis_angle(local.numpy().astype(np.float64))
        return FittedMotion(
            rotations.astype(np.float32),
            self.translation.numpy().copy(),
            contacts,
            self.fps,
            residual.numpy(),
            self.target.numpy(),
        )


@dataclass(frozen=True, slots=True)
class _Hinge:
    """A joint that turns about one axis (0 x, 1 y); `forward` is the sign of z of its bone when it bends."""

    joint: int
    child: int
    axis: int
    forward: float


class _Body:
    """SMPL's kinematics in torch, with what the hinges need."""

    def __init__(self) -> None:
        self.rest = torch.tensor(skeleton.REST_OFFSETS_M, dtype=torch.float32)
        self.carriers = torch.tensor(mk.MARKER_CARRIERS)
        self.ancestors = torch.tensor(skeleton.ANCESTORS, dtype=torch.float32)
        self.parents = torch.tensor(skeleton.PARENTS[1:])
        self.free = torch.tensor(FREE_JOINTS)
        self.directions = torch.nn.functional.normalize(self.rest, dim=-1, eps=1e-9)
        name = skeleton.JOINT_NAMES.index
        # A shank swings back in the thigh's y-z plane, a forearm forward in the upper arm's x-z plane.
        self.hinges = [
            _Hinge(name(f"{side}_{joint}"), name(f"{side}_{child}"), axis, forward)
            for side in ("left", "right")
            for joint, child, axis, forward in (("knee", "ankle", 0, -1.0), ("elbow", "wrist", 1, 1.0))
        ]
        self.contact_joints = list(skeleton.CONTACT_JOINTS)
        self.contact_offsets = torch.tensor(skeleton.CONTACT_OFFSETS_M, dtype=torch.float32)

    def matrices(self, six_d: torch.Tensor) -> torch.Tensor:
        """Return local matrices (T, 24, 3, 3) from the free joints' 6-D (T, 20, 6); the others at rest."""
        x = torch.nn.functional.normalize(six_d[..., :3], dim=-1)
        y = six_d[..., 3:]
        y = torch.nn.functional.normalize(y - (x * y).sum(-1, keepdim=True) * x, dim=-1)
        free = torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)
        local = torch.eye(3).repeat(six_d.shape[0], 24, 1, 1)
        return local.index_copy(1, self.free, free)

    def forward(self, local: torch.Tensor, translation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return positions (T, 24, 3) and world rotations (T, 24, 3, 3), as `engine.body.skeleton` does."""
        turns = local.unbind(dim=1)
        world: list[torch.Tensor] = [turns[0]]
        for parent, turn in zip(skeleton.PARENTS[1:].tolist(), turns[1:], strict=True):
            world.append(world[parent] @ turn)
        rotations = torch.stack(world, dim=1)
        bones = torch.einsum("tjik,jk->tji", rotations[:, self.parents], self.rest[1:])
        positions = torch.einsum("aj,tji->tai", self.ancestors[:, 1:], bones) + translation[:, None]
        return positions, rotations

    def contact_points(self, positions: torch.Tensor, world: torch.Tensor) -> torch.Tensor:
        carried = torch.einsum("tcij,cj->tci", world[:, self.contact_joints], self.contact_offsets)
        return positions[:, self.contact_joints] + carried


def _rough_scale(points: Array) -> float:
    """Guess SMPL metres per marker metre from the height of the shoulders in the tallest tenth of the frames."""
    if not len(points):
        return 1.0
    rest = skeleton.rest_positions_m()[:, 1] - skeleton.REST_FLOOR_M
    shoulders = points[:, [mk.LEFT_SHOULDER, mk.RIGHT_SHOULDER], 1].mean(axis=1)
    return float(rest[[16, 17]].mean() / np.percentile(shoulders, 90.0))
