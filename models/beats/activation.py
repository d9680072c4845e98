"""Small recurrent networks that hear beats and downbeats, one 10 ms hop at a time, in pure NumPy.

The answers of three are averaged: they learned from different music and err at different places. Each, every second
hop: 88 bands of the newest 60 ms -> 64 rectified units -> two gated recurrent layers of 96 units (Cho et al. 2014, in
torch's form) -> for each of two hops the chances of a beat and of a downbeat, and a distribution over tempo. About
145,000 weights each. Trained by `models.beats.training`; needs no torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from engine.beats.activation_tracker import Activation, ActivationTracker
from engine.beats.beat_filter import FilterSettings
from engine.beats.grid_judge import GridJudge
from engine.beats.spectrum import BandSpectrum
from engine.errors import UserError

BANDS = BandSpectrum.count
STRIDE_HOPS = 2
"""The network runs every second hop and answers for both: half the cost, twice the memory in time."""
FRONT_HOPS = 6
"""The first layer sees the newest 60 ms: enough to tell an attack from a level."""
DELAY_HOPS = 4
"""The network answers for 40 ms ago, when an attack has arrived; the tracker extrapolates anyway."""
TEMPO_CLASSES_BPM = np.geomspace(55.0, 215.0, 41)
"""What the network may say about the tempo: classes 3.5 % apart."""
_FOLDER = Path(__file__).parents[1] / "weights" / "beats"
WEIGHTS = (
    _FOLDER / "beat_activation.safetensors",
    _FOLDER / "beat_activation_styles.safetensors",
    _FOLDER / "beat_activation_rooms.safetensors",
)
"""The first network's, the second's, which learned from accompaniments in many styles too, and the third's, which heard
more syncopated drummers, and every clip at new speeds and in new rooms each time."""
JUDGE = _FOLDER / "grid_judge.safetensors"
"""Tells the beat from the off-beat; written by `models.beats.grid`."""


def shapes(front: int, units: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's arrays, for so many units in the first layer and in each recurrent one."""
    answers = 2 * STRIDE_HOPS + len(TEMPO_CLASSES_BPM)
    out: dict[str, tuple[int, ...]] = {"front.weight": (front, BANDS * FRONT_HOPS), "front.bias": (front,)}
    for name, inputs in (("gru1", front), ("gru2", units)):
        out |= {
            f"{name}.weight_ih_l0": (3 * units, inputs),
            f"{name}.weight_hh_l0": (3 * units, units),
            f"{name}.bias_ih_l0": (3 * units,),
            f"{name}.bias_hh_l0": (3 * units,),
        }
    return out | {"head.weight": (answers, units), "head.bias": (answers,), "mean": (BANDS,), "scale": (BANDS,)}


