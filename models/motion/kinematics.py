"""Differentiable forward kinematics of the standard skeleton, for losses on joints and feet (torch).

The NumPy twin, used on the stage, is `engine.body.skeleton`; a test holds the two together.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.body.skeleton import CONTACT_JOINTS, CONTACT_OFFSETS_M, JOINT_COUNT, PARENTS, REST_OFFSETS_M
from models.motion.representation import DISPLACEMENT, HEADING, HEIGHT, ROTATIONS


def _levels() -> list[tuple[list[int], list[int]]]:
    depth = np.zeros(JOINT_COUNT, int)
    for joint in range(1, JOINT_COUNT):
        depth[joint] = depth[PARENTS[joint]] + 1
    return [
        (np.flatnonzero(depth == d).tolist(), PARENTS[np.flatnonzero(depth == d)].tolist())
        for d in range(1, depth.max() + 1)
    ]


_LEVELS = _levels()
_OFFSETS = torch.tensor(REST_OFFSETS_M, dtype=torch.float32)[:, :, None]
_CONTACT_OFFSETS = torch.tensor(CONTACT_OFFSETS_M, dtype=torch.float32)[:, :, None]


def six_d_to_matrix(six_d: Tensor) -> Tensor:
    """Convert (..., 6) to rotation matrices (..., 3, 3) by Gram-Schmidt (Zhou et al. 2019)."""
    x = functional.normalize(six_d[..., :3], dim=-1)
    y = six_d[..., 3:] - (x * six_d[..., 3:]).sum(-1, keepdim=True) * x
    y = functional.normalize(y, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y, dim=-1)], dim=-1)


def place_run(ticks: Tensor) -> tuple[Tensor, Tensor]:
    """Place a run of tick vectors in a common frame: that of the first tick's heading, over its root.

    Args:
        ticks: (n, T, 152); the first tick's own heading change and displacement are not used.

    Returns:
        Joints (n, T, 24, 3) and contact points (n, T, 4, 3) [m].
    """
    local = six_d_to_matrix(ticks[..., ROTATIONS].unflatten(-1, (JOINT_COUNT, 6)))
    turn = torch.cat([torch.zeros_like(ticks[:, :1, HEADING]), ticks[:, 1:, HEADING]], dim=1)
    heading = turn.cumsum(dim=1)
    cos, sin = heading.cos(), heading.sin()
    step = ticks[:, 1:, DISPLACEMENT]
    x = step[..., 0] * cos[:, :-1] + step[..., 1] * sin[:, :-1]
    z = step[..., 1] * cos[:, :-1] - step[..., 0] * sin[:, :-1]
    ground = functional.pad(torch.stack([x, z], dim=-1).cumsum(dim=1), (0, 0, 1, 0))
    root = torch.stack([ground[..., 0], ticks[..., HEIGHT], ground[..., 1]], dim=-1)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    yaw = torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], dim=-1).unflatten(-1, (3, 3))

    turned = torch.cat([(yaw @ local[..., 0, :, :]).unsqueeze(-3), local[..., 1:, :, :]], dim=-3)
    joints_m, world = forward_kinematics(turned, root)
    return joints_m, contact_points(joints_m, world)


def forward_kinematics(local: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
    """Place the joints of rotations (..., 24, 3, 3) relative to their parents and a root (..., 3) in the world.

    Returns:
        Positions (..., 24, 3) [m] and rotations (..., 24, 3, 3), both in the world.
    """
    offsets = _OFFSETS.to(local.device)
    world: list[Tensor] = [local[..., 0, :, :]] * JOINT_COUNT
    position: list[Tensor] = [translation] * JOINT_COUNT
    for joints, parents in _LEVELS:
        parent_world = torch.stack([world[p] for p in parents], dim=-3)
        placed = (parent_world @ offsets[joints])[..., 0] + torch.stack([position[p] for p in parents], dim=-2)
        turned = parent_world @ local[..., joints, :, :]
        for index, joint in enumerate(joints):
            world[joint], position[joint] = turned[..., index, :, :], placed[..., index, :]
    return torch.stack(position, dim=-2), torch.stack(world, dim=-3)


def contact_points(joints_m: Tensor, world: Tensor) -> Tensor:
    """Return the points (..., 4, 3) of the soles that touch the floor; see `engine.body.skeleton.contact_points`."""
    feet = list(CONTACT_JOINTS)
    return (world[..., feet, :, :] @ _CONTACT_OFFSETS.to(world.device))[..., 0] + joints_m[..., feet, :]
