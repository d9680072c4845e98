"""The TensorRT back end on a card that is none: its memory, its graph, and every way in which a card lets us down."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from fake_card import FakeCuda, FakeTensorRt

from engine.errors import UserError
from engine.settings import load_show
from engine.stage import Cast, build_playing
from engine.types import StatusEvent
from models.artifacts import GMD_FOLDER, GmdManifest
from models.backends import choose as choosing
from models.backends import nvidia_driver
from models.backends import tensorrt_backend as module
from models.backends.choose import MODEL_FILE, choose
from models.backends.engine_cache import EngineCache
from models.backends.failover import FailoverBackend
from models.backends.nvidia_driver import DriverAnswer, Gpu
from models.backends.ort_backend import OrtBackend
from models.backends.protocol import StepBackend
from models.backends.step_memory import StepMemory
from models.backends.tensorrt_backend import MIRRORED_DANCERS, TensorRtBackend
from models.music_to_dance.plan import DanceTables

MANIFEST = GmdManifest.load(GMD_FOLDER)
PROBE = DanceTables.load(GMD_FOLDER).probe
CARD = DriverAnswer((Gpu("Card of Theseus", (8, 9), 12 << 30, 13000),), "")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A card with TensorRT, as the back end sees them."""
    cuda = FakeCuda()
    libraries = FakeTensorRt(cuda), cuda
    monkeypatch.setattr(module, "ask_driver", lambda: CARD)
    monkeypatch.setattr(choosing, "ask_driver", lambda: CARD)
    monkeypatch.setattr(module, "_libraries", lambda: libraries)
    return cuda


def _card(tmp_path: Path, batch: int = 1) -> TensorRtBackend:
    memory = StepMemory(MANIFEST.step_shapes(batch))
    return TensorRtBackend(GMD_FOLDER / MODEL_FILE, memory, PROBE, EngineCache(tmp_path), "tf32")


def _cpu(batch: int = 1) -> OrtBackend:
    return OrtBackend("cpu", GMD_FOLDER / MODEL_FILE, StepMemory(MANIFEST.step_shapes(batch)))


def _dance(backends: list[StepBackend], steps: int, seed: int = 0) -> list[list[np.ndarray]]:
    """Let back ends dance the same; return the latents of each step."""
    random, latents = np.random.default_rng(seed), []
    for _ in range(steps):
        for name in ("music", "condition", "noise"):
            rows = random.standard_normal(backends[0].memory.inputs[name].shape, np.float32)
            for backend in backends:
                backend.memory.inputs[name][:] = rows
        for backend in backends:
            backend.run()
        latents.append([backend.memory.outputs["latent"].copy() for backend in backends])
    return latents


@pytest.mark.parametrize(("batch", "steps"), [(1, MANIFEST.window + 5), (MIRRORED_DANCERS + 1, 6)])
def test_its_memory_is_the_cpus_beyond_a_full_ring(cuda: FakeCuda, tmp_path: Path, batch: int, steps: int) -> None:
    card, cpu = _card(tmp_path, batch), _cpu(batch)
    for ours, theirs in _dance([card, cpu], steps):
        assert np.abs(ours - theirs).max() < 1e-4
    if batch == 1:
        assert np.abs(card.memory.inputs["keys"] - cpu.memory.inputs["keys"]).max() < 1e-4
    assert cuda.launches > steps  # every step was a launch of the captured graph, the probe's too


def test_an_engine_is_built_once_and_all_memory_is_given_back(cuda: FakeCuda, tmp_path: Path) -> None:
    before = cuda.free_bytes
    first, second = _card(tmp_path), _card(tmp_path)
    assert first.origin == "compiled (not compiled yet)"
    assert second.origin == "kept"
    first.close()
    second.close()
    assert cuda.free_bytes == before
    assert not cuda.buffers


