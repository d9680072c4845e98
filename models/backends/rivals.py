"""One step of the dance model by everything that can run it, in one run on one machine.

    python -m models.backends.rivals [--json FILE] [--steps N] [NAME ...]

Each runs in a process of its own, on one thread unless its name says otherwise, beside another that keeps a core and
its caches busy. Steps come in a row, and at the live rate. The graph is the shipped one; torch's network has its sizes
and random weights: how long a step takes does not depend on what was learnt. What cannot run here says why. Needs
`.[train]`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_BORN = time.perf_counter()
"""When this module was read: a cold start counts from here, plus the interpreter's own start."""
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

LIVE_HZ = 5.5
"""Steps a second at 110 bpm."""
WHOLE, LONE, CROWD, DYNAMIC = "whole.onnx", "lone.onnx", "crowd.onnx", "dynamic.onnx"

Step = Callable[[dict[str, np.ndarray]], None]


class _Missing(Exception):
    """A rival cannot run here; the message says why."""


def _ort(folder: Path, file: str, threads: int = 1) -> Step:
    """ONNX Runtime as the engine uses it: bound buffers."""
    from models.backends import ort_backend

    inputs = _arrays(folder)
    options = ort_backend.stage_options()
    options.intra_op_num_threads = threads
    options.add_free_dimension_override_by_name(ort_backend.BATCH_DIMENSION, 1)
    session = ort_backend.onnxruntime.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")

    def step(given: dict[str, np.ndarray]) -> None:
        for name, array in given.items():
            inputs[name][:] = array
        session.run_with_iobinding(binding)

    return step


def _numpy(folder: Path) -> Step:
    from models.backends.numpy_step import NumpyStep

    inputs, graph = _arrays(folder), NumpyStep(folder / WHOLE)

    def step(given: dict[str, np.ndarray]) -> None:
        graph.run(inputs | given)

    return step


def _openvino(folder: Path, precision: str) -> Step:
    try:
        import openvino
    except ImportError as error:
        raise _Missing("not installed: pip install openvino") from error
    core, inputs = openvino.Core(), _arrays(folder)
    model = core.read_model(str(folder / WHOLE))
    model.reshape({name: list(array.shape) for name, array in inputs.items()})
    wishes = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    request = core.compile_model(model, "CPU", wishes).create_infer_request()
    for name, array in inputs.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def step(given: dict[str, np.ndarray]) -> None:
        for name, array in given.items():
            inputs[name][:] = array
        request.infer()

    return step


def _torch(folder: Path, compiled: bool) -> Step:
    torch = _torch_module()
    torch.set_num_threads(1)
    module, inputs = _network(), {name: torch.from_numpy(array) for name, array in _arrays(folder).items()}
    run = torch.compile(module) if compiled else module
    rings = _rings(inputs)

    def step(given: dict[str, np.ndarray]) -> None:
        for name, array in given.items():
            inputs[name].numpy()[:] = array
        with torch.inference_mode():
            run(**inputs, **rings)

    return _tried(step)


def _torch_on_card(folder: Path, how: str) -> Step:
    """torch on a card: the rings stay there, the small inputs go there from pinned memory, the latent comes back."""
    torch = _torch_module()
    if not torch.cuda.is_available():
        raise _Missing("unproven here: this torch finds no NVIDIA card")
    module = _network().cuda()
    host = {name: torch.from_numpy(array).pin_memory() for name, array in _arrays(folder).items()}
    device = {name: tensor.cuda() for name, tensor in host.items()}
    rings = _rings(device)
    run = torch.compile(module) if how == "compile" else module
    latent = torch.empty_like(host["history"]).pin_memory()
    small = list(device)

    def work() -> None:
        for name in small:
            device[name].copy_(host[name], non_blocking=True)
        latent.copy_(run(**device, **rings)[0], non_blocking=True)

    graph = None
    with torch.inference_mode():
        for _ in range(3):
            work()
        torch.cuda.synchronize()
        if how == "graph":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                work()

    def step(given: dict[str, np.ndarray]) -> None:
        for name, array in given.items():
            host[name].numpy()[:] = array
        with torch.inference_mode():
            work() if graph is None else graph.replay()
        torch.cuda.synchronize()

    return _tried(step)


