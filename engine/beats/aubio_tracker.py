"""Raw aubio behind the tracker protocol: the fallback that everybody knows."""

from __future__ import annotations

import importlib

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.types import NS_PER_S, BeatEstimate

_HOP, _WINDOW = 576, 1024
"""aubio's own hop and window at 48 kHz: its comb-filter window is a power of two of hops, best matched by 12 ms."""
_DITHER = 10 ** (-72 / 20)
"""Noise [full scale] under the signal: over digital silence aubio's gate would drop the beats it predicts."""
_LATE_NS = 12_000_000
"""Its beats come this much after the accents (median on rendered music)."""
_CERTAIN = 0.35
"""The raw confidence that a steady pop song reaches; it is unbounded, and 0 in noise."""


class AubioTracker:
    """aubio's tempo (Davies and Plumbley 2007), fed its own hop of 576 samples.

    Raises:
        UserError: aubio is not installed.
    """

    sample_rate_hz = 48_000
    hop_samples = 480

    def __init__(self) -> None:
        try:
            self._aubio = importlib.import_module("aubio")
        except ImportError as error:
            raise UserError("aubio is not installed", "pip install aubio-ledfx, or choose another tracker") from error
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._tempo = self._aubio.tempo("default", _WINDOW, _HOP, self.sample_rate_hz)
        self._dither = np.random.default_rng(0)
        self._waiting = np.zeros(0, np.float32)
        self._fed = 0
        self._beat_sample: int | None = None

    def process(self, hop: NDArray[np.float32], end_ns: int) -> BeatEstimate | None:
        """Take one hop (480,) that ends at `end_ns`; return the last beat and period, None until there is one."""
        clean = np.clip(np.nan_to_num(hop, nan=0.0, posinf=0.0, neginf=0.0), -4.0, 4.0)
        noise = self._dither.uniform(-_DITHER, _DITHER, len(clean))
        self._waiting = np.concatenate([self._waiting, (clean + noise).astype(np.float32)])
        while len(self._waiting) >= _HOP:
            self._fed += _HOP
            if self._tempo(self._waiting[:_HOP])[0]:
                self._beat_sample = int(self._tempo.get_last())
            self._waiting = self._waiting[_HOP:]
        bpm = float(self._tempo.get_bpm())
        if self._beat_sample is None or not 20.0 < bpm < 400.0:
            return None
        ago = self._fed + len(self._waiting) - self._beat_sample
        beat_ns = end_ns - ago * NS_PER_S // self.sample_rate_hz - _LATE_NS
        confidence = min(max(float(self._tempo.get_confidence()) / _CERTAIN, 0.0), 1.0)
        return BeatEstimate(beat_ns, round(60 * NS_PER_S / bpm), confidence)
