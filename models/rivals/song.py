"""What every system is given, and what it must give back: a song on the beat, and a dance in SMPL's joints."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from engine.body.skeleton import (
    axis_angle_to_quaternion,
    contact_points,
    forward_kinematics,
    quaternion_to_axis_angle,
    slerp,
)
from engine.types import TICKS_PER_BEAT
from models.motion.representation import CONTACTS, motion_from_ticks
from models.music_to_dance.conditioning import STYLES
from models.music_to_dance.sequences import OTHER_STYLE, DanceClip

Floats = NDArray[np.float64]
Course = Literal["steady", "slow", "fast", "drift"]

RATE_HZ = 60.0
"""Frames a second of every dance that is measured."""
COURSES: tuple[Course, ...] = ("steady", "slow", "fast", "drift")
_SLOW, _FAST = 0.75, 1.35
_DRIFT, _DRIFT_BEATS = 0.12, 32.0
"""A band that breathes: 12 % faster and slower in eight bars."""


@dataclass(frozen=True)
class Song:
    """Music to dance to, row k at tick k; tick 12 n is beat n.

    Attributes:
        name: of the recording.
        course: of the tempo: "steady" as recorded; "slow" and "fast" 0.75 and 1.35 times as fast; "drift" waxing and
            waning. The notes stay the same and come at other times: the features of each tick are kept, as if the band
            played the song at another tempo.
        style: index in `models.music_to_dance.conditioning.STYLES`, or `OTHER_STYLE`.
        music: (T, F) features; the newest music of row k ends at tick k.
        tempo_bpm: (T,) at each tick.
        beats_per_bar: None while unknown.
        bar_tick: a tick on which a bar begins.
        clip: the real dance to it.
    """

    name: str
    course: Course
    style: int
    music: NDArray[np.float32]
    tempo_bpm: Floats
    beats_per_bar: int | None
    bar_tick: int
    clip: DanceClip

    @staticmethod
    def of(clip: DanceClip, seconds: float, course: Course = "steady") -> Song:
        """Return a dance's song, repeated by whole bars until it lasts so long.

        Raises:
            ValueError: the dance has no music.
        """
        if clip.music is None:
            raise ValueError(f"{clip.name}: a dance without music is no song")
        bar = TICKS_PER_BEAT * (clip.beats_per_bar or 4)
        skip = -clip.first_tick % TICKS_PER_BEAT
        whole = clip.music[skip : skip + (len(clip.music) - skip) // bar * bar]
        base_bpm = float(np.median(clip.tempo_bpm))
        slowest = base_bpm * min(_SLOW, 1.0 - _DRIFT)
        # A beat more than is danced, so that there is a next tick at the very end; cut to the time below.
        most = int(np.ceil((seconds * max(_FAST, 1.0 + _DRIFT) * base_bpm / 60.0 + 2.0) * TICKS_PER_BEAT))
        tempo_bpm = base_bpm * _factor(course, most)
        count = int(np.searchsorted(_tick_s(tempo_bpm), seconds + 60.0 / slowest))
        music = np.tile(whole, (-(-count // len(whole)), 1))[:count]
        bar_tick = ((clip.bar_tick or 0) - clip.first_tick - skip) % bar
        return Song(clip.name, course, clip.style, music, tempo_bpm[:count], clip.beats_per_bar, bar_tick, clip)

    @property
    def key(self) -> str:
        """Return a short digest of all that is danced to."""
        total = hashlib.sha256(np.ascontiguousarray(self.music).tobytes())
        # Another machine's sine may differ in the last bits.
        total.update(np.round(self.tempo_bpm, 6).tobytes())
        total.update(repr((self.style, self.beats_per_bar, self.bar_tick)).encode())
        return total.hexdigest()[:12]

    @property
    def style_name(self) -> str | None:
        """Return the style by the name that dancers are asked for; None for one they have no name for."""
        return None if self.style == OTHER_STYLE else STYLES[self.style]

    @property
    def tick_s(self) -> Floats:
        """Return the time (T,) [s] of each tick."""
        return _tick_s(self.tempo_bpm)

    @property
    def beats_s(self) -> Floats:
        """Return the times of the beats [s]."""
        return np.asarray(self.tick_s[::TICKS_PER_BEAT])


def _factor(course: Course, ticks: int) -> Floats:
    if course == "drift":
        return np.asarray(1.0 + _DRIFT * np.sin(2.0 * np.pi * np.arange(ticks) / (_DRIFT_BEATS * TICKS_PER_BEAT)))
    return np.full(ticks, {"steady": 1.0, "slow": _SLOW, "fast": _FAST}[course])


def _tick_s(tempo_bpm: Floats) -> Floats:
    return np.asarray(np.concatenate([[0.0], np.cumsum(60.0 / TICKS_PER_BEAT / tempo_bpm[:-1])]))


@dataclass(frozen=True)
class Dance:
    """A dance as a system made it.

    Attributes:
        time_s: (T,) increasing, of each pose.
        rotations: (T, 24, 3) axis-angle [rad].
        translation_m: (T, 3).
        contacts: (T, 4) in [0, 1], as the system says.
        beats_s: of what it was danced to.
    """

    time_s: Floats
    rotations: Floats
    translation_m: Floats
    contacts: Floats
    beats_s: Floats

    @staticmethod
    def of_ticks(ticks: NDArray[np.float32], time_s: Floats, beats_s: Floats) -> Dance:
        """Return tick vectors (T, 152), one at each time (T,), as a dance."""
        rotations, translation = motion_from_ticks(ticks)
        return Dance(time_s[: len(ticks)], rotations, translation, ticks[:, CONTACTS].astype(np.float64), beats_s)

    def shown(self, seconds: float) -> Shown:
        """Return what is seen of it in the first so many seconds, at 60 frames a second."""
        end_s = min(seconds, float(self.time_s[-1]))
        frames_s = np.arange(0.0, end_s, 1.0 / RATE_HZ)
        index = np.clip(np.searchsorted(self.time_s, frames_s, side="right") - 1, 0, len(self.time_s) - 2)
        share = (frames_s - self.time_s[index]) / (self.time_s[index + 1] - self.time_s[index])
        quaternions = axis_angle_to_quaternion(self.rotations)
        between = slerp(quaternions[index], quaternions[index + 1], np.repeat(share[:, None], 24, axis=1))
        path = CubicSpline(self.time_s, self.translation_m)(frames_s)
        joints, world = forward_kinematics(np.asarray(quaternion_to_axis_angle(between), np.float64), path)
        return Shown(
            np.asarray(joints, np.float64),
            np.asarray(contact_points(joints, world), np.float64),
            self.contacts[index],
            self.beats_s[self.beats_s < end_s],
        )


@dataclass(frozen=True)
class Shown:
    """A dance at 60 frames a second: joints (T, 24, 3), soles (T, 4, 3) [m], contacts (T, 4), beats [s]."""

    joints: Floats
    soles: Floats
    contacts: Floats
    beats_s: Floats


class DanceSystem(Protocol):
    """Something that dances to a song; deterministic for a seed.

    Attributes:
        name: in the table.
        key: changes when its dances do (its weights, its training dances, its settings): what is cached goes by it.
        seeded: whether another seed gives another dance.
        endless: whether it can dance as long as the music plays.
        courses: the courses of the tempo it can dance to.
    """

    name: str
    key: str
    seeded: bool
    endless: bool
    courses: tuple[Course, ...]

    def dance(self, song: Song, seed: int) -> Dance:
        """Return a dance to the whole song."""
        ...
