"""A step's graph by hand in NumPy: one function a node, constants bound beforehand. A rival, and a second opinion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference.ops import _op_list
from scipy.special import erf

Array = NDArray[Any]


def _gelu(x: Array, **_: Any) -> Array:
    return 0.5 * x * (1.0 + erf(x * np.float32(np.sqrt(0.5))))


def _softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _normalised(x: Array, scale: Array, bias: Array | None = None, *, epsilon: float = 1e-5, **_: Any) -> Array:
    x = x - x.mean(axis=-1, keepdims=True)
    x = x * (scale / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(epsilon)))
    return x if bias is None else x + bias


def _gemm(x: Array, weight: Array, bias: Array | None = None, *, transB: int = 0, **_: Any) -> Array:
    y = x @ (weight.T if transB else weight)
    return y if bias is None else y + bias


def _split(x: Array, sizes: Array | None = None, *, axis: int = 0, num_outputs: int = 0) -> Sequence[Array]:
    return np.split(x, num_outputs if sizes is None else np.cumsum(sizes)[:-1], axis=axis)


def _reshape(x: Array, shape: Array, **_: Any) -> Array:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


def _pad(x: Array, pads: Array, value: Array | None = None, axes: Array | None = None, **_: Any) -> Array:
    half = len(pads) // 2
    widths = [(0, 0)] * x.ndim
    for k, axis in enumerate(range(x.ndim) if axes is None else axes.tolist()):
        widths[axis] = (int(pads[k]), int(pads[half + k]))
    return np.pad(x, widths, constant_values=0.0 if value is None else value.item())


_BY_HAND: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Erf": erf,
    "MatMul": np.matmul,
    "Gemm": _gemm,
    "Gelu": _gelu,
    "Softmax": _softmax,
    "LayerNormalization": _normalised,
    "Split": _split,
    "Reshape": _reshape,
    "Pad": _pad,
    "Concat": lambda *parts, axis: np.concatenate(parts, axis=axis),
    "Transpose": lambda x, perm: x.transpose(perm),
    "Gather": lambda x, index, axis=0: np.take(x, index, axis=axis),
    "Unsqueeze": lambda x, axes: np.expand_dims(x, tuple(axes.tolist())),
    "Squeeze": lambda x, axes: np.squeeze(x, tuple(axes.tolist())),
    "Expand": lambda x, shape: x * np.ones(shape, x.dtype),
    "Tile": np.tile,
}


_RUN: dict[str, Any] = {"log": lambda *_: None, "verbose": 0, "new_ops": None}


def _other(node: onnx.NodeProto, opset: int) -> Callable[..., Any]:
    """Return an operation by ONNX's own reference: for the few that are not worth writing down."""
    op = _op_list.load_op("", node.op_type, opset)(node, _RUN | {"opsets": {"": opset}})
    return lambda *given: op.run(*given)[0]


class NumpyStep:
    """Runs a graph on arrays. Threads: one, if BLAS is held to one.

    Args:
        path: of the graph, in float32.
    """

    def __init__(self, path: Path) -> None:
        model = onnx.load(path)
        opset = next(given.version for given in model.opset_import if not given.domain)
        self._values: dict[str, Any] = {a.name: numpy_helper.to_array(a) for a in model.graph.initializer} | {"": None}
        self._nodes: list[tuple[Callable[..., Any], dict[str, Any], list[str], list[str]]] = []
        for node in model.graph.node:
            given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            function = _BY_HAND.get(node.op_type)
            if function is None:
                function, given = _other(node, opset), {}
            self._nodes.append((function, given, list(node.input), list(node.output)))
        self._outputs = [value.name for value in model.graph.output]

    def run(self, inputs: dict[str, Array]) -> list[Array]:
        """Return the graph's outputs."""
        values = self._values | inputs
        for function, given, names, outputs in self._nodes:
            result = function(*[values[name] for name in names], **given)
            if len(outputs) == 1:
                values[outputs[0]] = result
            else:
                values.update(zip(outputs, result, strict=True))
        return [values[name] for name in self._outputs]
