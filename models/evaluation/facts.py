"""What a reader of figures must know beside them: of the systems, the songs, the machine and the making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

import numpy as np

from engine import __version__
from engine.machine import machine_kind, source_commit
from engine.types import TICKS_PER_BEAT
from models.data.dataset import PreparedClip

_NEVER_SAID = "not declared"


@dataclass(frozen=True)
class SystemFacts:
    """What a system says of itself.

    Attributes:
        group: of the table it belongs to; "" leaves it to its name (`models.evaluation.html.groups`).
        parameters: numbers learnt; None where nothing is learnt, or nobody said.
        lookahead: what music it waits for, or is late by, in words.
        training_seeds: of the runs it comes from.
    """

    group: str = ""
    parameters: int | None = None
    lookahead: str = _NEVER_SAID
    training_seeds: tuple[int, ...] = ()

    @staticmethod
    def of(system: object) -> SystemFacts:
        """Return what a system says of itself; it need not say anything."""
        return system.facts if isinstance(system, SaysFacts) else SystemFacts()


@runtime_checkable
class SaysFacts(Protocol):
    """A system that says what it is."""

    @property
    def facts(self) -> SystemFacts:
        """Return what it says."""
        ...


@dataclass(frozen=True)
class SongFacts:
    """A song of an evaluation, so that its dances can be played beside its music.

    Attributes:
        name: of the recording.
        style: name of the dance.
        bpm: of the real dancer.
        beats_audio_s: times of the song's beats in its recording [s]; empty where they are not known.
    """

    name: str
    style: str
    bpm: float
    beats_audio_s: tuple[float, ...] = ()

    @staticmethod
    def of(clip: PreparedClip, seconds: float) -> SongFacts:
        """Return the facts of a prepared clip, for so many seconds of dance.

        A clip that is danced at half speed (`models.music_to_dance.dances.load_dances`) has no beats in the recording:
        its music is stretched too.
        """
        beats = clip.music_time_s[-clip.first_tick % TICKS_PER_BEAT :: TICKS_PER_BEAT]
        known = clip.plausible and clip.has_audio and len(beats) > 1 and bool(np.isfinite(beats).all())
        within = beats[beats <= beats[0] + seconds + 2.0] if known else []
        bpm = round(float(np.median(clip.tempo_bpm)), 2)
        return SongFacts(clip.name, clip.style, bpm, tuple(round(float(b), 4) for b in within))


@dataclass(frozen=True)
class Made:
    """How an evaluation was made.

    Attributes:
        command: without folders, which are nobody else's business.
        date: day, UTC.
        machine: its kind (`engine.machine.machine_kind`).
        version: of the package.
        commit: of the source.
    """

    command: str = ""
    date: str = ""
    machine: str = ""
    version: str = ""
    commit: str = ""

    @staticmethod
    def now(options: Sequence[str]) -> Made:
        """Return what is known now of an evaluation with these options."""
        command = " ".join(("pasdedeux evaluate", *options))
        return Made(command, datetime.now(UTC).date().isoformat(), machine_kind(), __version__, source_commit())
