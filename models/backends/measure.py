"""How fast the step is, on which back end, for how many dancers; and how far that is from what the machine could do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import UserError
from models.artifacts import GmdManifest
from models.backends.choose import BACKENDS, choose
from models.backends.parity import Agreement, compare
from models.backends.protocol import StepBackend
from models.backends.step_memory import VECTORS
from models.music_to_dance.plan import DanceTables

_BANDWIDTH_BYTES = 64 << 20
"""Far larger than a core's share of any cache."""
_PRODUCT_SIZE = 512
"""Large enough for a matrix product to run at full speed, small enough to stay in a cache of 2 MB."""


@dataclass(frozen=True, slots=True)
class StepTiming:
    """Times [ms] of one step of a batch, and what share of the live rate one thread needs for it.

    Attributes:
        backend, batch: what was measured.
        paced: whether steps came at the live rate (weights fall out of the caches in between) or in a row.
        p50_ms, p95_ms, p99_ms, max_ms: of wall-clock time.
        dancers_at_rate: how many dancers one thread could step at the live rate, by the median.
    """

    backend: str
    batch: int
    paced: bool
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    dancers_at_rate: float


@dataclass(frozen=True, slots=True)
class StepAccount:
    """One step of one dancer against the machine.

    Attributes:
        weight_bytes: read at least once a step.
        multiply_adds: of a step.
        read_s, compute_s: at the measured limits, one thread.
        measured_s: median of steps at the live rate.
    """

    weight_bytes: int
    multiply_adds: int
    read_s: float
    compute_s: float
    measured_s: float

    @property
    def times_the_floor(self) -> float:
        """How many times longer than the larger of the two limits a step takes."""
        return self.measured_s / max(self.read_s, self.compute_s)


