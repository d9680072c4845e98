"""The values that travel between sensors, the pure core and the bridges.

Every type is frozen and slotted; its arrays are made read-only on construction, so that a value may be
shared between threads without a copy. Times are session time in integer nanoseconds.

Space: SMPL's 24 joints in SMPL's order; right-handed, Y up, metres, radians; at rest the dancer faces +Z
and their left hand is at +X.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

NS_PER_S = 1_000_000_000
TICKS_PER_BEAT = 12
"""One tick is 1/12 beat: two MIDI clocks, and it divides both eighths and triplets."""
TICKS_PER_STEP = 3
"""One step is 1/4 beat: a sixteenth note."""


def _freeze(owner: object, name: str, shape: tuple[int | None, ...]) -> None:
    """Replace a field by a read-only float32 array; refuse a wrong shape."""
    array: NDArray[np.float32] = np.asarray(getattr(owner, name), dtype=np.float32)
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=False)):
        raise ValueError(f"{type(owner).__name__}.{name}: expected shape {shape}, got {array.shape}")
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    object.__setattr__(owner, name, array)


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """A run of samples from an audio source.

    Attributes:
        sample_index: index of the first sample since the source started, lost samples included.
        time_ns: session time of the END of the block (when its newest sample was heard).
        samples: (n, channels) float32 in [-1, 1].
        sample_rate_hz: of `samples`.
        gap_samples: samples lost just before this block.
    """

    sample_index: int
    time_ns: int
    samples: NDArray[np.float32]
    sample_rate_hz: int
    gap_samples: int = 0

    def __post_init__(self) -> None:
        _freeze(self, "samples", (None, None))


@dataclass(frozen=True, slots=True)
class PoseLandmarks:
    """One camera frame's pose estimate: BlazePose's 33 landmarks of the chosen person.

    Attributes:
        time_ns: session time at which the frame was captured.
        positions_m: (33, 3) float32, origin between the hips; camera axes turned into ours: x to the image's right,
            y up, z towards the camera.
        visibility: (33,) float32 in [0, 1]; all zero in a frame in which nobody was seen.
        image_xy: (33, 2) float32, fractions of the image's width and height from its top left corner; may lie outside.
        aspect: width / height of the image.
    """

    time_ns: int
    positions_m: NDArray[np.float32]
    visibility: NDArray[np.float32]
    image_xy: NDArray[np.float32]
    aspect: float = 16.0 / 9.0

    def __post_init__(self) -> None:
        _freeze(self, "positions_m", (33, 3))
        _freeze(self, "visibility", (33,))
        _freeze(self, "image_xy", (33, 2))

    @property
    def finite(self) -> bool:
        """Whether all of it is numbers."""
        parts = (self.positions_m, self.visibility, self.image_xy, self.aspect)
        return all(bool(np.isfinite(part).all()) for part in parts)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing was observed, but time has passed: keeps a show going that no audio drives."""

    time_ns: int


@dataclass(frozen=True, slots=True)
class TempoReference:
    """Where another program's clock (Ableton Link, MIDI clock) says the music is.

    Attributes:
        time_ns: session time of the statement.
        beat: beat number at that time (fractional).
        tempo_bpm: > 0.
        source: "link" or "midi-clock".
        playing: false while its transport is stopped.
    """

    time_ns: int
    beat: float
    tempo_bpm: float
    source: str
    playing: bool = True


@dataclass(frozen=True, slots=True)
class ControlEvent:
    """A performer's wish, whatever it came from (OSC, web stage, keys). Names as in `engine.controls`."""

    time_ns: int
    name: str
    value: float | str | None = None


