"""Pose features of a dance in torch, differentiable: from what G_MD makes to what G_DM sees.

The twin of `engine.body.pose_features`, over whole sequences at once; a test holds the two together. The running
averages of the stage are the same filters, written as one triangular matrix a sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from engine.body.pose_features import PoseFeatureSpec
from engine.body.skeleton import JOINT_COUNT
from models.motion.kinematics import contact_points, forward_kinematics, six_d_to_matrix
from models.motion.representation import CONTACTS, DISPLACEMENT, HEADING, HEIGHT, ROTATIONS

_SMALLEST = 1e-12


def pose_features(
    ticks: Tensor, interval_s: Tensor, energies: Tensor | None = None, spec: PoseFeatureSpec | None = None
) -> Tensor:
    """Return pose features (B, T, P) of tick vectors.

    Args:
        ticks: (B, T, 152); the first tick's own heading change and displacement are not used.
        interval_s: (B, T) time since the tick before; the first is not used.
        energies: (B, 2) the two running energies at the first tick; none: as after `reset`.
        spec: of the features.
    """
    spec = spec or PoseFeatureSpec()
    interval = interval_s.clamp(spec.shortest_s, spec.longest_s)
    local = six_d_to_matrix(ticks[..., ROTATIONS].reshape(*ticks.shape[:-1], JOINT_COUNT, 6))
    path_yaw = functional.pad(ticks[:, 1:, HEADING], (1, 0)).cumsum(dim=1)
    local = torch.cat([(_yaw(path_yaw) @ local[..., 0, :, :]).unsqueeze(-3), local[..., 1:, :, :]], dim=-3)
    joints, world = forward_kinematics(local, torch.zeros_like(ticks[..., :3]))
    soles = contact_points(joints, world) / spec.body_unit_m
    body = joints / spec.body_unit_m
    root = _path(ticks, path_yaw) / spec.body_unit_m
    heading = torch.atan2(world[..., 0, 0, 2], world[..., 0, 2, 2])

    velocity = _smooth(_speed(body, interval[..., None, None], spec.speed_limit), interval, spec.velocity_smoothing_s)
    root_velocity = _smooth(_speed(root, interval[..., None], spec.speed_limit), interval, spec.velocity_smoothing_s)
    turn = functional.pad(_wrapped(heading.diff(dim=1)), (1, 0)) / interval
    yaw_rate = _smooth(
        turn.clamp(-spec.yaw_limit_rad_s, spec.yaw_limit_rad_s)[..., None], interval, spec.velocity_smoothing_s
    )

    frame = _yaw(heading)
    speeds = _length(velocity + root_velocity[..., None, :])
    limb_speeds = speeds[..., list(spec.limbs)]
    before = functional.pad(limb_speeds[:, :-1], (0, 0, 1, 0))
    brakes = (before - limb_speeds).clamp(min=0.0) / (interval[..., None] * spec.brake_scale)
    touch = ticks[..., CONTACTS].clamp(0.0, 1.0)
    rising = functional.pad(touch.diff(dim=1), (0, 0, 1, 0)).clamp(min=0.0)
    energy = speeds.mean(-1, keepdim=True)
    start = torch.zeros_like(energy[:, 0].expand(-1, 2)) if energies is None else energies
    running = [
        _smooth(energy, interval, seconds, start[:, k : k + 1])
        for k, seconds in enumerate((spec.energy_fast_s, spec.energy_slow_s))
    ]
    lean = (frame.transpose(-1, -2) @ world[..., 0, :, 1:2])[..., 0]
    columns = list(spec.joints)
    return torch.cat(
        [
            (body[..., columns, :] @ frame).flatten(-2),
            -soles[..., 1].min(dim=-1, keepdim=True).values,
            lean[..., 0:1],
            lean[..., 2:3],
            touch,
            (velocity[..., columns, :] @ frame).flatten(-2),
            (root_velocity[..., None, :] @ frame)[..., 0, :],
            yaw_rate,
            limb_speeds,
            brakes.clamp(max=spec.brake_limit),
            rising[..., :2].max(dim=-1, keepdim=True).values,
            rising[..., 2:].max(dim=-1, keepdim=True).values,
            energy,
            *running,
        ],
        dim=-1,
    )


def _yaw(angle: Tensor) -> Tensor:
    """Return rotations (..., 3, 3) about +Y; rows times one are vectors with that yaw taken out."""
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    return torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], dim=-1).reshape(*angle.shape, 3, 3)


def _path(ticks: Tensor, yaw: Tensor) -> Tensor:
    """Return the way (B, T, 3) [m] of the root from the first tick on, each step in the frame of the tick before."""
    step = ticks[:, 1:, DISPLACEMENT]
    cos, sin = yaw[:, :-1].cos(), yaw[:, :-1].sin()
    x = step[..., 0] * cos + step[..., 1] * sin
    z = step[..., 1] * cos - step[..., 0] * sin
    ground = functional.pad(torch.stack([x, z], dim=-1).cumsum(dim=1), (0, 0, 1, 0))
    return torch.stack([ground[..., 0], ticks[..., HEIGHT], ground[..., 1]], dim=-1)


def _speed(points: Tensor, interval: Tensor, limit: float) -> Tensor:
    """Return velocities of (B, T, ..., 3), zero in the first tick, none longer than `limit`."""
    first = torch.zeros_like(points[:, :1])
    velocity = torch.cat([first, points.diff(dim=1)], dim=1) / interval
    return velocity * (limit / _length(velocity)[..., None].clamp(min=1e-9)).clamp(max=1.0)


def _smooth(values: Tensor, interval: Tensor, seconds: float, start: Tensor | None = None) -> Tensor:
    """Return the running averages of values (B, T, ...) with a time constant, from `start` (B, ...) or from zero."""
    # The first value is where it starts: nothing has passed yet.
    interval = functional.pad(interval[:, 1:], (1, 0))
    decay = (interval / seconds).cumsum(dim=1)
    since = decay[:, :, None] - decay[:, None, :]
    past = torch.ones_like(since).tril()
    # What was new `since` ago, and how much of it is left; beyond 80 time constants nothing is.
    weights = past * torch.exp(-since.clamp(0.0, 80.0)) * (1.0 - torch.exp(-interval / seconds))[:, None, :]
    smooth = (weights @ values.flatten(2)).view(values.shape)
    if start is not None:
        smooth = smooth + torch.exp(-decay)[..., None] * start[:, None]
    return smooth


def _length(vectors: Tensor) -> Tensor:
    """Return lengths (...) of (..., 3); their gradient is finite at zero."""
    return ((vectors**2).sum(-1) + _SMALLEST).sqrt()


def _wrapped(angle: Tensor) -> Tensor:
    return torch.atan2(angle.sin(), angle.cos())
