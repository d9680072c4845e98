"""Graphs by torch's older exporter, for tests of what is done with them: in half a second instead of ten.

What the newer one writes, which ships, is judged in `test_onnx_generator`. Every export compares its graph with the
model, so that one that computes something else is refused here, too.
"""

from __future__ import annotations

import copy
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from models.backends.ort_backend import BATCH_DIMENSION
from models.backends.step_memory import RINGS, VECTORS
from models.music_to_dance import export
from models.music_to_dance.export import step_shapes
from models.music_to_dance.network import GmdConfig
from models.music_to_dance.stage_graph import StageStep


def make_exports_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let exports of the music -> dance model write and measure their graphs quickly."""
    monkeypatch.setattr(export, "write_graph", _write_graph)
    monkeypatch.setattr(export, "add_compact_graphs", partial(export.add_compact_graphs, proof_steps=60))


def _write_graph(step: StageStep, config: GmdConfig, path: Path) -> None:
    step = copy.copy(step)
    # The older exporter knows none of the operators of a `LoneStep`, which computes the same.
    step.__class__ = StageStep
    shapes = step_shapes(config, 3)
    example = {name: torch.zeros(shape) for name, shape in shapes.inputs().items()}
    given = [list(value) if name in RINGS else value for name, value in example.items()]
    inputs, outputs = list(shapes.graph_inputs()), list(shapes.outputs())
    of_dancers = [name for name in inputs if name.split("_")[0] in (*VECTORS, *RINGS, "mask")]
    axes = {name: {0: BATCH_DIMENSION} for name in (*of_dancers, "latent")}
    axes |= {name: {1: BATCH_DIMENSION} for name in outputs if name != "latent"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            step,
            tuple(given),
            str(path),
            dynamo=False,
            opset_version=20,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
        )
