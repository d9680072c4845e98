"""A band by rules, under its own name: no network, an honest arranger that listens to how the dancer moves.

Drums by metre and energy, a chord progression in a key, bass on its roots, a lead whose height is the hands'. It is
model "rules", and what plays on when a network fails in the middle of a show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body.pose_features import PoseFeatureSpec
from engine.playing.keys import scale
from engine.types import DRUMS, ComposerInfo, Key, MusicRequest, MusicStep, VoiceStep

_STEPS_PER_BEAT = 4
_BARS_PER_PHRASE = 4
_LOOKAHEAD_TICKS = 3
# Four-bar progressions as degrees of the scale (0 the tonic): the most used ones of popular music in either mode.
_MAJOR_LOOPS = ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 5, 4), (5, 3, 0, 4), (0, 2, 3, 4))
_MINOR_LOOPS = ((0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6), (0, 5, 3, 4), (0, 2, 6, 5))
_BASS_FROM, _CHORD_FROM, _LEAD_FROM = 36, 55, 60
# Scale notes the lead spans between hands hanging and hands stretched up: two octaves.
_LEAD_NOTES = 14
# Heights of the higher wrist over the hips [body units]: hanging arms, and arms stretched up.
_LOW_HAND, _HIGH_HAND = -0.1, 1.0
# Speeds of the faster hand [body units / s] from which it plays eighths, and sixteenths; the medians of dancers lie
# between 0.7 and 1.2, their 90 % quantile between 1.7 and 2.6.
_EIGHTHS, _SIXTEENTHS = 0.6, 2.0
# A foot that lands strikes the bass drum when the dance has at least this much energy.
_STRIKE = 0.5
Hit = Callable[[str, float], None]
"""Strikes a drum, by name and velocity."""
_INDEX = {name: index for index, name in enumerate(DRUMS)}


@dataclass(frozen=True, slots=True)
class _Moment:
    """Where a step stands and how the dancer moves in it.

    Attributes:
        step: in the bar.
        beats: in the bar.
        bar: index of the bar.
        intensity: 0 to 1, energy shifted by the density wished.
        hand_height: of the higher hand, 0 hanging to 1 stretched up.
        hand_speed: of the faster hand [body units / s].
        strike: how strongly a foot has just landed, 0 to 1.
    """

    step: int
    beats: int
    bar: int
    intensity: float
    hand_height: float
    hand_speed: float
    strike: float

    @property
    def beat(self) -> int:
        return self.step // _STEPS_PER_BEAT

    @property
    def in_beat(self) -> int:
        return self.step % _STEPS_PER_BEAT


class RuleComposer:
    """The composer "rules". Deterministic for a seed; another seed, another key, progression and pattern."""

    def __init__(self, spec: PoseFeatureSpec | None = None) -> None:
        spec = spec or PoseFeatureSpec()
        self.info = ComposerInfo("rules", _LOOKAHEAD_TICKS, spec.digest, spec.size, (60.0, 150.0))
        self._heights = [spec.column("position_left_wrist_y"), spec.column("position_right_wrist_y")]
        self._speeds = [spec.column("speed_left_wrist"), spec.column("speed_right_wrist")]
        self._strikes = [spec.column("strike_left"), spec.column("strike_right")]
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start a new piece."""
        self._random = np.random.default_rng(seed)
        tonic, mode, loop, self._kick, self._groove = (int(n) for n in self._random.integers(0, [12, 2, 5, 4, 3]))
        self._key = Key(tonic, bool(mode))
        self._loop = loop
        self._lead_pitch: int | None = None
        self._lead_still = 0
        self._bass_held = self._chord_held = False

    def step(self, request: MusicRequest) -> MusicStep:
        """Return what the four voices do in the next step."""
        moment = self._moment(request)
        key = request.key or self._key
        notes = scale(key)
        loops = _MINOR_LOOPS if key.minor else _MAJOR_LOOPS
        degree = loops[self._loop][moment.bar % _BARS_PER_PHRASE]
        # One draw a step, whatever is played, so that the chance of later steps does not depend on it.
        chance = self._random.random(4)
        return MusicStep(
            self._drums(moment, chance[0]),
            self._bass(moment, notes, degree, chance[1]),
            self._chord(moment, notes, degree),
            self._lead(moment, notes, degree, chance[2]),
        )

    def _moment(self, request: MusicRequest) -> _Moment:
        beats = request.beats_per_bar or 4
        since = request.step - request.bar_step
        length = beats * _STEPS_PER_BEAT
        poses = request.poses
        height = (float(poses[-1, self._heights].max()) - _LOW_HAND) / (_HIGH_HAND - _LOW_HAND)
        return _Moment(
            step=since % length,
            beats=beats,
            bar=since // length,
            intensity=min(max(request.energy + request.density - 0.5, 0.0), 1.0),
            hand_height=min(max(height, 0.0), 1.0),
            hand_speed=float(poses[:, self._speeds].max()),
            strike=float(poses[:, self._strikes].max()),
        )

    # -- drums ----------------------------------------------------------------------------------------------------

    def _drums(self, moment: _Moment, chance: float) -> NDArray[np.float32]:
        hits = np.zeros(len(DRUMS), np.float32)
        energy, beat, within = moment.intensity, moment.beat, moment.in_beat

        def hit(name: str, velocity: float) -> None:
            hits[_INDEX[name]] = max(hits[_INDEX[name]], velocity)

        if energy < 0.12:
            return hits
        if self._fills(moment, chance):
            hit(("high_tom", "mid_tom", "low_tom", "low_tom")[within], 0.7 + 0.08 * within)
        if within == 0:
            self._beats(moment, hit)
        elif within == 2:
            if energy > 0.3:
                hit("open_hat" if energy > 0.72 and beat % 2 == 1 else "closed_hat", 0.45)
            if energy > 0.55 and beat == (1, 2, 3, 2)[self._kick] % moment.beats:
                hit("kick", 0.7)
        elif energy > 0.62:
            hit("closed_hat", 0.25 + 0.15 * chance)
            if energy > 0.7 and within == 3 and beat == (0, 2, 1)[self._groove] and chance < 0.5:
                hit("snare", 0.3)
        if moment.strike > _STRIKE and within % 2 == 0 and energy > 0.25:
            hit("kick", 0.85)
        return hits

    def _beats(self, moment: _Moment, hit: Hit) -> None:
        """Strike what a beat has: bass drum, snare, hat or ride, and a crash where a phrase begins."""
        energy, beat = moment.intensity, moment.beat
        backbeat = beat != 0 if moment.beats == 3 else beat % 2 == 1
        if beat == 0 or energy > 0.66 or (not backbeat and energy > 0.2):
            hit("kick", 0.9 if beat == 0 else 0.8)
        if backbeat and energy > 0.25:
            hit("snare", 0.5 if moment.beats == 3 else 0.8)
        if beat == 0 and moment.bar % _BARS_PER_PHRASE == 0 and energy > 0.5:
            hit("crash", 0.75)
        elif energy > 0.85:
            hit("ride", 0.5)
        else:
            hit("closed_hat", 0.5)

    def _fills(self, moment: _Moment, chance: float) -> bool:
        """Say whether this step belongs to the fill at a phrase's end."""
        last_beat = moment.beat == moment.beats - 1 and moment.bar % _BARS_PER_PHRASE == _BARS_PER_PHRASE - 1
        return last_beat and moment.intensity > 0.5 and (moment.in_beat % 2 == 0 or chance < moment.intensity)

    # -- pitched voices -------------------------------------------------------------------------------------------

    def _bass(self, moment: _Moment, notes: tuple[int, ...], degree: int, chance: float) -> VoiceStep:
        energy, within = moment.intensity, moment.in_beat
        root = _at_or_over(notes[degree % 7], _BASS_FROM)
        fifth = _at_or_over(notes[(degree + 4) % 7], root)
        if energy < 0.08:
            self._bass_held = False
            return VoiceStep()
        pitch: int | None = None
        if moment.step == 0:
            pitch = root
        elif energy > 0.6 and within % 2 == 0:
            pitch = root + 12 if within == 2 and self._groove == 1 else root
        elif energy > 0.3 and within == 0 and moment.beat in (moment.beats - 1, moment.beats // 2):
            pitch = fifth if moment.beat == moment.beats - 1 else root
        elif energy > 0.45 and within == 3 and chance < 0.35:
            pitch = fifth
        if pitch is None:
            return VoiceStep(hold=self._bass_held)
        self._bass_held = True
        return VoiceStep((pitch,), 0.85 if within == 0 else 0.65)

    def _chord(self, moment: _Moment, notes: tuple[int, ...], degree: int) -> VoiceStep:
        energy = moment.intensity
        strikes = moment.step == 0 or (energy > 0.5 and moment.in_beat == 2 and moment.beat % 2 == self._groove % 2)
        if energy < 0.05:
            self._chord_held = False
            return VoiceStep()
        if not strikes:
            return VoiceStep(hold=self._chord_held)
        self._chord_held = True
        pitches = tuple(_at_or_over(notes[(degree + third) % 7], _CHORD_FROM) for third in (0, 2, 4))
        return VoiceStep(pitches, 0.6 if moment.step == 0 else 0.45)

    def _lead(self, moment: _Moment, notes: tuple[int, ...], degree: int, chance: float) -> VoiceStep:
        """Play the note at which the higher hand is, when a hand moves; hold it while it lingers, then rest."""
        every = 1 if moment.hand_speed > _SIXTEENTHS else 2 if moment.hand_speed > _EIGHTHS else 4
        if moment.intensity < 0.15 or moment.hand_speed < 0.5 * _EIGHTHS:
            self._lead_still += 1
            if self._lead_still >= 2 * _STEPS_PER_BEAT:
                self._lead_pitch = None
            return VoiceStep(hold=self._lead_pitch is not None)
        self._lead_still = 0
        skips = chance > 0.35 + 0.6 * moment.intensity
        if moment.step % every != 0 or skips:
            return VoiceStep(hold=self._lead_pitch is not None)
        rung = round(moment.hand_height * (_LEAD_NOTES - 1))
        if moment.in_beat == 0:
            # On the beat the nearest note of the chord.
            rung = min(
                (r for r in range(rung - 2, rung + 3) if (r - degree) % 7 in (0, 2, 4)), key=lambda r: abs(r - rung)
            )
        pitch = _at_or_over(notes[0], _LEAD_FROM) + 12 * (rung // 7) + (notes[rung % 7] - notes[0]) % 12
        if pitch == self._lead_pitch and every > 1 and moment.in_beat != 0:
            return VoiceStep(hold=True)
        self._lead_pitch = pitch
        return VoiceStep((pitch,), 0.7 + 0.2 * (moment.in_beat == 0))


def _at_or_over(pitch_class: int, floor: int) -> int:
    """Return the lowest pitch of a class at or over a pitch."""
    return floor + (pitch_class - floor) % 12
