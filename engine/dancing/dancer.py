"""The virtual dancer: asks the generator for motion ahead of time, keeps it on the stage, and shows it on the beat."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.body.skeleton import MIRROR_CONTACTS, mirror, quaternion_to_axis_angle
from engine.dancing.dance_time import DanceTimeline
from engine.dancing.guards import PoseGuard
from engine.dancing.idle_generator import IdleGenerator
from engine.dancing.inertia import Inertializer
from engine.dancing.motion_track import AVERAGED_TICKS, MotionTrack, Pose
from engine.dancing.phase_servo import FORESIGHT_TICKS, REACH_TICKS, PhaseServo
from engine.features import FeatureSpec, TickPooler
from engine.metrics import Metrics
from engine.protocols import Generator
from engine.settings import DancerSettings, SceneSettings
from engine.types import NS_PER_S, BeatState, MotionChunk, MotionRequest, PoseFrame

Report = Callable[[str, str], None]
"""Tells the operator: level, message."""

# Styles by metre and tempo, for style "auto": what each was danced to by those who taught it.
_AUTO_STYLE_4 = ((104.0, "rumba"), (math.inf, "chacha"))
_AUTO_STYLE_3 = "waltz"

# Steering begins at this share of the stage radius and turns at most this much a tick, at the edge: 96 degrees a beat.
# Turned by less, waltzers came to the edge, where the guard holds them: they covered a tenth less ground and slid more.
_STEER_FROM = 0.65
_STEER_RAD = math.radians(8.0)
# How strongly the dancer's energy follows the loudness of the music: +-5 dB about the running loudness is +-0.25.
_ENERGY_PER_LOUDNESS = 0.5
_ENERGY_SMOOTHING_S = 1.0
# How far ahead the velocity of a motion is taken when it takes over.
_GLANCE_TICKS = 0.25
# When the beat is found, or found to be elsewhere, its time may leap ahead. Faster than so many times the tempo is a
# leap, and hidden like a change of source; slower is a hurry. With 2.5 a frame of a step could be twice as long as the
# frames around it.
_LEAP = 1.5
# A lost model is tried again after this many ticks (two beats), then twice as many, and so on up to the last.
_RETRY_TICKS, _RETRY_TICKS_MAX = 24, 768

SLACK_TICKS = REACH_TICKS + _GLANCE_TICKS
"""How far ahead of the beat's tick a dancer's motion may have been shown."""


class Dancer:
    """Turns the beat and the music into poses at any presentation time. Deterministic for a seed.

    Args:
        slack_ticks: how much later than at once a change of motion is allowed to begin. With `SLACK_TICKS` it begins at
            the same tick for everybody who hears the same, wherever each one's servo has them.

    Threads: the core thread only.
    """

    def __init__(
        self,
        generator: Generator,
        guard: PoseGuard,
        spec: FeatureSpec,
        settings: DancerSettings,
        metrics: Metrics,
        report: Report,
        slack_ticks: float = 0.0,
    ) -> None:
        self._generator = generator
        self._slack = slack_ticks
        self._idle: Generator = IdleGenerator()
        self._guard = guard
        self._settings = settings
        self._metrics = metrics
        self._report = report
        self._info = generator.info
        self._time = DanceTimeline(self._info.tempo_range_bpm)
        self._pooler = TickPooler(spec)
        self._loudness_column = spec.column("loudness")
        # Tick k's row is at k mod the length; long enough for the look-ahead and two chunks of any model.
        self._rows = np.tile(spec.silence, (64, 1))
        self._row_tick: int | None = None
        self._track = MotionTrack()
        self._servo = PhaseServo()
        self._inertializer = Inertializer()
        self._source: Generator | None = None
        self._retry_tick = 0
        self._retry_after = _RETRY_TICKS
        self._losses = 0
        self._lost = False
        self._resting = True
        self._quiet_since_ns: int | None = 0
        self._music_energy = 0.0
        self._seed = settings.seed
        self.style = settings.style
        self.energy = settings.energy
        self._mirror = settings.mirror
        # The side of the chunks made last, and the tick from which they are on it.
        self._side = settings.mirror
        self._side_tick = -math.inf
        self._seam = False
        self._home = False
        self._hold = False
        self._held: Pose | None = None
        self._held_heading_rad = 0.0
        self._shown = 0.0
        self._tick = -math.inf
        self._epoch = -1
        self._frame_ns: int | None = None
        generator.reset(self._seed)
        self._idle.reset(self._seed)

    # -- what the performer asks for ------------------------------------------------------------------------------

    @property
    def styles(self) -> tuple[str, ...]:
        """Names that `set_style` takes, "auto" first."""
        return ("auto", *self._info.styles)

    def set_style(self, style: str | float) -> str:
        """Set the style by name or index into `styles`. Raises ValueError for one the model does not know."""
        if not isinstance(style, str):
            index = int(style)
            if not 0 <= index < len(self.styles):
                raise ValueError(f"no style {index}; there are {len(self.styles)}: {', '.join(self.styles)}")
            style = self.styles[index]
        if style not in self.styles:
            raise ValueError(f"unknown style '{style}'; known: {', '.join(self.styles)}")
        self.style = style
        return style

    @property
    def mirror(self) -> bool:
        """Whether left and right are swapped."""
        return self._mirror

    def set_mirror(self, on: bool) -> None:
        """Swap left and right from the next chunk on; of several wishes within a chunk the last counts."""
        self._mirror = on

    @property
    def held(self) -> bool:
        """Whether the dancer is frozen."""
        return self._hold

    def hold(self, on: bool) -> None:
        """Freeze in the pose, or go on from there: wherever the dance would be by now, it comes to who was held."""
        if self._hold and not on and self._held is not None:
            tick = max(math.floor(self._shown), self._track.begin)
            self._track.bring(tick, self._held.translation_m[[0, 2]], self._held_heading_rad)
            self._servo.forget()
        self._hold = on

    def apply_scene(self, scene: SceneSettings) -> None:
        """Take over what a scene sets. Raises ValueError for a style the model does not know."""
        if scene.style is not None:
            self.set_style(scene.style)
        if scene.energy is not None:
            self.energy = scene.energy
        if scene.mirror is not None:
            self.set_mirror(scene.mirror)

    def panic(self) -> None:
        """Start again from the model's start pose, in the middle of the stage, released from hold.

        The guard is told nothing: whatever it is given it stays sound, and anew it would let go of held feet at once.
        """
        self._hold = False
        self._generator.reset(self._seed)
        self._seam = self._home = True
        self._retry_tick = 0
        self._lost = False

    # -- hearing --------------------------------------------------------------------------------------------------

    def update(self, now_ns: int, beat: BeatState, row: NDArray[np.float32], active: bool) -> None:
        """Take one analysis hop and prepare the motion that is due.

        Args:
            now_ns: end of the hop.
            beat: belief about the beat at its end.
            row: (F,) features of the hop.
            active: whether there is music.
        """
        self._time.update(beat, now_ns)
        self._pool(now_ns, row)
        self._follow(now_ns, row, active)
        now_tick = self._time.tick_at(now_ns)
        chunk = self._info.chunk_ticks
        if self._source is None or now_tick > self._track.end + 2 * chunk:
            # The start, or time has leapt (a lost sensor came back): begin anew at the chunk that is due.
            self._track.restart(math.floor(now_tick / chunk) * chunk)
            self._tick = -math.inf
            self._side = self._mirror
        self._turn_to_source()
        while now_tick >= self._track.end - self._lead_ticks():
            self._extend()

    def _pool(self, now_ns: int, row: NDArray[np.float32]) -> None:
        """Add the hop to its tick's features; close the ticks that have ended."""
        self._pooler.push(row, now_ns)
        tick = math.floor(self._time.tick_at(now_ns))
        if self._row_tick is None or not 0 <= tick - self._row_tick < len(self._rows):
            self._row_tick = tick
        while self._row_tick < tick:
            self._row_tick += 1
            pooled = self._pooler.pool(min(self._time.time_of(self._row_tick), now_ns))
            self._rows[self._row_tick % len(self._rows)] = pooled

    def _follow(self, now_ns: int, row: NDArray[np.float32], active: bool) -> None:
        """Decide whether to rest, and how much energy the music has."""
        if active:
            self._quiet_since_ns = None
            self._resting = False
            loudness = float(row[self._loudness_column])
            self._music_energy += (loudness - self._music_energy) * 0.01 / _ENERGY_SMOOTHING_S
            return
        if self._quiet_since_ns is None:
            self._quiet_since_ns = now_ns
        if now_ns - self._quiet_since_ns >= self._settings.rest_after_s * NS_PER_S:
            self._resting = True

    def _lead_ticks(self) -> int:
        """Return how long ahead of its time a chunk is made: the servo needs the model's motion a beat ahead."""
        return self._info.lookahead_ticks + (math.ceil(self._slack) if self._resting else FORESIGHT_TICKS)

    def _turn_to_source(self) -> None:
        """When the dancer is to rest, or to dance again, or to change sides, drop what was made ahead."""
        if self._source is None:
            return
        idling = self._source is self._idle
        lost = idling and self._track.end < self._retry_tick
        chunk = self._info.chunk_ticks
        earliest = math.ceil(max(self._track.shown_tick + 2, self._tick + self._slack + 2) / chunk) * chunk
        # Once a chunk: changed faster, by an oscillator, all that lies ahead would be made again each time.
        turns = self._mirror != self._side and earliest > self._side_tick
        if not self._seam and not turns and (lost or self._resting == idling):
            return
        if turns:
            self._side, self._side_tick = self._mirror, earliest
            self._seam = True
        if earliest < self._track.end:
            self._track.truncate(earliest)
        if self._home:
            self._home = False
            self._track.place(np.zeros(2), 0.0)

    # -- moving ---------------------------------------------------------------------------------------------------

    def _extend(self) -> None:
        """Ask for the next chunk and put it on the track; never fails."""
        first, count = self._track.end, self._info.chunk_ticks
        # The servo's foresight is a whole beat: the music of a beat ago stands where the model expects the newest.
        newest = first - self._lead_ticks()
        ticks = np.arange(newest - count + 1, newest + 1)
        known = np.minimum(ticks, self._row_tick if self._row_tick is not None else 0)
        request = MotionRequest(
            first_tick=first,
            music=self._rows[known % len(self._rows)],
            tempo_bpm=self._time.tempo_bpm,
            beats_per_bar=self._time.beats_per_bar,
            bar_tick=self._time.bar_tick,
            style=self._chosen_style(),
            energy=min(max(self.energy + _ENERGY_PER_LOUDNESS * self._music_energy, 0.0), 1.0),
        )
        chunk, source = self._generate(request)
        seam = self._seam or (self._source is not None and source is not self._source)
        self._source, self._seam = source, False
        if self._side:
            chunk = _mirrored(chunk)
        # The idle sway goes nowhere: steered, it would turn to and fro on feet that stand.
        steer_rad = self._steering(chunk) if source is self._generator else 0.0
        self._track.append(chunk, steer_rad, seam)
        # The ticks before are now averaged with this chunk's first.
        self._servo.see(self._track, max(first - AVERAGED_TICKS, self._track.begin), source is self._generator)

    def _generate(self, request: MotionRequest) -> tuple[MotionChunk, Generator]:
        """Return a chunk from the model, or from the idle sway if the dancer rests or the model is lost."""
        if not self._resting and request.first_tick >= self._retry_tick:
            try:
                if self._lost:
                    self._generator.reset(self._seed + self._losses)
                    self._lost = False
                with self._metrics.timed("model_step"):
                    chunk = self._generator.step(request)
                if not _finite(chunk):
                    raise FloatingPointError("it returned a pose that is not finite")
                self._retry_after = _RETRY_TICKS
                return chunk, self._generator
            except Exception as error:  # on stage nothing raises: whatever a model does, the dance goes on
                self._losses += 1
                self._lost = True
                self._metrics.count("model_lost")
                self._retry_tick = request.first_tick + self._retry_after
                self._retry_after = min(2 * self._retry_after, _RETRY_TICKS_MAX)
                self._report("error", f"model {self._info.name} failed ({error}); idling, trying again soon")
        return self._idle.step(request), self._idle

    def _chosen_style(self) -> str | None:
        """Return the style wished, or for "auto" the one that fits metre and tempo."""
        if self.style != "auto":
            return self.style
        if self._time.beats_per_bar == 3:
            style = _AUTO_STYLE_3
        else:
            style = next(name for limit, name in _AUTO_STYLE_4 if self._time.tempo_bpm < limit)
        return style if style in self._info.styles else None

    def _steering(self, chunk: MotionChunk) -> float:
        """Return the yaw a tick that bends the chunk's path back towards the middle of the stage."""
        x, z = self._track.position_m
        radius = math.hypot(x, z)
        excess = radius / self._settings.stage_radius_m - _STEER_FROM
        dx, dz = (float(d) for d in chunk.root_delta_m.sum(axis=0))
        if excess <= 0.0 or math.hypot(dx, dz) < 0.01:
            return 0.0
        sine, cosine = math.sin(self._track.heading_rad), math.cos(self._track.heading_rad)
        wx, wz = cosine * dx + sine * dz, cosine * dz - sine * dx
        # Angle about +Y from the way it moves to the way home.
        turn = math.atan2(wz * -x - wx * -z, wx * -x + wz * -z)
        strength = min(excess / (1.0 - _STEER_FROM), 1.0)
        return math.copysign(min(abs(turn), _STEER_RAD * strength), turn)

    # -- showing --------------------------------------------------------------------------------------------------

    def frame(self, time_ns: int, source_ns: int, beat_time_ns: int) -> PoseFrame:
        """Return the pose for a presentation time.

        Args:
            time_ns: when it is shown; later than that of the call before.
            source_ns: the newest hop heard.
            beat_time_ns: the moment of the music that it shows (the presentation time plus the vision's lead).
        """
        pose = self.pose(time_ns, beat_time_ns)
        rotations = np.asarray(quaternion_to_axis_angle(pose.quaternions))
        guarded = self._guard.apply(time_ns, rotations, pose.translation_m, pose.contacts)
        return PoseFrame(time_ns, source_ns, guarded.rotations, guarded.translation_m, guarded.contacts)

    def pose(self, time_ns: int, beat_time_ns: int) -> Pose:
        """Return what `frame` shows before it is guarded, for whoever guards many at once."""
        interval_s = 0.0 if self._frame_ns is None else (time_ns - self._frame_ns) / NS_PER_S
        self._frame_ns = time_ns
        tick = self._time.tick_at(beat_time_ns)
        # The tempo may just have dropped: the dance waits a moment, it does not step back.
        tick = max(tick, self._tick)
        leapt = tick - self._tick > _LEAP * interval_s / self._time.seconds(1.0)
        self._tick = tick
        shown = self._servo.motion_tick(tick, self._track.end, self._time.tempo_bpm)
        # What is before the dance began (a vision that trails the sound, at the start) is its first pose.
        shown = max(shown, float(self._track.begin))
        while not self._track.has(shown):
            self._extend()
        pose, epoch = self._track.sample(shown)
        self._shown = shown
        if self._hold:
            if self._held is None:
                self._held, self._held_heading_rad = pose, self._track.heading_at(math.floor(shown))
                self._inertializer.change(pose)
            pose = self._held
        elif self._held is not None or epoch != self._epoch or leapt:
            self._held = None
            later = shown + _GLANCE_TICKS
            ahead = self._track.sample(later)[0] if self._track.has(later) else None
            self._inertializer.change(pose, ahead, self._time.seconds(_GLANCE_TICKS))
        self._epoch = epoch
        return self._inertializer.apply(pose, interval_s)


def _finite(chunk: MotionChunk) -> bool:
    arrays = (chunk.rotations, chunk.heading_delta_rad, chunk.root_delta_m, chunk.root_height_m, chunk.contacts)
    return all(bool(np.isfinite(array).all()) for array in arrays)


def _mirrored(chunk: MotionChunk) -> MotionChunk:
    """Swap the chunk's left and right."""
    rotations, _ = mirror(chunk.rotations, np.zeros(3))
    return MotionChunk(
        rotations,
        -chunk.heading_delta_rad,
        chunk.root_delta_m * np.array([-1.0, 1.0], dtype=np.float32),
        chunk.root_height_m,
        chunk.contacts[:, list(MIRROR_CONTACTS)],
    )
