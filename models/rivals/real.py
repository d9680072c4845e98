"""Real dance as a system: the dance to the song itself, a random other one, and a pose that stands for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from engine.types import TICKS_PER_BEAT
from models.evaluation.facts import SystemFacts
from models.motion.representation import DISPLACEMENT, HEADING
from models.music_to_dance.joining import BLEND_TICKS, Phrase, join
from models.music_to_dance.sequences import DanceClip
from models.rivals.song import COURSES, Course, Dance, Song


def digest(dances: Sequence[DanceClip]) -> str:
    """Return a short digest of dances."""
    total = hashlib.sha256()
    for dance in dances:
        total.update(dance.name.encode())
        total.update(np.ascontiguousarray(dance.ticks).tobytes())
        total.update(repr((dance.first_tick, dance.bar_tick)).encode())
    return total.hexdigest()[:12]


def real_dance(clip: DanceClip) -> Dance:
    """Return a real dance at the dancer's own tempo.

    Its beat is the one that preparation found in the dancer's own feet (`models.data.motion_beat`): alignment to it is
    an upper bound, not evidence of how well they hear.
    """
    seconds = 60.0 / TICKS_PER_BEAT / clip.tempo_bpm
    time_s = np.concatenate([[0.0], np.cumsum(seconds[:-1])])
    return Dance.of_ticks(clip.ticks, time_s, time_s[-clip.first_tick % TICKS_PER_BEAT :: TICKS_PER_BEAT])


class RealDancer:
    """The dancer who really danced to it, as long as they did, at their own tempo; see `real_dance`."""

    name, seeded, endless = "real", False, False
    facts = SystemFacts(lookahead="people rehearse")
    courses: tuple[Course, ...] = ("steady",)

    def __init__(self, dances: Sequence[DanceClip]) -> None:
        self.key = digest(dances)

    def dance(self, song: Song, seed: int) -> Dance:
        """Return it."""
        return real_dance(song.clip)


class RandomClip:
    """Real training dance of any style, from anywhere, at its own tempo: human, and deaf."""

    name, seeded, endless, courses = "random real clip", True, True, COURSES
    facts = SystemFacts(lookahead="none: it does not listen")

    def __init__(self, dances: Sequence[DanceClip]) -> None:
        self._dances = dances
        self.key = digest(dances)

    def dance(self, song: Song, seed: int) -> Dance:
        """Return one clip after the other, from a random place on, until the song is over."""
        random = np.random.Generator(np.random.PCG64([seed, *song.name.encode()]))
        lengths = np.array([len(d.ticks) for d in self._dances], float)
        phrases: list[Phrase] = []
        periods: list[np.ndarray] = []
        end_s = float(song.tick_s[-1])
        while sum(float(p.sum()) for p in periods) < end_s:
            clip = self._dances[int(random.choice(len(lengths), p=lengths / lengths.sum()))]
            start = 0 if phrases else int(random.integers(0, len(clip.ticks) // 2))
            stop = len(clip.ticks) - BLEND_TICKS
            if stop - start <= BLEND_TICKS:
                continue
            phrases.append(Phrase(clip.ticks, start, stop))
            periods.append(60.0 / TICKS_PER_BEAT / clip.tempo_bpm[start:stop])
        time_s = np.concatenate([[0.0], np.cumsum(np.concatenate(periods))[:-1]])
        ticks = join(phrases)
        count = int(np.searchsorted(time_s, end_s)) + 1
        return Dance.of_ticks(ticks[:count], time_s, song.beats_s)


class MeanPose:
    """The mean pose of the style's training dances, held: what regression tends to."""

    name, seeded, endless, courses = "mean pose", False, True, COURSES
    facts = SystemFacts(lookahead="none: it does not listen")

    def __init__(self, dances: Sequence[DanceClip]) -> None:
        self._dances = dances
        self.key = digest(dances)

    def dance(self, song: Song, seed: int) -> Dance:
        """Return it."""
        mates = [d.ticks for d in self._dances if d.style == song.style] or [d.ticks for d in self._dances]
        pose = np.concatenate(mates).mean(axis=0)
        pose[HEADING], pose[DISPLACEMENT] = 0.0, 0.0
        ticks = np.repeat(pose[None], len(song.music), axis=0).astype(np.float32)
        return Dance.of_ticks(ticks, song.tick_s, song.beats_s)
