"""The dancer's own beat: from the arrivals of a moving body to beat estimates.

A dancer who keeps time arrives on it: a foot that travelled stands, a hand that swung stops, the body that sank rises
again (the "visual impacts" of Davis and Agrawala, "Visual Rhythm and Beat", 2018). Arrivals of several body parts make
one activation, periodicity of the parts' speeds says how long a beat is, and the beat filter of the house does the
rest. All of it is causal.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.beats.beat_filter import BeatFilter, FilterSettings
from engine.beats.spectrum import HOPS_PER_S
from engine.body.skeleton import forward_kinematics
from engine.types import NS_PER_S, BeatEstimate, PoseFrame

Array = NDArray[np.float64]

_HOP_NS = NS_PER_S // HOPS_PER_S
_PARTS = [7, 8, 10, 11, 20, 21, 15]
"""Ankles, feet, wrists, head; the first four count as they move in the world, the others as they move on the body."""
_ON_BODY = [4, 5, 6]
_GROUPS = ((0, 1), (2, 3), (4, 5), (6,))
_GROUP_WEIGHTS = np.array([1.0, 1.0, 0.4, 0.4])
"""Ankles, feet, hands, head. In 36 minutes of ballroom dances only feet arrive at the same phase of the beat in every
style; hands and head are there for dances that stand."""
_LIFT_WEIGHT = 0.4
_SPEED_HZ = 6.0
"""Speeds of landmarks tremble; a movement of the body has little above 6 Hz."""
_PEAK_S = 0.35
"""A part's recent top speed is forgotten with this time constant: shorter than a beat, longer than a stop."""
_SLOWEST_PEAK_M_S = 0.15
"""What was never faster than this has nowhere arrived."""
_ARRIVED_FROM, _ARRIVED_TO = 0.7, 0.2
"""An arrival happens while the speed falls between these shares of its recent top."""
_FULL_M_S, _MOST = 0.5, 2.0
"""An arrival from this speed counts once, from twice as fast or more twice."""
_SCALE_S = 4.0
"""Arrivals are weighed against those of the last seconds: small dances count as much as large ones."""
_SOFTNESS, _FLOOR = 0.7, 0.6
"""An accent is half felt when it is as large as the usual one of its group and the floor (in arrivals a second, or
m/s2 upwards: a dancing part has about 1) together."""
_LEAST_WEIGHT = 0.1
"""Of all groups together; below it nothing dances."""
_SIGNAL_HOPS = 4
"""Speeds are kept at 25 a second for their periodicity ..."""
_SIGNALS = 150
"""... for six seconds, which hold three beats of the slowest dance."""
_FEWEST_SIGNALS = 50
_TEMPO_EVERY_HOPS = 24
_TEMPO_SHARPNESS, _TEMPO_DOUBT = 2.0, 0.02
_MULTIPLES = ((1.0, 1.0), (2.0, 0.8), (4.0, 0.5))
"""A beat's period, its double and its fourfold should all be periods of the movement: left and right, and the bar."""
_STILL_M_S = 0.12
"""Mean speed of all parts, and of the body up and down, under which the dancer stands: a tracked person who stands
still trembles by 0.05 m/s."""
_MOTION_S = 0.2
_STILL_NS = NS_PER_S
_GAP_NS = NS_PER_S // 2
"""After a gap this long in the poses the past says nothing of the present."""
_LEAD_NS = 25_000_000
"""Feet arrive, as this activation sees it, 50 ms before the beat in the dances it was measured on, and limbs that are
drawn to arrive on the beat are felt on it: the middle."""
_SETTINGS = FilterSettings(
    weight=0.5, width_hops=5.0, lowest=0.4, highest=4.0, beat_share=0.25, prior_bpm=105.0, prior_octaves=0.3
)
"""Bodies are less exact than drums: peaks are 50 ms wide, and no single hop may say much. And they are slower: nobody
steps at 200 bpm for long."""
_GATHERED_LOW, _GATHERED_HIGH = 0.05, 0.45
"""How far the arrivals of the last seconds gather at one phase of the beat (0: anywhere, 1: all at once) where
confidence begins, and where it is full."""


