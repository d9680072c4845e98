"""Notes fired by the body: an accent of a hand, a foot or the head sounds at once, or on the next step of the grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import forward_kinematics
from engine.settings import TriggerSettings, TriggerZoneSettings
from engine.types import NS_PER_S, BeatTimeline, NoteEvent, PoseFrame

MODES = ("off", "free", "quantised")
PARTS = {"left_hand": 20, "right_hand": 21, "left_foot": 10, "right_foot": 11, "head": 15}
"""The joint that stands for each part. Wrists: a camera sees them better than fingers."""

_SHOULDERS = [16, 17]
# The hip bones reach about this far over the pelvis joint; a wrist that hangs is below them.
_HIPS_M = 0.06

# Speed relative to the hips [m/s] from which a stroke counts at sensitivity 0.5. On training dances the wrist passes
# 2.5 m/s in a tenth of all ticks; a clap or a drummer's stroke in the air peaks at 2 to 5, a stamp at 2, a nod at 1.
_THRESHOLD_M_S = {"left_hand": 1.8, "right_hand": 1.8, "left_foot": 1.5, "right_foot": 1.5, "head": 0.8}
# Sensitivity 0 asks for three times that, 1 for a third.
_SPAN = 3.0
# The stroke is over when its speed has fallen to this share of its peak. A stroke whose speed rises and falls like a
# bell is then two thirds through: 50 ms before the hand stands still, about what camera and estimation took.
_FALLEN = 0.7
# Another stroke needs the part to have come down to this share of the threshold in between, or to turn back.
_REARM = 0.6
_SMOOTHING_S = 0.02
# After a longer hole nothing is known of the speed.
_LONGEST_GAP_S = 0.25
_STEPS = {"1/4": 1.0, "1/8": 0.5, "1/16": 0.25}
# A stroke at the threshold, and one at three times it, in MIDI.
_SOFT, _HARD = 55, 127

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Accent:
    """A stroke that has just been made.

    Attributes:
        part: one of `PARTS`.
        time_ns: when the frame was captured that showed it.
        speed_m_s: at its fastest, relative to the hips.
        threshold_m_s: what it had to pass.
        height: "high" over the shoulders, "low" below the hips, "middle" between.
        side: "left" or "right" of the dancer's middle, whichever way they face.
    """

    part: str
    time_ns: int
    speed_m_s: float
    threshold_m_s: float
    height: str
    side: str


class StrokeDetector:
    """Finds the strokes of one part: fast, then suddenly not. Causal and deterministic.

    A stroke is reported in the first frame in which the speed has fallen to 70 % of its peak, or the part has turned
    back: one or two frames after the peak, before it stands still.
    """

    def __init__(self, threshold_m_s: float, refractory_s: float) -> None:
        self._threshold = threshold_m_s
        self._refractory_s = refractory_s
        self.reset()

    def reset(self) -> None:
        """Forget the movement so far."""
        self._place: Array | None = None
        self._velocity = np.zeros(3)
        self._peak: float | None = None
        self._heading = np.zeros(3)
        self._armed = True
        self._since_s = math.inf

    def process(self, place_m: Array, interval_s: float) -> float | None:
        """Take the place (3,) of a frame `interval_s` after the last; return the peak speed of a stroke just made."""
        before, self._place = self._place, place_m
        self._since_s += interval_s
        if before is None or interval_s <= 0.0:
            return None
        velocity = (place_m - before) / interval_s
        self._velocity = velocity + math.exp(-interval_s / _SMOOTHING_S) * (self._velocity - velocity)
        speed = float(np.linalg.norm(self._velocity))
        if self._peak is None:
            self._armed = self._armed or speed < _REARM * self._threshold or self._turned()
            if self._armed and speed > self._threshold:
                self._peak, self._heading = speed, self._velocity
            return None
        if speed >= self._peak:
            self._peak, self._heading = speed, self._velocity
            return None
        if speed > _FALLEN * self._peak and not self._turned():
            return None
        peak, self._peak, self._armed = self._peak, None, False
        if self._since_s < self._refractory_s:
            return None
        self._since_s = 0.0
        return peak

    def _turned(self) -> bool:
        """Say whether the part goes back the way it came."""
        return float(np.dot(self._velocity, self._heading)) < 0.0


class Triggers:
    """Turns poses into notes. Deterministic; the core thread only.

    Attributes:
        mode: one of `MODES`.
    """

    def __init__(self, settings: TriggerSettings) -> None:
        self._settings = settings
        self.mode: str = settings.mode
        scale = _SPAN ** (2.0 * (0.5 - settings.sensitivity))
        self._thresholds = {part: scale * threshold for part, threshold in _THRESHOLD_M_S.items()}
        refractory_s = settings.refractory_ms * 1e-3
        self._detectors = {part: StrokeDetector(self._thresholds[part], refractory_s) for part in PARTS}
        self._time_ns: int | None = None

    def set_mode(self, mode: str | float) -> str:
        """Set the mode by name or index into `MODES`. Raises ValueError for an unknown one."""
        if not isinstance(mode, str):
            mode = MODES[int(mode)] if 0 <= int(mode) < len(MODES) else str(int(mode))
        if mode not in MODES:
            raise ValueError(f"triggers are {', '.join(MODES)}, not '{mode}'")
        self.mode = mode
        return mode

    def see(self, frame: PoseFrame, now_ns: int, timeline: BeatTimeline) -> list[NoteEvent]:
        """Take a pose; return the notes that its accents fire.

        Args:
            frame: what the camera showed; `time_ns` is when it was captured.
            now_ns: session time: a free note sounds now.
            timeline: for quantised notes.
        """
        if self.mode == "off":
            self._forget()
            return []
        zones = self._settings.zones
        fired = [(zone, accent) for accent in self.accents(frame) for zone in zones if _inside(zone, accent)]
        return [self._note(zone, accent, now_ns, timeline) for zone, accent in fired]

    def accents(self, frame: PoseFrame) -> list[Accent]:
        """Take a pose; return the strokes that it completes."""
        interval_s = 0.0 if self._time_ns is None else (frame.time_ns - self._time_ns) / NS_PER_S
        if interval_s < 0.0 or not np.isfinite(frame.rotations).all():
            return []
        if interval_s > _LONGEST_GAP_S:
            self._forget()
        self._time_ns = frame.time_ns
        joints, world = forward_kinematics(np.asarray(frame.rotations, np.float64), np.zeros(3))
        shoulders, hips = float(joints[_SHOULDERS, 1].mean()), float(joints[0, 1]) + _HIPS_M
        heading = math.atan2(world[0, 0, 2], world[0, 2, 2])
        found: list[Accent] = []
        for part, joint in PARTS.items():
            place = np.asarray(joints[joint], np.float64)
            peak = self._detectors[part].process(place, interval_s)
            if peak is not None:
                height = "high" if place[1] > shoulders else "low" if place[1] < hips else "middle"
                side = "left" if math.cos(heading) * place[0] > math.sin(heading) * place[2] else "right"
                found.append(Accent(part, frame.time_ns, peak, self._thresholds[part], height, side))
        return found

    def _forget(self) -> None:
        self._time_ns = None
        for detector in self._detectors.values():
            detector.reset()

    def _note(self, zone: TriggerZoneSettings, accent: Accent, now_ns: int, timeline: BeatTimeline) -> NoteEvent:
        time_ns = now_ns
        if self.mode == "quantised":
            step = _STEPS[self._settings.grid]
            time_ns = max(timeline.time_of(math.ceil(timeline.beat_at(now_ns) / step) * step), now_ns)
        force = (accent.speed_m_s / accent.threshold_m_s - 1.0) / (_SPAN - 1.0)
        velocity = round(_SOFT + (_HARD - _SOFT) * min(max(force, 0.0), 1.0))
        length_ns = round(zone.duration_ms * 1e6)
        return NoteEvent(time_ns, accent.time_ns, zone.channel, zone.note, velocity, length_ns)


def _inside(zone: TriggerZoneSettings, accent: Accent) -> bool:
    """Say whether an accent fires a zone."""
    if zone.part != accent.part or zone.height not in ("any", accent.height):
        return False
    return zone.side == "any" or zone.side == accent.side
