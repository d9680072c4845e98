"""Steps on ONNX Runtime: the CPU (the embedded default), and NVIDIA cards through its CUDA and TensorRT-RTX providers.

The CPU's settings are measured, not guessed: one thread without spinning has the shortest tail beside another busy
process, and arrays bound once save a copy and an allocation a step. On a card the rings stay on the host and travel
with every step (0.7 MB a dancer): right for a few dancers; crowds belong to `tensorrt_backend`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from engine.errors import UserError
from models.backends.protocol import BackendLost
from models.backends.step_memory import StepMemory

BATCH_DIMENSION = "dancers"
"""The graph's free dimension; fixed when a session is opened, so that nothing is computed about shapes on stage."""

_RTX_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"


def stage_options() -> Any:
    """Return the options of a session on stage: one thread, which sleeps while it waits, and says only errors."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


class OrtBackend:
    """A `StepBackend` on an ONNX Runtime session.

    Args:
        name: "cpu", "cuda" or "rtx".
        model: the step's graph.
        memory: of the dancers; its arrays are bound once.
        cache: folder where a provider may keep what it compiles; None: nothing is kept.

    Raises:
        UserError: this ONNX Runtime has no such provider, or it cannot run the graph.
    """

    def __init__(self, name: str, model: Path, memory: StepMemory, cache: Path | None = None) -> None:
        self.name = name
        self.memory = memory
        options = stage_options()
        options.add_free_dimension_override_by_name(BATCH_DIMENSION, memory.shapes.batch)
        try:
            self._session = _open(name, model, options, cache)
            self._binding = self._session.io_binding()
            # Bound to our own buffers once: a step copies nothing and allocates nothing.
            for key in [given.name for given in self._session.get_inputs()]:
                array = self.memory.graph_input(key)
                self._binding.bind_input(key, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            for key, array in self.memory.outputs.items():
                self._binding.bind_output(key, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            # The first run allocates; it is not to happen on stage.
            self._session.run_with_iobinding(self._binding)
        except UserError:
            raise
        except Exception as error:
            # ONNX Runtime has an exception type of its own for each of its status codes.
            raise UserError(f"back end {name}: {_first_line(error)}", "choose another back end, or auto") from error

    def run(self) -> None:
        """Compute one step; see `StepBackend`."""
        self.memory.turn()
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise BackendLost(f"{self.name}: {_first_line(error)}") from error
        self.memory.advance()

    def close(self) -> None:
        """Release the session."""
        self._binding = self._session = None


def _open(name: str, model: Path, options: Any, cache: Path | None) -> Any:
    if name == "cpu":
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    if name == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise UserError(
                "this ONNX Runtime has no CUDA provider",
                'pip uninstall onnxruntime && pip install "pasdedeux[cuda]", or choose another back end',
            )
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CUDAExecutionProvider", "CPUExecutionProvider"]
        )
        if "CUDAExecutionProvider" not in session.get_providers():
            raise UserError("the CUDA provider could not be loaded", "check driver, CUDA and cuDNN, or choose cpu")
        return session
    if name == "rtx":
        devices = _rtx_devices()
        settings = {"nv_runtime_cache_path": str(cache)} if cache is not None else {}
        options.add_provider_for_devices(devices, settings)
        return onnxruntime.InferenceSession(str(model), options)
    raise ValueError(f"unknown ONNX Runtime back end '{name}'")


def _rtx_devices() -> list[Any]:
    """Return the devices of the TensorRT-RTX plug-in, registered first if need be."""
    remedy = 'pip install "pasdedeux[rtx]"; it needs an RTX 30, 40 or 50 card'
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise UserError("this ONNX Runtime is too old for plug-in providers", 'pip install -U "onnxruntime>=1.23"')
    try:
        plugin = importlib.import_module(_RTX_PACKAGE)
    except ImportError as error:
        raise UserError("the TensorRT-RTX provider is not installed", remedy) from error
    name = plugin.get_ep_name()
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
        devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise UserError("the TensorRT-RTX provider finds no card that it supports", remedy)
    return devices[:1]


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
