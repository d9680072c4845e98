"""Between a dancer and music that follow one another: who gives way, so that the tempo has an owner.

A person does not place an accent where a tracker puts the beat, but a little before or after, always alike. Music that
corrects this difference is answered by a dancer who keeps it: each waits for the other, and the tempo sinks (or climbs)
without end. So a difference that stays is taken for the dancer's manner and left alone; one that grows is a tempo, and
followed.
"""

from __future__ import annotations

import math

from engine.types import NS_PER_S, BeatEstimate

_PHASE_PER_S, _YOUNG_PHASE_PER_S = 0.4, 3.0
"""Share of a difference that is corrected in a second (of a tempo that is known, and of one just found) ..."""
_MANNER_PER_S = 0.6
"""... and the share that is taken for the dancer's manner."""
_TEMPO_PER_S, _YOUNG_TEMPO_PER_S = 0.4, 1.0
"""Share of a difference in tempo that is followed in a second. A difference of phase D, kept up by a dancer who
follows, shifts the tempo by D times phase x tempo / manner, once: 0.27 D, so 3 % for an eighth of a beat."""
_YOUNG_S, _KNOWN_S = 2.0, 6.0
"""A tempo counts as just found so long, and as known from then on; in between the shares pass over."""
_WIDEST_MANNER_BEATS = 0.2
"""Nobody dances further than this beside the beat; they dance between the beats."""
_SAME_TEMPO = 0.08
"""Periods that differ by less are the same tempo, in motion."""
_JUMP_S, _JUMP_BEATS = 0.8, 2.0
"""Another tempo must be kept so long, and for so many of its beats, to be believed ..."""
_OCTAVE_BEATS = 6.0
"""... and for so many if it is the double or the half."""
_LONGEST_STEP_S = 0.5
_ALONE_NS = 2 * NS_PER_S
"""Whoever has shown no beat for so long, standing still or out of view, hears no music any more: with their next
movement they begin, and it follows."""


class GiveAndTake:
    """Steadies the beat estimates of a dancer's movement. Deterministic; reads no clock."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the dancer."""
        self._beat_ns = 0.0
        self._period_ns = 0.0
        self._time_ns = 0
        self._found_ns = 0
        self._manner = 0.0
        self._other: tuple[float, int] | None = None

    @property
    def manner_beats(self) -> float:
        """By how much the dancer's accents lie after the music's beat, as their manner."""
        return self._manner

    def process(self, estimate: BeatEstimate, time_ns: int) -> BeatEstimate:
        """Take what movement says of the beat at `time_ns`; return what music should do about it."""
        if time_ns - self._time_ns > _ALONE_NS:
            self.reset()
        dt = min(max((time_ns - self._time_ns) / NS_PER_S, 0.0), _LONGEST_STEP_S)
        self._time_ns = time_ns
        if self._period_ns <= 0.0 or self._is_elsewhere(estimate, time_ns):
            self._beat_ns, self._period_ns = float(estimate.beat_ns), float(estimate.period_ns)
            self._manner, self._other, self._found_ns = 0.0, None, time_ns
        elif self._other is None:
            self._follow(estimate, dt * min(2.0 * estimate.confidence, 1.0))
        # Said of the beat nearest to the estimate's, so that it never lies in the far past.
        beats = round((estimate.beat_ns - self._beat_ns) / self._period_ns)
        self._beat_ns += beats * self._period_ns
        return BeatEstimate(round(self._beat_ns), round(self._period_ns), estimate.confidence)

    def _follow(self, estimate: BeatEstimate, dt: float) -> None:
        """Correct, forgive and keep pace, each by its share."""
        age_s = (self._time_ns - self._found_ns) / NS_PER_S
        known = min(max((age_s - _YOUNG_S) / (_KNOWN_S - _YOUNG_S), 0.0), 1.0)
        phase = _YOUNG_PHASE_PER_S + known * (_PHASE_PER_S - _YOUNG_PHASE_PER_S)
        tempo = _YOUNG_TEMPO_PER_S + known * (_TEMPO_PER_S - _YOUNG_TEMPO_PER_S)
        later = (estimate.beat_ns - self._beat_ns) / self._period_ns - self._manner
        error = later - round(later)
        self._beat_ns += phase * dt * error * self._period_ns
        manner = self._manner + known * _MANNER_PER_S * dt * error
        self._manner = min(max(manner, -_WIDEST_MANNER_BEATS), _WIDEST_MANNER_BEATS)
        self._period_ns *= (estimate.period_ns / self._period_ns) ** (tempo * dt)

    def _is_elsewhere(self, estimate: BeatEstimate, time_ns: int) -> bool:
        """Say whether another tempo has been kept long enough to be believed."""
        ratio = estimate.period_ns / self._period_ns
        if abs(math.log(ratio)) < _SAME_TEMPO:
            self._other = None
            return False
        other = self._other
        if other is None or abs(math.log(estimate.period_ns / other[0])) > _SAME_TEMPO:
            self._other = (float(estimate.period_ns), time_ns)
            return False
        octave = abs(abs(math.log2(ratio)) - 1.0) < _SAME_TEMPO
        needed_s = (_OCTAVE_BEATS if octave else _JUMP_BEATS) * estimate.period_ns / NS_PER_S
        return (time_ns - other[1]) / NS_PER_S >= max(needed_s, _JUMP_S)
