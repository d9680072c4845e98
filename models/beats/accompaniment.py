"""Accompaniments in hundreds of styles for training a beat activation, written by MMA (Musical MIDI Accompaniment).

MMA (Debian package `mma`, GPL-2) turns chords and the name of a groove into a MIDI file: rumba, cha-cha, salsa, tango,
waltzes, swing, funk, rock, ballads. Songs of POP909 lend their chords, so that their tunes fit on top; the rest get
progressions drawn by chance. Library files are split by name: some are kept for development.
"""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from models.rendering.scores import read_pop909

_LOG = logging.getLogger(__name__)
GROOVES = Path("/usr/share/mma/lib")
_TIMEOUT_S = 20.0
_BARS = 34
"""Long enough for 112 beats of four, or of three."""

_TEMPI = (
    (r"vien", 145, 190),
    (r"fast.*waltz", 135, 190),
    (r"jazzwaltz|frenchwaltz|waltz$", 95, 175),
    (r"waltz|34$", 80, 150),
    (r"slow|ballad|bolero|lullaby|nite|bald|serenade", 58, 95),
    (r"salsa|mambo|afro", 140, 200),
    (r"merengue|son$", 115, 165),
    (r"rhumba|beguine|chacha|calypso|bossa|cuban|tango|latin", 82, 138),
    (r"fastswing|quickstep|bebop|fastblues|charleston|dixie|2beat|bigband|polka|march|bluegrass|gypsy", 115, 195),
    (r"dnb|punk|metal|mtl|hrk|jive|twist|ska", 115, 190),
    (r"hiphop|hip-hop|trip", 68, 108),
    (r"house|techno|trance|dance|rave|disco", 108, 148),
    (r"funk|soul|16|rnb|r\+b|rb", 72, 122),
    (r"shuffle|swing|blues|jazz|foxtrot|rag|boggie|boogie", 76, 176),
)
"""Tempi [bpm] at which each kind of groove is danced to, by its file's name: what tells a beat from its double."""
_ANY_TEMPO = (76, 150)
_LATIN = r"salsa|mambo|afro|merengue|son$|rhumba|beguine|chacha|calypso|bossa|cuban|tango|latin|samba"
_LATIN_WEIGHT = 4.0
_LEFT_OUT = r"6/?8|128|54$|none|metronome|count|intro|ending|mide|arpeggio"
"""Compound and odd metres, and files without music."""
_PROGRESSIONS = (
    "C Am F G7",
    "C F G7 C",
    "Am F C G",
    "Dm7 G7 CM7 Am7",
    "C G Am F",
    "Am Dm G7 CM7",
    "C Em F Fm",
    "F G Em Am",
    "Am G F E7",
    "C C7 F Fm",
    "Dm Am E7 Am",
    "C / C /",
)
_QUALITIES = {
    "maj": "",
    "min": "m",
    "7": "7",
    "maj7": "M7",
    "min7": "m7",
    "dim": "dim",
    "dim7": "dim7",
    "hdim7": "m7b5",
    "aug": "aug",
    "sus4": "sus4",
    "sus2": "sus2",
    "maj6": "6",
    "min6": "m6",
    "9": "9",
    "maj9": "M9",
    "min9": "m9",
}


@dataclass(frozen=True, slots=True)
class Groove:
    """One library file: its playable grooves and how fast they may go."""

    name: str
    grooves: list[str]
    beats_per_bar: int
    slowest_bpm: float
    fastest_bpm: float
    latin: bool

    @property
    def held_back(self) -> bool:
        """Whether the file is kept for development."""
        return zlib.crc32(self.name.encode()) % 9 == 0


@dataclass(frozen=True, slots=True)
class Accompaniment:
    """A MIDI file that MMA wrote.

    Attributes:
        file: its name in the folder.
        groove: the library file's name.
        beats_per_bar: of the groove.
        slowest_bpm, fastest_bpm: what the groove is danced at.
        song: the POP909 song whose chords it plays, or 0.
        first_bar: the bar of that song it begins with, 0 being the one of its first downbeat.
        development: kept from training.
    """

    file: str
    groove: str
    beats_per_bar: int
    slowest_bpm: float
    fastest_bpm: float
    song: int
    first_bar: int
    development: bool


def list_grooves(folder: Path = GROOVES) -> list[Groove]:
    """Return MMA's library files in two, three or four."""
    found = []
    for path in sorted(folder.glob("*/*.mma")):
        text = path.read_text(errors="replace")
        stem = path.stem.lower()
        metres = {int(m) for m in re.findall(r"^\s*Time\s+(\d+)", text, re.IGNORECASE | re.MULTILINE)}
        names = re.findall(r"^\s*DefGroove\s+(\S+)", text, re.IGNORECASE | re.MULTILINE)
        names = [n for n in names if not re.search(r"intro|end|fill|break|stop", n, re.IGNORECASE)]
        if re.search(_LEFT_OUT, stem) or len(metres) != 1 or not names or not metres <= {2, 3, 4}:
            continue
        slowest, fastest = next(((lo, hi) for p, lo, hi in _TEMPI if re.search(p, stem)), _ANY_TEMPO)
        latin = re.search(_LATIN, stem) is not None
        found.append(Groove(f"{path.parent.name}/{path.stem}", names, metres.pop(), slowest, fastest, latin))
    return found