def test_a_full_card_is_refused_in_one_line_and_auto_takes_the_cpu(cuda: FakeCuda, tmp_path: Path) -> None:
    cuda.free_bytes = left = 300_000
    with pytest.raises(UserError, match="cudaErrorMemoryAllocation") as caught:
        choose("tensorrt", GMD_FOLDER, MANIFEST.step_shapes(1), PROBE, cache=EngineCache(tmp_path))
    assert "\n" not in str(caught.value)
    assert cuda.free_bytes == left
    chosen = choose("auto", GMD_FOLDER, MANIFEST.step_shapes(1), PROBE, cache=EngineCache(tmp_path))
    assert chosen.backend.name == "cpu"
    assert "cudaErrorMemoryAllocation" in chosen.why


def test_a_card_lost_in_a_show_leaves_the_cpu_with_all_that_was_danced(cuda: FakeCuda, tmp_path: Path) -> None:
    card, alone, said = _card(tmp_path), _cpu(), []
    second = OrtBackend("cpu", GMD_FOLDER / MODEL_FILE, card.memory)
    show = FailoverBackend(card, second, lambda *what: said.append(what))
    cuda.launches_left = 20
    for ours, theirs in _dance([show, alone], 30):
        assert np.abs(ours - theirs).max() < 1e-4
    assert show.name == "cpu"
    assert said == [("error", "tensorrt: cudaErrorDevicesUnavailable; the CPU goes on")]


def test_a_crowd_whose_memory_was_on_the_card_begins_anew(cuda: FakeCuda, tmp_path: Path) -> None:
    batch = MIRRORED_DANCERS + 1
    card, fresh = _card(tmp_path, batch), _cpu(batch)
    show = FailoverBackend(card, OrtBackend("cpu", GMD_FOLDER / MODEL_FILE, card.memory), None)
    _dance([show], 5)
    cuda.launches_left = 0
    fresh.memory.inputs["history"][:] = show.memory.inputs["history"]
    for ours, theirs in _dance([show, fresh], 3, seed=1):
        assert np.abs(ours - theirs).max() < 1e-4


def test_an_engine_that_cannot_be_kept_says_so(cuda: FakeCuda, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EngineCache(tmp_path / "file" / "engines")
    chosen = choose("auto", GMD_FOLDER, MANIFEST.step_shapes(1), PROBE, cache=cache)
    assert chosen.backend.name == "tensorrt"
    assert "and again next time" in chosen.why
    assert cache.subfolder("rtx") is None


class _OldDriver:
    """A driver's library of another version."""

    def __init__(self, version: int) -> None:
        self._version = version

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDriverGetVersion(self, pointer: object) -> int:
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = self._version  # type: ignore[arg-type]
        return 0


def test_an_old_driver_is_named_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: _OldDriver(11_040))
    answer = nvidia_driver.ask_driver()
    assert answer == DriverAnswer((), "the NVIDIA driver is too old (CUDA 11.4; 12.0 is needed): update it")
    chosen = choose("auto", GMD_FOLDER, MANIFEST.step_shapes(1), PROBE)
    assert chosen.backend.name == "cpu"
    assert "too old (CUDA 11.4" in chosen.why


def test_in_play_and_duet_too_the_operator_hears_of_a_lost_card(cuda: FakeCuda, tmp_path: Path) -> None:
    settings = load_show(None, ["band.model=rules", "dancer.backend=tensorrt", "dancer.model=gmd"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PASDEDEUX_CACHE", str(tmp_path))
        core = build_playing(settings, cast=Cast.ANSWER)
    assert core.lead is not None
    generator = core.lead._generator
    assert generator.backend.startswith("tensorrt")  # type: ignore[attr-defined]
    core._events = []
    cuda.launches_left = 0
    generator._company._backend.run()  # type: ignore[attr-defined]
    said = [event for event in core._events if isinstance(event, StatusEvent)]
    assert [(event.component, event.level) for event in said] == [("model", "error")]
    assert "the CPU goes on" in said[0].message
    assert generator.backend.startswith("cpu")  # type: ignore[attr-defined]
