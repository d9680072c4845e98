"""An NVIDIA card that is none: the parts of CUDA's runtime and of TensorRT that the back end uses, on host memory.

Engines compute with ONNX Runtime on whatever lies at the addresses they were given. So a test sees whether rings,
slots, copies and the captured graph are right, and what happens when the card is full or gone. Speed only a card shows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

OK = 0


class _Error(int):
    """An error code as CUDA's binding gives it: an integer with a name."""

    name: str

    def __new__(cls, value: int, name: str) -> _Error:
        error = super().__new__(cls, value)
        error.name = name
        return error


OUT_OF_MEMORY = _Error(2, "cudaErrorMemoryAllocation")
GONE = _Error(46, "cudaErrorDevicesUnavailable")


class FakeCuda:
    """`cuda.bindings.runtime`.

    Args:
        memory_bytes: of the card.
    """

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, memory_bytes: int = 1 << 34) -> None:
        self.free_bytes = memory_bytes
        self.launches_left = 1 << 30
        self.launches = 0
        self.buffers: dict[int, Any] = {}
        self._recorded: list[Callable[[], Any]] | None = None

    def do(self, action: Callable[[], Any]) -> None:
        """Do it, or, while a graph is being captured, remember it."""
        if self._recorded is None:
            action()
        else:
            self._recorded.append(action)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if size > self.free_bytes:
            return (OUT_OF_MEMORY,)
        self.free_bytes -= size
        # Never zeroed by itself: what is read must have been written.
        buffer = ctypes.create_string_buffer(b"\x7f" * size, size)
        self.buffers[ctypes.addressof(buffer)] = buffer
        return OK, ctypes.addressof(buffer)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        buffer = ctypes.create_string_buffer(size)
        self.buffers[ctypes.addressof(buffer)] = buffer
        return OK, ctypes.addressof(buffer)

    def cudaFree(self, pointer: int) -> tuple[int]:
        self.free_bytes += len(self.buffers.pop(pointer))
        return (OK,)

    def cudaFreeHost(self, pointer: int) -> tuple[int]:
        del self.buffers[pointer]
        return (OK,)

    def cudaMemset(self, pointer: int, value: int, size: int) -> tuple[int]:
        ctypes.memset(pointer, value, size)
        return (OK,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        self.do(lambda: ctypes.memmove(to, source, size))
        return (OK,)

    def cudaMemcpy2DAsync(
        self, to: int, to_pitch: int, source: int, pitch: int, width: int, rows: int, kind: int, stream: int
    ) -> tuple[int]:
        def copy() -> None:
            for row in range(rows):
                ctypes.memmove(to + row * to_pitch, source + row * pitch, width)

        self.do(copy)
        return (OK,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        return OK, 7

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        return (OK,)

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return (OK,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self._recorded = []
        return (OK,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        graph, self._recorded = self._recorded, None
        return OK, graph

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:
        return OK, graph

    def cudaGraphDestroy(self, graph: Any) -> tuple[int]:
        return (OK,)

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[int]:
        return (OK,)

    def cudaGraphLaunch(self, graph: list[Callable[[], Any]], stream: int) -> tuple[int]:
        if self.launches_left == 0:
            return (GONE,)
        self.launches_left -= 1
        self.launches += 1
        for action in graph:
            action()
        return (OK,)


class FakeTensorRt:
    """`tensorrt`, of version 10.

    Args:
        cuda: on which its engines run.
    """

    __version__ = "10.13.0"
    MemoryPoolType = SimpleNamespace(WORKSPACE=0)
    BuilderFlag = SimpleNamespace(FP16=0, TF32=1)

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.built = 0
        self.Logger = _Logger

    def Builder(self, logger: Any) -> Any:
        def build(network: Any, config: Any) -> bytes:
            self.built += 1
            return bytes(network.content)

        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(content=b"", num_inputs=0),
            create_builder_config=lambda: SimpleNamespace(
                set_memory_pool_limit=lambda pool, size: None,
                set_flag=lambda flag: None,
                clear_flag=lambda flag: None,
                add_optimization_profile=lambda profile: None,
            ),
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *shapes: None),
            build_serialized_network=build,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        def parse(content: bytes) -> bool:
            inputs = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).get_inputs()
            tensors = [
                SimpleNamespace(name=i.name, shape=[s if isinstance(s, int) else -1 for s in i.shape]) for i in inputs
            ]
            network.content, network.num_inputs = content, len(tensors)
            network.get_input = lambda index: tensors[index]
            return True

        return SimpleNamespace(parse=parse)

    def Runtime(self, logger: Any) -> Any:
        return SimpleNamespace(
            deserialize_cuda_engine=lambda plan: SimpleNamespace(
                create_execution_context=lambda: _Context(self._cuda, plan)
            )
        )


class _Logger:
    ERROR = 1

    def __init__(self, level: int) -> None:
        self.level = level


class _Context:
    def __init__(self, cuda: FakeCuda, plan: bytes) -> None:
        self._cuda = cuda
        self._session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self._shapes[name] = shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        self._cuda.do(self._execute)
        return True

    def _execute(self) -> None:
        inputs = {i.name: _read(self._addresses[i.name], self._shapes[i.name]) for i in self._session.get_inputs()}
        for output, array in zip(self._session.get_outputs(), self._session.run(None, inputs), strict=True):
            ctypes.memmove(self._addresses[output.name], array.ctypes.data, array.nbytes)


def _read(address: int, shape: tuple[int, ...]) -> Any:
    pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(pointer, shape=(int(np.prod(shape)),)).reshape(shape).copy()