@dataclass(frozen=True, slots=True)
class BeatTimeline:
    """The map beats <-> session time: one tempo through one anchor, as in Ableton Link.

    Attributes:
        tempo_bpm: beats per minute, > 0.
        origin_beat: beat number at the anchor (fractional allowed).
        origin_ns: session time of the anchor.
    """

    tempo_bpm: float
    origin_beat: float
    origin_ns: int

    def __post_init__(self) -> None:
        if not 0.0 < self.tempo_bpm < 1e6:
            raise ValueError(f"BeatTimeline.tempo_bpm: expected a positive tempo, got {self.tempo_bpm}")

    def beat_at(self, time_ns: int) -> float:
        """Return the (fractional) beat number at a session time."""
        return self.origin_beat + (time_ns - self.origin_ns) * self.tempo_bpm / (60 * NS_PER_S)

    def time_of(self, beat: float) -> int:
        """Return the session time [ns] of a beat number."""
        return self.origin_ns + round((beat - self.origin_beat) * 60 * NS_PER_S / self.tempo_bpm)

    def phase_at(self, time_ns: int) -> float:
        """Return the beat phase in [0, 1)."""
        return self.beat_at(time_ns) % 1.0


@dataclass(frozen=True, slots=True)
class BeatState:
    """What is known of the beat now.

    Attributes:
        timeline: predicted; valid into the near future.
        confidence: 0 (guessing) to 1 (certain).
        beats_per_bar: None while unknown.
        bar_origin_beat: a beat number that is a bar's first beat; bar position = (beat - it) mod beats_per_bar.
    """

    timeline: BeatTimeline
    confidence: float
    beats_per_bar: int | None = None
    bar_origin_beat: int = 0

    def bar_beat(self, beat_index: int) -> int:
        """Return the position in the bar (1 = downbeat), or 0 while the metre is unknown."""
        if self.beats_per_bar is None:
            return 0
        return (beat_index - self.bar_origin_beat) % self.beats_per_bar + 1


@dataclass(frozen=True, slots=True)
class MusicFrame:
    """The music features of one analysis hop: `features` (F,) float32 and the beat state at its end."""

    time_ns: int
    features: NDArray[np.float32]
    beat: BeatState

    def __post_init__(self) -> None:
        _freeze(self, "features", (None,))


@dataclass(frozen=True, slots=True)
class PoseFrame:
    """One pose to be shown.

    Attributes:
        time_ns: presentation time.
        source_ns: newest observation that influenced it; time_ns - source_ns is the latency we report.
        rotations: (24, 3) float32, axis-angle [rad], relative to the parent; the root's is in the world.
        translation_m: (3,) float32, the root joint in the world.
        contacts: (4,) float32 in [0, 1]: left heel, left toe, right heel, right toe.
        performer: who it is: "" the lead dancer, "partner" a second virtual dancer, "camera" the person in front of
            the camera; crowds are numbered "1", "2", ...
    """

    time_ns: int
    source_ns: int
    rotations: NDArray[np.float32]
    translation_m: NDArray[np.float32]
    contacts: NDArray[np.float32]
    performer: str = ""

    def __post_init__(self) -> None:
        _freeze(self, "rotations", (24, 3))
        _freeze(self, "translation_m", (3,))
        _freeze(self, "contacts", (4,))


@dataclass(frozen=True, slots=True)
class NoteEvent:
    """One note to be sounded at `time_ns`. Channel 0 to 15, pitch and velocity 0 to 127.

    `duration_ns` is the longest it lasts. A later event with the same channel and pitch and velocity 0 (duration 0)
    ends it earlier, as in MIDI; a later note of the same channel and pitch ends it too.
    """

    time_ns: int
    source_ns: int
    channel: int
    pitch: int
    velocity: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class BeatEvent:
    """A predicted beat: `time_ns` is when it will sound, `source_ns` what had been heard when it was predicted."""

    time_ns: int
    source_ns: int
    beat_index: int
    bar_beat: int
    tempo_bpm: float
    confidence: float


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """Something the operator should know. Level is 'info', 'warning' or 'error'."""

    time_ns: int
    component: str
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class BeatEstimate:
    """What a beat tracker believes after one hop.

    Attributes:
        beat_ns: session time of one beat, in the recent past or near future.
        period_ns: beat period > 0.
        confidence: 0 to 1.
        beats_per_bar: None while unknown.
        downbeat_ns: session time of one downbeat, None while unknown.
    """

    beat_ns: int
    period_ns: int
    confidence: float
    beats_per_bar: int | None = None
    downbeat_ns: int | None = None


