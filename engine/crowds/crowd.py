"""The crowd behind the lead dancer: many dancers on one timeline, computed together, each with a seed and a place.

All of them hear the same beat and the same music, so they ask for motion at the same ticks; the first to ask has the
whole company's chunk computed in one step of the model, and the others find theirs ready. Their bodies, too, are
guarded all together (`engine.crowds.guard`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.crowds.guard import CrowdGuard
from engine.dancing.dancer import SLACK_TICKS, Dancer, Report
from engine.dancing.guards import PoseGuard
from engine.features import FeatureSpec
from engine.metrics import Metrics
from engine.protocols import Company
from engine.settings import ShowSettings
from engine.types import BeatState, GeneratorInfo, MotionChunk, MotionRequest, PoseFrame

_KEPT_CHUNKS = 4
"""Chunks of a member that may lie ready; more means that the members no longer ask for the same ticks."""


class Ensemble:
    """Hands each member of a company its chunks, computed for all when the first of them asks.

    What one asks for, all ask for: they hear the same music, and style and energy are the whole crowd's.

    Args:
        company: computes the steps.
        size: members.
    """

    def __init__(self, company: Company, size: int) -> None:
        self._company = company
        self._ready: list[dict[int, MotionChunk]] = [{} for _ in range(size)]

    @property
    def info(self) -> GeneratorInfo:
        """Of the model."""
        return self._company.info

    def reset(self, index: int, seed: int) -> None:
        """Let one member start anew."""
        self._ready[index].clear()
        self._company.reset_dancer(index, seed)

    def step(self, index: int, request: MotionRequest) -> MotionChunk:
        """Return a member's next chunk."""
        ready = self._ready[index].pop(request.first_tick, None)
        if ready is not None:
            return ready
        chunks = self._company.step([request] * len(self._ready))
        for other, (shelf, chunk) in enumerate(zip(self._ready, chunks, strict=True)):
            # What lies there from an earlier question will not be asked for any more if this tick lies before it.
            for tick in [tick for tick in shelf if tick >= request.first_tick]:
                del shelf[tick]
            while len(shelf) >= _KEPT_CHUNKS:
                del shelf[min(shelf)]
            if other != index:
                shelf[request.first_tick] = chunk
        return chunks[index]


class _Member:
    """A member of an ensemble, as a `Generator`."""

    def __init__(self, ensemble: Ensemble, index: int) -> None:
        self._ensemble, self._index = ensemble, index
        self.info = ensemble.info

    def reset(self, seed: int) -> None:
        """Start a new dance."""
        self._ensemble.reset(self._index, seed)

    def step(self, request: MotionRequest) -> MotionChunk:
        """Return the next chunk."""
        return self._ensemble.step(self._index, request)


def places(size: int, spacing_m: float) -> NDArray[np.float64]:
    """Return where each dancer's own stage lies, (size, 2) x and z [m]: rows behind the lead, wider and wider.

    Neighbouring rows are staggered, so that everybody is seen.
    """
    spots: list[tuple[float, float]] = []
    row = 1
    while len(spots) < size:
        count = row + 1
        z = -row * spacing_m
        spots += [((k - (count - 1) / 2.0) * spacing_m, z) for k in range(count)]
        row += 1
    return np.array(spots[:size]).reshape(-1, 2)


class Crowd:
    """The dancers beside the lead, or a share of them. Deterministic; called on one thread.

    How anybody dances does not depend on how the crowd is shared out.

    Args:
        company: computes steps for so many dancers.
        spec: of the features that they hear.
        settings: of the show; the lead's style, energy and mirror are the crowd's too.
        metrics: counts and timings of the crowd, apart from the lead's.
        report: tells the operator.
        share: who of the crowd's, counted from 0; None: everybody.
    """

    def __init__(
        self,
        company: Company,
        spec: FeatureSpec,
        settings: ShowSettings,
        metrics: Metrics,
        report: Report,
        share: range | None = None,
    ) -> None:
        crowd = settings.crowd
        share = range(crowd.size) if share is None else share
        self._places = places(crowd.size, crowd.spacing_m)[share.start : share.stop]
        ensemble = Ensemble(company, len(share))
        radius_m = max(0.5, 0.6 * crowd.spacing_m)
        # Every other dancer is the mirror image: a crowd in one direction looks like a copy.
        self._turned = [crowd.mirror_alternate and index % 2 == 1 for index in share]
        self.dancers = []
        for place, index in enumerate(share):
            own = settings.dancer.model_copy(
                update={
                    "seed": settings.dancer.seed + 1 + index,
                    "stage_radius_m": radius_m,
                    "mirror": settings.dancer.mirror ^ self._turned[place],
                }
            )
            # A dancer has a guard of their own by nature; in a crowd it stands idle.
            idle = PoseGuard(stage_radius_m=radius_m)
            member = _Member(ensemble, place)
            self.dancers.append(Dancer(member, idle, spec, own, metrics, report, SLACK_TICKS))
        self._guard = CrowdGuard(len(share), radius_m)
        self._names = [str(index + 1) for index in share]

    def update(self, end_ns: int, beat: BeatState, row: NDArray[np.float32], active: bool) -> None:
        """Take one hop of music, as `Dancer.update`."""
        for dancer in self.dancers:
            dancer.update(end_ns, beat, row, active)

    def frames(self, time_ns: int, source_ns: int, beat_time_ns: int) -> list[PoseFrame]:
        """Return everybody's pose for a presentation time, each in their place."""
        poses = [dancer.pose(time_ns, beat_time_ns) for dancer in self.dancers]
        rotations, roots, contacts = self._guard.apply(
            time_ns,
            np.array([pose.quaternions for pose in poses]),
            np.array([pose.translation_m for pose in poses]),
            np.array([pose.contacts for pose in poses]),
        )
        roots[:, [0, 2]] += self._places.astype(np.float32)
        for array in (rotations, roots, contacts):
            # Parts of arrays that nobody writes to any more need no copies.
            array.flags.writeable = False
        everybody = zip(rotations, roots, contacts, self._names, strict=True)
        return [PoseFrame(time_ns, source_ns, turned, at, touching, name) for turned, at, touching, name in everybody]

    def set_style(self, style: str | float) -> None:
        """Let everybody dance a style. Raises ValueError for one the model does not know."""
        for dancer in self.dancers:
            dancer.set_style(style)

    def set_energy(self, energy: float) -> None:
        """Let everybody dance with an energy."""
        for dancer in self.dancers:
            dancer.energy = energy

    def set_mirror(self, on: bool) -> None:
        """Swap everybody's left and right; who was the mirror image of the others still is."""
        for dancer, turned in zip(self.dancers, self._turned, strict=True):
            dancer.set_mirror(on ^ turned)

    def panic(self) -> None:
        """Bring everybody back to a safe neutral pose."""
        for dancer in self.dancers:
            dancer.panic()

    def hold(self, on: bool) -> None:
        """Freeze everybody, or let them go on."""
        for dancer in self.dancers:
            dancer.hold(on)
