"""One file of weights for several graphs: what is the same in them lies on the disc once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

_SMALLEST = 16_384
"""Bytes; smaller tensors stay in their graph."""
_PAGE = 4096
"""Tensors begin at a page, so that they can be mapped instead of read."""


def share_weights(graphs: Sequence[Path], store: Path) -> None:
    """Rewrite graphs so that their large tensors lie in a file beside them, equal ones once.

    Args:
        graphs: ONNX files in one folder.
        store: the file, in the same folder; is written anew.
    """
    places: dict[bytes, tuple[int, int]] = {}
    with store.open("wb") as file:
        for path in graphs:
            model = onnx.load(path)
            for tensor in model.graph.initializer:
                content = numpy_helper.to_array(tensor).tobytes()
                if len(content) < _SMALLEST:
                    continue
                digest = hashlib.sha256(content).digest()
                if digest not in places:
                    file.write(b"\0" * (-file.tell() % _PAGE))
                    places[digest] = file.tell(), len(content)
                    file.write(content)
                _move(tensor, store.name, *places[digest])
            onnx.save(model, path)


def _move(tensor: TensorProto, name: str, offset: int, length: int) -> None:
    """Let a tensor say where its content lies instead of holding it."""
    for held in ("float_data", "int32_data", "int64_data"):
        tensor.ClearField(held)
    # The helper moves only what is raw, even nothing.
    tensor.raw_data = b""
    external_data_helper.set_external_data(tensor, name, offset, length)
    tensor.ClearField("raw_data")
