"""Pickles that hold numbers and nothing else.

A pickle is a program: whoever loads one runs it. Motions of AIST++ are published as pickles, so they are read by an
unpickler that knows NumPy's arrays, dtypes and scalars; a file that names anything else is refused and nothing of it is
called (cf. the Python manual, "Restricting Globals").
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_BYTES = 1 << 30
"""An hour of SMPL poses at 60 frames a second is 130 MB in float64."""


class UnsafePickle(ValueError):
    """A pickle that is no mere container of arrays."""


def load_arrays(path: Path) -> dict[str, NDArray[Any] | float]:
    """Read a pickled dict of arrays and numbers.

    Raises:
        UnsafePickle: it names anything but arrays (it may contain code), or holds other things than numbers.
        ValueError: it cannot be read.
        OSError: it cannot be opened.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"it is larger than {LARGEST_BYTES >> 20} MB")
    try:
        content = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except UnsafePickle:
        raise
    except Exception as error:  # a broken pickle may raise anything
        raise ValueError(f"its pickle is broken ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise UnsafePickle("its pickle holds no table of arrays")
    return {str(name): _number(name, value) for name, value in content.items()}


def _number(name: object, value: object) -> NDArray[Any] | float:
    if isinstance(value, int | float | np.number):
        return float(value)
    if isinstance(value, list | tuple):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        raise UnsafePickle(f"its pickle holds something else than numbers under {name!r}")
    return value


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module.replace("numpy.core", "numpy._core"), name))
        if known is None:
            raise UnsafePickle(f"its pickle contains code ({module}.{name})")
        return known


def _reconstruct(kind: object, shape: object, code: object) -> NDArray[Any]:
    """Return the empty array that a pickled one is then filled into; NumPy's own takes any class and size."""
    if kind is not _ARRAY or shape != (0,):
        raise UnsafePickle("its pickle builds something else than an array")
    return np.ndarray((0,), np.int8)


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Return the bytes that old protocols wrote as text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise UnsafePickle("its pickle decodes text")
    return text.encode("latin1")


def _scalar(dtype: object, data: object = b"") -> Any:
    if not isinstance(dtype, np.dtype) or dtype.kind not in "fiub" or not isinstance(data, bytes | str):
        raise UnsafePickle("its pickle holds a scalar that is no number")
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype, count=1)[0]


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> NDArray[Any]:
    if not isinstance(data, bytes | bytearray | memoryview) or not isinstance(dtype, np.dtype):
        raise UnsafePickle("its pickle builds something else than an array")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")  # type: ignore[call-overload, no-any-return]


_ARRAY = object()
"""Stands for NumPy's array class, which may be named but not called: it would allocate any size."""

_KNOWN: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}
