"""The 23-marker set of Tang et al. 2018: which marker sits where, who wears them, when a foot stands.

The published clips are re-cuts of a small capture library, cross-faded. Several subjects (or several placements
of the markers) occur, also within one clip, so that "the dancer" is a mixture that changes with time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_opening, gaussian_filter1d, median_filter

from engine.body.skeleton import JOINT_NAMES, rest_positions_m

Array = NDArray[np.float64]
MARKER_COUNT = 23

HEAD = (0, 1)
WAIST = 2
RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_HAND = 3, 4, 6
LEFT_SHOULDER, LEFT_ELBOW, LEFT_HAND = 12, 13, 15
RIGHT_HIP, RIGHT_KNEE, RIGHT_ANKLE, RIGHT_HEEL, RIGHT_TOE = 7, 8, 9, 10, 11
LEFT_HIP, LEFT_KNEE, LEFT_ANKLE, LEFT_HEEL, LEFT_TOE = 16, 17, 18, 19, 20
CONTACT_MARKERS = (LEFT_HEEL, LEFT_TOE, RIGHT_HEEL, RIGHT_TOE)
LIMBS: dict[str, tuple[int, ...]] = {
    "head": (0, 1),
    "waist": (2,),
    "shoulders": (3, 12),
    "elbows": (4, 13),
    "forearms": (5, 22, 14, 21),
    "hands": (6, 15),
    "hips": (7, 16),
    "knees": (8, 17),
    "ankles": (9, 18),
    "heels": (10, 19),
    "toes": (11, 20),
}

# marker: (joint whose frame carries it, joint near which it sits, displacement from that joint at rest [m]), for
# the left side and the middle. Knee markers are carried by the shank: their distance to the ankle is constant
# within 4 mm, to the hip it shrinks by 5 cm when the knee bends.
_LEFT_AND_MIDDLE: dict[int, tuple[str, str, tuple[float, float, float]]] = {
    1: ("head", "head", (0.055, 0.10, -0.01)),
    WAIST: ("spine1", "spine1", (0.0, 0.065, 0.055)),
    LEFT_SHOULDER: ("left_collar", "left_shoulder", (-0.03, 0.05, 0.0)),
    LEFT_ELBOW: ("left_shoulder", "left_elbow", (0.015, 0.01, 0.0)),
    21: ("left_elbow", "left_elbow", (0.12, 0.03, 0.0)),
    14: ("left_elbow", "left_elbow", (0.18, 0.035, -0.015)),
    LEFT_HAND: ("left_wrist", "left_wrist", (0.02, 0.015, 0.0)),
    LEFT_HIP: ("pelvis", "left_hip", (0.05, 0.12, 0.0)),
    LEFT_KNEE: ("left_knee", "left_knee", (0.035, -0.03, 0.022)),
    LEFT_ANKLE: ("left_knee", "left_ankle", (0.055, 0.02, 0.01)),
    LEFT_HEEL: ("left_ankle", "left_ankle", (0.0, -0.06, -0.06)),
    LEFT_TOE: ("left_ankle", "left_foot", (0.0, -0.015, 0.044)),
}
_RIGHT_OF = {1: 0, 12: 3, 13: 4, 21: 5, 14: 22, 15: 6, 16: 7, 17: 8, 18: 9, 19: 10, 20: 11}
_RIGHT_WRIST_MARKER = 22  # on the right the second forearm marker sits at the wrist, on the left at mid-forearm


def _place_markers() -> tuple[NDArray[np.int64], Array]:
    rest = rest_positions_m()
    carriers, offsets = np.zeros(MARKER_COUNT, dtype=np.int64), np.zeros((MARKER_COUNT, 3))
    for marker, (carrier, near, shift) in _LEFT_AND_MIDDLE.items():
        names = [(marker, carrier, near, np.array(shift))]
        if marker in _RIGHT_OF:
            right = [name.replace("left_", "right_") for name in (carrier, near)]
            names.append((_RIGHT_OF[marker], right[0], right[1], np.array(shift) * [-1.0, 1.0, 1.0]))
        for index, carrier_name, near_name, displacement in names:
            carriers[index] = JOINT_NAMES.index(carrier_name)
            offsets[index] = rest[JOINT_NAMES.index(near_name)] + displacement - rest[carriers[index]]
    offsets[_RIGHT_WRIST_MARKER] = [-0.295, 0.02, 0.01]
    return carriers, offsets


MARKER_CARRIERS, NOMINAL_OFFSETS_M = _place_markers()
"""(23,) joint that carries each marker; (23, 3) where, in that joint's frame, before calibration [m]."""


