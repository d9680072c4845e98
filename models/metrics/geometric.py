"""Geometric features: the share of frames in which each of 32 relations of the body holds (FID_g, Div_g).

The relations are those of Müller, Röder and Clausen, "Efficient content-based retrieval of motion capture data"
(SIGGRAPH 2005), in the selection of fairmotion that FACT (Li et al. 2021) and Bailando measure with. Three things are
done as the paper defines them and not as that published code does: "move" looks at the fourth joint relative to the
third (the code looks at the third, which is constant for a chest over a belly); lengths (upper arm, shoulders, hips)
are those of our skeleton (the code takes two of them between wrong joints); speeds are in real seconds, over 1/30 s
(the code assumes 120 frames a second of whatever it is given). So values compare between systems measured here, and
not with tables printed elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.body.skeleton import JOINT_NAMES, rest_positions_m
from models.metrics.kinetic import CLIP_S, clip_starts

Floats = NDArray[np.float64]

_SPEED_S = 1.0 / 30.0
_TINY = 1e-9

Kind = Literal[
    "plane", "normal_plane", "move", "normal_move", "angle", "fast", "height_over", "height_under", "upright"
]
Length = Literal["upper arm", "shoulders", "hips"]


@dataclass(frozen=True)
class Relation:
    """One relation of joints that holds in a frame or does not.

    Attributes:
        kind: "plane": joint 4 is further than the limit beyond the plane through joints 1 to 3; "normal_plane": joint 4
            is further than it from joint 3 in the direction 1 to 2; "move" and "normal_move": joint 4 moves faster
            than the limit relative to joint 3 in the direction 1 to 2, or relative to joint 1 along the normal of
            joints 1 to 3; "angle": that between 1 to 2 and 3 to 4 lies within the limits [degrees]; "fast": the
            joint is faster; "height_over", "height_under": it is higher, lower, over the lowest joint;
            "upright": the angle of 1 to 2 to the vertical lies within the limits.
        joints: by name.
        limit: times `length` (a second, for speeds); for angles the two limits.
        length: of the body by which limits scale.
    """

    kind: Kind
    joints: tuple[str, ...]
    limit: float | tuple[float, float]
    length: Length = "upper arm"


def _both(kind: Kind, joints: tuple[str, ...], limit: float | tuple[float, float]) -> list[Relation]:
    """Return a relation for the right ("a" is right, "b" is left) and, mirrored, for the left."""
    right = tuple(j.replace("a_", "right_").replace("b_", "left_") for j in joints)
    left = tuple(j.replace("a_", "left_").replace("b_", "right_") for j in joints)
    return [Relation(kind, right, limit), Relation(kind, left, limit)]


RELATIONS: tuple[Relation, ...] = (
    # Hands forwards, above the neck, upwards; elbows bent; hands apart, together, towards the root; hands fast.
    Relation("normal_move", ("neck", "right_hip", "left_hip", "right_wrist"), 1.8),
    Relation("normal_move", ("neck", "left_hip", "right_hip", "left_wrist"), 1.8),
    *_both("normal_plane", ("spine3", "neck", "neck", "a_wrist"), 0.2),
    *_both("move", ("spine1", "spine3", "spine3", "a_wrist"), 1.8),
    *_both("angle", ("a_elbow", "a_shoulder", "a_elbow", "a_wrist"), (0.0, 110.0)),
    Relation("normal_plane", ("left_shoulder", "right_shoulder", "left_wrist", "right_wrist"), 2.5, "shoulders"),
    Relation("move", ("left_wrist", "right_wrist", "right_wrist", "left_wrist"), 1.4),
    *_both("move", ("a_wrist", "pelvis", "b_wrist", "pelvis"), 1.4),
    *_both("fast", ("a_wrist",), 2.5),
    # Feet before the body, raised, apart; knees bent; feet fast.
    Relation("plane", ("pelvis", "left_hip", "left_foot", "right_ankle"), 0.38),
    Relation("plane", ("pelvis", "right_hip", "right_foot", "left_ankle"), 0.38),
    *_both("height_over", ("a_ankle",), 1.2),
    Relation("normal_plane", ("left_hip", "right_hip", "left_ankle", "right_ankle"), 2.1, "hips"),
    *_both("angle", ("a_knee", "a_hip", "a_knee", "a_ankle"), (0.0, 110.0)),
    *_both("fast", ("a_ankle",), 2.5),
    # Upper arms and thighs away from the spine, feet under the body, spine horizontal, hands low, root fast.
    *_both("angle", ("neck", "pelvis", "a_shoulder", "a_elbow"), (25.0, 180.0)),
    *_both("angle", ("neck", "pelvis", "a_hip", "a_knee"), (50.0, 180.0)),
    Relation("plane", ("right_ankle", "neck", "left_ankle", "pelvis"), 0.5),
    Relation("upright", ("neck", "pelvis"), (70.0, 110.0)),
    *_both("height_under", ("a_wrist",), 1.2),
    Relation("fast", ("pelvis",), 2.3),
)
_JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}


def _lengths() -> dict[Length, float]:
    rest = rest_positions_m()

    def apart(a: str, b: str) -> float:
        return float(np.linalg.norm(rest[_JOINT[a]] - rest[_JOINT[b]]))

    return {
        "upper arm": apart("left_shoulder", "left_elbow"),
        "shoulders": apart("left_shoulder", "right_shoulder"),
        "hips": apart("left_hip", "right_hip"),
    }


_LENGTHS = _lengths()


def relations_held(positions: ArrayLike, rate_hz: float) -> NDArray[np.bool_]:
    """Return (T - lag, 32): which relations hold in each frame of a motion (T, 24, 3) but the first 1/30 s."""
    p = np.asarray(positions, np.float64)
    lag = max(1, round(rate_hz * _SPEED_S))
    now, before, step_s = p[lag:], p[:-lag], lag / rate_hz
    return np.stack([_holds(r, now, before, step_s) for r in RELATIONS], axis=1)


def geometric_features(positions: ArrayLike, rate_hz: float) -> Floats:
    """Return the share (32,) of frames of a motion (T, 24, 3) in which each relation holds."""
    return np.asarray(relations_held(positions, rate_hz).mean(axis=0, dtype=np.float64))


def geometric_clip_features(positions: ArrayLike, rate_hz: float, hop_s: float = 2.0) -> Floats:
    """Return the geometric features (n, 32) of 4-second windows, `hop_s` apart."""
    frames = len(np.asarray(positions))
    held = relations_held(positions, rate_hz)
    size = round(CLIP_S * rate_hz) - (frames - len(held))
    return np.array([held[s : s + size].mean(axis=0) for s in clip_starts(frames, rate_hz, hop_s)], np.float64)


def _holds(relation: Relation, now: Floats, before: Floats, step_s: float) -> NDArray[np.bool_]:
    at = [now[:, _JOINT[name]] for name in relation.joints]
    was = [before[:, _JOINT[name]] for name in relation.joints]
    if isinstance(relation.limit, tuple):
        low, high = relation.limit
        second = at[3] - at[2] if relation.kind == "angle" else np.broadcast_to([0.0, 1.0, 0.0], at[0].shape)
        cosine = (_unit(at[1] - at[0]) * _unit(second)).sum(axis=-1)
        angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
        return np.asarray((angle > low) & (angle < high))
    limit = relation.limit * _LENGTHS[relation.length]
    if relation.kind == "fast":
        return np.asarray(np.linalg.norm(at[0] - was[0], axis=-1) / step_s > limit)
    if relation.kind in ("height_over", "height_under"):
        height = at[0][:, 1] - now[:, :, 1].min(axis=1)
        return np.asarray(height > limit if relation.kind == "height_over" else height < limit)
    if relation.kind in ("plane", "normal_move"):
        direction = _unit(np.cross(at[2] - at[0], at[1] - at[0]))
    else:
        direction = _unit(at[1] - at[0])
    if relation.kind == "plane":
        value = ((at[3] - at[0]) * direction).sum(axis=-1)
    elif relation.kind == "normal_plane":
        value = ((at[3] - at[2]) * direction).sum(axis=-1)
    else:
        origin = 0 if relation.kind == "normal_move" else 2
        moved = (at[3] - at[origin]) - (was[3] - was[origin])
        value = (moved * direction).sum(axis=-1) / step_s
    return np.asarray(value > limit)


def _unit(v: NDArray[np.floating]) -> Floats:
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), _TINY), np.float64)
