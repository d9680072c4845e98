"""The beat follower: from a tracker's jumpy beliefs to one timeline a dancer can stand on.

Two lines are kept. The *goal* is where the beats are believed to be; it may change at once. The *output* timeline is
what everybody else sees: continuous, never backwards, drawn towards the goal by running a little faster or slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.types import NS_PER_S, BeatEstimate, BeatState, BeatTimeline, ControlEvent

_START_BPM = 120.0
_SLOWEST_BPM, _FASTEST_BPM = 20.0, 400.0

_ADOPT_CONFIDENCE = 0.25
"""Without a lock, an estimate this sure that agrees with itself for `_ADOPT_S` becomes the goal."""
_ADOPT_S = 0.15
_CHALLENGE_CONFIDENCE = 0.3
"""With a lock, less sure estimates cannot overthrow the goal."""

_SAME_TEMPO = 0.06
"""Relative difference of periods that still counts as the same tempo (drift) and is simply followed."""
_SAME_PHASE_BEATS = 0.17
"""Phase error that is followed without question: 80 ms at 128 bpm."""
_JUMP_BEATS, _JUMP_S = 0.5, 0.25
"""A new tempo or phase must persist for so many of its own beats, and so long, before the goal jumps to it."""
_OCTAVE_BEATS = 4.0
"""A double, half, triple or 3:2 hypothesis must win for so many beats of the present tempo ..."""
_OCTAVE_YOUNG = 0.5
"""... or for this share of the beats since the lock began, if that is less: a first guess is given up easily."""
_MANUAL_BEATS = 12.0
"""How long anything must persist to overthrow what the performer tapped or set."""
_OCTAVES = (2.0, 0.5, 3.0, 1 / 3, 1.5, 2 / 3)

_PHASE_TIME_S, _TEMPO_TIME_S = 0.12, 0.35
"""Time constants with which the goal follows the phase and the period of agreeing estimates."""

_AHEAD_S = 0.25
"""The output aims at the goal's first beat that is at least so far ahead: nearer ones are already being prepared."""
_GENTLE, _BRISK = 0.08, 0.6
"""Extra rate of the output, as a share of the goal's tempo: for small errors, and after a jump or a wish."""
_BRISK_BEATS = 0.10
"""From this error on the output hurries."""

_SURE_S = 0.4
"""Time constant with which the confidence approaches the tracker's."""
_FADE_S = 0.8
"""Time constant of the confidence in silence."""
_FORGET_S, _FRESH_S = 1.0, 3.0
"""After so long a silence the beat may come back anywhere: for some seconds a sure estimate is adopted at once."""
_FREE_CONFIDENCE = 0.2
"""Below this the output may be re-anchored forward: nobody was told to trust it."""

_TAP_TIMEOUT_S = 3.0
_TAPS_NEEDED, _TAPS_KEPT = 4, 8
_METRE_BEATS = 3.0
"""A new metre or downbeat must be claimed for so many beats."""


@dataclass(slots=True)
class _Goal:
    """The believed beats: beat `beat` (numbered as the output's) falls at `at_ns`, one each `period_ns`."""

    beat: float
    at_ns: float
    period_ns: float

    def beat_at(self, time_ns: float) -> float:
        return self.beat + (time_ns - self.at_ns) / self.period_ns


@dataclass(slots=True)
class _Challenger:
    """A hypothesis that disagrees with the goal, since `since_ns`."""

    beat_ns: float
    period_ns: float
    since_ns: int
    seen_ns: int