def subject_features(markers: NDArray[np.floating], fps: float) -> Array:
    """Return (T, 3): hip to knee, knee to ankle, waist to hip [m], mean of the sides, 1.6 s running median.

    These tell the subjects apart and hardly depend on the pose.
    """
    pairs = (
        *((RIGHT_HIP, RIGHT_KNEE), (LEFT_HIP, LEFT_KNEE)),
        *((RIGHT_KNEE, RIGHT_ANKLE), (LEFT_KNEE, LEFT_ANKLE)),
        *((WAIST, RIGHT_HIP), (WAIST, LEFT_HIP)),
    )
    lengths = np.stack([np.linalg.norm(markers[:, a] - markers[:, b], axis=-1) for a, b in pairs], axis=1)
    means = lengths.astype(np.float64).reshape(len(markers), 3, 2).mean(axis=-1)
    steady: Array = median_filter(means, size=(2 * round(0.8 * fps) + 1, 1), mode="nearest")
    return steady


def find_subjects(clips: Sequence[tuple[NDArray[np.floating], float]], radius_m: float = 0.035) -> Array:
    """Find the subjects in a set of clips of (markers (T, 23, 3), frames per second): centres (K, 3).

    Greedy: each frame that is further than `radius_m` from all centres founds one; cross-fades (where features
    move) do not vote, nor do centres with less than 1 % of the frames survive. Most frequent first.
    """
    votes = []
    for markers, fps in clips:
        features = subject_features(markers, fps)
        change = np.abs(np.gradient(gaussian_filter1d(features, 0.3 * fps, axis=0), axis=0)).max(axis=1) * fps
        votes.append(features[change < 0.02])
    frames = np.concatenate(votes)
    if not len(frames):
        frames = np.concatenate([subject_features(markers, fps) for markers, fps in clips])
    centres = [np.median(frames, axis=0)]
    while True:
        distance = np.min([np.abs(frames - centre).max(axis=1) for centre in centres], axis=0)
        if distance.max() < radius_m:
            break
        centres.append(frames[distance.argmax()])
    table = np.array(centres)
    for _ in range(20):
        nearest = ((frames[:, None] - table) ** 2).sum(axis=-1).argmin(axis=1)
        count = np.bincount(nearest, minlength=len(table))
        table = table[count >= 0.01 * len(frames)]
        nearest = ((frames[:, None] - table) ** 2).sum(axis=-1).argmin(axis=1)
        table = np.array([np.median(frames[nearest == k], axis=0) for k in range(len(table))])
        # Two centres that drifted together are one subject.
        keep = [k for k in range(len(table)) if all(np.abs(table[k] - table[i]).max() > radius_m for i in range(k))]
        table = table[keep]
    nearest = ((frames[:, None] - table) ** 2).sum(axis=-1).argmin(axis=1)
    return table[np.argsort(-np.bincount(nearest, minlength=len(table)), kind="stable")]


def subject_weights(markers: NDArray[np.floating], fps: float, centres: Array) -> Array:
    """Return (T, K): how much of each subject a frame is; rows sum to one and move smoothly through cross-fades."""
    features = subject_features(markers, fps)
    distance = ((features[:, None] - centres) ** 2).sum(axis=-1)
    distance -= distance.min(axis=1, keepdims=True)
    weights = np.exp(-distance / (2.0 * 0.01**2))  # 1 cm: a quarter of what lies between two subjects
    weights /= weights.sum(axis=1, keepdims=True)
    smooth: Array = gaussian_filter1d(weights, 0.15 * fps, axis=0, mode="nearest")
    return smooth


_PIECE = 2048
"""Frames."""


