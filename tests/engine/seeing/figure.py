"""A person to be seen: the project's own CC0 figure, posed and drawn without any library but OpenCV.

The landmarker takes it for a human being, and what pose it holds is known exactly.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import axis_angle_to_matrix
from engine.seeing.opencv import Image, opencv

GLB = Path(__file__).parents[3] / "bridges" / "web" / "static" / "figure.glb"
_NAMES = {
    "Hips": 0, "LeftUpLeg": 1, "RightUpLeg": 2, "Spine": 3, "LeftLeg": 4, "RightLeg": 5, "Spine1": 6, "LeftFoot": 7,
    "RightFoot": 8, "Spine2": 9, "LeftToeBase": 10, "RightToeBase": 11, "Neck": 12, "LeftShoulder": 13,
    "RightShoulder": 14, "Head": 15, "LeftArm": 16, "RightArm": 17, "LeftForeArm": 18, "RightForeArm": 19,
    "LeftHand": 20, "RightHand": 21,
}  # fmt: skip
_TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_SKIN, _SHIRT, _TROUSERS, _SHOES, _HAIR = (150, 175, 225), (60, 60, 190), (110, 70, 40), (40, 40, 40), (30, 40, 60)
FOCAL_HEIGHTS = 1.3


class Figure:
    """The mesh of the figure and its bones."""

    def __init__(self, path: Path = GLB) -> None:
        data = path.read_bytes()
        length = int.from_bytes(data[12:16], "little")
        content = json.loads(data[20 : 20 + length])
        binary = data[28 + length :]

        def array(index: int) -> NDArray[np.generic]:
            accessor = content["accessors"][index]
            view = content["bufferViews"][accessor["bufferView"]]
            start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
            width = _WIDTHS[accessor["type"]]
            kind = np.dtype(_TYPES[accessor["componentType"]])
            flat = np.frombuffer(binary, kind, accessor["count"] * width, start)
            return flat.reshape(-1, width)

        primitive = content["meshes"][0]["primitives"][0]
        self.vertices = array(primitive["attributes"]["POSITION"]).astype(np.float64)
        self.joints = array(primitive["attributes"]["JOINTS_0"]).astype(int)
        self.weights = array(primitive["attributes"]["WEIGHTS_0"]).astype(np.float64)
        self.weights /= self.weights.sum(axis=1, keepdims=True)
        self.triangles = array(primitive["indices"]).astype(int).reshape(-1, 3)
        nodes = content["nodes"]
        self.bones: list[int] = content["skins"][0]["joints"]
        self.names = [nodes[bone]["name"].partition(":")[2] for bone in self.bones]
        parent = {child: index for index, node in enumerate(nodes) for child in node.get("children", ())}
        self.parents = [self.bones.index(parent[b]) if parent.get(b) in self.bones else -1 for b in self.bones]
        inverse = array(content["skins"][0]["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        self.places = np.linalg.inv(inverse.astype(np.float64))[:, :3, 3]
        main = self.joints[np.arange(len(self.joints)), self.weights.argmax(axis=1)]
        self.colours = np.array(
            [self._colour(self.names[bone], v) for bone, v in zip(main, self.vertices, strict=True)]
        )
        height = float(np.ptp(self.vertices[:, 1]))
        self.scale = 1.72 / height
        self.floor = float(self.vertices[:, 1].min())

    def _colour(self, bone: str, vertex: NDArray[np.float64]) -> tuple[int, int, int]:
        if bone == "Head":
            head = self.places[self.names.index("Head")]
            return _HAIR if vertex[2] < head[2] - 0.01 or vertex[1] > head[1] + 0.17 else _SKIN
        if "Foot" in bone or "Toe" in bone:
            return _SHOES
        if "Leg" in bone or bone == "Hips":
            return _TROUSERS
        return _SKIN if "Hand" in bone or "ForeArm" in bone or bone == "Neck" else _SHIRT

    def pose(self, rotations: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the vertices (n, 3) [m] for rotations (24, 3); the hips stay where they are in the rest pose."""
        local = axis_angle_to_matrix(np.asarray(rotations, np.float64))
        turn, place = np.zeros((len(self.bones), 3, 3)), np.zeros((len(self.bones), 3))
        for bone in self._order():
            own = local[_NAMES[self.names[bone]]] if self.names[bone] in _NAMES else np.eye(3)
            above = self.parents[bone]
            if above < 0:
                turn[bone], place[bone] = own, self.places[bone]
            else:
                turn[bone] = turn[above] @ own
                place[bone] = place[above] + turn[above] @ (self.places[bone] - self.places[above])
        moved = np.zeros_like(self.vertices)
        for column in range(4):
            bones = self.joints[:, column]
            at = np.einsum("nij,nj->ni", turn[bones], self.vertices - self.places[bones]) + place[bones]
            moved += self.weights[:, column : column + 1] * at
        moved[:, 1] -= self.floor
        return moved * self.scale

    def _order(self) -> list[int]:
        done: list[int] = []
        while len(done) < len(self.bones):
            done += [b for b, p in enumerate(self.parents) if b not in done and (p < 0 or p in done)]
        return done

    def draw(
        self,
        image: Image,
        rotations: NDArray[np.floating],
        at_m: tuple[float, float, float] = (0.0, 0.0, 0.0),
        distance_m: float = 3.6,
        camera_height_m: float = 1.0,
    ) -> None:
        """Draw the figure into a picture, in place.

        Args:
            image: (height, width, 3) blue first.
            rotations: (24, 3).
            at_m: where it stands; y over the floor, z towards the camera.
            distance_m: of the camera from the origin.
            camera_height_m: over the floor; it looks along the floor.
        """
        cv2 = opencv()
        height, width = image.shape[:2]
        vertices = self.pose(rotations) + at_m
        depth = distance_m - vertices[:, 2]
        scale = FOCAL_HEIGHTS * height / depth
        flat = np.stack(
            [0.5 * width + vertices[:, 0] * scale, 0.5 * height - (vertices[:, 1] - camera_height_m) * scale], 1
        )
        corners = vertices[self.triangles]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        towards = np.array([0.0, camera_height_m, distance_m]) - corners.mean(axis=1)
        front = (normal * towards).sum(axis=1) > 0.0
        light = 0.55 + 0.45 * np.clip(normal @ np.array([0.35, 0.7, 0.62]), 0.0, 1.0)
        colours = self.colours[self.triangles[:, 0]] * light[:, None]
        order = np.argsort(-depth[self.triangles].mean(axis=1))
        points = np.round(flat * 16.0).astype(np.int32)  # OpenCV takes sixteenths of a pixel
        for triangle in order[front[order]]:
            b, g, r = colours[triangle]
            cv2.fillConvexPoly(image, points[self.triangles[triangle]], (b, g, r), cv2.LINE_AA, 4)


@cache
def figure() -> Figure:
    """Return the figure, read once."""
    return Figure()


def room(width: int = 640, height: int = 480) -> Image:
    """Return an empty room: a wall that is lit from above, and a floor."""
    shade = np.linspace(190.0, 150.0, height)[:, None, None]
    image = np.broadcast_to(shade * [1.0, 1.02, 1.04], (height, width, 3)).astype(np.uint8).copy()
    image[round(0.72 * height) :] = (120, 130, 140)
    return image


def posed(**degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return rotations (24, 3) [rad] of named joints, the arms hanging unless they are named."""
    from engine.body.skeleton import JOINT_NAMES

    pose = np.zeros((24, 3))
    for name, angles in {"left_shoulder": (0.0, 0.0, -65.0), "right_shoulder": (0.0, 0.0, 65.0), **degrees}.items():
        pose[JOINT_NAMES.index(name)] = np.radians(angles)
    return pose
