"""The graphs of a step with 8-bit weights, for the CPU: a part of every export.

At the live rate a step is bound by the reading of its weights, which have fallen out of the caches since the last one;
a quarter of the bytes is most of what can be won. Weights are rounded in blocks with a scale each, and multiplied by
ONNX Runtime's `MatMulNBits` with 8-bit arithmetic ("accuracy level 4"). A few small weights through which the motion's
past goes straight into its future cost most of the error and next to none of the time: which, is measured, one weight
at a time, on real music, and those stay in float32. There are two graphs of the same weights: for crowds, and for a
lone dancer (`models.music_to_dance.lone_graph`).
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.errors import UserError
from engine.types import MotionRequest
from models.artifacts import CompactGraph, GmdManifest, file_digest
from models.backends.choose import COMPACT_FILE, LONE_FILE, MODEL_FILE, WEIGHTS_FILE
from models.backends.ort_backend import OrtBackend
from models.backends.parity import Agreement, compare
from models.backends.step_memory import Floats, StepMemory
from models.music_to_dance.plan import DancePlan, DanceTables
from models.music_to_dance.shared_weights import share_weights

log = logging.getLogger(__name__)

BLOCK = 64
"""Weights that share a scale. Half of it errs as much on the whole and reads more scales; twice errs a fifth more."""
_SMALLEST = 4096
"""Smaller weights are not worth a scale."""
_ERROR_BUDGET = 0.008
"""Relative error of a latent that rounding may make: some 2 mm at a hand, under the dance's own sampling by far."""
_FLOAT_SHARE = 0.1
"""Of the bytes, at most so many stay in float32 for the budget's sake."""
_TRIAL_STEPS, _PROOF_STEPS = 60, 3600
"""To find the sensitive weights; and ten minutes of steps at 120 bpm, for the manifest."""


