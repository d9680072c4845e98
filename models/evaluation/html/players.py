"""Dances and music small enough to lie in a page: joints on the music's own time, packed, and sound in Opus."""

from __future__ import annotations

import base64
import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engine.body.skeleton import PARENTS
from models.data.clip_sources import ClipSource
from models.evaluation.cache import KeptDance
from models.evaluation.facts import SongFacts
from models.evaluation.html.groups import grouped
from models.evaluation.html.tables import label
from models.evaluation.report import Report
from models.rivals.song import RATE_HZ, Dance

PLAYER_RATE_HZ = 30
"""Enough for the eye; half of what is measured."""
_FINEST_M = 0.001
"""A joint to the millimetre: markers are not known better."""
_LARGEST = 32_000
_SOUND_RATE_HZ = 24_000
_SOUND_COMPRESSION = 0.9
"""Of libsndfile, 0 to 1: about 30 kbit/s, mono."""


@dataclass(frozen=True)
class PackedDance:
    """A dance in a page.

    Attributes:
        system: its name.
        label: of the evaluation, "" if there is one only.
        seed: of the dance.
        frames: T, at `PLAYER_RATE_HZ` of the music.
        unit_m: of the packed numbers.
        joints: see `pack`.
    """

    system: str
    label: str
    seed: int
    frames: int
    unit_m: float
    joints: str


@dataclass(frozen=True)
class PackedSong:
    """A song in a page: beats [s] from its first, sound as a data URI ("" without), and the dances to it."""

    name: str
    style: str
    bpm: float
    seconds: float
    beats_s: tuple[float, ...]
    sound: str
    dances: tuple[PackedDance, ...]


def packed_songs(
    reports: Sequence[Report], sources: Mapping[str, ClipSource], seconds: float, seeds: int
) -> list[PackedSong]:
    """Return the songs that are danced to at a steady tempo.

    Args:
        reports: evaluations whose dances' files are absolute.
        sources: recordings by song; may lack any.
        seconds: of each dance.
        seeds: dances of a system to a song, at most.
    """
    songs = {song.name: song for report in reports for song in report.song_facts}
    return [packed for song in songs.values() if (packed := _song(song, reports, sources, seconds, seeds)).dances]


def _song(
    song: SongFacts, reports: Sequence[Report], sources: Mapping[str, ClipSource], seconds: float, seeds: int
) -> PackedSong:
    begin_s = song.beats_audio_s[0] if song.beats_audio_s else 0.0
    source = sources.get(song.name)
    # Without the recording the beats are the song's own: a steady tempo.
    heard = np.array(song.beats_audio_s) - begin_s if source is not None and len(song.beats_audio_s) > 1 else None
    steady = np.arange(0.0, seconds + 120.0 / song.bpm, 60.0 / song.bpm)
    beats_s = steady if heard is None else heard
    length_s = min(seconds, float(beats_s[-1]))
    dances: list[PackedDance] = []
    seen: set[tuple[str, int, str]] = set()
    for report in reports:
        for kept in report.dances:
            key = (kept.system, kept.seed, Path(kept.file).name)
            if kept.song != song.name or kept.course != "steady" or kept.seed >= seeds or key in seen:
                continue
            seen.add(key)
            shown = label(report) if len(reports) > 1 else ""
            dances += _dance(kept, shown, beats_s, length_s)
    # Real dance first, then ours: what the page shows when it is opened.
    facts = {name: found for report in reports for name, found in report.facts.items()}
    order = [name for names in grouped(dict.fromkeys(d.system for d in dances), facts).values() for name in names]
    dances.sort(key=lambda dance: order.index(dance.system))
    sound = "" if heard is None or source is None else sound_uri(source, begin_s, length_s)
    beats = tuple(round(float(b), 3) for b in beats_s if b <= length_s)
    return PackedSong(song.name, song.style, song.bpm, round(length_s, 3), beats, sound, tuple(dances))


def _dance(kept: KeptDance, shown: str, beats_s: NDArray[np.float64], seconds: float) -> Iterator[PackedDance]:
    """Yield the dance on the time of the music; none if its file cannot be read."""
    try:
        with np.load(kept.file, allow_pickle=False) as archive:
            dance = Dance(**{f.name: archive[f.name].astype(np.float64) for f in fields(Dance)})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return
    if len(dance.beats_s) < 2:
        return
    joints = dance.shown(seconds + 4.0).joints
    # Beat n of the dance is shown on beat n of the recording, whose tempo is not quite the dancer's.
    music_s = np.arange(0.0, seconds, 1.0 / PLAYER_RATE_HZ)
    dance_s = np.interp(np.interp(music_s, beats_s, np.arange(len(beats_s))), *_counted(dance.beats_s))
    frames = dance_s * RATE_HZ
    frames = frames[frames <= len(joints) - 1]
    if not len(frames) or not np.isfinite(joints).all():
        return
    low = np.clip(frames.astype(int), 0, len(joints) - 2)
    part = np.clip(frames - low, 0.0, 1.0)[:, None, None]
    unit_m, packed = pack(joints[low] * (1.0 - part) + joints[low + 1] * part)
    yield PackedDance(kept.system, shown, kept.seed, len(frames), unit_m, packed)


def _counted(beats_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return beats' numbers and times, with one more at the end, as far off as the last two are apart."""
    more = np.append(beats_s, 2.0 * beats_s[-1] - beats_s[-2])
    return np.arange(len(more), dtype=np.float64), more


def pack(joints: NDArray[np.float64]) -> tuple[float, str]:
    """Return the unit [m] and the text of joints (T, 24, 3), their floor moved to where the dance begins.

    In units as 16-bit integers, frame less frame before (the first as it is), all low bytes before all high ones,
    zlib, base64: a third of the plain numbers.
    """
    placed = joints - np.array([joints[0, 0, 0], 0.0, joints[0, 0, 2]])
    unit_m = max(_FINEST_M, float(np.abs(placed).max()) / _LARGEST)
    whole = np.round(placed / unit_m).astype(np.int32)
    steps = np.diff(whole, axis=0, prepend=np.zeros_like(whole[:1])).astype("<i2").reshape(-1)
    planes = steps.view(np.uint8).reshape(-1, 2).T
    return unit_m, base64.b64encode(zlib.compress(np.ascontiguousarray(planes).tobytes(), 9)).decode()


def sound_uri(source: ClipSource, begin_s: float, seconds: float) -> str:
    """Return a part of a recording as a data URI, mono Opus at 24 kHz; "" if it cannot be read."""
    if source.audio is None or not source.audio.is_file():
        return ""
    try:
        with soundfile.SoundFile(source.audio) as file:
            rate = file.samplerate
            file.seek(max(0, min(round(begin_s * rate), file.frames)))
            samples = file.read(math.ceil((seconds + 0.5) * rate), dtype="float32", always_2d=True).mean(axis=1)
        encoded = io.BytesIO()
        soundfile.write(
            encoded,
            soxr.resample(samples, rate, _SOUND_RATE_HZ),
            _SOUND_RATE_HZ,
            format="OGG",
            subtype="OPUS",
            compression_level=_SOUND_COMPRESSION,
        )
    except (soundfile.LibsndfileError, RuntimeError):
        return ""
    return "data:audio/ogg;base64," + base64.b64encode(encoded.getvalue()).decode()


def player_data(songs: Sequence[PackedSong]) -> str:
    """Return what the page's player reads, as JSON that may stand within a script element."""
    content = {"rate_hz": PLAYER_RATE_HZ, "parents": list(map(int, PARENTS)), "songs": [asdict(s) for s in songs]}
    return (
        json.dumps(content, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    )