class BeatFollower:
    """Turns beat estimates into a timeline that never runs backwards.

    It starts at 120 bpm (or another `start_bpm`) with confidence 0. It snaps to the first sure estimate, follows small
    changes smoothly, checks large ones before it believes them (longest those that only change the octave), runs on
    through silence with fading confidence, and lets the performer overrule everything. Deterministic; reads no clock.
    """

    def __init__(self, start_bpm: float = _START_BPM) -> None:
        self._start_bpm = start_bpm
        self.reset()

    def reset(self) -> None:
        """Forget everything, back to the start tempo (120 bpm) at beat 0, session time 0."""
        self._timeline = BeatTimeline(self._start_bpm, 0.0, 0)
        self._goal = _Goal(0.0, 0.0, 60 * NS_PER_S / self._start_bpm)
        self._locked = False
        self._locked_ns = 0
        self._now_ns = 0
        self._confidence = 0.0
        self._trust = 0.0
        self._challenger: _Challenger | None = None
        self._silent_since_ns: int | None = None
        self._fresh_until_ns = -1
        self._manual_until_ns = -1
        self._octave_chosen = False
        self._offset_beats = 0.0
        self._unoffset_since_ns: int | None = None
        self._brisk = False
        self._taps: list[int] = []
        self._external: BeatTimeline | None = None
        self._beats_per_bar: int | None = None
        self._bar_origin = 0
        self._bar_claim: tuple[int, int, int] | None = None
        self._bar_chosen = False

    @property
    def state(self) -> BeatState:
        """The newest state."""
        return BeatState(self._timeline, self._confidence, self._beats_per_bar, self._bar_origin)

    # ------------------------------------------------------------------------------------------------ listening

    def update(self, end_ns: int, estimate: BeatEstimate | None, active: bool) -> BeatState:
        """Take what was believed after one hop.

        Args:
            end_ns: session time of the hop's end; a time before the last one counts as the last one.
            estimate: the tracker's belief, or None. What is not finite or out of range counts as None.
            active: whether there was sound. Estimates in silence are not believed.

        Returns:
            The state, whose timeline is anchored at `end_ns` or before.
        """
        end_ns = max(int(end_ns), self._now_ns)
        elapsed_s = (end_ns - self._now_ns) / NS_PER_S
        self._now_ns = end_ns
        usable = estimate if active and estimate is not None and _is_sane(estimate, end_ns) else None
        if not active:
            self._silent_since_ns = end_ns if self._silent_since_ns is None else self._silent_since_ns
        elif self._silent_since_ns is not None:
            if end_ns - self._silent_since_ns > _FORGET_S * NS_PER_S:
                self._fresh_until_ns = end_ns + int(_FRESH_S * NS_PER_S)
            self._silent_since_ns = None
        if self._external is not None:
            self._follow_external(self._external)
        elif usable is not None:
            self._listen(usable, elapsed_s)
        self._judge(usable, elapsed_s)
        self._steer()
        return self.state

    def _listen(self, estimate: BeatEstimate, elapsed_s: float) -> None:
        now = self._now_ns
        manual = now < self._manual_until_ns
        if not self._locked and not manual:
            self._consider(estimate.beat_ns, estimate.period_ns, estimate.confidence, _ADOPT_CONFIDENCE, _ADOPT_S)
            return
        goal = self._goal
        period, ratio = float(estimate.period_ns), estimate.period_ns / goal.period_ns
        folded = next((r for r in (1.0, 2.0, 0.5) if abs(ratio / r - 1) < _SAME_TEMPO), None)
        if folded is None:
            self._challenge(estimate)
            return
        step = min(folded, 1.0)  # an estimate at double tempo knows the beat only to half a beat
        error = self._phase_error(estimate.beat_ns, step)
        if abs(error) > _SAME_PHASE_BEATS * max(step, 0.5 if manual else step):
            self._challenge(estimate)
            return
        weight = min(1.0, 2.0 * estimate.confidence)
        follow = 1.0 - math.exp(-elapsed_s * weight / _PHASE_TIME_S)
        adapt = 1.0 - math.exp(-elapsed_s * weight / _TEMPO_TIME_S)
        goal.beat, goal.at_ns = goal.beat_at(now) - follow * error, float(now)
        goal.period_ns *= (period / folded / goal.period_ns) ** adapt
        if folded == 1.0 or self._octave_chosen:
            self._challenger = None
        else:
            self._challenge(estimate)
        if folded == 1.0:
            self._hear_bar(estimate)

    def _phase_error(self, beat_ns: float, step: float) -> float:
        """Return by how many beats the goal is ahead of a beat, modulo `step`, with the performer's nudge included."""
        raw = self._goal.beat_at(beat_ns)

        def wrapped(offset: float) -> float:
            return (raw + offset + step / 2) % step - step / 2

        # Nudge + is later: the goal's beat falls after the estimate's, so at the estimate's beat the goal is not there.
        error = wrapped(self._offset_beats)
        if abs(self._offset_beats) > 0.2:
            plain = wrapped(0.0)
            if abs(plain) < min(abs(error), 0.1):
                # The tracker has come over to the performer's opinion by itself.
                if self._unoffset_since_ns is None:
                    self._unoffset_since_ns = self._now_ns
                if self._now_ns - self._unoffset_since_ns > self._goal.period_ns:
                    self._offset_beats = 0.0
                return plain
        self._unoffset_since_ns = None
        return error

    def _challenge(self, estimate: BeatEstimate) -> None:
        """Let a disagreeing estimate build its case; when it has persisted, it becomes the goal."""
        ratio = estimate.period_ns / self._goal.period_ns
        octave = any(abs(ratio / r - 1) < _SAME_TEMPO for r in _OCTAVES)
        if octave and self._octave_chosen:
            return
        period_s = self._goal.period_ns / NS_PER_S
        if self._now_ns < self._manual_until_ns:
            needed_s = _MANUAL_BEATS * period_s
        elif self._now_ns < self._fresh_until_ns:
            needed_s = _ADOPT_S
        elif octave:
            age_s = (self._now_ns - self._locked_ns) / NS_PER_S
            needed_s = max(_JUMP_S, min(_OCTAVE_BEATS * period_s, _OCTAVE_YOUNG * age_s))
        else:
            needed_s = max(_JUMP_S, _JUMP_BEATS * estimate.period_ns / NS_PER_S)
        self._consider(estimate.beat_ns, estimate.period_ns, estimate.confidence, _CHALLENGE_CONFIDENCE, needed_s)

    def _consider(self, beat_ns: float, period_ns: float, confidence: float, bar: float, needed_s: float) -> None:
        now, rival = self._now_ns, self._challenger
        if confidence < bar:
            if rival is not None and now - rival.seen_ns > rival.period_ns:
                self._challenger = None
            return
        if rival is not None:
            same = abs(period_ns / rival.period_ns - 1) < _SAME_TEMPO
            shift = (beat_ns - rival.beat_ns) / rival.period_ns
            same &= abs(shift - round(shift)) < 2 * _SAME_PHASE_BEATS
            if not same:
                rival = None
        since = now if rival is None else rival.since_ns
        self._challenger = _Challenger(float(beat_ns), float(period_ns), since, now)
        if now - since >= needed_s * NS_PER_S:
            if self._locked and not self._is_level(period_ns):
                # Another song: its bars are heard again, whatever was chosen for the one before.
                self._bar_chosen = False
            self._adopt(beat_ns, period_ns)

    def _adopt(self, beat_ns: float, period_ns: float) -> None:
        """Make a line the goal, numbered so that the output is as near as it can be."""
        now = self._now_ns
        here = self._timeline.beat_at(now)
        there = (now - beat_ns) / period_ns - self._offset_beats
        ratio = period_ns / self._goal.period_ns
        if abs(ratio - 1) >= _SAME_TEMPO:
            self._octave_chosen = False
        if not self._locked or not self._is_level(period_ns):
            self._locked, self._locked_ns = True, now
        self._challenger = None
        self._manual_until_ns = -1
        self._brisk = True
        beat = there + round(here - there)
        free = self._confidence < _FREE_CONFIDENCE or now < self._fresh_until_ns
        self._fresh_until_ns = -1
        if free and abs(beat - here) > _BRISK_BEATS:
            beat = there + math.ceil(here - there)
            self._timeline = BeatTimeline(60 * NS_PER_S / period_ns, beat, now)
        self._goal = _Goal(beat, float(now), float(period_ns))

    def _is_level(self, period_ns: float) -> bool:
        """Say whether a period is the goal's, or an octave of it: so a tracker errs within one song."""
        ratio = period_ns / self._goal.period_ns
        return any(abs(ratio / r - 1) < _SAME_TEMPO for r in (1.0, *_OCTAVES))

    # ---------------------------------------------------------------------------------------------- output line

    def _judge(self, usable: BeatEstimate | None, elapsed_s: float) -> None:
        """Move the confidence towards what is known now."""
        if self._external is not None:
            self._trust = 1.0
        elif usable is None:
            self._trust *= math.exp(-elapsed_s / _FADE_S)
        else:
            agreed = usable.confidence if self._locked and self._challenger is None else 0.5 * usable.confidence
            self._trust += (agreed - self._trust) * (1.0 - math.exp(-elapsed_s / _SURE_S))
        error = abs(self._goal.beat_at(self._now_ns) - self._timeline.beat_at(self._now_ns))
        manual = 0.7 if self._now_ns < self._manual_until_ns else 0.0
        known = self._locked or self._external is not None
        self._confidence = max(self._trust if known else 0.0, manual) * max(0.0, 1.0 - 2.0 * min(error, 0.5))

    def _steer(self) -> None:
        """Re-anchor the output at now, with a tempo that brings it onto the goal."""
        now, goal = self._now_ns, self._goal
        here = self._timeline.beat_at(now)
        error = goal.beat_at(now) - here
        if abs(error) > 0.75:  # never chase a whole beat: the number of a beat means nothing, its time does
            whole = round(error)
            goal.beat -= whole
            self._bar_origin -= whole
            error -= whole
        if abs(error) > _BRISK_BEATS:
            self._brisk = True
        elif abs(error) < 0.02:
            self._brisk = False
        target = math.floor(goal.beat_at(now + _AHEAD_S * NS_PER_S)) + 1
        target_ns = goal.at_ns + (target - goal.beat) * goal.period_ns
        limit = _BRISK if self._brisk else _GENTLE
        # Relative to the goal's own rate: 1 keeps the distance, more catches up.
        rate = (target - here) * goal.period_ns / (target_ns - now)
        rate = min(max(rate, 1.0 - limit), 1.0 + limit)
        self._timeline = BeatTimeline(60 * NS_PER_S / goal.period_ns * rate, here, now)

    # ------------------------------------------------------------------------------------------------ the metre

    def _hear_bar(self, estimate: BeatEstimate) -> None:
        """Take over the claimed metre when it has been claimed for some beats."""
        if estimate.beats_per_bar is None or estimate.downbeat_ns is None or self._bar_chosen:
            return
        per_bar = estimate.beats_per_bar
        if not 2 <= per_bar <= 12:
            return
        origin = round(self._goal.beat_at(estimate.downbeat_ns)) % per_bar
        if (per_bar, origin) == (self._beats_per_bar, self._bar_origin % per_bar):
            self._bar_claim = None
            return
        if self._bar_claim is None or self._bar_claim[:2] != (per_bar, origin):
            self._bar_claim = (per_bar, origin, self._now_ns)
        first = self._beats_per_bar is None
        if self._now_ns - self._bar_claim[2] >= (0.5 if first else _METRE_BEATS) * self._goal.period_ns:
            self._beats_per_bar, self._bar_origin, self._bar_claim = per_bar, origin, None

    # ------------------------------------------------------------------------------------------- the performer

    def control(self, event: ControlEvent) -> None:
        """Take a performer's wish: tap, nudge, tempo, double, half or downbeat; others are ignored.

        While a timeline from outside leads, the tempo is not the performer's: they nudge it and say where bars begin.

        Raises:
            ValueError: twice or half the tempo is beyond what can be followed.
        """
        if self._external is not None and event.name not in ("nudge", "downbeat"):
            return
        value = event.value if isinstance(event.value, int | float) and math.isfinite(event.value) else None
        if event.name == "tap":
            self._tap(int(event.time_ns))
        elif event.name == "nudge" and value is not None:
            shift = min(max(float(value), -1.0), 1.0)
            self._offset_beats = (self._offset_beats + shift + 0.5) % 1.0 - 0.5
            self._goal.beat -= shift
            self._challenger = None
            self._brisk = True
        elif event.name == "tempo" and value is not None:
            self._set_period(60 * NS_PER_S / min(max(float(value), _SLOWEST_BPM), _FASTEST_BPM))
        elif event.name == "double":
            self._scale_period(0.5)
        elif event.name == "half":
            self._scale_period(2.0)
        elif event.name == "downbeat":
            self._beats_per_bar = self._beats_per_bar or 4
            self._bar_origin = round(self._timeline.beat_at(int(event.time_ns))) % self._beats_per_bar
            self._bar_chosen, self._bar_claim = True, None

    @property
    def offset_beats(self) -> float:
        """By how much the performer has nudged the beat: + is later than what is heard, or than who leads says."""
        return self._offset_beats

    def set_external(self, timeline: BeatTimeline | None) -> None:
        """Follow a timeline from outside (Ableton Link, MIDI clock) instead of the tracker; None: listen again."""
        if timeline is None and self._external is not None:
            self._locked, self._locked_ns = True, self._now_ns
        self._external = timeline

    def _follow_external(self, timeline: BeatTimeline) -> None:
        now = self._now_ns
        here, there = self._timeline.beat_at(now), timeline.beat_at(now) - self._offset_beats
        there += round(here - there)
        period = 60 * NS_PER_S / min(max(timeline.tempo_bpm, _SLOWEST_BPM), _FASTEST_BPM)
        self._goal = _Goal(there, float(now), period)
        self._challenger = None

    def _tap(self, time_ns: int) -> None:
        if self._taps:
            gap = time_ns - self._taps[-1]
            usual = (self._taps[-1] - self._taps[0]) / max(1, len(self._taps) - 1)
            if gap <= 0 or gap > _TAP_TIMEOUT_S * NS_PER_S or (usual and not 0.5 < gap / usual < 1.8):
                self._taps = []
        self._taps = [*self._taps[-(_TAPS_KEPT - 1) :], time_ns]
        if len(self._taps) < _TAPS_NEEDED:
            return
        count = len(self._taps)
        mean_tap, mean_index = sum(self._taps) / count, (count - 1) / 2
        spread = sum((i - mean_index) ** 2 for i in range(count))
        period = sum((i - mean_index) * (t - mean_tap) for i, t in enumerate(self._taps)) / spread
        period = min(max(period, 60 * NS_PER_S / _FASTEST_BPM), 60 * NS_PER_S / _SLOWEST_BPM)
        self._offset_beats = 0.0
        self._adopt(mean_tap + (count - 1 - mean_index) * period, period)
        self._authorise()

    def _set_period(self, period_ns: float) -> None:
        now = self._now_ns
        self._goal = _Goal(self._goal.beat_at(now), float(now), period_ns)
        self._authorise()

    def _scale_period(self, factor: float) -> None:
        period = self._goal.period_ns * factor
        if not 60 / _FASTEST_BPM <= period / NS_PER_S <= 60 / _SLOWEST_BPM:
            wish = "twice" if factor < 1.0 else "half"
            raise ValueError(f"{wish} the tempo would not be within {_SLOWEST_BPM:.0f} and {_FASTEST_BPM:.0f} bpm")
        now, goal = self._now_ns, self._goal
        # Halving keeps the bar's first beat, or else the beat nearest to the wish.
        kept = round(goal.beat_at(now))
        if self._beats_per_bar is not None and factor > 1:
            kept += (kept - self._bar_origin) % 2
        kept_ns = goal.at_ns + (kept - goal.beat) * goal.period_ns
        origin_ns = goal.at_ns + (self._bar_origin - goal.beat) * goal.period_ns
        there = (now - kept_ns) / period
        self._goal = _Goal(there + round(self._timeline.beat_at(now) - there), float(now), period)
        self._bar_origin = round(self._goal.beat_at(origin_ns))
        self._octave_chosen, self._challenger, self._brisk = True, None, True

    def _authorise(self) -> None:
        """Protect what the performer has set."""
        self._locked, self._challenger = True, None
        self._octave_chosen, self._brisk = True, True
        self._manual_until_ns = self._now_ns + int(_MANUAL_BEATS * self._goal.period_ns)


def _is_sane(estimate: BeatEstimate, now_ns: int) -> bool:
    """Say whether an estimate can be believed at all."""
    period, beat, confidence = estimate.period_ns, estimate.beat_ns, estimate.confidence
    if not (math.isfinite(period) and math.isfinite(beat) and math.isfinite(confidence)):
        return False
    bpm = 60 * NS_PER_S / period if period > 0 else 0.0
    return _SLOWEST_BPM <= bpm <= _FASTEST_BPM and abs(beat - now_ns) < 30 * NS_PER_S and 0.0 <= confidence <= 1.0