class KinematicTracker:
    """Finds beat and tempo in the movement itself, causally. Deterministic.

    Args:
        settings: of the beat filter.
    """

    def __init__(self, settings: FilterSettings | None = None) -> None:
        self._filter = BeatFilter(settings or _SETTINGS)
        self._periods_s = self._filter.periods / HOPS_PER_S
        self.reset()

    def reset(self) -> None:
        """Forget every movement."""
        self._filter.reset()
        self._time_ns: int | None = None
        self._hop = 0
        self._start_ns = 0
        self._points = np.zeros((len(_PARTS), 3))
        self._root = np.zeros(3)
        self._speeds = np.zeros(len(_PARTS))
        self._peaks = np.zeros(len(_PARTS))
        self._progress = np.ones(len(_PARTS))
        self._sinking = self._rising = 0.0
        self._scale = np.zeros(len(_GROUPS) + 1)
        self._seen_s = 0.0
        self._activation = 0.0
        self._signals = np.zeros((_SIGNALS, len(_GROUPS) + 1))
        self._felt = np.zeros(_SIGNALS)
        self._signal_count = 0
        self._motion = 0.0
        self._moved_ns: int | None = None

    def process(self, frame: PoseFrame) -> BeatEstimate | None:
        """Take one pose; return the belief now, or None while the dancer stands still and before any beat is known.

        Poses may come at any rate above 10 a second. One that is not later than the last is ignored.
        """
        joints, _ = forward_kinematics(frame.rotations.astype(np.float64), frame.translation_m.astype(np.float64))
        return self.process_joints(np.asarray(joints, dtype=np.float64), frame.time_ns)

    def process_joints(self, joints: Array, time_ns: int) -> BeatEstimate | None:
        """Do what `process` does, from the joints (24, 3) [m]."""
        if self._time_ns is not None and time_ns <= self._time_ns:
            return None
        root, points = joints[0], joints[_PARTS].copy()
        points[_ON_BODY] -= root
        before_ns = self._time_ns
        if before_ns is None or time_ns - before_ns > _GAP_NS:
            self.reset()
            self._time_ns = self._start_ns = time_ns
            self._points, self._root = points, root
            return None
        dt = (time_ns - before_ns) / NS_PER_S
        old_activation, old_speeds = self._activation, self._group_speeds()
        self._activation = self._arrive(points, root, dt)
        self._time_ns, self._points, self._root = time_ns, points, root
        speeds = self._group_speeds()
        while self._start_ns + (self._hop + 1) * _HOP_NS <= time_ns:
            self._hop += 1
            part = (self._start_ns + self._hop * _HOP_NS - before_ns) / (time_ns - before_ns)
            activation = old_activation + part * (self._activation - old_activation)
            self._filter.step(activation)
            if self._hop % _SIGNAL_HOPS == 0:
                self._signals[self._signal_count % _SIGNALS] = old_speeds + part * (speeds - old_speeds)
                self._felt[self._signal_count % _SIGNALS] = activation
                self._signal_count += 1
            if self._hop % _TEMPO_EVERY_HOPS == 0 and self._signal_count >= _FEWEST_SIGNALS:
                self._hear_period()
        motion = float(self._speeds.mean()) + abs(self._sinking)
        self._motion += (1.0 - math.exp(-dt / _MOTION_S)) * (motion - self._motion)
        if self._motion > _STILL_M_S:
            self._moved_ns = time_ns
        if self._moved_ns is None or time_ns - self._moved_ns > _STILL_NS:
            return None
        return self._estimate()

    def _arrive(self, points: Array, root: Array, dt: float) -> float:
        """Return the activation of this pose: how much of the body arrives just now, 0 to 1."""
        share = 1.0 - math.exp(-2.0 * math.pi * _SPEED_HZ * dt)
        steps = points - self._points
        self._speeds = self._speeds + share * (np.sqrt(np.vecdot(steps, steps)) / dt - self._speeds)
        self._peaks = np.maximum(np.maximum(self._speeds, self._peaks * math.exp(-dt / _PEAK_S)), _SLOWEST_PEAK_M_S)
        progress = np.clip((_ARRIVED_FROM - self._speeds / self._peaks) / (_ARRIVED_FROM - _ARRIVED_TO), 0.0, 1.0)
        force = np.minimum((self._peaks - _SLOWEST_PEAK_M_S) / _FULL_M_S, _MOST)
        arrivals = np.maximum(progress - self._progress, 0.0) * force / dt
        self._progress = progress
        velocity = float(root[1] - self._root[1]) / dt
        sinking = self._sinking + share * (velocity - self._sinking)
        self._rising += share * ((sinking - self._sinking) / dt - self._rising)
        self._sinking = sinking
        parts = np.array([*(arrivals[list(group)].sum() for group in _GROUPS), max(self._rising, 0.0)])
        self._seen_s = min(self._seen_s + dt, _SCALE_S)
        self._scale += (parts - self._scale) * min(dt / self._seen_s, 1.0)
        felt = parts / (parts + _SOFTNESS * self._scale + _FLOOR)
        # What does not dance has no say: hands alone can carry the beat of a dance that stands.
        weights = np.append(_GROUP_WEIGHTS, _LIFT_WEIGHT) * self._scale / (self._scale + _FLOOR)
        return float(weights @ felt / max(float(weights.sum()), _LEAST_WEIGHT))

    def _group_speeds(self) -> Array:
        """Return the speeds by which periods are told: left and right together, for they take turns."""
        return np.array([*(self._speeds[list(group)].sum() for group in _GROUPS), abs(self._sinking)])

    def _hear_period(self) -> None:
        """Tell the filter how well each beat period fits the movement of the last seconds."""
        count = min(self._signal_count, _SIGNALS)
        newest = self._signal_count % _SIGNALS
        signals = np.roll(self._signals, -newest, axis=0)[-count:]
        signals = signals - signals.mean(axis=0)
        power = np.abs(np.fft.rfft(signals, 2 * _SIGNALS, axis=0)) ** 2
        # Each part counts as it moves: what stands says nothing.
        correlation = np.fft.irfft(power.sum(axis=1))[:count]
        lags = np.arange(count)
        correlation = correlation / max(float(correlation[0]), 1e-9) * (count / (count - 0.8 * lags))
        lags_s = lags * (_SIGNAL_HOPS / HOPS_PER_S)
        heard = [w * np.interp(k * self._periods_s, lags_s, correlation, right=0.0) for k, w in _MULTIPLES]
        fit = np.sum(heard, axis=0)
        chances = np.exp(_TEMPO_SHARPNESS * (fit - fit.max())) + _TEMPO_DOUBT
        self._filter.hear_tempo(chances, _TEMPO_EVERY_HOPS)

    def _estimate(self) -> BeatEstimate:
        belief = self._filter.belief()
        now_ns = self._start_ns + self._hop * _HOP_NS
        beat_ns = now_ns + _LEAD_NS - round(belief.phase * belief.period_hops * _HOP_NS)
        gathered = self._gathering(belief.phase, belief.period_hops)
        trust = min(max((gathered - _GATHERED_LOW) / (_GATHERED_HIGH - _GATHERED_LOW), 0.0), 1.0)
        confidence = min(max(belief.probability, 0.0), 1.0) * trust
        return BeatEstimate(beat_ns, round(belief.period_hops * _HOP_NS), confidence)

    def _gathering(self, phase: float, period_hops: float) -> float:
        """Return how far the arrivals of the last seconds lie on the beat that is believed in, -1 to 1."""
        count = min(self._signal_count, _SIGNALS)
        if count < _FEWEST_SIGNALS:
            return 0.0
        ages = (self._signal_count - 1 - np.arange(_SIGNALS)) % _SIGNALS * _SIGNAL_HOPS + self._hop % _SIGNAL_HOPS
        total = float(self._felt.sum())
        angle = 2.0 * math.pi * (phase - ages / period_hops)
        return float(self._felt @ np.cos(angle)) / total if total > 1e-6 else 0.0
