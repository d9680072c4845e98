"""How a virtual partner hears the band: its notes as sound, made inside the core, and listened to as music is.

Not meant for people: a small, cheap and deterministic synthesiser whose onsets, register and harmony are where the
notes say, so that the same features come out as from a recording. No loudspeaker, no microphone and no feedback are
between the band and the partner.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.ears import Heard
from engine.features import HOP_NS, HOP_SAMPLES, SAMPLE_RATE_HZ, FeatureExtractor
from engine.types import DRUM_PITCHES, DRUMS, NS_PER_S, VOICE_CHANNELS, NoteEvent

_CHANNEL_OF_DRUMS = VOICE_CHANNELS["drums"]
# More notes than a band of four and two triggering hands sound at once; beyond it the oldest gives way.
_MOST_SOUNDING = 24
_MOST_WAITING = 512
# A leap of time of more than this is not made up for hop by hop.
_LONGEST_HOLE_NS = NS_PER_S
_WAVE_SIZE = 1024
# Harmonics of the one waveform: bright enough that a chord shows in the chroma, and a bass in its octave.
_HARMONICS = (1.0, 0.5, 0.3, 0.2, 0.1)
# Decay time constants by channel [s]: a plucked bass, an electric piano, a flute-like lead.
_DECAY_S = {VOICE_CHANNELS["bass"]: 0.6, VOICE_CHANNELS["chord"]: 1.2, VOICE_CHANNELS["lead"]: 0.9}
_RELEASE_S = 0.03
_LEVEL = {_CHANNEL_OF_DRUMS: 0.35, VOICE_CHANNELS["bass"]: 0.2, VOICE_CHANNELS["chord"]: 0.06}
_USUAL_LEVEL = 0.12
# Body frequency [Hz], its decay [s], the share of noise, its decay [s] and whether it is bright; by drum.
_DRUM_SOUNDS = {
    "kick": (55.0, 0.12, 0.05, 0.01, False),
    "snare": (190.0, 0.05, 0.6, 0.09, False),
    "closed_hat": (0.0, 0.0, 0.4, 0.03, True),
    "open_hat": (0.0, 0.0, 0.4, 0.2, True),
    "low_tom": (95.0, 0.2, 0.1, 0.02, False),
    "mid_tom": (130.0, 0.18, 0.1, 0.02, False),
    "high_tom": (175.0, 0.16, 0.1, 0.02, False),
    "crash": (0.0, 0.0, 0.5, 0.5, True),
    "ride": (0.0, 0.0, 0.25, 0.25, True),
}
_SILENT = 1e-3


@dataclass(slots=True)
class _Tone:
    """A pitched note that sounds: its phase [cycles] and level now, and when it is released [sample]."""

    channel: int
    pitch: int
    phase: float
    level: float
    start: int
    release: int


@dataclass(slots=True)
class _Hit:
    """A drum that sounds: where in its recording it stands [sample]; negative: it has not begun."""

    recording: NDArray[np.float32]
    position: int
    level: float


class InnerEar:
    """Sounds notes and hears them, hop by hop. Deterministic; one thread. Memory and cost are bounded."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor = extractor
        self._waiting: list[tuple[int, int, NoteEvent]] = []
        self._order = itertools.count()
        self._tones: list[_Tone] = []
        self._hits: list[_Hit] = []
        self._hop: int | None = None
        cycle = np.arange(_WAVE_SIZE) / _WAVE_SIZE
        wave = sum(a * np.sin(2.0 * np.pi * (k + 1) * cycle) for k, a in enumerate(_HARMONICS))
        self._wave = np.asarray(wave, np.float32)
        self._ramp = np.arange(HOP_SAMPLES)
        self._drums = {pitch: _drum(*_DRUM_SOUNDS[name]) for name, pitch in zip(DRUMS, DRUM_PITCHES, strict=True)}

    @property
    def load(self) -> int:
        """How many notes sound or wait."""
        return len(self._waiting) + len(self._tones) + len(self._hits)

    def take(self, notes: list[NoteEvent]) -> None:
        """Take notes that will sound."""
        for note in notes:
            if len(self._waiting) < _MOST_WAITING:
                heapq.heappush(self._waiting, (note.time_ns, next(self._order), note))

    def hear(self, now_ns: int) -> list[Heard]:
        """Return the hops that have ended by `now_ns` since the last call, oldest first."""
        newest = now_ns // HOP_NS
        if self._hop is None or newest - self._hop > _LONGEST_HOLE_NS // HOP_NS:
            self._hop = newest - 1
        heard: list[Heard] = []
        while self._hop < newest:
            first = self._hop * HOP_SAMPLES
            self._hop += 1
            self._begin(self._hop * HOP_NS, first)
            row = self._extractor.process(self._sound(first))
            heard.append(Heard(self._hop * HOP_NS, row, self._extractor.active, None))
        return heard

    def _begin(self, end_ns: int, first: int) -> None:
        """Start and release what begins and ends before `end_ns`."""
        while self._waiting and self._waiting[0][0] < end_ns:
            note = heapq.heappop(self._waiting)[2]
            at = max(note.time_ns * SAMPLE_RATE_HZ // NS_PER_S, first)
            if note.channel == _CHANNEL_OF_DRUMS:
                recording = self._drums.get(note.pitch)
                if recording is not None and note.velocity > 0:
                    level = _LEVEL[note.channel] * note.velocity / 127.0
                    self._hits.append(_Hit(recording, first - at, level))
                continue
            for tone in self._tones:
                if (tone.channel, tone.pitch) == (note.channel, note.pitch):
                    tone.release = min(tone.release, at)
            if note.velocity > 0:
                release = at + note.duration_ns * SAMPLE_RATE_HZ // NS_PER_S
                level = _LEVEL.get(note.channel, _USUAL_LEVEL) * note.velocity / 127.0
                self._tones.append(_Tone(note.channel, note.pitch, 0.0, level, at, release))
        del self._tones[:-_MOST_SOUNDING], self._hits[:-_MOST_SOUNDING]

    def _sound(self, first: int) -> NDArray[np.float32]:
        """Return the samples (480,) from `first` on."""
        mix = np.zeros(HOP_SAMPLES, np.float32)
        for hit in self._hits:
            skipped = max(-hit.position, 0)
            part = hit.recording[hit.position + skipped : hit.position + HOP_SAMPLES]
            mix[skipped : skipped + len(part)] += hit.level * part
            hit.position += HOP_SAMPLES
        self._hits = [hit for hit in self._hits if hit.position < len(hit.recording)]
        for tone in self._tones:
            skipped = max(tone.start - first, 0)
            count = HOP_SAMPLES - skipped
            frequency = 440.0 * 2.0 ** ((tone.pitch - 69) / 12.0) / SAMPLE_RATE_HZ
            index = ((tone.phase + frequency * self._ramp[:count]) * _WAVE_SIZE).astype(np.intp) % _WAVE_SIZE
            decay_s = _RELEASE_S if first >= tone.release else _DECAY_S.get(tone.channel, 0.5)
            fall = math.exp(-count / (decay_s * SAMPLE_RATE_HZ))
            mix[skipped:] += np.linspace(tone.level, tone.level * fall, count, dtype=np.float32) * self._wave[index]
            tone.phase = (tone.phase + frequency * count) % 1.0
            tone.level *= fall
        self._tones = [tone for tone in self._tones if tone.level > _SILENT]
        return mix


def _drum(body_hz: float, body_s: float, noise: float, noise_s: float, bright: bool) -> NDArray[np.float32]:
    """Return a struck drum: a falling body and noise, both decaying."""
    length_s = 5.0 * max(body_s, noise_s)
    time_s = np.arange(round(length_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    # Seeded: the same drum in every show.
    hiss = np.random.default_rng(1).uniform(-1.0, 1.0, len(time_s))
    if bright:
        hiss = np.diff(hiss, prepend=0.0)
    sound = noise * hiss * np.exp(-time_s / noise_s)
    if body_hz > 0.0:
        # The skin is struck tense and falls by half an octave.
        pitch = body_hz * (1.0 + 0.5 * np.exp(-time_s / 0.02))
        sound += np.sin(2.0 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ) * np.exp(-time_s / body_s)
    return sound.astype(np.float32)