def write_accompaniments(
    out: Path, pop909: Path, songs: Iterable[int], free: int, seed: int = 0
) -> list[Accompaniment]:
    """Write one accompaniment for each song and so many of no song, as MIDI with `index.json`; return the index.

    Raises:
        FileNotFoundError: `mma` is not installed.
    """
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    grooves = list_grooves()
    weights = np.array([_LATIN_WEIGHT if g.latin else 1.0 for g in grooves])
    index: list[Accompaniment] = []
    for song in [*songs, *[0] * free]:
        bars, first_bar, allowed = None, 0, np.ones(len(grooves), bool)
        if song:
            score = read_pop909(pop909, song)
            bars = song_chords(pop909, song, score.first_downbeat, score.length_beats)
            first_bar = int(rng.integers(0, max(1, len(bars) - _BARS)))
            bars = bars[first_bar : first_bar + _BARS]
            allowed = np.array(
                [
                    g.beats_per_bar == 4
                    and g.slowest_bpm < 1.15 * score.tempo_bpm
                    and g.fastest_bpm > 0.87 * score.tempo_bpm
                    for g in grooves
                ]
            )
        odds = weights * allowed
        if not odds.any():
            continue
        groove = grooves[rng.choice(len(grooves), p=odds / odds.sum())]
        name = f"{len(index):05d}.mid"
        if _perform(out / name, groove, bars or drawn_chords(rng, groove.beats_per_bar), rng):
            index.append(
                Accompaniment(
                    name,
                    groove.name,
                    groove.beats_per_bar,
                    groove.slowest_bpm,
                    groove.fastest_bpm,
                    song,
                    first_bar,
                    groove.held_back,
                )
            )
    (out / "index.json").write_text(json.dumps([asdict(row) for row in index]))
    _LOG.info("%d accompaniments of %d grooves", len(index), len(grooves))
    return index


def read_accompaniments(folder: Path) -> list[Accompaniment]:
    """Read `index.json`."""
    return [Accompaniment(**row) for row in json.loads((folder / "index.json").read_text())]


def drawn_chords(rng: np.random.Generator, per_bar: int) -> list[str]:
    """Return a chord for each of 34 bars, from progressions in C or A minor."""
    bars: list[str] = []
    slow = rng.random() < 0.25
    while len(bars) < _BARS:
        chords = [c for c in str(rng.choice(_PROGRESSIONS)).split() if c != "/"]
        for _ in range(int(rng.choice([1, 2]))):
            for chord in chords:
                bars += [chord] * (2 if slow else 1)
    if per_bar == 4 and rng.random() < 0.2:
        bars = [f"{a} / {b} /" for a, b in pairwise(bars)]
    return bars[:_BARS]


def song_chords(pop909: Path, number: int, first_downbeat: int, beats: int) -> list[str]:
    """Return the chords of a POP909 song, a line a bar of four from its first downbeat, in MMA's names."""
    with zipfile.ZipFile(pop909) as files:
        beat_s = np.loadtxt(io.BytesIO(files.read(f"pop909/{number:03d}/beat_midi.txt")))[:, 0]
        rows = files.read(f"pop909/{number:03d}/chord_midi.txt").decode().split("\n")
    chord_of_beat = ["z"] * (beats + 4)
    for row in (r.split() for r in rows):
        if len(row) != 3:
            continue
        start, end = (int(np.searchsorted(beat_s, float(t) - 0.1)) for t in row[:2])
        chord_of_beat[start:end] = [_mma_name(row[2])] * len(chord_of_beat[start:end])
    bars = []
    for start in range(first_downbeat, beats - 3, 4):
        four = chord_of_beat[start : start + 4]
        bars.append(" ".join([four[0], *("/" if b == a else b for a, b in pairwise(four))]))
    return bars


def _mma_name(label: str) -> str:
    root, _, quality = label.partition(":")
    quality = quality.split("/")[0].split("(")[0]
    return "z" if root == "N" else root + _QUALITIES.get(quality, "m" if quality.startswith("min") else "")


def _perform(out: Path, groove: Groove, bars: list[str], rng: np.random.Generator) -> bool:
    """Let MMA play bars in one to three of a file's grooves; say whether it could."""
    chosen = [groove.grooves[i] for i in rng.integers(len(groove.grooves), size=int(rng.choice([1, 2, 3])))]
    every = int(rng.choice([8, 16]))
    lines = ["Tempo 120"]
    for number, bar in enumerate(bars):
        if number % every == 0:
            lines.append(f"Groove {groove.name}:{chosen[number // every % len(chosen)]}")
        lines.append(f"{number + 1} {bar}")
    source = out.with_suffix(".mma")
    source.write_text("\n".join(lines) + "\n")
    try:
        subprocess.run(["mma", "-f", str(out), str(source)], check=True, capture_output=True, timeout=_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return False
    finally:
        source.unlink()
    return out.is_file()
