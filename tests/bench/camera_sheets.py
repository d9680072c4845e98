"""Look at what the camera sees: contact sheets of the skeleton over a video, and figures of how well it fits.

    python tests/bench/camera_sheets.py VIDEO [VIDEO ...] --out FOLDER [--every N] [--first N --last N] [--model lite]

Not a test: what it writes is for eyes.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from engine.body.skeleton import contact_points, forward_kinematics
from engine.seeing.landmarker import Landmarker, landmarker_path
from engine.seeing.opencv import shrink
from engine.seeing.overlay import draw_overlay, write_sheet
from engine.seeing.people import PersonTracker, nobody
from engine.seeing.retarget import LandmarkRetargeter
from engine.seeing.video import open_video
from engine.settings import CameraSettings
from engine.types import NS_PER_S, PoseFrame, PoseLandmarks

LIMBS = {
    "left arm": ((16, 11), (18, 13), (20, 15)),
    "right arm": ((17, 12), (19, 14), (21, 16)),
    "left leg": ((1, 23), (4, 25), (7, 27)),
    "right leg": ((2, 24), (5, 26), (8, 28)),
}


def measure(landmarks: list[PoseLandmarks], poses: list[PoseFrame | None], retargeter: LandmarkRetargeter) -> str:
    """Return one paragraph of figures."""
    pairs = [(seen, pose) for seen, pose in zip(landmarks, poses, strict=True) if pose is not None]
    if len(pairs) < 3:
        return "nobody seen"
    rotations = np.stack([pose.rotations for _, pose in pairs]).astype(np.float64)
    roots = np.stack([pose.translation_m for _, pose in pairs]).astype(np.float64)
    contacts = np.stack([pose.contacts for _, pose in pairs])
    time_s = np.array([pose.time_ns for _, pose in pairs]) / NS_PER_S
    joints, world = forward_kinematics(rotations, roots)
    c, s = np.cos(retargeter.calibration.lean_rad), np.sin(retargeter.calibration.lean_rad)
    upright = np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])
    seen = np.stack([p.positions_m for p, _ in pairs]) @ upright.T * retargeter.calibration.size
    hips = 0.5 * (joints[:, 1] + joints[:, 2])
    lines = []
    for name, joint_pairs in LIMBS.items():
        away = [np.linalg.norm(joints[:, j] - hips - seen[:, k], axis=1) for j, k in joint_pairs]
        angles = []
        for (j, k), (jj, kk) in itertools.pairwise(joint_pairs):
            a, b = joints[:, jj] - joints[:, j], seen[:, kk] - seen[:, k]
            cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        lines.append(f"{name} {np.median(away) * 100:.1f} cm, {np.median(angles):.1f} deg")
    dt = np.diff(time_s)
    points = np.asarray(contact_points(joints, world))
    slide = np.linalg.norm(np.diff(points, axis=0)[..., [0, 2]], axis=2) / dt[:, None]
    standing = (contacts[1:] > 0.6) & (contacts[:-1] > 0.6)
    jumps = np.linalg.norm(np.diff(joints, axis=0), axis=2)
    frame, joint = np.unravel_index(int(jumps.argmax()), jumps.shape)
    raw = np.linalg.norm(np.diff(seen, axis=0), axis=2).max()
    knees = [np.degrees(_flexion(joints, *chain)) for chain in ((1, 4, 7), (2, 5, 8))]
    lines.append(
        f"slide while standing: median {np.median(slide[standing]) * 100:.1f}, mean "
        f"{slide[standing].mean() * 100:.1f} cm/s ({standing.mean():.0%} standing)"
        if standing.any()
        else "never standing"
    )
    lines.append(f"lowest point {points[..., 1].min() * 100:.1f} cm; knees to {max(k.max() for k in knees):.0f} deg")
    lines.append(
        f"worst jump {jumps.max() * 100:.0f} cm (joint {joint}, picture {frame + 1}); landmarks {raw * 100:.0f}"
    )
    return "; ".join(lines)


def _flexion(joints: np.ndarray, hip: int, knee: int, ankle: int) -> np.ndarray:
    a, b = joints[:, knee] - joints[:, hip], joints[:, ankle] - joints[:, knee]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return np.arccos(np.clip(cosine, -1, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=0, help="0: twelve pictures a sheet")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int, default=10**9)
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--height", type=int, default=300)
    parser.add_argument("--zoom", action="store_true", help="cut out the dancer")
    parser.add_argument("--model", default="full", choices=["lite", "full"])
    options = parser.parse_args()
    settings = CameraSettings(model=options.model)
    for path in options.videos:
        retargeter, tracker = LandmarkRetargeter(), PersonTracker()
        landmarks: list[PoseLandmarks] = []
        poses: list[PoseFrame | None] = []
        pictures = []
        with open_video(path) as video, Landmarker(landmarker_path(settings)) as landmarker:
            aspect = video.width / video.height
            span = min(options.last, video.frames) - options.first
            every = options.every or max(1, span // 12)
            while (frame := video.read()) is not None:
                person = tracker.choose(landmarker.detect(shrink(frame.image), frame.time_ns), frame.time_ns, aspect)
                seen = nobody(frame.time_ns, aspect) if person is None else person.landmarks(frame.time_ns, aspect)
                landmarks.append(seen)
                poses.append(retargeter.process(seen))
                number = len(poses) - 1
                if options.first <= number <= options.last and (number - options.first) % every == 0:
                    lean = retargeter.calibration.lean_rad
                    pictures.append(draw_overlay(frame.image, seen, poses[-1], lean, options.height, options.zoom))
        sheet = options.out / f"{path.stem}.png"
        write_sheet(sheet, pictures, options.columns)
        print(f"{path.name}: {measure(landmarks, poses, retargeter)} -> {sheet}")


if __name__ == "__main__":
    main()
