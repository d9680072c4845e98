"""The band: asks the composer for one step at a time, a constant time before it sounds, and is never silent by fault.

It hears nobody and sees one dancer. It begins on the beat when they move, stops on the beat when they have stood still,
and keeps playing by rules if the network that composes is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.body.pose_features import PoseFeatureSpec
from engine.metrics import Metrics
from engine.playing.band_time import STEPS_PER_BEAT, BandTimeline
from engine.playing.keys import key_name, parse_key
from engine.playing.movement import PoseTrack, TickFeatures
from engine.playing.rule_composer import RuleComposer
from engine.playing.voices import PITCHED, Voices
from engine.protocols import Composer
from engine.settings import BandSettings
from engine.types import TICKS_PER_STEP, VOICES, BeatState, Key, MusicRequest, MusicStep, NoteEvent, VoiceStep

Report = Callable[[str, str], None]
"""Tells the operator: level, message."""

# Mean joint speeds [body units / s]. Dancers on the training clips move at 0.75 on average and at 0.15 to 0.3 in the
# calmest 5 % of a dance; who stands still before a noisy camera (lite model) trembles at up to 0.12.
_STILL, _MOVES = 0.13, 0.17
_TYPICAL_ENERGY = 0.7
"""The median of a dance; 5 % of it are calmer than a third of that, 5 % wilder than twice."""
# The composer is told the energy of about the last beat, not of the last step.
_ENERGY_STEPS = 4.0
# Steps in a row in which the dancer moves before a band at rest takes it for the beginning of a dance.
_BEGIN_STEPS = 2
# After so long a rest the band begins another piece; after a shorter one it takes up where it was.
_NEW_PIECE_STEPS = 16 * STEPS_PER_BEAT
# A lost composer is tried again after this many steps (two beats), then twice as many, and so on up to the last.
_RETRY_STEPS, _RETRY_STEPS_MAX = 8, 256
_REST = MusicStep(np.zeros(9, np.float32), VoiceStep(hold=True), VoiceStep(hold=True), VoiceStep(hold=True))
_HIGHEST_PITCH = 127


class Band:
    """Turns beat and movement into notes. Deterministic for a seed.

    Threads: the core thread only.

    Args:
        composer: of the music.
        track: of the dancer's poses.
        settings: of the band.
        metrics: counts notes and steps.
        report: tells the operator.
        delays_ns: notes are decided this much earlier than `band.lookahead_ms` says (`ShowSettings.delays_ns`).

    Attributes:
        density: wished density of notes, 0 to 1.
        energy: shifts the energy of the movement: 0.5 leaves it, 0 is calmest, 1 wildest.
        resting: whether it waits for the dancer to move.
    """

    def __init__(
        self,
        composer: Composer,
        track: PoseTrack,
        settings: BandSettings,
        metrics: Metrics,
        report: Report,
        delays_ns: int = 0,
    ) -> None:
        self._composer = composer
        self._rules = RuleComposer()
        self._settings = settings
        self._metrics = metrics
        self._report = report
        self._time = BandTimeline(composer.info.tempo_range_bpm)
        self._features = TickFeatures(track)
        spec: PoseFeatureSpec = self._features.spec
        self._energy_column = spec.column("energy_fast")
        self._voices = Voices(settings.velocity_follows)
        self._voices.octaves = settings.octaves
        self._voices.muted = set(settings.mutes)
        self._lookahead_ns = round(settings.lookahead_ms * 1e6) + delays_ns
        self._key: Key | None = None
        self.set_key(settings.key)
        self.density = settings.density
        self._density_follows = settings.density_follows
        self.energy = 0.5
        self.resting = True
        self._ending = False
        self._still_steps = 0
        self._moving_steps = 0
        self._rested_steps = _NEW_PIECE_STEPS
        self._smooth_energy = 0.0
        self._next_step: int | None = None
        self._sounds_ns = 0
        self._pieces = 0
        self._lost = False
        self._losses = 0
        self._retry_step = -(2**62)
        self._retry_after = _RETRY_STEPS
        composer.reset(settings.seed)
        self._rules.reset(settings.seed)

    # -- what the performer asks for ------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The key wished, such as "C major", or "auto"."""
        return key_name(self._key)

    @property
    def octaves(self) -> int:
        """By how many octaves bass, chord and lead are moved."""
        return self._voices.octaves

    @property
    def mutes(self) -> tuple[str, ...]:
        """Voices that are silent."""
        return tuple(voice for voice in VOICES if voice in self._voices.muted)

    @property
    def timeline(self) -> BandTimeline:
        """Where the band's steps lie."""
        return self._time

    @property
    def sounding(self) -> int:
        """How many pitched notes sound."""
        return self._voices.sounding

    def set_key(self, text: str) -> str:
        """Set the key; return how it is written. Raises ValueError for a text that names none."""
        self._key = parse_key(text)
        self._voices.key = self._key if self._settings.scale_lock else None
        return self.key

    def set_octaves(self, octaves: float) -> float:
        """Move bass, chord and lead by whole octaves from their next notes on."""
        self._voices.octaves = round(octaves)
        return float(self._voices.octaves)

    def mute(self, voice: str, on: bool, now_ns: int) -> list[NoteEvent]:
        """Silence a voice, or let it play again from its next note on; return the ends of what it sounded."""
        if not on:
            self._voices.muted.discard(voice)
            return []
        self._voices.muted.add(voice)
        return self._voices.end(max(now_ns, self._sounds_ns + 1), now_ns, voice)

    def panic(self, now_ns: int) -> list[NoteEvent]:
        """Begin another piece on the next beat; return the ends of everything that sounds or is about to."""
        ends = self._voices.end(max(now_ns, self._sounds_ns + 1), now_ns)
        self._new_piece()
        self._retry_step = -(2**62)
        self._rested_steps = 0
        self.resting = True
        return ends

    # -- playing --------------------------------------------------------------------------------------------------

    def advance(self, now_ns: int, source_ns: int, beat: BeatState, playing: bool = True) -> list[NoteEvent]:
        """Decide the steps that have come into the look-ahead; return their notes.

        Args:
            now_ns: session time.
            source_ns: when the newest pose was captured.
            beat: belief about the beat.
            playing: false: whoever leads has stopped; so does the band.
        """
        self._time.update(beat, now_ns)
        earliest = math.ceil(self._time.position(now_ns))
        if self._next_step is None:
            self._next_step = earliest
        elif self._next_step < earliest:
            # Time has leapt (a stalled machine): what nobody can hear any more is not made.
            self._metrics.count("steps_skipped", earliest - self._next_step)
            self._next_step = earliest
        events: list[NoteEvent] = []
        until_ns = now_ns + self._lookahead_ns
        while self._time.time_of(self._next_step) <= until_ns:
            step = self._next_step
            self._next_step += 1
            # The timeline may just have been drawn back a little: the band waits, it does not step back.
            time_ns = max(self._time.time_of(step), self._sounds_ns + 1, now_ns)
            self._sounds_ns = time_ns
            rows = self._see(step)
            self._watch(rows, playing)
            events += self._play(step, time_ns, source_ns, rows)
        sounded = sum(note.velocity > 0 for note in events)
        if sounded:
            self._metrics.count("notes", sounded)
        return events

    def _see(self, step: int) -> NDArray[np.float32]:
        """Return the feature rows (3, P) that the composer sees of a step."""
        newest = TICKS_PER_STEP * step - self._composer.info.lookahead_ticks
        ticks = range(newest - TICKS_PER_STEP + 1, newest + 1)
        interval_ns = self._time.step_ns // TICKS_PER_STEP
        return np.stack([self._features.row(self._time.time_of(t / TICKS_PER_STEP), interval_ns) for t in ticks])

    def _watch(self, rows: NDArray[np.float32], playing: bool) -> None:
        """Follow the movement's energy; decide whether to rest."""
        energy = float(rows[-1, self._energy_column])
        self._smooth_energy += (energy - self._smooth_energy) / _ENERGY_STEPS
        self._still_steps = self._still_steps + 1 if energy < _STILL else 0
        self._moving_steps = self._moving_steps + 1 if energy > _MOVES and playing else 0
        if self.resting:
            self._rested_steps += 1
        elif not playing or self._still_steps >= self._settings.rest_after_beats * self._beat_steps():
            self.resting = True
            self._rested_steps = 0
            self._ending = True

    def _play(self, step: int, time_ns: int, source_ns: int, rows: NDArray[np.float32]) -> list[NoteEvent]:
        """Return the notes of a step, composed or, at rest, none."""
        on_beat = (step - self._time.bar_step) % self._beat_steps() == 0
        if self.resting and on_beat and self._moving_steps >= _BEGIN_STEPS:
            if self._rested_steps >= _NEW_PIECE_STEPS:
                self._new_piece()
            self.resting = self._ending = False
        if self.resting:
            # What sounds may ring to the next beat: an ending, not a cut.
            if not (on_beat and self._ending):
                return []
            self._ending = False
            return self._voices.end(time_ns, source_ns)
        composed = self._compose(self._request(step, rows))
        energy = self._loudness(float(rows[-1, self._energy_column]))
        return self._voices.play(composed, time_ns, self._time.step_ns, source_ns, energy)

    def _beat_steps(self) -> int:
        """Return how many of the band's steps make one real beat; at half time that is two."""
        return max(round(STEPS_PER_BEAT * self._time.factor), 1)

    def _request(self, step: int, rows: NDArray[np.float32]) -> MusicRequest:
        energy = self._loudness(self._smooth_energy)
        return MusicRequest(
            step=step,
            poses=rows,
            tempo_bpm=self._time.tempo_bpm,
            beats_per_bar=self._time.beats_per_bar,
            bar_step=self._time.bar_step,
            key=self._key,
            energy=energy,
            density=min(max(self.density + self._density_follows * (energy - 0.5), 0.0), 1.0),
        )

    def _loudness(self, energy: float) -> float:
        """Return a movement energy as 0 to 1, about its quantile among dances, with the performer's shift."""
        share = energy**2 / (energy**2 + _TYPICAL_ENERGY**2)
        return min(max(share + self.energy - 0.5, 0.0), 1.0)

    def _new_piece(self) -> None:
        self._pieces += 1
        self._composer.reset(self._settings.seed + self._pieces)
        self._rules.reset(self._settings.seed + self._pieces)

    def _compose(self, request: MusicRequest) -> MusicStep:
        """Return the composer's step, or one by rules while the composer is lost; never fails."""
        if request.step >= self._retry_step:
            try:
                if self._lost:
                    self._composer.reset(self._settings.seed + self._pieces + self._losses)
                with self._metrics.timed("composer_step"):
                    composed = self._composer.step(request)
                _check(composed)
                self._lost, self._retry_after = False, _RETRY_STEPS
                return composed
            except Exception as error:  # on stage nothing raises: whatever a model does, the music goes on
                self._lost = True
                self._losses += 1
                self._metrics.count("composer_lost")
                self._retry_step = request.step + self._retry_after
                self._retry_after = min(2 * self._retry_after, _RETRY_STEPS_MAX)
                name = self._composer.info.name
                self._report("error", f"composer {name} failed ({error}); playing by rules, trying again soon")
        try:
            return self._rules.step(request)
        except Exception as error:  # the last resort is silence
            self._metrics.count("rules_lost")
            self._report("error", f"the rules failed too ({error}); resting")
            return _REST


def _check(step: MusicStep) -> None:
    """Raise ValueError for a step that no instrument can play."""
    if not bool(np.isfinite(step.drums).all()):
        raise ValueError("it struck a drum with a velocity that is not finite")
    for voice in PITCHED:
        part: VoiceStep = getattr(step, voice)
        if not math.isfinite(part.velocity) or any(not 0 <= pitch <= _HIGHEST_PITCH for pitch in part.pitches):
            raise ValueError(f"its {voice} is not a note")
