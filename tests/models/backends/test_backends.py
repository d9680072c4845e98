"""Back ends on the shipped weights: one function whatever the batch, and the show goes on when a card is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from engine.features import FeatureSpec
from engine.types import MotionRequest
from models.artifacts import GMD_FOLDER, GmdManifest
from models.backends import choose as choosing
from models.backends.choose import MODEL_FILE, choose
from models.backends.engine_cache import EngineCache, StaleEngine
from models.backends.failover import FailoverBackend
from models.backends.nvidia_driver import DriverAnswer, Gpu, ask_driver
from models.backends.ort_backend import OrtBackend
from models.backends.parity import compare, probe
from models.backends.protocol import BackendLost
from models.backends.step_memory import VECTORS, StepMemory
from models.backends.tensorrt_backend import TensorRtBackend
from models.music_to_dance.generator import Company, OnnxGenerator
from models.music_to_dance.plan import DanceTables

MANIFEST = GmdManifest.load(GMD_FOLDER)
PROBE = DanceTables.load(GMD_FOLDER).probe
CARD = DriverAnswer((Gpu("Card of Theseus", (8, 9), 12 << 30, 13000),), "")


def _cpu(batch: int = 1) -> OrtBackend:
    return OrtBackend("cpu", GMD_FOLDER / MODEL_FILE, StepMemory(MANIFEST.step_shapes(batch)))


def _fill(memory: StepMemory, random: np.random.Generator) -> None:
    for name in ("music", "condition", "noise"):
        memory.inputs[name][:] = random.standard_normal(memory.inputs[name].shape, np.float32)


def test_the_stored_probe_is_what_this_machine_computes() -> None:
    assert compare(probe(_cpu()), PROBE).within("fp32")


def test_numpy_by_hand_computes_the_same() -> None:
    pytest.importorskip("onnx")
    from models.backends.numpy_step import NumpyStep

    cpu, graph = _cpu(), NumpyStep(GMD_FOLDER / MODEL_FILE)
    random = np.random.default_rng(5)
    for _ in range(3):
        _fill(cpu.memory, random)
        cpu.memory.turn()
        inputs = {name: cpu.memory.graph_input(name).copy() for name in MANIFEST.step_shapes(1).graph_inputs()}
        by_hand = graph.run(inputs)
        cpu.run()
        for ours, theirs in zip(by_hand, cpu.memory.outputs.values(), strict=True):
            assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("batch", [2, 7])
def test_a_batch_is_so_many_single_dancers(batch: int) -> None:
    together, singles = _cpu(batch), [_cpu() for _ in range(batch)]
    random = np.random.default_rng(3)
    # Beyond a full ring, so that slots are written over.
    for step in range(MANIFEST.window + 6):
        _fill(together.memory, random)
        if step == 20:
            together.memory.forget(1)
            singles[1].memory.forget(0)
        for row, single in enumerate(singles):
            for name in VECTORS:
                single.memory.inputs[name][0] = together.memory.inputs[name][row]
            single.run()
        together.run()
        for row, single in enumerate(singles):
            difference = np.abs(together.memory.outputs["latent"][row] - single.memory.outputs["latent"][0]).max()
            assert difference < 1e-4, (step, row)


def test_a_dancer_that_forgets_dances_as_one_that_begins() -> None:
    old, new = _cpu(), _cpu()
    random = np.random.default_rng(0)
    for _ in range(10):
        _fill(old.memory, random)
        old.run()
    old.memory.forget(0)
    _fill(old.memory, random)
    for name in VECTORS:
        new.memory.inputs[name][:] = old.memory.inputs[name]
    old.run()
    new.run()
    # Only distances in time matter to the rotary embedding, so it does not matter that one of them is ten steps old.
    assert np.abs(old.memory.outputs["latent"] - new.memory.outputs["latent"]).max() < 1e-4


class _LosingCard:
    """A card that works for some steps and is then pulled out."""

    name = "tensorrt"

    def __init__(self, memory: StepMemory, steps: int) -> None:
        self._cpu = OrtBackend("cpu", GMD_FOLDER / MODEL_FILE, memory)
        self.memory, self._left, self.closed = memory, steps, False

    def run(self) -> None:
        if self._left == 0:
            raise BackendLost("tensorrt: cudaErrorDeviceUnavailable")
        self._left -= 1
        self._cpu.run()

    def close(self) -> None:
        self.closed = True


def test_when_the_card_is_lost_the_cpu_goes_on_from_the_same_memory() -> None:
    memory = StepMemory(MANIFEST.step_shapes(1))
    card = _LosingCard(memory, 5)
    said: list[tuple[str, str]] = []
    show = FailoverBackend(card, OrtBackend("cpu", GMD_FOLDER / MODEL_FILE, memory), lambda *what: said.append(what))
    alone = _cpu()
    random, again = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(12):
        _fill(show.memory, random)
        _fill(alone.memory, again)
        show.run()
        alone.run()
        assert np.array_equal(show.memory.outputs["latent"], alone.memory.outputs["latent"])
    assert show.name == "cpu"
    assert card.closed
    assert said == [("error", "tensorrt: cudaErrorDeviceUnavailable; the CPU goes on")]


def test_without_a_card_auto_is_the_cpu_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "ask_driver", lambda: DriverAnswer((), "no NVIDIA driver is installed"))
    chosen = choose("auto", GMD_FOLDER, MANIFEST.step_shapes(1), PROBE)
    assert (chosen.backend.name, chosen.why) == ("cpu", "int8; no NVIDIA driver is installed")


def test_a_card_without_its_libraries_leaves_the_cpu_and_every_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(name: str, *_: object) -> None:
        raise UserError(f"{name} is not installed", "install it")

    monkeypatch.setattr(choosing, "ask_driver", lambda: CARD)
    monkeypatch.setattr(choosing, "_open", refuse)
    chosen = choose("auto", GMD_FOLDER, MANIFEST.step_shapes(1), PROBE, cache=EngineCache(tmp_path))
    assert chosen.backend.name == "cpu"
    assert all(f"{name} is not installed" in chosen.why for name in ("tensorrt", "rtx", "cuda"))


def test_a_precision_that_computes_something_else_gives_way_to_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried = []

    class Compiled(_LosingCard):
        origin = "compiled"

        def __init__(self, model: Path, memory: StepMemory, reference: object, cache: object, precision: str) -> None:
            tried.append(precision)
            if precision != "fp32":
                raise StaleEngine("its steps differ from the CPU's by 0.4")
            super().__init__(memory, 5)

    monkeypatch.setattr(choosing, "ask_driver", lambda: CARD)
    monkeypatch.setattr(choosing, "TensorRtBackend", Compiled)
    chosen = choose("auto", GMD_FOLDER, MANIFEST.step_shapes(1), PROBE, cache=EngineCache(tmp_path))
    assert tried == ["fp16", "tf32", "fp32"]
    assert (chosen.backend.name, chosen.why) == ("tensorrt", "fp32, compiled")


@pytest.mark.parametrize("name", ["tensorrt", "rtx", "cuda"])
def test_a_card_asked_for_by_name_that_is_not_there_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    if ask_driver().gpus:
        pytest.skip("this machine has an NVIDIA card")
    with pytest.raises(UserError) as caught:
        choose(name, GMD_FOLDER, MANIFEST.step_shapes(1), PROBE, cache=EngineCache(tmp_path))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_tensorrt_is_not_touched_before_the_driver_has_a_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import models.backends.tensorrt_backend as module

    def touched() -> None:
        raise AssertionError("TensorRT was imported")

    monkeypatch.setattr(module, "ask_driver", lambda: DriverAnswer((), "the driver finds no NVIDIA card"))
    monkeypatch.setattr(module, "_libraries", touched)
    memory = StepMemory(MANIFEST.step_shapes(1))
    with pytest.raises(UserError, match="finds no NVIDIA card"):
        TensorRtBackend(GMD_FOLDER / MODEL_FILE, memory, PROBE, EngineCache(tmp_path))


def test_an_unknown_back_end_is_refused() -> None:
    with pytest.raises(UserError, match="unknown back end 'abacus'"):
        OnnxGenerator(GMD_FOLDER, backend="abacus")


def _requests(styles: tuple[str | None, ...], tick: int) -> list[MotionRequest]:
    silence = FeatureSpec().silence[: MANIFEST.feature_count]
    music = np.tile(silence, (MANIFEST.chunk_ticks, 1)) + 0.2 * np.sin(tick / 5.0)
    return [MotionRequest(tick, music.astype(np.float32), 100.0, 4, 0, style, 0.5) for style in styles]


@pytest.mark.parametrize(("backend", "apart"), [("cpu-fp32", 1e-3), ("cpu", 5e-2)])
def test_in_a_company_each_dances_as_they_would_alone(backend: str, apart: float) -> None:
    # In 8 bits a company and a lone dancer have graphs of their own, which round otherwise.
    styles = ("rumba", "chacha", None)
    company = Company(GMD_FOLDER, (1, 2, 3), backend)
    alone = [OnnxGenerator(GMD_FOLDER, seed, backend) for seed in (1, 2, 3)]
    for tick in range(0, 80, MANIFEST.chunk_ticks):
        chunks = company.step(_requests(styles, tick))
        for chunk, single, request in zip(chunks, alone, _requests(styles, tick), strict=True):
            assert np.abs(chunk.rotations - single.step(request).rotations).max() < apart
    assert company.backend.startswith("cpu")