def available(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every back end's name with "" if it can be had here, or why not."""
    manifest, probe = GmdManifest.load(folder), DanceTables.load(folder).probe
    for name in BACKENDS[1:]:
        try:
            chosen = choose(name, folder, manifest.step_shapes(1), probe)
        except UserError as error:
            yield name, str(error)
            continue
        chosen.backend.close()
        yield name, ""


def time_steps(
    folder: Path, backend: str, batch: int, *, steps: int = 200, rate_hz: float = 0.0, tempo_bpm: float = 120.0
) -> StepTiming:
    """Time steps on random inputs.

    Args:
        folder: of the model.
        backend: by name.
        batch: dancers.
        steps: that are counted; a tenth more go before.
        rate_hz: steps a second; 0: in a row.
        tempo_bpm: that defines the live rate.

    Raises:
        UserError: the back end cannot be had.
    """
    manifest = GmdManifest.load(folder)
    chosen = choose(backend, folder, manifest.step_shapes(batch), DanceTables.load(folder).probe)
    durations = np.array(list(_steps(chosen.backend, steps + steps // 10, rate_hz)))[steps // 10 :] * 1e3
    chosen.backend.close()
    p50, p95, p99 = np.percentile(durations, [50, 95, 99])
    live_hz = tempo_bpm / 60.0 * manifest.ticks_per_beat / manifest.chunk_ticks
    return StepTiming(
        backend,
        batch,
        rate_hz > 0.0,
        float(p50),
        float(p95),
        float(p99),
        float(durations.max()),
        batch * 1e3 / float(p50) / live_hz,
    )


def step_cost_ms(folder: Path, batch: int, steps: int = 30) -> float:
    """Return the processor time of a step of so many dancers on the CPU [ms], the median in a row."""
    manifest = GmdManifest.load(folder)
    backend = choose("cpu", folder, manifest.step_shapes(batch), DanceTables.load(folder).probe).backend
    cost = backend_cost_ms(backend, steps)
    backend.close()
    return cost


def backend_cost_ms(backend: StepBackend, steps: int = 30) -> float:
    """Return the processor time of a step of a back end on the CPU [ms], the median in a row."""
    durations = []
    for _ in range(steps):
        begun = time.thread_time()
        backend.run()
        durations.append(time.thread_time() - begun)
    return 1e3 * float(np.median(durations[steps // 5 :]))


def precision_of(folder: Path, name: str) -> str:
    """Return the key of `parity.TOLERANCE` by which a back end is judged."""
    if name == "tensorrt":
        # It says which it took, as the first word of its reason.
        manifest = GmdManifest.load(folder)
        chosen = choose(name, folder, manifest.step_shapes(1), DanceTables.load(folder).probe)
        chosen.backend.close()
        return chosen.why.partition(",")[0]
    if name == "cpu":
        return "int8" if GmdManifest.load(folder).compact else "fp32"
    return "fp32" if name == "cpu-fp32" else "tf32"


def live_rate_hz(folder: Path, tempo_bpm: float = 120.0) -> float:
    """Return how many steps a second a show takes at a tempo."""
    manifest = GmdManifest.load(folder)
    return tempo_bpm / 60.0 * manifest.ticks_per_beat / manifest.chunk_ticks


def stream_parity(
    folder: Path, backend: str, chunks: int, on_chunk: Callable[[int], None] = lambda n: None
) -> Agreement:
    """Return how the steps of a long run agree with the CPU's in float32, each from the same past.

    Raises:
        UserError: the back end cannot be had.
    """
    manifest, tables = GmdManifest.load(folder), DanceTables.load(folder)
    ours = choose("cpu-fp32", folder, manifest.step_shapes(1), tables.probe).backend
    theirs = choose(backend, folder, manifest.step_shapes(1), tables.probe).backend
    random = np.random.Generator(np.random.PCG64(1))
    latents = np.empty((2, chunks, 1, manifest.latent_size), np.float32)
    for chunk in range(chunks):
        for name in VECTORS:
            if name != "history" or chunk == 0:
                ours.memory.inputs[name][:] = random.standard_normal(ours.memory.inputs[name].shape, np.float32)
            # The rings are each back end's own (a card's never leave it), but hold what the same histories left there.
            theirs.memory.inputs[name][:] = ours.memory.inputs[name]
        ours.run()
        theirs.run()
        latents[:, chunk] = ours.memory.outputs["latent"], theirs.memory.outputs["latent"]
        on_chunk(chunk)
    ours.close()
    theirs.close()
    return compare(latents[1], latents[0])


def account(folder: Path, steps: int = 150) -> StepAccount:
    """Measure the machine's limits and a step beside them."""
    manifest = GmdManifest.load(folder)
    weight_bytes = manifest.compact.weight_bytes if manifest.compact else manifest.weight_bytes
    timing = time_steps(folder, "cpu", 1, steps=steps, rate_hz=live_rate_hz(folder))
    return StepAccount(
        weight_bytes=weight_bytes,
        multiply_adds=manifest.multiply_adds,
        read_s=weight_bytes / _read_bytes_per_s(),
        compute_s=manifest.multiply_adds / _multiply_adds_per_s(),
        measured_s=timing.p50_ms * 1e-3,
    )


def _steps(backend: StepBackend, count: int, rate_hz: float) -> Iterator[float]:
    """Yield how long each step took [s]."""
    memory = backend.memory
    memory.reset()
    random = np.random.Generator(np.random.PCG64(0))
    begun = time.perf_counter()
    for index in range(count):
        if rate_hz > 0.0:
            time.sleep(max(0.0, begun + index / rate_hz - time.perf_counter()))
        for name in ("music", "condition", "noise"):
            memory.inputs[name][:] = random.standard_normal(memory.inputs[name].shape, np.float32)
        start = time.perf_counter()
        backend.run()
        yield time.perf_counter() - start


def _read_bytes_per_s() -> float:
    """Return how fast one thread reads memory that is in no cache."""
    data = np.ones(_BANDWIDTH_BYTES // 4, np.float32)
    durations = []
    for _ in range(7):
        start = time.perf_counter()
        data.max()
        durations.append(time.perf_counter() - start)
    return _BANDWIDTH_BYTES / min(durations)


def _multiply_adds_per_s() -> float:
    """Return how many multiply-adds in float32 one thread does (BLAS must be held to one thread)."""
    square = np.ones((_PRODUCT_SIZE, _PRODUCT_SIZE), np.float32)
    out = np.empty_like(square)
    durations = []
    for _ in range(7):
        start = time.perf_counter()
        np.matmul(square, square, out=out)
        durations.append(time.perf_counter() - start)
    return float(_PRODUCT_SIZE) ** 3 / min(durations)
