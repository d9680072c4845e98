"""Steps compiled by TensorRT, with the memory on the card.

Written against the named-tensor API of TensorRT 10 and 11 (`execute_async_v3`). A step is: one copy of the small inputs
from pinned host memory, one launch of a captured CUDA graph (the copy back is in it), two strided copies that write the
new keys and values into their slot of the rings, one wait. Nothing is allocated. For the few dancers whose show must
not stop (`mirror`), the new keys and values also come back, so that the CPU can go on from the very same memory.

What this file can do without a card is refuse politely; it is exercised on one by `pasdedeux compile --prove`.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UserError
from models.backends.engine_cache import EngineCache, EngineKey, StaleEngine
from models.backends.nvidia_driver import ask_driver
from models.backends.parity import compare, probe
from models.backends.protocol import BackendLost
from models.backends.step_memory import VECTORS, Floats, StepMemory, StepShapes

_log = logging.getLogger(__name__)

MIRRORED_DANCERS = 64
"""Up to so many dancers the memory is mirrored on the host: 15 kB a dancer and step."""
_WORKSPACE_BYTES = 256 << 20
_REMEDY = 'pip install "pasdedeux[tensorrt]" (libraries come from the vendor), or choose another back end'
_SMALL = (*VECTORS, "mask", "cos", "sin")
PRECISIONS = ("fp16", "tf32", "fp32")
"""Fastest first; the first whose probe agrees with the CPU is taken."""


class TensorRtBackend:
    """A `StepBackend` on an NVIDIA card.

    Args:
        model: the step's graph (ONNX).
        memory: of the dancers; the engine is built for exactly its shapes.
        reference: latents (steps, 1, L) of the CPU's probe, see `models.backends.parity.probe`.
        cache: of engines.
        precision: one of `PRECISIONS`.

    Raises:
        UserError: no card, no TensorRT, or it can not compile the graph.
        StaleEngine: compiled, but it does not compute what the CPU does.
    """

    name = "tensorrt"

    def __init__(
        self, model: Path, memory: StepMemory, reference: Floats, cache: EngineCache, precision: str = "fp16"
    ) -> None:
        # In this order: TensorRT must not be touched before a device is known to be there.
        answer = ask_driver()
        if not answer.gpus:
            raise UserError(f"back end tensorrt: {answer.reason}", "choose cpu, or auto")
        self._trt, self._cuda = _libraries()
        self.memory, shapes = memory, memory.shapes
        self._mirror = shapes.batch <= MIRRORED_DANCERS
        self._reference, self.precision = reference, precision
        self._opened: _Device | None = None
        gpu, content = answer.gpus[0], model.read_bytes()
        self._logger = self._trt.Logger(self._trt.Logger.ERROR)
        self.key = EngineKey(
            weights=hashlib.sha256(content).hexdigest(),
            compiler=f"TensorRT {self._trt.__version__}",
            driver=str(gpu.driver_cuda),
            gpu=f"{gpu.name} sm{gpu.capability[0]}{gpu.capability[1]}",
            shapes=str(sorted(shapes.inputs().items())),
            precision=precision,
        )
        try:
            _, self.origin = cache.get(self.key, lambda: self._build(content), self._check)
        except (UserError, StaleEngine):
            raise
        except Exception as error:
            # Out of memory, a driver that is too old for this TensorRT: its errors have no common type.
            self.close()
            raise UserError(
                f"back end tensorrt: {error or type(error).__name__}", "choose cpu, or fewer dancers"
            ) from error

    def run(self) -> None:
        """Compute one step; see `StepBackend`."""
        if self._opened is None:
            raise BackendLost("tensorrt: closed")
        self.memory.turn()
        try:
            self._opened.step(self.memory, self._mirror)
        except BackendLost:
            if not self._mirror:
                # What the dancers remembered is lost with the card: whoever goes on must not take zeros for it.
                for row in range(self.memory.shapes.batch):
                    self.memory.forget(row)
            raise
        if self._mirror:
            self.memory.advance()
        else:
            # Only the bookkeeping: the rings are on the card.
            self.memory.inputs["mask"][:, self.memory.slot] = 0.0
            self.memory.inputs["history"][:] = self.memory.outputs["latent"]
            self.memory.count += 1

    def close(self) -> None:
        """Release the card's memory."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _build(self, content: bytes) -> bytes:
        trt, memory = self._trt, self.memory
        if self.precision == "fp16" and not hasattr(trt.BuilderFlag, "FP16"):
            raise StaleEngine("this TensorRT builds what the graph says, and the graph is float32")
        builder = trt.Builder(self._logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(content):
            raise UserError(f"TensorRT cannot read the graph: {parser.get_error(0).desc()}", "choose another back end")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
        flags = {"fp16": ("FP16", "TF32"), "tf32": ("TF32",), "fp32": ()}[self.precision]
        for name in ("FP16", "TF32"):
            flag = getattr(trt.BuilderFlag, name, None)
            if flag is not None:
                (config.set_flag if name in flags else config.clear_flag)(flag)
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            if -1 in tuple(tensor.shape):
                shape = memory.graph_input(tensor.name).shape
                profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise UserError("TensorRT could not compile the graph", "choose another back end")
        return bytes(plan)

    def _check(self, plan: bytes) -> None:
        """Open an engine and let it dance the probe."""
        self.close()
        runtime = self._trt.Runtime(self._logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise StaleEngine("TensorRT refuses it")
        try:
            self._opened = _Device(self._cuda, engine, self.memory.shapes)
        except _CudaError as error:
            raise UserError(f"back end tensorrt: {error}", "choose cpu, or fewer dancers") from error
        try:
            agreement = compare(probe(self, self._reference), self._reference)
        except BackendLost as error:
            self.close()
            raise StaleEngine(f"it does not run ({error})") from error
        self._opened.clear()
        if not agreement.within(self.precision):
            self.close()
            raise StaleEngine(f"its steps differ from the CPU's by {agreement}")


def _libraries() -> tuple[Any, Any]:
    """Return the TensorRT and CUDA runtime modules."""
    try:
        import tensorrt
        from cuda.bindings import runtime
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(f"back end tensorrt: {error}", _REMEDY) from error
    return tensorrt, runtime


class _Device:
    """Everything of one engine that lives on the card, and the captured graph of a step."""

    def __init__(self, cuda: Any, engine: Any, shapes: StepShapes) -> None:
        self._cuda, self._engine, self._shapes = cuda, engine, shapes
        self._graph: Any = None
        self._stream: Any = None
        self._on_device: list[int] = []
        self._on_host: list[int] = []
        try:
            self._set_up()
        except _CudaError:
            self.close()
            raise

    def _set_up(self) -> None:
        cuda, shapes = self._cuda, self._shapes
        self._context = self._engine.create_execution_context()
        self._stream = self._do(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))
        inputs, outputs = shapes.inputs(), shapes.outputs()
        self._in_bytes = sum(_bytes(inputs[name]) for name in _SMALL)
        self._out_bytes = sum(_bytes(shape) for shape in outputs.values())
        self._host_in = self._pinned(self._in_bytes)
        self._host_out = self._pinned(self._out_bytes)
        self._device: dict[str, int] = {}
        # The small inputs lie in one block, the outputs in another: one copy there, one copy back.
        self._block_in, self._block_out = self._allocate(self._in_bytes), self._allocate(self._out_bytes)
        offset = 0
        self._staged: dict[str, Floats] = {}
        for name in _SMALL:
            self._device[name] = self._block_in + offset
            self._staged[name] = self._host_in[offset // 4 : (offset + _bytes(inputs[name])) // 4].reshape(inputs[name])
            offset += _bytes(inputs[name])
        offset = 0
        self._returned: dict[str, Floats] = {}
        for name, shape in outputs.items():
            self._device[name] = self._block_out + offset
            self._returned[name] = self._host_out[offset // 4 : (offset + _bytes(shape)) // 4].reshape(shape)
            offset += _bytes(shape)
        for name in ("keys", "values"):
            self._device[name] = self._allocate(_bytes(inputs[name]))
        # The graph takes the rings of each attention by themselves; here they lie in one block, one after the other.
        for name, shape in shapes.graph_inputs().items():
            ring, _, index = name.partition("_")
            pointer = self._device[ring] + int(index or 0) * _bytes(shape)
            self._context.set_input_shape(name, shape)
            self._context.set_tensor_address(name, pointer)
        for name in outputs:
            self._context.set_tensor_address(name, self._device[name])
        self.clear()
        self._back_bytes = self._out_bytes

    def clear(self) -> None:
        """Empty the rings."""
        for name in ("keys", "values"):
            self._do(self._cuda.cudaMemset(self._device[name], 0, _bytes(self._shapes.inputs()[name])))

    def step(self, memory: StepMemory, mirror: bool) -> None:
        """Run one step on the memory's vectors; write its outputs."""
        try:
            if self._graph is None:
                self._capture(mirror)
            for name in _SMALL:
                self._staged[name][:] = memory.inputs[name]
            self._do(self._cuda.cudaGraphLaunch(self._graph, self._stream))
            self._remember(memory.slot)
            self._do(self._cuda.cudaStreamSynchronize(self._stream))
        except _CudaError as error:
            raise BackendLost(f"tensorrt: {error}") from error
        for name in memory.outputs if mirror else ("latent",):
            memory.outputs[name][:] = self._returned[name]

    def close(self) -> None:
        """Free everything; a card that is gone has freed it already."""
        cuda = self._cuda
        for pointer in self._on_device:
            cuda.cudaFree(pointer)
        for pointer in self._on_host:
            cuda.cudaFreeHost(pointer)
        self._on_device, self._on_host = [], []
        if self._graph is not None:
            cuda.cudaGraphExecDestroy(self._graph)
        if self._stream is not None:
            cuda.cudaStreamDestroy(self._stream)
        self._graph = self._stream = self._context = self._engine = None

    def _capture(self, mirror: bool) -> None:
        """Record a step (without the rings' slot, which moves) as a CUDA graph, after one run outside of it."""
        cuda = self._cuda
        # The latent is the first output: for a crowd only it comes back.
        latent = _bytes(self._shapes.outputs()["latent"])
        self._back_bytes = self._out_bytes if mirror else latent
        self._enqueue()
        self._do(cuda.cudaStreamSynchronize(self._stream))
        self._do(cuda.cudaStreamBeginCapture(self._stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
        self._enqueue()
        graph = self._do(cuda.cudaStreamEndCapture(self._stream))
        self._graph = self._do(cuda.cudaGraphInstantiate(graph, 0))
        self._do(cuda.cudaGraphDestroy(graph))

    def _enqueue(self) -> None:
        cuda, kind = self._cuda, self._cuda.cudaMemcpyKind
        up, down = kind.cudaMemcpyHostToDevice, kind.cudaMemcpyDeviceToHost
        self._do(cuda.cudaMemcpyAsync(self._block_in, self._host_in.ctypes.data, self._in_bytes, up, self._stream))
        if not self._context.execute_async_v3(int(self._stream)):
            raise _CudaError("the engine refused to run")
        self._do(
            cuda.cudaMemcpyAsync(self._host_out.ctypes.data, self._block_out, self._back_bytes, down, self._stream)
        )

    def _remember(self, slot: int) -> None:
        """Copy the new keys and values into their slot: rows of head_size, a window apart."""
        shapes, kind = self._shapes, self._cuda.cudaMemcpyKind
        row = 4 * shapes.head_size
        rows = shapes.attentions * shapes.batch * shapes.heads
        for ring, new in (("keys", "new_keys"), ("values", "new_values")):
            self._do(
                self._cuda.cudaMemcpy2DAsync(
                    self._device[ring] + slot * row,
                    shapes.window * row,
                    self._device[new],
                    row,
                    row,
                    rows,
                    kind.cudaMemcpyDeviceToDevice,
                    self._stream,
                )
            )

    def _pinned(self, size: int) -> Floats:
        pointer = self._do(self._cuda.cudaMallocHost(size))
        self._on_host.append(pointer)
        return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), shape=(size // 4,))

    def _allocate(self, size: int) -> int:
        pointer = int(self._do(self._cuda.cudaMalloc(size)))
        self._on_device.append(pointer)
        return pointer

    @staticmethod
    def _do(result: tuple[Any, ...]) -> Any:
        """Return what a CUDA call returned, or raise for its error code."""
        code, *values = result
        if int(code) != 0:
            raise _CudaError(getattr(code, "name", str(code)))
        return values[0] if values else None


class _CudaError(RuntimeError):
    """A CUDA call failed: out of memory, or the card is gone."""


def _bytes(shape: tuple[int, ...]) -> int:
    return 4 * int(np.prod(shape))
