"""The dancer's own timeline: the music's beats, folded to a level that can be danced, counted in ticks."""

from __future__ import annotations

import math

from engine.types import TICKS_PER_BEAT, BeatState, BeatTimeline

# A tempo just outside the range must not flip the level back and forth: it has to leave it by this much.
_LEVEL_HYSTERESIS = 1.08
# After a change of level the dance may be up to half a beat off; it slides back by this share of a tick a tick, so
# that a half-beat correction takes three beats and looks like rubato, not like a stumble.
_SLEW = 0.15


class DanceTimeline:
    """Maps session time to ticks. Never runs backwards when the music's timeline does not. Deterministic.

    A song at 170 bpm is danced in half time, one at 45 in double (the tempo range is the model's). Tick 12 k is
    the dancer's beat k; where the bar is known, bars begin on dancer's beats.
    """

    def __init__(self, tempo_range_bpm: tuple[float, float]) -> None:
        self._low_bpm, self._high_bpm = tempo_range_bpm
        self._factor = 1.0
        self._anchor_beat = 0
        self._offset_beats = 0
        self._residual_ticks = 0.0
        self._bar_origin = 0
        self._beats_per_bar: int | None = None
        self._timeline = BeatTimeline(120.0, 0.0, 0)
        self._slewed_to = 0.0
        self._started = False

    @property
    def tempo_bpm(self) -> float:
        """Tempo of the dance."""
        return self._timeline.tempo_bpm * self._factor

    @property
    def beats_per_bar(self) -> int | None:
        """Dancer's beats a bar; None while unknown."""
        return self._beats_per_bar

    @property
    def bar_tick(self) -> int:
        """A tick on which a bar begins."""
        return round(TICKS_PER_BEAT * (self._factor * (self._bar_origin - self._anchor_beat) + self._offset_beats))

    def update(self, state: BeatState, now_ns: int) -> None:
        """Take the newest belief about the beat."""
        before = self.tick_at(now_ns)
        self._timeline = state.timeline
        self._bar_origin = state.bar_origin_beat
        self._beats_per_bar = state.beats_per_bar
        factor = self._choose_level(state.timeline.tempo_bpm)
        off_bar = self._factor < 1.0 and ((self._bar_origin - self._anchor_beat) * self._factor) % 1.0 != 0.0
        if factor != self._factor or off_bar:
            self._factor = factor
            self._anchor_beat = self._bar_origin
            self._offset_beats = 0
            self._residual_ticks = 0.0
            self._offset_beats = round((before - self.tick_at(now_ns)) / TICKS_PER_BEAT)
            if self._started:
                self._residual_ticks = before - self.tick_at(now_ns)
            self._slewed_to = self.tick_at(now_ns)
        self._started = True
        elapsed = self.tick_at(now_ns) - self._slewed_to
        if elapsed > 0.0:
            step = min(abs(self._residual_ticks), _SLEW * elapsed)
            self._residual_ticks -= math.copysign(step, self._residual_ticks)
            self._slewed_to = self.tick_at(now_ns)

    def tick_at(self, time_ns: int) -> float:
        """Return the (fractional) tick at a session time."""
        beat = self._factor * (self._timeline.beat_at(time_ns) - self._anchor_beat) + self._offset_beats
        return TICKS_PER_BEAT * beat + self._residual_ticks

    def seconds(self, ticks: float) -> float:
        """Return how long so many ticks last at the present tempo."""
        return ticks * 60.0 / (self.tempo_bpm * TICKS_PER_BEAT)

    def time_of(self, tick: float) -> int:
        """Return the session time [ns] of a tick."""
        beat = (tick - self._residual_ticks) / TICKS_PER_BEAT
        return self._timeline.time_of((beat - self._offset_beats) / self._factor + self._anchor_beat)

    def _choose_level(self, tempo_bpm: float) -> float:
        """Return the power of two that brings the tempo into the range, near the present one if that still serves."""
        low, high = self._low_bpm / _LEVEL_HYSTERESIS, self._high_bpm * _LEVEL_HYSTERESIS
        if low <= tempo_bpm * self._factor <= high:
            return self._factor
        factor = 1.0
        while tempo_bpm * factor > self._high_bpm:
            factor *= 0.5
        while tempo_bpm * factor < self._low_bpm and tempo_bpm * factor * 2.0 <= self._high_bpm:
            factor *= 2.0
        return factor