@dataclass(frozen=True, slots=True)
class MotionRequest:
    """What a music -> dance generator is given for its next chunk of C ticks.

    Attributes:
        first_tick: index of the chunk's first tick on the dancer's timeline; a multiple of C. Tick 12 k is beat k.
        music: (C, F) float32, one row a tick; the newest row ends `lookahead_ticks` before `first_tick`.
        tempo_bpm: tempo of the dancer's timeline (folded to the level that is danced).
        beats_per_bar: None while unknown.
        bar_tick: index in ticks of a bar's start (any), so that bar position = (tick - it) mod (12 x beats_per_bar).
        style: style name, or None for no wish.
        energy: wished movement energy 0 to 1; 0.5 is what the training dancers did on average.
    """

    first_tick: int
    music: NDArray[np.float32]
    tempo_bpm: float
    beats_per_bar: int | None
    bar_tick: int
    style: str | None
    energy: float

    def __post_init__(self) -> None:
        _freeze(self, "music", (None, None))


@dataclass(frozen=True, slots=True)
class MotionChunk:
    """C ticks of motion in the dancer's own heading frame (the pipeline integrates it into the world).

    Attributes:
        rotations: (C, 24, 3) float32 axis-angle; the root's is what remains after the heading (yaw) is taken out.
        heading_delta_rad: (C,) yaw since the previous tick, about +Y.
        root_delta_m: (C, 2) root displacement since the previous tick, x (to the dancer's left) and z (forward) in
            the heading frame of the previous tick.
        root_height_m: (C,) height of the root joint over the floor.
        contacts: (C, 4) probabilities: left heel, left toe, right heel, right toe.
    """

    rotations: NDArray[np.float32]
    heading_delta_rad: NDArray[np.float32]
    root_delta_m: NDArray[np.float32]
    root_height_m: NDArray[np.float32]
    contacts: NDArray[np.float32]

    def __post_init__(self) -> None:
        _freeze(self, "rotations", (None, 24, 3))
        ticks = self.rotations.shape[0]
        _freeze(self, "heading_delta_rad", (ticks,))
        _freeze(self, "root_delta_m", (ticks, 2))
        _freeze(self, "root_height_m", (ticks,))
        _freeze(self, "contacts", (ticks, 4))


@dataclass(frozen=True, slots=True)
class GeneratorInfo:
    """What a generator needs and promises; checked against the pipeline before the show.

    Attributes:
        name: of the model.
        chunk_ticks: ticks produced by one step.
        lookahead_ticks: how many ticks before its first tick a chunk is asked for.
        feature_spec: `FeatureSpec.digest` of the features it was trained on.
        feature_count: F.
        styles: names it knows.
        tempo_range_bpm: range of tempos it was trained on; outside it the dancer takes half or double time.
    """

    name: str
    chunk_ticks: int
    lookahead_ticks: int
    feature_spec: str
    feature_count: int
    styles: tuple[str, ...] = field(default=())
    tempo_range_bpm: tuple[float, float] = (60.0, 140.0)


VOICES = ("drums", "bass", "chord", "lead")
VOICE_CHANNELS = {"drums": 9, "bass": 0, "chord": 1, "lead": 2}
"""MIDI channels, from 0; drums where General MIDI has them."""
TRIGGER_CHANNEL = 3
"""Notes fired by the dancer's accents."""
DRUMS = ("kick", "snare", "closed_hat", "open_hat", "low_tom", "mid_tom", "high_tom", "crash", "ride")
DRUM_PITCHES = (36, 38, 42, 46, 43, 47, 50, 49, 51)
"""General MIDI pitch of each of `DRUMS`."""


