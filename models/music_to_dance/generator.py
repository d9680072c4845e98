"""The live music -> dance generators: exported weights on one of the back ends, no torch.

One call of `step` is one run of the exported graph: encoder and decoder over one chunk with their key/value rings,
then the choice of the next motion and its correction. State, noise and phrase plan are explicit, so that the same seed
and the same requests give the same dance, to the bit on the same machine and back end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from engine.features import FeatureSpec
from engine.types import GeneratorInfo, MotionChunk, MotionRequest
from models.artifacts import GMD_FOLDER, GmdManifest
from models.backends.choose import choose
from models.music_to_dance.plan import DancePlan, DanceTables

Report = Callable[[str, str], None]
"""Takes a level ("info", "warning", "error") and a message for the operator."""


class OnnxGenerator:
    """A `Generator` on exported weights: one dancer. Threads: one.

    Args:
        folder: of the weights.
        seed: of the first dance.
        backend: "auto", "cpu", "tensorrt", "rtx" or "cuda".
        report: hears of a back end that was lost in the middle of a show.

    Raises:
        UserError: the weights do not fit, or the back end asked for is not to be had.
    """

    def __init__(
        self, folder: Path = GMD_FOLDER, seed: int = 0, backend: str = "auto", report: Report | None = None
    ) -> None:
        self._company = Company(folder, (seed,), backend, report)
        self.manifest, self.info = self._company.manifest, self._company.info

    @property
    def backend(self) -> str:
        """The back end in use, and why it."""
        return self._company.backend

    def reset(self, seed: int) -> None:
        """Start a new dance: empty memory; the first step begins in a calm pose of its style, chosen by the seed."""
        self._company.reset((seed,))

    def step(self, request: MotionRequest) -> MotionChunk:
        """Return the next chunk; see `engine.protocols.Generator`."""
        return self._company.step((request,))[0]


class Company:
    """Several dancers of one model, in one step. Each has its own seed, style and plan. Threads: one.

    Args:
        folder: of the weights.
        seeds: one a dancer.
        backend: "auto", "cpu", "tensorrt", "rtx" or "cuda".
        report: hears of a back end that was lost in the middle of a show.

    Raises:
        UserError: the weights do not fit, or the back end asked for is not to be had.
    """

    def __init__(self, folder: Path, seeds: Sequence[int], backend: str = "auto", report: Report | None = None) -> None:
        self.manifest = manifest = GmdManifest.load(folder)
        manifest.require_features(FeatureSpec().digest)
        self.info = GeneratorInfo(
            name=manifest.name,
            chunk_ticks=manifest.chunk_ticks,
            lookahead_ticks=manifest.lookahead_ticks,
            feature_spec=manifest.feature_spec,
            feature_count=manifest.feature_count,
            styles=manifest.styles,
            tempo_range_bpm=manifest.tempo_range_bpm,
        )
        tables = DanceTables.load(folder)
        self._plans = [DancePlan(manifest, tables, seed) for seed in seeds]
        chosen = choose(backend, folder, manifest.step_shapes(len(seeds)), tables.probe, report)
        self._backend, self._why = chosen.backend, chosen.why
        self._backend.memory.reset()

    @property
    def backend(self) -> str:
        """The back end in use, and why it."""
        return f"{self._backend.name}: {self._why}"

    def reset(self, seeds: Sequence[int]) -> None:
        """Start new dances, one seed a dancer."""
        self._backend.memory.reset()
        for plan, seed in zip(self._plans, seeds, strict=True):
            plan.reset(seed)

    def reset_dancer(self, index: int, seed: int) -> None:
        """Start one dancer's dance anew."""
        self._plans[index].reset(seed)

    def step(self, requests: Sequence[MotionRequest]) -> list[MotionChunk]:
        """Return the next chunk of each dancer."""
        memory = self._backend.memory
        for row, (plan, request) in enumerate(zip(self._plans, requests, strict=True)):
            plan.prepare(request, memory, row)
        self._backend.run()
        latents = memory.outputs["latent"]
        return [plan.finish(latents[row]) for row, plan in enumerate(self._plans)]
