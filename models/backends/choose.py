"""Which back end dances, and why: asked for by name, or the fastest that proves itself on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import UserError
from models.backends.engine_cache import EngineCache, StaleEngine
from models.backends.failover import FailoverBackend
from models.backends.nvidia_driver import ask_driver
from models.backends.ort_backend import OrtBackend
from models.backends.parity import compare, probe
from models.backends.protocol import StepBackend
from models.backends.step_memory import Floats, StepMemory, StepShapes
from models.backends.tensorrt_backend import PRECISIONS, TensorRtBackend

MODEL_FILE = "model.onnx"
COMPACT_FILE, LONE_FILE, WEIGHTS_FILE = "model.int8.onnx", "model.int8.lone.onnx", "model.int8.weights"
"""The 8-bit graphs for crowds and for one dancer, and the weights of both."""
BACKENDS = ("auto", "cpu", "cpu-fp32", "tensorrt", "rtx", "cuda")
_BY_SPEED = ("tensorrt", "rtx", "cuda")

_HELD_BACK = 2.0
"""A compact graph that takes so many times longer than the whole one is not taken: a processor without 8-bit products
is 8 times slower, one with them takes half as long; what lies between is left alone, so that chance never decides."""

Report = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A back end and the reason for it, in words for an operator."""

    backend: StepBackend
    why: str


def choose(
    wish: str,
    folder: Path,
    shapes: StepShapes,
    reference: Floats,
    report: Report | None = None,
    cache: EngineCache | None = None,
) -> Chosen:
    """Return a back end for a model.

    Args:
        wish: one of `BACKENDS`.
        folder: of the model.
        shapes: for the batch.
        reference: latents (steps, 1, L) of the parity probe, stored with the model.
        report: hears of a back end lost in the middle of a show.
        cache: of compiled engines; None: the user's cache folder.

    Raises:
        UserError: unknown name; or the one asked for by name is not to be had, or computes something else.
    """
    if wish not in BACKENDS:
        raise UserError(f"unknown back end '{wish}'", f"there are {', '.join(BACKENDS)}")
    memory = StepMemory(shapes)
    cpu, precision = _open_cpu(folder, memory, reference, wish != "cpu-fp32")
    if wish in ("cpu", "cpu-fp32"):
        return Chosen(cpu, f"{precision}, asked for")
    if wish == "auto":
        answer = ask_driver()
        if not answer.gpus:
            return Chosen(cpu, f"{precision}; {answer.reason}")
    reasons = []
    for name in _BY_SPEED if wish == "auto" else (wish,):
        try:
            gpu, how = _open(name, folder / MODEL_FILE, memory, reference, cache or EngineCache())
        except UserError as error:
            if wish != "auto":
                raise
            reasons.append(str(error))
            continue
        return Chosen(FailoverBackend(gpu, cpu, report), how)
    return Chosen(cpu, "; ".join([precision, *reasons]))


def _open_cpu(folder: Path, memory: StepMemory, reference: Floats, compact: bool) -> tuple[StepBackend, str]:
    """Open the CPU with the compact graph, if the model has one that is right and not slow here; return its format."""
    graphs = (LONE_FILE, COMPACT_FILE) if memory.shapes.batch == 1 else (COMPACT_FILE,)
    file = next((folder / name for name in graphs if (folder / name).is_file()), None)
    if not compact or file is None:
        return OrtBackend("cpu", folder / MODEL_FILE, memory), "float32"
    # Judged on one dancer, whatever the batch.
    alone = StepMemory(replace(memory.shapes, batch=1))
    try:
        small = OrtBackend("cpu", file, alone)
    except UserError as error:
        return OrtBackend("cpu", folder / MODEL_FILE, memory), f"float32, since the 8-bit graph does not open ({error})"
    whole = OrtBackend("cpu", folder / MODEL_FILE, StepMemory(alone.shapes))
    agreement = compare(probe(small, reference), reference)
    slower = _fastest_step(small) / _fastest_step(whole)
    for backend in (small, whole):
        backend.close()
    if agreement.within("int8") and slower < _HELD_BACK:
        return OrtBackend("cpu", file, memory), "int8"
    why = f"differs by {agreement}" if slower < _HELD_BACK else f"takes {slower:.0f} x as long on this processor"
    return OrtBackend("cpu", folder / MODEL_FILE, memory), f"float32, since the 8-bit graph {why}"


def _fastest_step(backend: StepBackend, steps: int = 5) -> float:
    """Return the shortest of some steps [s]: what a step takes if nothing comes between."""
    durations = []
    for _ in range(steps):
        start = time.perf_counter()
        backend.run()
        durations.append(time.perf_counter() - start)
    backend.memory.reset()
    return min(durations)


def _open(name: str, model: Path, memory: StepMemory, reference: Floats, cache: EngineCache) -> tuple[StepBackend, str]:
    """Open a card's back end and let it prove itself; return it and how it came about."""
    if name == "tensorrt":
        for precision in PRECISIONS:
            try:
                compiled = TensorRtBackend(model, memory, reference, cache, precision)
            except StaleEngine:
                continue
            return compiled, f"{precision}, {compiled.origin}"
        raise UserError("TensorRT computes something else than the CPU in every precision", "choose another back end")
    backend = OrtBackend(name, model, memory, cache.subfolder(name) if name == "rtx" else None)
    agreement = compare(probe(backend, reference), reference)
    if not agreement.within("tf32"):
        backend.close()
        raise UserError(f"{name} differs from the CPU by {agreement}", "choose another back end")
    return backend, f"differs from the CPU by {agreement}"