class _Gru:
    """One gated recurrent layer, one step at a time."""

    def __init__(self, weights: dict[str, NDArray[np.float32]], name: str) -> None:
        self._input = np.ascontiguousarray(weights[f"{name}.weight_ih_l0"])
        self._hidden = np.ascontiguousarray(weights[f"{name}.weight_hh_l0"])
        self._input_bias = weights[f"{name}.bias_ih_l0"]
        self._hidden_bias = weights[f"{name}.bias_hh_l0"]
        self._units = self._hidden.shape[1]
        self.reset()

    def reset(self) -> None:
        self.state = np.zeros(self._units, np.float32)

    def step(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        gates = self._input @ x
        gates += self._input_bias
        recurrent = self._hidden @ self.state
        recurrent += self._hidden_bias
        units = self._units
        both = gates[: 2 * units] + recurrent[: 2 * units]
        # The logistic function by way of tanh, which does not overflow.
        both *= 0.5
        np.tanh(both, out=both)
        both += 1.0
        both *= 0.5
        new = recurrent[2 * units :]
        new *= both[:units]
        new += gates[2 * units :]
        np.tanh(new, out=new)
        self.state = new + both[units:] * (self.state - new)
        return self.state


class _Network:
    """One network with its state.

    Raises:
        ValueError: an array is missing or has another shape.
    """

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        # Its own first layers say how large the network is; the rest must agree.
        front, units = (
            weights[n].shape[i] if n in weights else 0 for n, i in (("front.weight", 0), ("gru1.weight_hh_l0", 1))
        )
        for name, shape in shapes(front, units).items():
            if name not in weights or weights[name].shape != shape:
                found = weights[name].shape if name in weights else "nothing"
                raise ValueError(f"beat activation weights: '{name}' should be {shape}, found {found}")
        scale = weights["scale"]
        # The normalisation of the bands is folded into the first layer.
        folded = weights["front.weight"].reshape(front, FRONT_HOPS, BANDS)
        self._front = np.ascontiguousarray((folded * scale).reshape(front, -1), np.float32)
        shift = (folded * (scale * weights["mean"])).sum(axis=(1, 2))
        self._front_bias = (weights["front.bias"] - shift).astype(np.float32)
        # Before the first hop the network was taught zeros after normalisation: bands at their mean.
        self._before = np.tile(weights["mean"], FRONT_HOPS).astype(np.float32)
        self._one, self._two = _Gru(weights, "gru1"), _Gru(weights, "gru2")
        self._head, self._head_bias = np.ascontiguousarray(weights["head.weight"]), weights["head.bias"]

    def reset(self) -> None:
        """Forget everything heard."""
        self._recent = self._before.copy()
        self._one.reset()
        self._two.reset()

    def hear(self, bands: NDArray[np.float32]) -> None:
        """Take one hop's bands (88,)."""
        self._recent[:-BANDS] = self._recent[BANDS:]
        self._recent[-BANDS:] = bands

    def answer(self) -> NDArray[np.float32]:
        """Return the head's logits (45,) for the newest hops."""
        front = self._front @ self._recent
        front += self._front_bias
        np.maximum(front, 0.0, out=front)
        out: NDArray[np.float32] = self._head @ self._two.step(self._one.step(front))
        out += self._head_bias
        return out


class BeatActivation:
    """Networks whose answers are averaged, with their state. Deterministic; a fresh start at `reset`.

    Args:
        weights: of each network, arrays named and shaped as `shapes` says.

    Raises:
        ValueError: an array is missing or has another shape.
    """

    delay_ns = (DELAY_HOPS + STRIDE_HOPS - 1) * 10_000_000
    tempo_classes_bpm: NDArray[np.float64] | None = TEMPO_CLASSES_BPM
    hears_bars = True

    def __init__(self, *weights: dict[str, NDArray[np.float32]]) -> None:
        self._networks = [_Network(arrays) for arrays in weights]
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        for network in self._networks:
            network.reset()
        self._turn = 0
        self._answers = [Activation(0.0)] * STRIDE_HOPS

    def process(self, bands: NDArray[np.float32]) -> Activation:
        """Take one hop's bands (88,); the answer is about `delay_ns` before its end."""
        for network in self._networks:
            network.hear(bands)
        self._turn = (self._turn + 1) % STRIDE_HOPS
        if self._turn == 0:
            out = self._networks[0].answer()
            for network in self._networks[1:]:
                out += network.answer()
            out *= np.float32(1 / len(self._networks))
            split = 2 * STRIDE_HOPS
            chances = (0.5 + 0.5 * np.tanh(0.5 * out[:split])).tolist()
            tempo = out[split:]
            self._answers = [Activation(chances[i], chances[i + 1], tempo) for i in range(0, split, 2)]
        return self._answers[self._turn]


def load(*paths: Path) -> BeatActivation:
    """Read networks; without a path, those that come with the project.

    Raises:
        UserError: a file is missing or is not such a network.
    """
    loaded = []
    for path in paths or WEIGHTS:
        try:
            loaded.append(load_file(path))
            _Network(loaded[-1])
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(
                f"cannot read the beat network {path}: {error}", "reinstall, or choose the tracker flux"
            ) from error
    return BeatActivation(*loaded)


def load_judge(path: Path = JUDGE) -> GridJudge:
    """Read the judge of beats and off-beats.

    Raises:
        UserError: the file is missing or is not such a network.
    """
    try:
        return GridJudge(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(
            f"cannot read the grid judge {path}: {error}", "reinstall, or choose the tracker flux"
        ) from error


def create_tracker(*paths: Path) -> ActivationTracker:
    """Make the 'neural' beat tracker, for hops of 480 samples at 48 kHz.

    Raises:
        UserError: the weights cannot be read.
    """
    return ActivationTracker(load(*paths), FilterSettings(), load_judge())
