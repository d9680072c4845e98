"""General MIDI percussion -> the nine drums of `engine.types.DRUMS`."""

from __future__ import annotations

from engine.types import DRUMS

_CLASSES = {
    "kick": (35, 36),
    "snare": (37, 38, 39, 40),
    "closed_hat": (42, 44, 54, 69, 70, 82),
    "open_hat": (46,),
    "low_tom": (41, 43),
    "mid_tom": (45, 47),
    "high_tom": (48, 50),
    "crash": (49, 52, 55, 57),
    "ride": (51, 53, 59),
}
"""After the reduction of Gillick et al. (2019, Groove MIDI Dataset); claps count as snare, shakers and tambourines as
closed hi-hat, because that is the part they play."""

DRUM_OF_PITCH: dict[int, int] = {pitch: DRUMS.index(name) for name, pitches in _CLASSES.items() for pitch in pitches}
"""General MIDI percussion pitch -> index into `engine.types.DRUMS`; others have no class."""
