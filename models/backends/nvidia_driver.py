"""Ask the NVIDIA driver what cards there are, before any of its heavier libraries is touched.

TensorRT without a device raises deep inside, or takes the process with it; the driver's own library only says no.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

_NAMES = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR (cuda.h)."""


OLDEST_CUDA = 12_000
"""What the oldest of the back ends asks of the driver (CUDA 12.0, as cuDriverGetVersion counts). An older driver would
load, and fail somewhere inside them."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA card: its name, compute capability, memory, and the newest CUDA that its driver runs."""

    name: str
    capability: tuple[int, int]
    memory_bytes: int
    driver_cuda: int


@dataclass(frozen=True, slots=True)
class DriverAnswer:
    """The cards, or, if there is none, why."""

    gpus: tuple[Gpu, ...]
    reason: str


def ask_driver() -> DriverAnswer:
    """Return the cards of this machine; never raises."""
    library = None
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
            break
        except OSError:
            continue
    if library is None:
        return DriverAnswer((), "no NVIDIA driver is installed")
    try:
        return _ask(library)
    except AttributeError as error:
        return DriverAnswer((), f"the NVIDIA driver is too old ({error})")


def _ask(library: ctypes.CDLL) -> DriverAnswer:
    code = library.cuInit(0)
    if code != 0:
        # 100: no device; 803: the kernel's driver and the library are of different versions (cuda.h).
        reasons = {100: "the driver finds no NVIDIA card", 803: "driver and library differ; restart the machine"}
        return DriverAnswer((), reasons.get(code, f"the NVIDIA driver does not start (error {code})"))
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    if version.value < OLDEST_CUDA:
        have, need = (f"{v // 1000}.{v % 1000 // 10}" for v in (version.value, OLDEST_CUDA))
        return DriverAnswer((), f"the NVIDIA driver is too old (CUDA {have}; {need} is needed): update it")
    library.cuDeviceGetCount(ctypes.byref(count))
    gpus = []
    for index in range(count.value):
        device, memory = ctypes.c_int(), ctypes.c_size_t()
        name = ctypes.create_string_buffer(128)
        parts = (ctypes.c_int(), ctypes.c_int())
        if library.cuDeviceGet(ctypes.byref(device), index) != 0:
            continue
        library.cuDeviceGetName(name, len(name), device)
        library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        for part, attribute in zip(parts, (_MAJOR, _MINOR), strict=True):
            library.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
        capability = (parts[0].value, parts[1].value)
        gpus.append(Gpu(name.value.decode(errors="replace"), capability, memory.value, version.value))
    return DriverAnswer(tuple(gpus), "" if gpus else "the driver finds no NVIDIA card")
