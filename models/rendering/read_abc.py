"""Read dance tunes in abc notation: a melody of one voice, with the plain grammar that fiddle collections use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from models.rendering.scores import Score, make_notes

_TOKEN = re.compile(
    r'"[^"]*"|![^!]*!|\+[^+]*\+'  # chord names and decorations: skipped
    r"|\{[^}]*\}"  # grace notes: skipped
    r"|\[[A-Z]:[^\]]*\]"  # inline field
    r"|\((?P<tuplet>[2-9])(?::\d*)?(?::\d*)?"
    r"|(?P<chord>\[(?:[_=^]*[A-Ga-g][,']*[\d/]*)+\])(?P<chord_length>[\d/]*)"
    r"|(?P<accidental>[_=^]*)(?P<note>[A-Ga-gzx])(?P<octave>[,']*)(?P<length>[\d/]*)"
    r"|(?P<broken>[<>]+)"
    r"|(?P<tie>-)"
    r"|(?P<bar>:*\|[\]|:]*|::|\[\||\[?[12](?=[^\d/]))"
    r"|.",
    re.DOTALL,
)
_PITCHES = {"C": 60, "D": 62, "E": 64, "F": 65, "G": 67, "A": 69, "B": 71}
_SHARPS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1, "Bb": -2, "Eb": -3, "Ab": -4, "Db": -5, "F#": 6}
_MODES = {"maj": 0, "ion": 0, "": 0, "m": -3, "min": -3, "aeo": -3, "dor": -2, "mix": -1, "phr": -4, "lyd": 1}
# (p notes in the time of q); q of 5, 7, 9 depends on the metre and is rare: 2 fits simple metres
_TUPLETS = {2: 3, 3: 2, 4: 3, 5: 2, 6: 2, 7: 2, 8: 3, 9: 2}


@dataclass(slots=True)
class _Event:
    pitches: tuple[int, ...]
    length: Fraction  # of a whole note
    tied: bool = False


def parse_abc(text: str, program: int = 40) -> Score:
    """Parse one tune; repeats are played once.

    A beat is the quarter note in simple metres (the half note in 2/2 and C|), the dotted quarter in 6/8, 9/8 and
    12/8. The pickup, if there is one, comes before the first downbeat.

    Args:
        text: the tune.
        program: General MIDI program of its one channel, 0; 40 is the violin.

    Raises:
        ValueError: there is no key field, the metre is not a fraction, or no notes follow.
    """
    header, _, body = text.partition("\nK:")
    if not body:
        raise ValueError("abc tune without a K: field")
    key, _, body = body.partition("\n")
    fields = dict(re.findall(r"^([A-Z]):\s*([^%\n]*)", header, re.MULTILINE))
    metre = fields.get("M", "4/4").strip()
    metre = {"C": "4/4", "C|": "2/2"}.get(metre, metre)
    numerator, denominator = (int(n) for n in metre.split("/"))
    unit = Fraction(fields["L"].strip()) if "L" in fields else Fraction(1, 8 if numerator / denominator >= 0.75 else 16)
    compound = denominator == 8 and numerator > 3 and numerator % 3 == 0
    beat = Fraction(3, 8) if compound else Fraction(1, max(2, min(4, denominator)))
    bar = Fraction(numerator, denominator)

    bars = _parse_body(re.sub(r"^[A-Za-z]:.*$|%.*$", "", body, flags=re.MULTILINE), unit, _key_signature(key))
    bars = [events for events in bars if events]
    if not bars:
        raise ValueError("abc tune without notes")
    pickup = sum((event.length for event in bars[0]), Fraction(0))
    at = bar - pickup if pickup < bar else Fraction(0)  # beat 0 starts the (partly silent) first bar
    rows: list[list[float]] = []
    carried: dict[int, list[float]] = {}
    for number, events in enumerate(bars):
        start = at
        for event in events:
            end = at + event.length
            for pitch in event.pitches:
                row = carried.pop(pitch, None)
                if row is None:
                    row = [float(at / beat), 0.0, 0, pitch, 96 if at == start and number else 80]
                    rows.append(row)
                row[1] = float(end / beat)
                if event.tied:
                    carried[pitch] = row
            at = end
    notes = make_notes((start, end, 0, int(pitch), int(velocity)) for start, end, _, pitch, velocity in rows)
    per_bar = int(bar / beat) if (bar / beat).denominator == 1 else numerator
    length = -(-at // beat)
    return Score(notes, int(length), per_bar, programs={0: program})


def _key_signature(key: str) -> dict[str, int]:
    """Return the alteration of each note letter of a K: field."""
    match = re.match(r"\s*([A-G][#b]?)\s*([a-zA-Z]*)", key)
    if match is None:
        return {}
    sharps = _SHARPS.get(match[1], 0) + _MODES.get(match[2].lower()[:3] if match[2] != "m" else "m", 0)
    if sharps >= 0:
        return dict.fromkeys("FCGDAEB"[:sharps], 1)
    return dict.fromkeys("BEADGCF"[:-sharps], -1)


def _length(text: str) -> Fraction:
    """Parse a note length: '', '3', '/', '//', '3/2', '/4'."""
    if not text:
        return Fraction(1)
    number, slashes, divisor = text.partition("/")
    if not slashes:
        return Fraction(int(number))
    halves = 1 + divisor.count("/")
    divisor = divisor.strip("/")
    return Fraction(int(number or 1), int(divisor) if divisor else 2**halves)


def _pitch(accidental: str, letter: str, octave: str, signature: dict[str, int], local: dict[str, int]) -> int:
    """Return the MIDI pitch; an accidental lasts until the bar line."""
    upper = letter.upper()
    place = letter + octave
    if accidental:
        local[place] = accidental.count("^") - accidental.count("_")
    alter = local.get(place, signature.get(upper, 0))
    shift = 12 * (letter.islower() + octave.count("'") - octave.count(","))
    return _PITCHES[upper] + alter + shift


def _parse_body(body: str, unit: Fraction, signature: dict[str, int]) -> list[list[_Event]]:
    """Return the events of each bar."""
    bars: list[list[_Event]] = [[]]
    local: dict[str, int] = {}
    tuplet, tuplet_left, broken = Fraction(1), 0, 0
    for match in _TOKEN.finditer(body):
        if match["bar"]:
            bars.append([])
            local = {}
        elif match["tuplet"]:
            tuplet_left = int(match["tuplet"])
            tuplet = Fraction(_TUPLETS[tuplet_left], tuplet_left)
        elif match["broken"] and bars[-1]:
            broken = len(match["broken"]) * (1 if match["broken"][0] == ">" else -1)
            part = Fraction(1, 2 ** abs(broken))
            bars[-1][-1].length *= 2 - part if broken > 0 else part
        elif match["tie"] and bars[-1]:
            bars[-1][-1].tied = True
        elif match["note"] or match["chord"]:
            if match["chord"]:
                inner = re.findall(r"([_=^]*)([A-Ga-g])([,']*)", match["chord"])
                pitches = tuple(_pitch(a, n, o, signature, local) for a, n, o in inner)
                length = _length(match["chord_length"])
            else:
                sounding = match["note"] not in "zx"
                pitch = _pitch(match["accidental"], match["note"], match["octave"], signature, local) if sounding else 0
                pitches = (pitch,) if sounding else ()
                length = _length(match["length"])
            length *= unit
            if tuplet_left:
                length *= tuplet
                tuplet_left -= 1
            if broken:
                part = Fraction(1, 2 ** abs(broken))
                length *= part if broken > 0 else 2 - part
                broken = 0
            bars[-1].append(_Event(pitches, length))
    return bars
