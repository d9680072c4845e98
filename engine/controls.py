"""What a performer may ask for, live: one table for OSC, the web stage and keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.types import VOICES

ControlValue = float | str | None


@dataclass(frozen=True, slots=True)
class Control:
    """One control: its kind and, for numbers, the range they are clamped to.

    Kinds: 'trigger' (no value), 'flag' (0 or 1), 'number', 'choice' (a name, or an index into a list).
    """

    name: str
    kind: str
    low: float = 0.0
    high: float = 1.0
    help: str = ""


CONTROLS: dict[str, Control] = {
    control.name: control
    for control in (
        Control("panic", "trigger", help="all notes off, the dancer back to a safe neutral pose, then on"),
        Control("blackout", "flag", help="1: the stage goes dark; 0: back"),
        Control("hold", "flag", help="1: the dancer freezes in the pose; 0: on"),
        Control("style", "choice", help="style name or index; 'auto' lets metre and tempo choose"),
        Control("energy", "number", 0.0, 1.0, help="0 calm to 1 wild; 0.5 as the dancers who taught it"),
        Control("mirror", "flag", help="1: swap left and right"),
        Control("tap", "trigger", help="tap the beat; four taps set the tempo"),
        Control("nudge", "number", -1.0, 1.0, help="shift the beat by this many beats (+ is later)"),
        Control("tempo", "number", 20.0, 400.0, help="set the tempo [bpm]"),
        Control("double", "trigger", help="twice the tempo"),
        Control("half", "trigger", help="half the tempo"),
        Control("downbeat", "trigger", help="the nearest beat is the bar's first"),
        Control("scene", "choice", help="a scene of the show file, by name or index"),
        Control("key", "choice", help="the band's key, such as 'C major', or 'auto'"),
        Control("density", "number", 0.0, 1.0, help="the band: 0 sparse to 1 dense; 0.5 as learned"),
        Control("register", "number", -2.0, 2.0, help="the band: octaves up or down"),
        Control("mute_drums", "flag", help="1: the band plays without drums"),
        Control("mute_bass", "flag", help="1: without bass"),
        Control("mute_chord", "flag", help="1: without chords"),
        Control("mute_lead", "flag", help="1: without lead"),
        Control("triggers", "choice", help="the body's accents fire notes: off, free or quantised"),
    )
}


STATES = frozenset({"panic", "blackout"})
"""Those that put a stage out, and light it again: whatever else fails, every bridge gets them."""
BAND_CONTROLS = frozenset({"key", "density", "register", "triggers"} | {f"mute_{voice}" for voice in VOICES})
"""Those of a show in which a band plays."""
_REPEATED_NS = 1_000_000_000
# More refusals than these within that time are read by nobody: there are not so many controls.
_TOLD_AT_ONCE = 32


class Refusals:
    """Says which refusals are news: a patch that repeats mistakes must not fill every screen. Deterministic."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def is_news(self, message: str, time_ns: int) -> bool:
        """Return whether a refusal is to be told: not if the same was told within the last second."""
        self._told = {told: at_ns for told, at_ns in self._told.items() if abs(time_ns - at_ns) < _REPEATED_NS}
        if message in self._told or len(self._told) >= _TOLD_AT_ONCE:
            return False
        self._told[message] = time_ns
        return True


def coerce(name: str, value: object) -> ControlValue:
    """Return the value a control takes, clamped to its range.

    Raises:
        ValueError: unknown name, or a value of the wrong kind; the message is fit for an operator.
    """
    control = CONTROLS.get(name)
    if control is None:
        raise ValueError(f"unknown control '{name}'")
    if control.kind == "trigger":
        return None
    if control.kind == "choice" and isinstance(value, str):
        return value[:64]
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float) and math.isfinite(value):
        number = float(value)
        if control.kind == "flag":
            return 1.0 if number >= 0.5 else 0.0
        if control.kind == "choice":
            return float(int(number))
        return min(max(number, control.low), control.high)
    wanted = {"flag": "0 or 1", "number": "a number", "choice": "a name or an index"}[control.kind]
    raise ValueError(f"control '{name}' takes {wanted}")
