"""The beat of a recording, offline: its tempo and where one beat lies, for music that nobody has annotated.

The project's own activation (how likely is a beat at each hop?) is summed along a comb of evenly spaced beats; the comb
that collects most is the beat. The tracker says which metrical level is meant where the tempo is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.beats.spectrum import HOP_SAMPLES, HOPS_PER_S, BandSpectrum
from engine.types import NS_PER_S
from models.beats.activation import create_tracker
from models.beats.activation import load as load_activation

_SEARCH = 0.04
"""Tempos within 4 % of the expected one are tried: between neighbours on any metronome."""
_PHASES = 48
_DRIFT_S = 0.02
"""The tempos tried are so close that over the whole recording two of them part by this much."""
_WARM_UP_S = 5.0
"""The tracker is not believed before."""


@dataclass(frozen=True, slots=True)
class MusicBeat:
    """An even beat.

    Attributes:
        bpm: tempo.
        beat_s: time of one beat in the recording.
        clearness: mean activation on its beats over the mean of all hops; 1 is no beat at all.
    """

    bpm: float
    beat_s: float
    clearness: float


def find_beat(samples: NDArray[np.float32], known_bpm: float | None = None) -> MusicBeat | None:
    """Find the beat of music (n,) at 48 kHz, of a known tempo or not; None if it has none.

    A tempo that drifts gives the comb that fits best on the whole, and a low clearness.
    """
    activation, expected = _hear(samples)
    if known_bpm is not None:
        tempos = np.array([known_bpm])
    elif expected is None:
        return None
    else:
        count = max(3, int(np.ceil(2.0 * _SEARCH * len(activation) / HOPS_PER_S / _DRIFT_S)) | 1)
        tempos = expected * (1.0 + _SEARCH * np.linspace(-1.0, 1.0, count))
    best = MusicBeat(float(tempos[0]), 0.0, 0.0)
    mean = max(float(activation.mean()), 1e-9)
    for bpm in tempos:
        period = 60.0 * HOPS_PER_S / bpm
        beats = np.arange(int((len(activation) - 2) / period)) * period
        phases = np.arange(_PHASES) / _PHASES * period
        at = beats + phases[:, None]
        found = np.interp(at, np.arange(len(activation)), activation).mean(axis=1)
        phase = int(found.argmax())
        if found[phase] / mean > best.clearness:
            best = MusicBeat(float(bpm), float(phases[phase] / HOPS_PER_S), float(found[phase] / mean))
    return best if best.clearness > 0.0 else None


def _hear(samples: NDArray[np.float32]) -> tuple[NDArray[np.float64], float | None]:
    """Return the activation (n,) of each hop, at the hop in which the beat sounds, and the tracker's tempo."""
    # The tracker remembers what it heard, so it has an activation function of its own.
    tracker, function, spectrum = create_tracker(), load_activation(), BandSpectrum()
    hops = len(samples) // HOP_SAMPLES
    activation = np.zeros(hops)
    heard, trusts = [], []
    for hop in range(hops):
        bands = spectrum.process(samples[hop * HOP_SAMPLES : (hop + 1) * HOP_SAMPLES])
        activation[hop] = function.process(bands).beat
        end_ns = (hop + 1) * NS_PER_S // HOPS_PER_S
        estimate = tracker.process_bands(bands, spectrum.level, end_ns)
        if estimate is not None and end_ns > min(_WARM_UP_S, hops / HOPS_PER_S / 2) * NS_PER_S:
            heard.append(60.0 * NS_PER_S / estimate.period_ns)
            trusts.append(estimate.confidence)
    delay = round(function.delay_ns / NS_PER_S * HOPS_PER_S)
    # What is said at the end of hop k is of the beat `delay` before that end.
    moved = np.concatenate([activation[max(delay - 1, 0) :], np.zeros(max(delay - 1, 0))])
    if not heard:
        return moved, None
    order = np.argsort(heard)
    weight = np.cumsum(np.array(trusts)[order])
    return moved, float(np.array(heard)[order][np.searchsorted(weight, weight[-1] / 2.0)])
