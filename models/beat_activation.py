"""A small recurrent network that hears beats and downbeats, one 10 ms hop at a time, in pure NumPy.

Every second hop: 88 bands of the newest 60 ms -> 64 rectified units -> two gated recurrent layers of 96 units (Cho et
al. 2014, in torch's form) -> for each of two hops the chances of a beat and of a downbeat, and a distribution over
tempo. About 145,000 weights. Trained by `models.beat_training`; needs no torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from engine.beats.activation_tracker import Activation, ActivationTracker
from engine.beats.beat_filter import FilterSettings
from engine.beats.spectrum import BandSpectrum
from engine.errors import UserError

BANDS = BandSpectrum.count
STRIDE_HOPS = 2
"""The network runs every second hop and answers for both: half the cost, twice the memory in time."""
FRONT_HOPS = 6
"""The first layer sees the newest 60 ms: enough to tell an attack from a level."""
FRONT_UNITS = 64
GRU_UNITS = 96
DELAY_HOPS = 4
"""The network answers for 40 ms ago, when an attack has arrived; the tracker extrapolates anyway."""
TEMPO_CLASSES_BPM = np.geomspace(55.0, 215.0, 41)
"""What the network may say about the tempo: classes 3.5 % apart."""
WEIGHTS = Path(__file__).parent / "weights" / "beats" / "beat_activation.safetensors"

_SHAPES = {
    "front.weight": (FRONT_UNITS, BANDS * FRONT_HOPS),
    "front.bias": (FRONT_UNITS,),
    "gru1.weight_ih_l0": (3 * GRU_UNITS, FRONT_UNITS),
    "gru1.weight_hh_l0": (3 * GRU_UNITS, GRU_UNITS),
    "gru1.bias_ih_l0": (3 * GRU_UNITS,),
    "gru1.bias_hh_l0": (3 * GRU_UNITS,),
    "gru2.weight_ih_l0": (3 * GRU_UNITS, GRU_UNITS),
    "gru2.weight_hh_l0": (3 * GRU_UNITS, GRU_UNITS),
    "gru2.bias_ih_l0": (3 * GRU_UNITS,),
    "gru2.bias_hh_l0": (3 * GRU_UNITS,),
    "head.weight": (2 * STRIDE_HOPS + len(TEMPO_CLASSES_BPM), GRU_UNITS),
    "head.bias": (2 * STRIDE_HOPS + len(TEMPO_CLASSES_BPM),),
    "mean": (BANDS,),
    "scale": (BANDS,),
}


class _Gru:
    """One gated recurrent layer, one step at a time."""

    def __init__(self, weights: dict[str, NDArray[np.float32]], name: str) -> None:
        self._input = np.ascontiguousarray(weights[f"{name}.weight_ih_l0"])
        self._hidden = np.ascontiguousarray(weights[f"{name}.weight_hh_l0"])
        self._input_bias = weights[f"{name}.bias_ih_l0"]
        self._hidden_bias = weights[f"{name}.bias_hh_l0"]
        self.state = np.zeros(GRU_UNITS, np.float32)

    def step(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        gates = self._input @ x
        gates += self._input_bias
        recurrent = self._hidden @ self.state
        recurrent += self._hidden_bias
        both = gates[: 2 * GRU_UNITS] + recurrent[: 2 * GRU_UNITS]
        # The logistic function by way of tanh, which does not overflow.
        both *= 0.5
        np.tanh(both, out=both)
        both += 1.0
        both *= 0.5
        new = recurrent[2 * GRU_UNITS :]
        new *= both[:GRU_UNITS]
        new += gates[2 * GRU_UNITS :]
        np.tanh(new, out=new)
        self.state = new + both[GRU_UNITS:] * (self.state - new)
        return self.state


class BeatActivation:
    """The network with its state. Deterministic; a fresh start at `reset`.

    Args:
        weights: arrays named as in `models/weights/beats/README.md`.

    Raises:
        ValueError: an array is missing or has another shape.
    """

    delay_ns = (DELAY_HOPS + STRIDE_HOPS - 1) * 10_000_000
    tempo_classes_bpm: NDArray[np.float64] | None = TEMPO_CLASSES_BPM
    hears_bars = True

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        for name, shape in _SHAPES.items():
            if name not in weights or weights[name].shape != shape:
                found = weights[name].shape if name in weights else "nothing"
                raise ValueError(f"beat activation weights: '{name}' should be {shape}, found {found}")
        scale = weights["scale"]
        # The normalisation of the bands is folded into the first layer.
        folded = weights["front.weight"].reshape(FRONT_UNITS, FRONT_HOPS, BANDS)
        self._front = np.ascontiguousarray((folded * scale).reshape(FRONT_UNITS, -1), np.float32)
        shift = (folded * (scale * weights["mean"])).sum(axis=(1, 2))
        self._front_bias = (weights["front.bias"] - shift).astype(np.float32)
        # Before the first hop the network was taught zeros after normalisation: bands at their mean.
        self._before = np.tile(weights["mean"], FRONT_HOPS).astype(np.float32)
        self._one, self._two = _Gru(weights, "gru1"), _Gru(weights, "gru2")
        self._head, self._head_bias = np.ascontiguousarray(weights["head.weight"]), weights["head.bias"]
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._recent = self._before.copy()
        for layer in (self._one, self._two):
            layer.state = np.zeros(GRU_UNITS, np.float32)
        self._turn = 0
        self._answers = [Activation(0.0)] * STRIDE_HOPS

    def process(self, bands: NDArray[np.float32]) -> Activation:
        """Take one hop's bands (88,); the answer is about `delay_ns` before its end."""
        recent = self._recent
        recent[:-BANDS] = recent[BANDS:]
        recent[-BANDS:] = bands
        self._turn = (self._turn + 1) % STRIDE_HOPS
        if self._turn == 0:
            front = self._front @ recent
            front += self._front_bias
            np.maximum(front, 0.0, out=front)
            out = self._head @ self._two.step(self._one.step(front))
            out += self._head_bias
            split = 2 * STRIDE_HOPS
            chances = (0.5 + 0.5 * np.tanh(0.5 * out[:split])).tolist()
            tempo = out[split:]
            self._answers = [Activation(chances[i], chances[i + 1], tempo) for i in range(0, split, 2)]
        return self._answers[self._turn]


def load(path: Path = WEIGHTS) -> BeatActivation:
    """Read the network.

    Raises:
        UserError: the file is missing or is not this network.
    """
    try:
        return BeatActivation(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(
            f"cannot read the beat network {path}: {error}", "reinstall, or choose the tracker flux"
        ) from error


def create_tracker(path: Path = WEIGHTS) -> ActivationTracker:
    """Make the 'neural' beat tracker, for hops of 480 samples at 48 kHz.

    Raises:
        UserError: the weights cannot be read.
    """
    return ActivationTracker(load(path), FilterSettings())
