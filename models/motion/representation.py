"""Motion as the networks see it: tick vectors, and the latent of a chunk of ticks.

A tick vector (152,) is: 24 x 6-D rotations (the root's after its heading is taken out), root height [m], heading
change [rad] and root displacement (left, forward) [m] since the tick before, and four contacts. All of it is in the
dancer's own heading frame, on the standard skeleton: bones cannot stretch and a dance does not depend on where on
stage it happens.

A chunk's latent is a principal-component projection of its ticks together (so it is smooth within the chunk and
stays on the manifold of real poses), each component scaled by the square root of its deviation: halfway between the
natural scale, in which only large movements count, and whitening, in which noise counts as much as they do.

Pure NumPy: the stage uses it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.body.skeleton import (
    JOINT_COUNT,
    PARENTS,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_six_d,
    rest_positions_m,
    six_d_to_matrix,
)
from engine.types import MotionChunk

ROTATIONS = slice(0, 6 * JOINT_COUNT)
HEIGHT = 6 * JOINT_COUNT
HEADING = HEIGHT + 1
DISPLACEMENT = slice(HEADING + 1, HEADING + 3)
CONTACTS = slice(HEADING + 3, HEADING + 7)
TICK_SIZE = HEADING + 7

# What an error in each entry costs, as metres of joint error, roughly. Root displacement counts double because it
# adds up over ticks and makes planted feet slide; a contact wrongly said costs as much as 7 cm.
_HEIGHT_WEIGHT = 2.0
_HEADING_WEIGHT = 1.0
_DISPLACEMENT_WEIGHT = 4.0
_CONTACT_WEIGHT = 0.07
_SMALLEST_LEVER_M = 0.05

Floats = NDArray[np.float32]


def split_heading(root_matrices: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split root rotations (..., 3, 3) into heading [rad] (...), about +Y, and what remains (..., 3, 3)."""
    root = np.asarray(root_matrices, dtype=np.float64)
    heading = np.arctan2(root[..., 0, 2], root[..., 2, 2])
    return heading, yaw_matrix(-heading) @ root


def yaw_matrix(angle: ArrayLike) -> NDArray[np.float64]:
    """Return rotations (..., 3, 3) by `angle` [rad] about +Y."""
    a = np.asarray(angle, dtype=np.float64)
    matrix = np.zeros((*a.shape, 3, 3))
    matrix[..., 0, 0] = matrix[..., 2, 2] = np.cos(a)
    matrix[..., 0, 2] = np.sin(a)
    matrix[..., 2, 0] = -np.sin(a)
    matrix[..., 1, 1] = 1.0
    return matrix


def ticks_from_motion(rotations: ArrayLike, translation: ArrayLike, contacts: ArrayLike) -> Floats:
    """Convert a motion sampled once a tick to tick vectors.

    Args:
        rotations: (T, 24, 3) axis-angle [rad], the root's in the world.
        translation: (T, 3) root joint [m], y over the floor.
        contacts: (T, 4) in [0, 1].

    Returns:
        (T, 152); the first tick's changes repeat the second's.
    """
    matrices = axis_angle_to_matrix(np.asarray(rotations, dtype=np.float64)).copy()
    translation = np.asarray(translation, dtype=np.float64)
    heading, matrices[:, 0] = split_heading(matrices[:, 0])
    ticks = np.empty((len(matrices), TICK_SIZE), np.float32)
    ticks[:, ROTATIONS] = matrix_to_six_d(matrices).reshape(len(matrices), -1)
    ticks[:, HEIGHT] = translation[:, 1]
    turn = np.diff(heading)
    ticks[1:, HEADING] = (turn + np.pi) % (2.0 * np.pi) - np.pi
    moved = np.diff(translation, axis=0)[:, None, :] @ yaw_matrix(heading[:-1])
    ticks[1:, DISPLACEMENT] = moved[:, 0, [0, 2]]
    ticks[0, HEADING : HEADING + 3] = ticks[1, HEADING : HEADING + 3]
    ticks[:, CONTACTS] = contacts
    return ticks


def chunk_from_ticks(ticks: Floats) -> MotionChunk:
    """Convert tick vectors (C, 152), as a network gave them, to a `MotionChunk` with proper rotations."""
    six_d = ticks[:, ROTATIONS].reshape(-1, JOINT_COUNT, 6)
    return MotionChunk(
        rotations=np.asarray(matrix_to_axis_angle(six_d_to_matrix(six_d)), np.float32),
        heading_delta_rad=ticks[:, HEADING],
        root_delta_m=ticks[:, DISPLACEMENT],
        root_height_m=ticks[:, HEIGHT],
        contacts=np.clip(ticks[:, CONTACTS], 0.0, 1.0),
    )