def _back_end(folder: Path, name: str) -> Step:
    """One of the engine's own back ends for cards, built anew."""
    from engine.errors import UserError
    from models.backends.engine_cache import EngineCache
    from models.backends.ort_backend import OrtBackend
    from models.backends.parity import probe
    from models.backends.step_memory import StepMemory
    from models.backends.tensorrt_backend import TensorRtBackend
    from models.music_to_dance.export import step_shapes

    shapes = step_shapes(_network().model.config)
    try:
        reference = probe(OrtBackend("cpu", folder / WHOLE, StepMemory(shapes)))
        backend: Any = (
            TensorRtBackend(folder / WHOLE, StepMemory(shapes), reference, EngineCache(folder / "engines"), "tf32")
            if name == "tensorrt"
            else OrtBackend(name, folder / WHOLE, StepMemory(shapes))
        )
    except UserError as error:
        raise _Missing(f"unproven here: {error}") from error

    def step(given: dict[str, np.ndarray]) -> None:
        for key, array in given.items():
            backend.memory.inputs[key][:] = array
        backend.run()

    return step


def _torch_module() -> Any:
    try:
        import torch
    except ImportError as error:
        raise _Missing('not installed: pip install -e ".[train]"') from error
    return torch


def _rings(inputs: dict[str, Any]) -> dict[str, list[Any]]:
    """Take the rings out of a graph's inputs and return them as the network wants them: lists."""
    names = {ring: sorted((name for name in inputs if name.startswith(f"{ring}_")), key=_place) for ring in _RINGS}
    return {ring: [inputs.pop(name) for name in of_ring] for ring, of_ring in names.items()}


def _tried(step: Step) -> Step:
    """Run a step once; compilers fail here if they do."""
    try:
        step({})
    except Exception as error:  # theirs have no common type
        raise _Missing(f"does not run: {str(error).splitlines()[0][:120]}") from error
    return step


def _bf16(_: Path) -> Step:
    raise _Missing("ONNX Runtime has no bfloat16 matrix products on x86 (1.31; on ARM only)")


_RINGS = ("keys", "values")
_DYNAMIC_INT8 = "ONNX Runtime, dynamic int8"
RIVALS: dict[str, Callable[[Path], Step]] = {
    "ONNX Runtime, 8-bit weights (default)": lambda folder: _ort(folder, LONE),
    "ONNX Runtime, 8-bit weights, the crowds' graph": lambda folder: _ort(folder, CROWD),
    "ONNX Runtime, float32": lambda folder: _ort(folder, WHOLE),
    "ONNX Runtime, float32, 2 threads": lambda folder: _ort(folder, WHOLE, 2),
    _DYNAMIC_INT8: lambda folder: _ort(folder, DYNAMIC),
    "ONNX Runtime, bfloat16": _bf16,
    "NumPy": _numpy,
    "OpenVINO, float32": lambda folder: _openvino(folder, "f32"),
    "OpenVINO, bfloat16": lambda folder: _openvino(folder, "bf16"),
    "torch, eager": lambda folder: _torch(folder, compiled=False),
    "torch.compile": lambda folder: _torch(folder, compiled=True),
    "card: torch, eager": lambda folder: _torch_on_card(folder, "eager"),
    "card: torch.compile": lambda folder: _torch_on_card(folder, "compile"),
    "card: torch, CUDA graph": lambda folder: _torch_on_card(folder, "graph"),
    "card: ONNX Runtime, CUDA": lambda folder: _back_end(folder, "cuda"),
    "card: TensorRT": lambda folder: _back_end(folder, "tensorrt"),
}


def window_cost_ms(window: int) -> float:
    """Return the processor time of a step of an untrained network with a window, float32 on the CPU [ms]."""
    from models.backends.measure import backend_cost_ms
    from models.backends.ort_backend import OrtBackend
    from models.backends.step_memory import StepMemory
    from models.music_to_dance.export import step_shapes, write_graph

    step = _network(window)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / WHOLE
        write_graph(step, step.model.config, path)
        backend = OrtBackend("cpu", path, StepMemory(step_shapes(step.model.config)))
        # As in the middle of a show: all of the past is seen.
        backend.memory.inputs["mask"][:] = 0.0
        return backend_cost_ms(backend, 100)


def _place(name: str) -> int:
    return int(name.rpartition("_")[2]) if "_" in name else -1


def _network(window: int = 48) -> Any:
    """Return an untrained step of the shipped model's sizes, but for its window."""
    import torch

    from models.artifacts import GMD_FOLDER, GmdManifest
    from models.music_to_dance.network import Gmd, GmdConfig
    from models.music_to_dance.stage_graph import StageStep

    manifest = GmdManifest.load(GMD_FOLDER)
    torch.manual_seed(0)
    music = manifest.chunk_ticks * manifest.feature_count
    return StageStep(Gmd(GmdConfig(music, manifest.condition_size, manifest.latent_size, window=window))).eval()


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    """Return an array for every input of the graph; the mask says that all of the past is seen."""
    shapes = json.loads((folder / "shapes.json").read_text())
    random = np.random.default_rng(0)
    arrays = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["mask"][:] = 0.0
    return arrays


