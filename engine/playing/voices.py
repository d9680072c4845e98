"""From the composer's steps to notes: lengths, velocities, key, register, mutes. What sounds is known at any time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.playing.keys import into_key
from engine.types import DRUM_PITCHES, VOICE_CHANNELS, VOICES, Key, MusicStep, NoteEvent, VoiceStep

PITCHED = VOICES[1:]
# A pitched note ends when its voice says so; a receiver that does not hear that lets it go after two bars.
_LONGEST_STEPS = 32
# A drum rings by itself; its note is over before the next step, even if the tempo hurries by 60 %.
_DRUM_STEPS = 0.5
# Notes softer than this are not worth a message.
_SILENT = 0.02
_SOFTEST = 8
# How much louder than the composer wrote a wild dancer makes it, and how much softer a calm one.
_CALMEST, _WILDEST = 0.35, 1.45
# Where each voice stays, whatever the register: what a bass, an electric piano and a lead can sound like.
_RANGES = {"bass": (24, 67), "chord": (36, 96), "lead": (48, 103)}


@dataclass(frozen=True, slots=True)
class _Sounding:
    """A note that sounds: its pitch as sent, and when it ends if nobody ends it."""

    pitch: int
    end_ns: int


class Voices:
    """Plays four voices. Deterministic; the core thread only.

    A pitched note is sent when it begins, with the longest it may last; when its voice ends it earlier, as it nearly
    always does, a NoteEvent of velocity 0 and the same channel and pitch says so, as MIDI does it. So a note leaves at
    its onset with no delay, and may be as long as the composer holds it. Drums need no end.

    Attributes:
        key: what pitched notes are moved into; None: they stay.
        octaves: by which bass, chord and lead are moved.
        muted: voices that are silent.
        follow: 0 to 1, how much velocities follow the movement's energy.
    """

    def __init__(self, follow: float) -> None:
        self.key: Key | None = None
        self.octaves = 0
        self.muted: set[str] = set()
        self.follow = follow
        self._sounding: dict[str, list[_Sounding]] = {voice: [] for voice in PITCHED}

    @property
    def sounding(self) -> int:
        """How many pitched notes sound, or will as soon as they are due."""
        return sum(len(notes) for notes in self._sounding.values())

    def play(self, step: MusicStep, time_ns: int, step_ns: int, source_ns: int, energy: float) -> list[NoteEvent]:
        """Return the notes of one step, and the ends of those that stop with it.

        Args:
            step: what the composer decided.
            time_ns: when the step sounds.
            step_ns: how long a step lasts.
            source_ns: the newest observation that influenced it.
            energy: of the movement, 0 to 1; 0.5 leaves velocities as they are.
        """
        gain = 1.0 - self.follow + self.follow * min(max(2.0 * energy, _CALMEST), _WILDEST)
        events: list[NoteEvent] = []
        for voice in PITCHED:
            self._play_voice(voice, getattr(step, voice), time_ns, step_ns, source_ns, gain, events)
        if "drums" not in self.muted:
            length_ns = round(_DRUM_STEPS * step_ns)
            for index in np.flatnonzero(step.drums > _SILENT).tolist():
                velocity = _midi_velocity(float(step.drums[index]) * gain)
                channel = VOICE_CHANNELS["drums"]
                events.append(NoteEvent(time_ns, source_ns, channel, DRUM_PITCHES[index], velocity, length_ns))
        return events

    def end(self, time_ns: int, source_ns: int, voice: str | None = None) -> list[NoteEvent]:
        """Return the ends of all that sounds, or of one voice."""
        events: list[NoteEvent] = []
        for name in PITCHED if voice is None else (voice,):
            channel = VOICE_CHANNELS[name]
            sounding = [note for note in self._sounding.get(name, ()) if note.end_ns > time_ns]
            events += [NoteEvent(time_ns, source_ns, channel, note.pitch, 0, 0) for note in sounding]
            if name in self._sounding:
                self._sounding[name] = []
        return events

    def _play_voice(
        self,
        voice: str,
        step: VoiceStep,
        time_ns: int,
        step_ns: int,
        source_ns: int,
        gain: float,
        events: list[NoteEvent],
    ) -> None:
        begins = bool(step.pitches) and step.velocity > _SILENT and voice not in self.muted
        if not begins:
            if not step.hold or step.pitches:
                events += self.end(time_ns, source_ns, voice)
            return
        events += self.end(time_ns, source_ns, voice)
        velocity = _midi_velocity(step.velocity * gain)
        end_ns = time_ns + _LONGEST_STEPS * step_ns
        pitches = sorted({self._placed(voice, pitch) for pitch in step.pitches})
        self._sounding[voice] = [_Sounding(pitch, end_ns) for pitch in pitches]
        channel = VOICE_CHANNELS[voice]
        events += [NoteEvent(time_ns, source_ns, channel, pitch, velocity, end_ns - time_ns) for pitch in pitches]

    def _placed(self, voice: str, pitch: int) -> int:
        """Move a pitch into the key and the register, and by octaves into what the voice can sound."""
        pitch = int(pitch) if self.key is None else into_key(int(pitch), self.key)
        pitch += 12 * self.octaves
        low, high = _RANGES[voice]
        if pitch < low:
            pitch += -(-(low - pitch) // 12) * 12
        elif pitch > high:
            pitch -= -(-(pitch - high) // 12) * 12
        return pitch


def _midi_velocity(share: float) -> int:
    return min(max(round(127.0 * share), _SOFTEST), 127)
