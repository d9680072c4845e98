"""The idle sway as a generator: what the dancer does at rest, and when its model is lost."""

from __future__ import annotations

import numpy as np

from engine.dancing.idle import idle_pose
from engine.types import TICKS_PER_BEAT, GeneratorInfo, MotionChunk, MotionRequest

_ENERGY_PER_TICK = 0.06
"""A change of the wished energy is taken over within about three beats: the sway grows, it does not jump."""


class IdleGenerator:
    """Sways on the beat, at any tempo, to any music. Deterministic; it has no chance in it, so no use for a seed."""

    def __init__(self) -> None:
        self.info = GeneratorInfo("idle", chunk_ticks=4, lookahead_ticks=2, feature_spec="", feature_count=0)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start quietly."""
        self._energy = 0.0

    def step(self, request: MotionRequest) -> MotionChunk:
        """Return as many ticks as the request has rows of music, so that it can stand in for any model."""
        count = request.music.shape[0]
        before = idle_pose((request.first_tick - 1) / TICKS_PER_BEAT, self._energy)
        roots, rotations = [before.translation_m], []
        for tick in range(request.first_tick, request.first_tick + count):
            self._energy += _ENERGY_PER_TICK * (request.energy - self._energy)
            pose = idle_pose(tick / TICKS_PER_BEAT, self._energy)
            roots.append(pose.translation_m)
            rotations.append(pose.rotations)
        root = np.array(roots, dtype=np.float32)
        return MotionChunk(
            rotations=np.array(rotations, dtype=np.float32),
            heading_delta_rad=np.zeros(count, dtype=np.float32),
            root_delta_m=np.diff(root[:, [0, 2]], axis=0),
            root_height_m=root[1:, 1],
            contacts=np.ones((count, 4), dtype=np.float32),
        )
