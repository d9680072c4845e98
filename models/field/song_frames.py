"""A song as a system at a fixed frame rate hears it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.types import TICKS_PER_BEAT
from models.field.frames import Doubles, Floats
from models.rivals.fixed_rate import music_in_seconds
from models.rivals.song import Song


@dataclass(frozen=True)
class SongFrames:
    """Frames of music: features (T, F) and beats since beat 0 (T,); frame k is at k / rate [s]."""

    features: Floats
    beat: Doubles

    @staticmethod
    def of(song: Song, rate_hz: float, lookahead_frames: int) -> SongFrames:
        """Return a song's frames, and so many more, in which it has ended."""
        tick_s = song.tick_s
        frames_s = np.arange(0.0, tick_s[-1], 1.0 / rate_hz)
        beat = np.interp(frames_s, tick_s, np.arange(len(tick_s))) / TICKS_PER_BEAT
        features = music_in_seconds(song.music, tick_s, frames_s)
        if lookahead_frames:
            more = np.arange(1, lookahead_frames + 1) * (beat[-1] - beat[-2])
            beat = np.concatenate([beat, beat[-1] + more])
            features = np.concatenate([features, np.repeat(features[-1:], lookahead_frames, axis=0)])
        return SongFrames(features, beat)