@dataclass(frozen=True, slots=True)
class VoiceStep:
    """What one pitched voice does in one step.

    Attributes:
        pitches: MIDI pitches that begin now; empty: nothing begins.
        velocity: 0 to 1, of what begins.
        hold: true: what sounds goes on (if nothing begins); false: it ends.
    """

    pitches: tuple[int, ...] = ()
    velocity: float = 0.0
    hold: bool = False


@dataclass(frozen=True, slots=True)
class MusicStep:
    """What the four voices do in one step (a sixteenth): `drums` (9,) velocities 0 to 1 in the order of `DRUMS`."""

    drums: NDArray[np.float32]
    bass: VoiceStep
    chord: VoiceStep
    lead: VoiceStep

    def __post_init__(self) -> None:
        _freeze(self, "drums", (len(DRUMS),))


@dataclass(frozen=True, slots=True)
class Key:
    """A key: tonic pitch class 0 (C) to 11, major or minor."""

    tonic: int
    minor: bool = False


@dataclass(frozen=True, slots=True)
class MusicRequest:
    """What a dance -> music composer is given for its next step.

    Attributes:
        step: index of the step on the band's timeline; step 4 k is beat k.
        poses: (3, P) float32 pose features, one row a tick; the newest row ends `lookahead_ticks` before the step.
        tempo_bpm: of the timeline.
        beats_per_bar: None while unknown.
        bar_step: index of a step that begins a bar (any).
        key: the key wished, or None for no wish.
        energy: movement energy 0 to 1; 0.5 is what the training dancers did on average.
        density: wished density of notes 0 to 1; 0.5 is as learned.
    """

    step: int
    poses: NDArray[np.float32]
    tempo_bpm: float
    beats_per_bar: int | None
    bar_step: int
    key: Key | None = None
    energy: float = 0.5
    density: float = 0.5

    def __post_init__(self) -> None:
        _freeze(self, "poses", (TICKS_PER_STEP, None))


@dataclass(frozen=True, slots=True)
class ComposerInfo:
    """What a composer needs and promises; checked against the pipeline before the show.

    Attributes:
        name: of the model.
        lookahead_ticks: how many ticks before its time a step is asked for.
        pose_spec: `PoseFeatureSpec.digest` of the features it was trained on.
        pose_count: P.
        tempo_range_bpm: tempos it was trained on; outside it the band plays half or double time.
    """

    name: str
    lookahead_ticks: int
    pose_spec: str
    pose_count: int
    tempo_range_bpm: tuple[float, float] = (60.0, 140.0)


@dataclass(frozen=True, slots=True)
class ClockEvent:
    """Where the music is at `time_ns`; sent with every PoseFrame, before it."""

    time_ns: int
    source_ns: int
    beat: float
    phase: float
    tempo_bpm: float
    confidence: float

    def carried_to(self, time_ns: int) -> ClockEvent:
        """Return where the music is at another session time if it goes on at its tempo."""
        beats = (time_ns - self.time_ns) * self.tempo_bpm / (60 * NS_PER_S)
        return replace(self, time_ns=time_ns, beat=self.beat + beats, phase=(self.phase + beats) % 1.0)


@dataclass(frozen=True, slots=True)
class MetricsEvent:
    """The engine's health, a few times a second: names as in `engine.metrics`, milliseconds and counts."""

    time_ns: int
    values: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))


Observation = AudioBlock | PoseLandmarks | PoseFrame | ControlEvent | Heartbeat | TempoReference
"""What sensors deliver. A PoseFrame among them is a recorded pose of the dancer (`poses.npz`)."""
OutputEvent = PoseFrame | NoteEvent | BeatEvent | ClockEvent | ControlEvent | StatusEvent | MetricsEvent
"""What bridges receive. A ControlEvent among them is the echo of a control that has taken effect, so that every
surface (two web pages, a lighting desk) shows the same state."""