def motion_from_ticks(ticks: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Integrate tick vectors (T, 152) into the world: rotations (T, 24, 3) [rad] and translation (T, 3) [m].

    The dance begins over the origin, facing +Z.
    """
    matrices = np.asarray(six_d_to_matrix(ticks[:, ROTATIONS].reshape(-1, JOINT_COUNT, 6).astype(np.float64)))
    heading = np.cumsum(ticks[:, HEADING].astype(np.float64))
    matrices[:, 0] = yaw_matrix(heading) @ matrices[:, 0]
    before = yaw_matrix(np.concatenate([[0.0], heading[:-1]]))
    local = np.zeros((len(ticks), 3))
    local[:, [0, 2]] = ticks[:, DISPLACEMENT]
    translation = np.cumsum((before @ local[:, :, None])[:, :, 0], axis=0)
    translation[:, 1] = ticks[:, HEIGHT]
    return np.asarray(matrix_to_axis_angle(matrices), np.float64), translation


def tick_weights() -> Floats:
    """Return (152,): by how many metres a unit error in each entry misplaces the body, roughly.

    For a joint it is the length of the longest chain it carries.
    """
    rest = rest_positions_m()
    lever = np.full(JOINT_COUNT, _SMALLEST_LEVER_M)
    for joint in range(JOINT_COUNT):
        ancestor = int(PARENTS[joint])
        while ancestor >= 0:
            lever[ancestor] = max(lever[ancestor], float(np.linalg.norm(rest[joint] - rest[ancestor])))
            ancestor = int(PARENTS[ancestor])
    weights = np.empty(TICK_SIZE, np.float32)
    weights[ROTATIONS] = np.repeat(lever, 6)
    weights[HEIGHT] = _HEIGHT_WEIGHT
    weights[HEADING] = _HEADING_WEIGHT
    weights[DISPLACEMENT] = _DISPLACEMENT_WEIGHT
    weights[CONTACTS] = _CONTACT_WEIGHT
    return weights


@dataclass(frozen=True)
class MotionRepresentation:
    """The linear map between C tick vectors and a latent (L,).

    Attributes:
        mean: (C x 152,) of a chunk.
        encoder: (C x 152, L).
        decoder: (L, C x 152).
    """

    mean: Floats
    encoder: Floats
    decoder: Floats

    @property
    def chunk_ticks(self) -> int:
        """C, ticks per chunk."""
        return len(self.mean) // TICK_SIZE

    @property
    def latent_size(self) -> int:
        """L, values per latent."""
        return self.decoder.shape[0]

    def encode(self, ticks: Floats) -> Floats:
        """Return the latents (n, L) of tick vectors (n x C, 152)."""
        chunks = ticks.reshape(-1, len(self.mean))
        return ((chunks - self.mean) @ self.encoder).astype(np.float32)

    def decode(self, latents: Floats) -> Floats:
        """Return the tick vectors (n x C, 152) of latents (n, L)."""
        return (latents @ self.decoder + self.mean).astype(np.float32).reshape(-1, TICK_SIZE)

    @staticmethod
    def fit(motions: Sequence[Floats], chunk_ticks: int, latent_size: int) -> MotionRepresentation:
        """Fit to motions (T, 152), on every run of `chunk_ticks` ticks that is in them."""
        runs = [
            np.lib.stride_tricks.sliding_window_view(motion, chunk_ticks, axis=0).transpose(0, 2, 1)
            for motion in motions
        ]
        data = np.concatenate([run.reshape(len(run), -1) for run in runs]).astype(np.float64)
        mean = data.mean(axis=0)
        weights = np.tile(tick_weights(), chunk_ticks).astype(np.float64)
        centred = (data - mean) * weights
        variance, axes = np.linalg.eigh(centred.T @ centred / len(centred))
        deviation = np.sqrt(np.maximum(variance[::-1][:latent_size], 1e-12))
        axes = axes[:, ::-1][:, :latent_size]
        # Component i of the latent has deviation sqrt(deviation_i), times a constant that makes the mean variance 1.
        scale = np.sqrt(deviation) * np.sqrt(deviation.mean())
        return MotionRepresentation(
            mean.astype(np.float32),
            (weights[:, None] * axes / scale).astype(np.float32),
            (scale[:, None] * axes.T / weights).astype(np.float32),
        )
