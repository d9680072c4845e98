"""Recorded songs whose tempo is known and constant, as training clips: at other speeds, in other rooms."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.beats.spectrum import HOPS_PER_S, SAMPLE_RATE_HZ, BandSpectrum
from models.beats.corpus import Clip, degrade

_LOG = logging.getLogger(__name__)
_FURTHEST_S, _STEP_S = 0.06, 0.005
"""How far the strokes may lie from the stated grid, and how finely that is sought."""
_CLEAR = 1.35
"""Onsets at the grid must be so many times as strong as elsewhere, or the grid is not believed."""
_OCTAVES = 0.25
"""Songs are played up to a quarter of an octave faster or slower: as a record would be, pitch and all."""


@dataclass(frozen=True)
class Recording:
    """A song at a constant tempo.

    Attributes:
        name: for the log.
        samples: (n,) float32 mono.
        rate_hz: of the samples.
        tempo_bpm: as stated.
        beat_s: where one of its beats is stated to fall.
    """

    name: str
    samples: NDArray[np.float32]
    rate_hz: int
    tempo_bpm: float
    beat_s: float


def read_pairs(folder: Path, split: str, without: Collection[str] = ()) -> list[Recording]:
    """Read the songs of one split of `pairs/` (`index.json` with `bpm` and `beat_phase_ref_in_clip_s`)."""
    import soundfile

    songs = []
    for row in json.loads((folder / "index.json").read_text()):
        if row["split"] == split and row["name"] not in without:
            samples, rate = soundfile.read(folder / row["audio"], dtype="float32")
            songs.append(Recording(row["name"], samples, rate, row["bpm"], row["beat_phase_ref_in_clip_s"]))
    return songs


def read_charted(folder: Path) -> Recording:
    """Read a song of Frets on Fire: `song.ogg` and `guitar.ogg`, charted at one tempo from 0 s in `notes.mid`.

    Raises:
        ValueError: its chart has more than one tempo.
    """
    import mido
    import soundfile

    parts = [soundfile.read(folder / name, dtype="float32", always_2d=True) for name in ("song.ogg", "guitar.ogg")]
    length = min(len(samples) for samples, _ in parts)
    mixed = sum(samples[:length].mean(axis=1) for samples, _ in parts)
    chart = mido.MidiFile(folder / "notes.mid", clip=True)
    tempi = {m.tempo for track in chart.tracks for m in track if m.type == "set_tempo"}
    if len(tempi) != 1:
        raise ValueError(f"{folder.name}: its chart has {len(tempi)} tempi")
    return Recording(folder.name, np.asarray(mixed, np.float32), parts[0][1], 60e6 / tempi.pop(), 0.0)


def recorded_clips(rng: np.random.Generator, song: Recording, variants: int, length_s: float) -> list[Clip]:
    """Return windows of a song, each variant at another speed, each window in another room.

    The phase of its grid is refined to where energy rises, within 60 ms; a song whose onsets do not gather there
    gives no clips.
    """
    import soxr

    period = 60.0 / song.tempo_bpm
    bands = BandSpectrum().extract(soxr.resample(song.samples, song.rate_hz, SAMPLE_RATE_HZ))[:, :24]
    flux = np.maximum(np.diff(bands, axis=0), 0).mean(axis=1)
    # The 21 ms window answers most strongly when an attack is in its middle.
    at = (np.arange(len(flux)) + 2.0) / HOPS_PER_S - 0.012
    around = (at - song.beat_s + period / 2) % period - period / 2
    offsets = np.arange(-_FURTHEST_S, _FURTHEST_S + 0.001, _STEP_S)
    strength = np.array([flux[np.abs(around - o) < 0.010].mean() for o in offsets])
    if strength.max() < _CLEAR * flux.mean():
        _LOG.info("%s: its onsets do not follow its stated grid, left out", song.name)
        return []
    reference = song.beat_s + float(offsets[strength.argmax()])
    _LOG.info("%s: strokes %+.0f ms from its grid", song.name, 1000 * (reference - song.beat_s))
    clips = []
    count = round(length_s * SAMPLE_RATE_HZ)
    for _ in range(variants):
        speed = float(2 ** rng.uniform(-_OCTAVES, _OCTAVES))
        played = soxr.resample(song.samples, song.rate_hz, SAMPLE_RATE_HZ / speed)
        for start in np.arange(0, len(played) / SAMPLE_RATE_HZ - length_s, 0.9 * length_s):
            start += rng.uniform(0, 0.1) * length_s
            first = round(start * SAMPLE_RATE_HZ)
            audio = played[first : first + count]
            if len(audio) < count:
                continue
            origin = reference / speed - start
            beats = np.arange(np.ceil(-origin / (period / speed)), 1000) * period / speed + origin
            beats = beats[beats < length_s]
            clips.append(Clip(degrade(rng, audio, 0.7), beats, np.full(len(beats), -1), np.zeros((0, 2)), 0))
    return clips