@dataclass(frozen=True, slots=True)
class ContactRule:
    """When a foot marker counts as standing; two thresholds each, so that a label does not chatter.

    Heights are over the marker's own resting height (5th percentile within 4 s); speeds are of the marker. Ballroom
    feet glide, so the speeds are generous: a standing heel that turns with the foot moves at 0.3 m/s.
    """

    on_height_m: float = 0.025
    off_height_m: float = 0.045
    on_speed: float = 0.3
    off_speed: float = 0.5
    shortest_s: float = 0.08


def tidy_head(markers: NDArray[np.floating]) -> Array:
    """Return markers (T, 23, 3) whose two head markers are told apart and count only while they can be trusted.

    In parts of the library the two labels are exchanged, and cross-fades between such parts shrink their distance to
    a centimetre. No head turns by more than 90 degrees against the shoulders: the marker on the dancer's right is
    the right one. Where the pair is nearly at right angles to the shoulders this says little; there the two are
    drawn together, so that their middle still places the head while they no longer turn it.
    """
    tidy = np.array(markers, dtype=np.float64)
    right, left = HEAD
    shoulders = tidy[:, LEFT_SHOULDER] - tidy[:, RIGHT_SHOULDER]
    shoulders /= np.maximum(np.linalg.norm(shoulders, axis=1, keepdims=True), 1e-9)
    middle, half = 0.5 * (tidy[:, right] + tidy[:, left]), 0.5 * (tidy[:, left] - tidy[:, right])
    cosine = (half * shoulders).sum(axis=1) / np.maximum(np.linalg.norm(half, axis=1), 1e-9)
    trust = np.sign(cosine) * np.clip((np.abs(cosine) - 0.2) / 0.3, 0.0, 1.0)
    tidy[:, right], tidy[:, left] = middle - trust[:, None] * half, middle + trust[:, None] * half
    return tidy


def contact_labels(markers: NDArray[np.floating], fps: float, rule: ContactRule | None = None) -> NDArray[np.float32]:
    """Label (T, 4) in {0, 1} where left heel, left toe, right heel, right toe stand on the floor."""
    return label_contacts(markers[:, CONTACT_MARKERS], fps, rule)


def label_contacts(points: NDArray[np.floating], fps: float, rule: ContactRule | None = None) -> NDArray[np.float32]:
    """Do what `contact_labels` does, from the four points (T, 4, 3) [m] themselves."""
    rule = rule or ContactRule()
    feet = gaussian_filter1d(np.asarray(points, dtype=np.float64), 1.0, axis=0, mode="nearest")
    speed = np.linalg.norm(np.gradient(feet, axis=0), axis=-1) * fps
    height = feet[..., 1] - _running_low(feet[..., 1], fps)
    labels = np.zeros(height.shape, dtype=bool)
    standing = np.zeros(4, dtype=bool)
    for frame in range(len(labels)):
        enter = (height[frame] < rule.on_height_m) & (speed[frame] < rule.on_speed)
        stay = (height[frame] < rule.off_height_m) & (speed[frame] < rule.off_speed)
        standing = enter | (standing & stay)
        labels[frame] = standing
    size = max(1, round(rule.shortest_s * fps))
    structure = np.ones((size, 1), dtype=bool)
    padded = np.pad(labels, ((size, size), (0, 0)), mode="edge")
    tidy: NDArray[np.bool_] = binary_opening(binary_closing(padded, structure), structure)[size:-size]
    return tidy.astype(np.float32)


def _running_low(height: Array, fps: float) -> Array:
    """Return the 5th percentile within ±2 s, smoothed: where a marker is when its foot is flat on the floor."""
    half = round(2.0 * fps)
    padded = np.pad(height, ((half, half), (0, 0)), mode="reflect" if len(height) > half else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    # Piece by piece: a percentile copies its windows, 2 GB of them for 20 minutes at 120 frames a second.
    pieces = [windows[start : start + _PIECE] for start in range(0, len(windows), _PIECE)]
    lowest = np.concatenate([np.percentile(piece, 5.0, axis=-1) for piece in pieces])
    low: Array = gaussian_filter1d(lowest, 1.0 * fps, axis=0, mode="nearest")
    return low
