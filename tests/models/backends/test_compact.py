"""The CPU's graph with 8-bit weights: near the whole one, smaller, and never taken where it is wrong or slow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from models.artifacts import GMD_FOLDER, MANIFEST, GmdManifest, file_digest
from models.backends import choose as choosing
from models.backends.choose import COMPACT_FILE, LONE_FILE, MODEL_FILE, WEIGHTS_FILE, choose
from models.backends.measure import stream_parity
from models.backends.parity import APART, compare, probe
from models.music_to_dance.plan import DanceTables

onnx = pytest.importorskip("onnx")

from models.music_to_dance import compact  # noqa: E402
from models.music_to_dance.compact import BLOCK, Piece, add_compact_graphs, quantisable, quantise  # noqa: E402

SHIPPED = GmdManifest.load(GMD_FOLDER)
PROBE = DanceTables.load(GMD_FOLDER).probe


@pytest.fixture(autouse=True)
def _even(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both graphs take the same: which of them is faster here and now decides nothing."""
    monkeypatch.setattr(choosing, "_fastest_step", lambda backend: 1e-3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped model."""
    return Path(shutil.copytree(GMD_FOLDER, tmp_path / "gmd"))


def _cpu(folder: Path) -> tuple[str, str]:
    chosen = choose("cpu", folder, SHIPPED.step_shapes(1), PROBE)
    chosen.backend.close()
    return chosen.backend.name, chosen.why


def _weights(path: Path) -> list[str]:
    graph = onnx.load(path).graph
    arrays = {array.name for array in graph.initializer if len(array.dims) == 2}
    return [node.input[1] for node in graph.node if node.op_type == "Gemm" and node.input[1] in arrays]


def test_the_shipped_model_runs_in_8_bits_and_says_so() -> None:
    assert SHIPPED.compact is not None
    assert SHIPPED.compact.weight_bytes < 0.5 * SHIPPED.weight_bytes
    assert _cpu(GMD_FOLDER) == ("cpu", "int8, asked for")
    chosen = choose("cpu-fp32", GMD_FOLDER, SHIPPED.step_shapes(1), PROBE)
    assert chosen.why == "float32, asked for"


def test_its_steps_stay_near_the_whole_graphs_from_the_same_past() -> None:
    # White noise is harder than music: the manifest's figures, measured on music, are smaller.
    agreement = stream_parity(GMD_FOLDER, "cpu", 80)
    assert agreement.within("int8"), agreement
    assert 0.0 < agreement.rms < 0.05


@pytest.fixture
def bare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped model without its 8-bit graphs; few weights are worth a scale, and each is tried for a moment."""
    sizes = sorted((size for _, size in quantisable(folder / MODEL_FILE)), reverse=True)
    monkeypatch.setattr(compact, "_SMALLEST", sizes[3])
    monkeypatch.setattr(compact, "_TRIAL_STEPS", 10)
    content = json.loads((folder / MANIFEST).read_text())
    del content["compact"]
    for file in (COMPACT_FILE, LONE_FILE, WEIGHTS_FILE):
        (folder / file).unlink()
        del content["files"][file]
    (folder / MANIFEST).write_text(json.dumps(content))
    return folder


def _pieces() -> list[Piece]:
    music = np.random.default_rng(0).normal(size=(120, SHIPPED.feature_count)).astype(np.float32)
    return [Piece(music, 100.0, 4, 0)]


def test_they_are_made_again_from_the_whole_graph_and_measured(bare: Path, tmp_path: Path) -> None:
    assert _cpu(bare)[1] == "float32, asked for"
    lone = Path(shutil.copyfile(bare / MODEL_FILE, tmp_path / "lone.onnx"))
    manifest = add_compact_graphs(bare, lone, _pieces(), proof_steps=40)
    assert manifest.compact is not None
    assert manifest.compact.steps == 40
    for file in (COMPACT_FILE, LONE_FILE, WEIGHTS_FILE):
        assert manifest.files[file] == file_digest(bare / file)
    assert GmdManifest.load(bare) == manifest
    assert _cpu(bare)[1] == "int8, asked for"
    whole, graphs = (bare / MODEL_FILE).stat().st_size, [(bare / f).stat().st_size for f in (COMPACT_FILE, LONE_FILE)]
    assert sum(graphs) < 0.1 * whole, "the weights lie beside them"
    assert (bare / WEIGHTS_FILE).stat().st_size < 0.9 * whole, "and once"


def test_a_lone_dancers_graph_that_computes_something_else_is_refused(bare: Path, tmp_path: Path) -> None:
    model = onnx.load(bare / MODEL_FILE)
    bias = next(array for array in model.graph.initializer if array.name == "model.decoder_norm.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
    onnx.save(model, tmp_path / "lone.onnx")
    with pytest.raises(UserError, match="lone dancer's graph differs"):
        add_compact_graphs(bare, tmp_path / "lone.onnx", _pieces(), proof_steps=10)


def test_one_dancer_and_a_crowd_have_each_their_graph_and_both_compute_the_same() -> None:
    opened = []
    latents = []
    for batch in (1, 3):
        backend = choose("cpu", GMD_FOLDER, SHIPPED.step_shapes(batch), PROBE).backend
        latents.append(probe(backend, PROBE))
        backend.close()
        opened.append(len(onnx.load(GMD_FOLDER / (LONE_FILE if batch == 1 else COMPACT_FILE)).graph.node))
    assert opened[0] < 0.6 * opened[1], "the lone dancer's has fewer operators"
    assert compare(latents[1], latents[0]).largest < 0.05
    assert compare(latents[1], PROBE).within("int8")


def test_weights_are_rounded_to_the_nearest_of_255_numbers_a_block(tmp_path: Path) -> None:
    name = _weights(GMD_FOLDER / MODEL_FILE)[0]
    quantise(GMD_FOLDER / MODEL_FILE, tmp_path / "one.onnx", {name})
    whole = {a.name: onnx.numpy_helper.to_array(a) for a in onnx.load(GMD_FOLDER / MODEL_FILE).graph.initializer}
    small = {a.name: onnx.numpy_helper.to_array(a) for a in onnx.load(tmp_path / "one.onnx").graph.initializer}
    assert name not in small
    numbers, scales = small[f"{name}.int8"], small[f"{name}.scale"]
    again = ((numbers.astype(np.float32) - 128.0) * scales[..., None]).reshape(len(numbers), -1)
    columns = whole[name].shape[1]
    assert numbers.shape[-1] == BLOCK
    assert np.all(np.abs(again[:, :columns] - whole[name]) <= 0.501 * np.repeat(scales, BLOCK, axis=1)[:, :columns])
    assert np.all(again[:, columns:] == 0.0)


def test_where_it_is_slow_the_whole_graph_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([8e-3, 1e-3])
    monkeypatch.setattr(choosing, "_fastest_step", lambda _: next(durations))
    assert _cpu(GMD_FOLDER)[1].startswith("float32, since the 8-bit graph takes 8 x as long")


def test_where_it_computes_something_else_the_whole_graph_is_taken(folder: Path) -> None:
    model = onnx.load(folder / LONE_FILE)
    for array in model.graph.initializer:
        if array.name.endswith(".scale"):
            array.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(array) * 3.0, array.name))
    onnx.save(model, folder / LONE_FILE)
    assert _cpu(folder)[1].startswith("float32, since the 8-bit graph differs by")


def test_where_it_does_not_open_the_whole_graph_is_taken(folder: Path) -> None:
    (folder / LONE_FILE).write_bytes(b"no graph")
    assert _cpu(folder)[1].startswith("float32, since the 8-bit graph does not open")


def test_a_changed_compact_graph_is_refused_when_the_model_is_loaded(folder: Path) -> None:
    with (folder / LONE_FILE).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match="damaged"):
        GmdManifest.load(folder)


def test_another_choice_is_counted_and_not_taken_for_rounding() -> None:
    reference = np.random.default_rng(0).normal(size=(40, 1, 16)).astype(np.float32)
    latents = reference + np.float32(0.01)
    latents[7] += 2.0 * APART
    agreement = compare(latents, reference)
    assert agreement.apart == pytest.approx(1 / 40)
    assert agreement.largest == pytest.approx(0.01, rel=1e-3)
    assert agreement.within("fp16")
    assert not agreement.within("fp32")
    latents[3:20] += 2.0 * APART
    assert not compare(latents, reference).within("int8")
    latents[0] = np.nan
    assert not compare(latents, reference).within("int8")
