"""The band's own timeline: the beats, folded to a tempo the composer knows, counted in steps and ticks."""

from __future__ import annotations

import math

from engine.types import NS_PER_S, BeatState, BeatTimeline

STEPS_PER_BEAT = 4
# A tempo just outside the range must not flip the level back and forth: it has to leave it by this much.
_LEVEL_HYSTERESIS = 1.08


class BandTimeline:
    """Maps steps (sixteenths of the band's beat) to session time. Deterministic.

    At 170 bpm a composer that knows 60 to 140 plays in half time, at 45 in double time; the steps stay on the grid of
    the real beats all the same. When the level changes, the count goes on: a step index never comes twice.
    """

    def __init__(self, tempo_range_bpm: tuple[float, float]) -> None:
        self._low_bpm, self._high_bpm = tempo_range_bpm
        self._factor = 1.0
        self._anchor_beat = 0
        self._offset_beats = 0
        self._state = BeatState(BeatTimeline(120.0, 0.0, 0), 0.0)

    @property
    def factor(self) -> float:
        """Band's beats per real beat: a power of two."""
        return self._factor

    @property
    def tempo_bpm(self) -> float:
        """Tempo of the band's beat."""
        return self._state.timeline.tempo_bpm * self._factor

    @property
    def beats_per_bar(self) -> int | None:
        """Band's beats a bar; None while unknown."""
        return self._state.beats_per_bar

    @property
    def bar_step(self) -> int:
        """A step on which a bar begins."""
        beat = self._factor * (self._state.bar_origin_beat - self._anchor_beat) + self._offset_beats
        return round(STEPS_PER_BEAT * beat)

    @property
    def step_ns(self) -> int:
        """How long a step lasts at the present tempo."""
        return round(60 * NS_PER_S / (self.tempo_bpm * STEPS_PER_BEAT))

    def update(self, state: BeatState, now_ns: int) -> None:
        """Take the newest belief about the beat."""
        before = self.position(now_ns)
        self._state = state
        factor = self._choose_level(state.timeline.tempo_bpm)
        off_bar = factor < 1.0 and ((state.bar_origin_beat - self._anchor_beat) * factor) % 1.0 != 0.0
        if factor != self._factor or off_bar:
            self._factor = factor
            self._anchor_beat = state.bar_origin_beat
            self._offset_beats = 0
            self._offset_beats = math.ceil((before - self.position(now_ns)) / STEPS_PER_BEAT)

    def position(self, time_ns: int) -> float:
        """Return the (fractional) step at a session time."""
        beat = self._factor * (self._state.timeline.beat_at(time_ns) - self._anchor_beat) + self._offset_beats
        return STEPS_PER_BEAT * beat

    def time_of(self, step: float) -> int:
        """Return the session time [ns] of a step."""
        beat = (step / STEPS_PER_BEAT - self._offset_beats) / self._factor + self._anchor_beat
        return self._state.timeline.time_of(beat)

    def _choose_level(self, tempo_bpm: float) -> float:
        """Return the power of two that brings the tempo into the range; the present one while that serves."""
        low, high = self._low_bpm / _LEVEL_HYSTERESIS, self._high_bpm * _LEVEL_HYSTERESIS
        if low <= tempo_bpm * self._factor <= high:
            return self._factor
        factor = 1.0
        while tempo_bpm * factor > self._high_bpm:
            factor *= 0.5
        while tempo_bpm * factor < self._low_bpm and tempo_bpm * factor * 2.0 <= self._high_bpm:
            factor *= 2.0
        return factor
