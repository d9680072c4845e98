"""Which key music is in, from how much each pitch class sounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.types import Key
from models.symbolic.chords import chroma_templates
from models.symbolic.step_grid import StepGrid, notes_of

# Temperley (1999), "What's key for key?", from the tonic up.
_MAJOR = np.array([5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0])
_MINOR = np.array([5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0])


def pitch_class_weights(grid: StepGrid) -> NDArray[np.float64]:
    """Return (12,) steps for which each pitch class sounds in bass, chords and lead together."""
    weights = np.zeros(12)
    for start, end, pitch in np.concatenate([notes_of(grid.bass), notes_of(grid.lead)]).tolist():
        weights[pitch % 12] += end - start
    templates = chroma_templates()
    for start, end, chord in notes_of(grid.chord).tolist():
        weights += (end - start) * templates[chord]
    return weights


def estimate_key(weights: NDArray[np.floating]) -> Key | None:
    """Return the key whose profile correlates best with pitch-class weights (12,), or None if nothing sounds.

    After Krumhansl and Schmuckler, with Temperley's profiles.
    """
    if not float(weights.sum()) > 0.0 or float(np.ptp(weights)) <= 0.0:
        return None
    scores = [
        (float(np.corrcoef(np.roll(profile, tonic), weights)[0, 1]), tonic, minor)
        for minor, profile in ((False, _MAJOR), (True, _MINOR))
        for tonic in range(12)
    ]
    _, tonic, minor = max(scores)
    return Key(tonic, minor)