class Piece:
    """Music to dance to while measuring: rows (T, F) at ticks, T at least a chunk, and what is known of its beat."""

    def __init__(self, music: Floats, tempo_bpm: float, beats_per_bar: int | None, style: int | None) -> None:
        self.music, self.tempo_bpm, self.beats_per_bar, self.style = music, tempo_bpm, beats_per_bar, style

    def requests(self, manifest: GmdManifest, first_tick: int = 0) -> Iterator[MotionRequest]:
        """Yield what a dancer on the stage would be asked, from a tick on."""
        chunk, look = manifest.chunk_ticks, manifest.lookahead_ticks
        # Before the music begins nothing was heard: rows that are not finite count as average music.
        padded = np.concatenate([np.full((chunk + look, self.music.shape[1]), np.nan, np.float32), self.music])
        style = manifest.styles[self.style] if self.style is not None else None
        for tick in range(0, len(self.music) // chunk * chunk, chunk):
            rows = padded[tick + 1 : tick + 1 + chunk]
            yield MotionRequest(first_tick + tick, rows, self.tempo_bpm, self.beats_per_bar, 0, style, 0.5)


def add_compact_graphs(
    folder: Path, lone: Path, pieces: Sequence[Piece], proof_steps: int = _PROOF_STEPS
) -> GmdManifest:
    """Write the 8-bit graphs of an exported model beside it and into its manifest; return that.

    Args:
        folder: of the export.
        lone: the lone dancer's graph, in float32.
        pieces: training music to measure on.
        proof_steps: over which the error that goes into the manifest is measured.

    Raises:
        UserError: the lone dancer's graph does not compute what the model does.
    """
    manifest, tables = replace(GmdManifest.load(folder), compact=None), DanceTables.load(folder)
    whole, compact, alone = folder / MODEL_FILE, folder / COMPACT_FILE, folder / LONE_FILE
    agreement = _agreement(manifest, tables, whole, lone, pieces, _TRIAL_STEPS)
    if not agreement.within("fp32"):
        raise UserError(f"export to {folder}: the lone dancer's graph differs by {agreement}", "report this as a bug")
    weights = quantisable(whole)
    errors = {}
    for name, _ in weights:
        quantise(whole, compact, {name})
        one = _agreement(manifest, tables, whole, compact, pieces, _TRIAL_STEPS)
        errors[name] = one.rms + one.apart
    rounded = _within_budget(weights, errors)
    quantise(whole, compact, rounded)
    quantise(lone, alone, rounded)
    agreement = _agreement(manifest, tables, whole, alone, pieces, proof_steps)
    kept = [name for name, _ in weights if name not in rounded]
    log.info("8-bit graph: differs by %s (rms %.2g); float32 stay: %s", agreement, agreement.rms, ", ".join(kept))
    share_weights([compact, alone], folder / WEIGHTS_FILE)
    sizes = dict(weights)
    saved = sum(4 * sizes[name] - sizes[name] - 4 * sizes[name] // BLOCK for name in rounded)
    facts = CompactGraph(
        "int8", manifest.weight_bytes - saved, agreement.rms, agreement.largest, agreement.apart, agreement.steps
    )
    files = {name: file_digest(folder / name) for name in (MODEL_FILE, COMPACT_FILE, LONE_FILE, WEIGHTS_FILE)}
    manifest = replace(manifest, files=manifest.files | files, compact=facts)
    manifest.save(folder)
    return manifest


def quantise(source: Path, target: Path, names: Collection[str]) -> None:
    """Write a graph with the named weights in 8 bits."""
    model = onnx.load(source)
    # What torch noted of the shapes in between does not hold for the new nodes.
    del model.graph.value_info[:]
    arrays = {array.name: array for array in model.graph.initializer}
    rounded: dict[str, list[onnx.TensorProto]] = {}
    for node in model.graph.node:
        name = _weight_of(node, arrays)
        if name is None or name not in names:
            continue
        weight = numpy_helper.to_array(arrays[name])
        weight = weight if node.op_type == "Gemm" else weight.T
        if name not in rounded:
            numbers, scales = _rounded(weight)
            rounded[name] = [
                numpy_helper.from_array(numbers, f"{name}.int8"),
                numpy_helper.from_array(scales, f"{name}.scale"),
            ]
        bias = ["", "", node.input[2]] if len(node.input) > 2 and node.input[2] else []
        node.CopyFrom(
            helper.make_node(
                "MatMulNBits",
                [node.input[0], f"{name}.int8", f"{name}.scale", *bias],
                list(node.output),
                node.name,
                domain="com.microsoft",
                K=weight.shape[1],
                N=weight.shape[0],
                bits=8,
                block_size=BLOCK,
                accuracy_level=4,
            )
        )
    used = {given for node in model.graph.node for given in node.input}
    kept = [array for array in model.graph.initializer if array.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *(array for pair in rounded.values() for array in pair)])
    if all(opset.domain != "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, target)


def _weight_of(node: onnx.NodeProto, arrays: Collection[str]) -> str | None:
    """Return the name of the weight that a node multiplies by, if it is one that can be rounded."""
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    if node.op_type == "Gemm":
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if {"transB": 0, **given}.items() - plain.items():
            return None
    elif node.op_type != "MatMul":
        return None
    return node.input[1] if node.input[1] in arrays else None


def quantisable(path: Path) -> list[tuple[str, int]]:
    """Return name and size of every weight of a graph that is worth rounding."""
    model = onnx.load(path)
    sizes = {array.name: math.prod(array.dims) for array in model.graph.initializer if len(array.dims) == 2}
    found = dict.fromkeys(name for node in model.graph.node if (name := _weight_of(node, sizes)))
    return [(name, sizes[name]) for name in found if sizes[name] >= _SMALLEST]


def _rounded(weight: Floats) -> tuple[np.ndarray, Floats]:
    """Return weights (N, K) as numbers (N, blocks, BLOCK) around 128 and scales (N, blocks)."""
    rows, columns = weight.shape
    blocks = -(-columns // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :columns] = weight
    padded = padded.reshape(rows, blocks, BLOCK)
    scales = np.abs(padded).max(axis=-1) / np.float32(127.0)
    scales[scales == 0.0] = 1.0
    return (np.rint(padded / scales[..., None]) + 128.0).astype(np.uint8), scales


def _within_budget(weights: Sequence[tuple[str, int]], errors: dict[str, float]) -> set[str]:
    """Return which weights are rounded: all but those that spoil most for their size, until the rest is good enough."""
    total = sum(size for _, size in weights)
    left, kept = {name: errors[name] ** 2 for name, _ in weights}, 0
    for name, size in sorted(weights, key=lambda pair: errors[pair[0]] ** 2 / pair[1], reverse=True):
        # Errors of different weights are independent enough to add as squares.
        if sum(left.values()) <= _ERROR_BUDGET**2 or kept + size > _FLOAT_SHARE * total:
            break
        del left[name]
        kept += size
    return set(left)


def _agreement(
    manifest: GmdManifest, tables: DanceTables, whole: Path, compact: Path, pieces: Sequence[Piece], steps: int
) -> Agreement:
    """Return how a graph agrees with another over a dance to real music, each step from the same past."""
    shapes = manifest.step_shapes(1)
    ours, theirs = OrtBackend("cpu", whole, StepMemory(shapes)), OrtBackend("cpu", compact, StepMemory(shapes))
    plan, latents = DancePlan(manifest, tables, 0), np.empty((2, steps, 1, shapes.latent), np.float32)
    requests = _endlessly(manifest, pieces)
    for step in range(steps):
        plan.prepare(next(requests), ours.memory, 0)
        theirs.memory.copy_from(ours.memory)
        ours.run()
        theirs.run()
        latents[:, step] = ours.memory.outputs["latent"], theirs.memory.outputs["latent"]
    ours.close()
    theirs.close()
    return compare(latents[1], latents[0])


def _endlessly(manifest: GmdManifest, pieces: Sequence[Piece]) -> Iterator[MotionRequest]:
    """Yield the requests of one piece after the other, over and over."""
    first_tick = 0
    for piece in itertools.cycle(pieces):
        for request in piece.requests(manifest, first_tick):
            yield request
            first_tick = request.first_tick + manifest.chunk_ticks