def _prepare(folder: Path, wanted: Sequence[str]) -> None:
    """Write the graphs that the rivals wanted are given."""
    from models.artifacts import GMD_FOLDER, GmdManifest
    from models.backends.choose import COMPACT_FILE, LONE_FILE, MODEL_FILE, WEIGHTS_FILE

    copies = {MODEL_FILE: WHOLE, LONE_FILE: LONE, COMPACT_FILE: CROWD, WEIGHTS_FILE: WEIGHTS_FILE}
    for file, copy in copies.items():
        shutil.copyfile(GMD_FOLDER / file, folder / copy)
    shapes = GmdManifest.load(GMD_FOLDER).step_shapes(1).graph_inputs()
    (folder / "shapes.json").write_text(json.dumps(shapes))
    if _DYNAMIC_INT8 not in wanted:
        return
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    plain = onnx.load(folder / WHOLE)
    del plain.graph.value_info[:]
    onnx.save(plain, folder / "plain.onnx")
    quantize_dynamic(
        folder / "plain.onnx",
        folder / DYNAMIC,
        per_channel=True,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def _measure(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """Run one rival in this process."""
    try:
        step = RIVALS[name](folder)
    except _Missing as error:
        return {"name": name, "missing": str(error)}
    step({})
    result: dict[str, Any] = {"name": name, "cold_s": time.perf_counter() - _BORN}
    random, inputs = np.random.default_rng(1), _arrays(folder)
    vectors = [key for key in inputs if key in ("music", "condition", "history", "noise")]

    def timed(rate_hz: float) -> dict[str, float]:
        walls, begun = [], time.perf_counter()
        for index in range(steps + steps // 10):
            if rate_hz:
                time.sleep(max(0.0, begun + index / rate_hz - time.perf_counter()))
            given = {key: random.standard_normal(inputs[key].shape).astype(np.float32) for key in vectors}
            start = time.perf_counter()
            step(given)
            walls.append(time.perf_counter() - start)
        p50, p99 = 1e3 * np.percentile(walls[steps // 10 :], [50, 99])
        return {"p50_ms": float(p50), "p99_ms": float(p99)}

    result["in_a_row"], result["live_rate"] = timed(0.0), timed(LIVE_HZ)
    from engine.machine import resident_mb

    result["rss_mb"] = resident_mb()
    return result


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names wanted; all if none")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(_measure(given.one, given.folder, given.steps)))
        return
    wanted = [name for name in RIVALS if not given.names or any(part in name for part in given.names)]
    rows = []
    print("| one step of one dancer | in a row, p50 / p99 ms | live rate, p50 / p99 ms | cold start s | memory MB |")
    print("|---|---|---|---|---|", flush=True)
    # Not at the top: what is measured here is also how long it takes a process to begin.
    from engine.machine import busy_process

    with tempfile.TemporaryDirectory() as temporary, busy_process():
        _prepare(Path(temporary), wanted)
        for name in wanted:
            own = ["--one", name, "--folder", temporary, "--steps", str(given.steps)]
            done = subprocess.run(
                [sys.executable, "-m", "models.backends.rivals", *own], capture_output=True, text=True, check=False
            )
            lines = done.stdout.strip().splitlines() or [""]
            try:
                rows.append(json.loads(lines[-1]))
            except ValueError:
                why = (done.stderr.strip().splitlines() or ["it ended"])[-1]
                rows.append({"name": name, "missing": f"failed: {why[:120]}"})
            print(_line(rows[-1]), flush=True)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("onnxruntime", "numpy", "torch")]
    print(f"\n{', '.join(versions)}; {given.steps} steps each, beside a busy process")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def _line(row: dict[str, Any]) -> str:
    if "missing" in row:
        return f"| {row['name']} | {row['missing']} | | | |"
    cells = [f"{row[key]['p50_ms']:.2f} / {row[key]['p99_ms']:.2f}" for key in ("in_a_row", "live_rate")]
    return f"| {row['name']} | {' | '.join(cells)} | {row['cold_s']:.2f} | {row['rss_mb']:.0f} |"


if __name__ == "__main__":
    main()
