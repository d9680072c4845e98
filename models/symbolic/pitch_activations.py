"""What pitches sound and begin in audio: Spotify's basic-pitch network, through ONNX Runtime alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from engine.errors import UserError

WEIGHTS = Path(__file__).parents[1] / "weights" / "basic_pitch" / "nmp.onnx"
RATE_HZ = 22_050
HOP_SAMPLES = 256
FRAME_S = HOP_SAMPLES / RATE_HZ
LOWEST_PITCH, PITCHES = 21, 88
"""The network's rows are the keys of a piano."""
_WINDOW = 43_844  # samples, fixed by the network: 172 frames
_FRAMES, _EDGE = 172, 16  # frames at each end that lack context and are taken from the neighbouring window
_KEPT = _FRAMES - 2 * _EDGE


@dataclass(frozen=True, slots=True)
class PitchActivations:
    """Probabilities per frame of 256 samples at 22,050 Hz; frame k is at k * `FRAME_S`.

    Attributes:
        notes: (T, 88) float32, that the pitch 21 + row sounds.
        onsets: (T, 88) float32, that it begins.
    """

    notes: NDArray[np.float32]
    onsets: NDArray[np.float32]


class PitchNetwork:
    """The network of Bittner et al. (2022, "A lightweight instrument-agnostic model"), from basic-pitch 0.4.0.

    Args:
        weights: its `nmp.onnx`.

    Raises:
        UserError: the file is missing.
    """

    def __init__(self, weights: Path = WEIGHTS) -> None:
        import onnxruntime

        if not weights.is_file():
            raise UserError(f"no pitch network {weights}", "install the whole package again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])

    def __call__(self, samples: NDArray[np.float32], rate_hz: int) -> PitchActivations:
        """Return the activations of mono audio (n,) of any rate."""
        audio = samples if rate_hz == RATE_HZ else soxr.resample(samples, rate_hz, RATE_HZ, quality="HQ")
        frames = -(-len(audio) // HOP_SAMPLES)
        windows = -(-frames // _KEPT)
        padded = np.zeros((windows * _KEPT + 2 * _EDGE) * HOP_SAMPLES + _WINDOW, dtype=np.float32)
        padded[_EDGE * HOP_SAMPLES :][: len(audio)] = audio
        notes = np.empty((windows, _KEPT, PITCHES), dtype=np.float32)
        onsets = np.empty_like(notes)
        for i in range(windows):
            start = i * _KEPT * HOP_SAMPLES
            window = padded[start : start + _WINDOW].reshape(1, _WINDOW, 1)
            note, onset = self._session.run(
                ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"], {"serving_default_input_2:0": window}
            )
            notes[i], onsets[i] = note[0, _EDGE:-_EDGE], onset[0, _EDGE:-_EDGE]
        return PitchActivations(notes.reshape(-1, PITCHES)[:frames], onsets.reshape(-1, PITCHES)[:frames])
