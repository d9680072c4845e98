"""The live runner: sensors -> inbox -> core thread -> scheduler. The only code that knows it is live."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections.abc import Callable, Sequence

import numpy as np

from engine.clock import Clock
from engine.controls import STATES, Refusals
from engine.inbox import Inbox
from engine.metrics import Metrics
from engine.priority import NICENESS, Rank, RealTime, ask_to_be_nice
from engine.protocols import Core, Sensor
from engine.scheduler import OutputScheduler
from engine.session import SessionRecorder
from engine.types import (
    NS_PER_S,
    AudioBlock,
    ControlEvent,
    Heartbeat,
    MetricsEvent,
    Observation,
    OutputEvent,
    StatusEvent,
)

_log = logging.getLogger(__name__)

# Without audio for this long the core is fed silence, so that the dancer goes on (and comes to rest on the beat).
_WATCHDOG_NS = 200_000_000
_METRICS_NS = NS_PER_S // 4
# A show that no audio drives is told the time as often as audio would tell it: a hop of 10 ms.
_HEARTBEAT_NS = NS_PER_S // 100
_PATIENCE_S = 0.05
# The core ends after the observation it is at, so within milliseconds; where the machine is kept from it, later.
_END_S = 10.0
# CPython hands the interpreter from thread to thread every 5 ms by default: a quarter of a frame. At 0.5 ms the
# output thread gets its turn within its jitter budget while the core computes.
_SWITCH_INTERVAL_S = 0.0005
# Before every ordinary thread, and after the MIDI process (10), which sleeps longer and is heard sooner. What sends
# goes before what computes: its turns are short, and they are due.
CORE_LEVEL, _OUTPUT_LEVEL = 5, 6


class LiveRunner:
    """Runs a core on live sensors until stopped. Nothing that happens in the show raises out of it.

    Where audio comes in, its blocks move time on, and silence stands in for it while it is lost; where none is to
    come (`heartbeat`), heartbeats do.

    Threads: the core thread (`pipeline.push`) and the scheduler's output thread; sensors and bridges own theirs. With
    `real_time` the system is asked to run these two in real time, as long as they keep up, and the others before other
    programs; most systems grant that to those with the right to it only, and refused, the show goes on as it is.

    Sound comes stamped with when it was in the room, `audio_delay_ns` before it arrives (`audio.latency_ms`), and so
    does the silence that stands in for it: stamped with the present it would be newer than all sound that follows.
    """

    def __init__(
        self,
        pipeline: Core,
        scheduler: OutputScheduler,
        sensors: Sequence[Sensor],
        clock: Clock,
        metrics: Metrics,
        recorder: SessionRecorder | None = None,
        on_events: Callable[[Sequence[OutputEvent]], None] | None = None,
        heartbeat: bool = False,
        real_time: bool = True,
        audio_delay_ns: int = 0,
    ) -> None:
        self._pipeline = pipeline
        self._heartbeat = heartbeat
        self._real_time = real_time
        self._audio_delay_ns = audio_delay_ns
        self._beat_ns = 0
        self._scheduler = scheduler
        self._sensors = sensors
        self._clock = clock
        self._metrics = metrics
        self._recorder = recorder
        self._on_events = on_events
        self._inbox = Inbox(metrics, clock)
        self._stopping = threading.Event()
        self._took_place = False
        self._failure_told = False
        self._failures = Refusals()
        self._thread = threading.Thread(target=self._run, name="core", daemon=True)
        self._last_audio_ns = 0
        self._fed_until_ns = 0
        self._open_since_ns: int | None = None
        # Silence comes at the rate of the last sound: another rate would make the core listen anew.
        self._silence_rate_hz = 48_000
        self._silence_index = 0
        self._silent = False
        self._metrics_ns = 0

    def start(self) -> None:
        """Open the sensors, then run. Raises `UserError` if a sensor cannot be opened."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        if self._real_time:
            ask_to_be_nice(NICENESS)
        # What is loaded now lives as long as the show: keep it out of every later collection.
        gc.collect()
        gc.freeze()
        self._last_audio_ns = self._beat_ns = self._clock.now_ns()
        self._fed_until_ns = self._beat_ns - self._audio_delay_ns
        self._scheduler.start(RealTime(_OUTPUT_LEVEL).watch if self._real_time else None, self._on_events)
        self._thread.start()
        for sensor in self._sensors:
            sensor.start(self._inbox.put, self.report)
        self._open_since_ns = self._clock.now_ns()
        self._took_place = True

    def stop(self) -> None:
        """Stop sensors, core and output, in this order; idempotent. Of a show that never began no record is kept."""
        for sensor in self._sensors:
            try:
                sensor.stop()
            except Exception:  # what is kept of the show must still be closed
                _log.exception("%s does not stop", sensor.name)
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_END_S)
        self._scheduler.stop()
        if self._recorder is not None:
            (self._recorder.close if self._took_place else self._recorder.discard)()
            self._recorder = None
        gc.unfreeze()

    def control(self, event: ControlEvent) -> None:
        """Take a control from any surface. Threads: any."""
        self._inbox.put(event)

    def report(self, event: StatusEvent) -> None:
        """Take a status from a sensor. Threads: any."""
        _log.log(getattr(logging, event.level.upper(), logging.INFO), "%s: %s", event.component, event.message)
        self._publish([event])

    def _publish(self, events: Sequence[OutputEvent]) -> None:
        self._scheduler.put(events)
        if self._on_events is not None:
            self._on_events(events)

    def _run(self) -> None:
        real_time = RealTime(CORE_LEVEL) if self._real_time else None
        while not self._stopping.is_set():
            if real_time is not None and real_time.watch():
                self._tell_rank(real_time.rank)
            got = self._inbox.get(self._patience_s())
            if got is not None:
                put_ns, observation = got
                if not self._is_outrun(observation):
                    if isinstance(observation, AudioBlock):
                        self._hear_again(observation)
                    self._push(observation)
                    self._metrics.histogram("core").add(self._clock.now_ns() - put_ns)
            now_ns = self._clock.now_ns()
            passed = self._pulse(now_ns) if self._heartbeat else self._stand_in(now_ns)
            if passed is not None:
                self._push(passed)
            self._publish_metrics(now_ns)

    def _tell_rank(self, rank: Rank) -> None:
        """Say that the core does not keep up and has given its rank back, or has it again."""
        now_ns = self._clock.now_ns()
        if rank is Rank.REAL_TIME:
            self.report(StatusEvent(now_ns, "core", "info", "in real time again"))
        else:
            self._metrics.count("real_time_given_up")
            self.report(
                StatusEvent(now_ns, "core", "warning", "takes most of a core: not in real time until it is less")
            )

    def _patience_s(self) -> float:
        """Return how long to wait for an observation."""
        if not self._heartbeat:
            return _PATIENCE_S
        return min(max((self._beat_ns - self._clock.now_ns()) / NS_PER_S, 0.0), _PATIENCE_S)

    def _is_outrun(self, observation: Observation) -> bool:
        """Say whether a block is older than the silence that has stood in for it."""
        old = isinstance(observation, AudioBlock) and observation.time_ns <= self._fed_until_ns - NS_PER_S // 20
        return old and self._silent

    def _pulse(self, now_ns: int) -> Heartbeat | None:
        """Return a heartbeat if one is due; beats that were missed are not made up for."""
        if now_ns < self._beat_ns:
            return None
        self._beat_ns = max(self._beat_ns, now_ns - _HEARTBEAT_NS // 2) + _HEARTBEAT_NS
        return Heartbeat(now_ns)

    def _push(self, observation: Observation) -> None:
        try:
            events = self._pipeline.push(observation)
        except Exception as error:  # a defect of ours must not end the show
            self._metrics.count("core_errors")
            now_ns, message = self._clock.now_ns(), f"{type(error).__name__}: {error}"
            events = []
            if self._failures.is_news(message, now_ns):
                _log.exception("the core failed on one observation")
                events.append(StatusEvent(now_ns, "core", "error", message))
            if isinstance(observation, ControlEvent) and observation.name in STATES:
                events.append(observation)  # what puts a stage out does so without the core
        self._publish(events)
        if self._recorder is not None:
            self._recorder.record(observation, events)
            self._tell_failure(self._recorder)

    def _tell_failure(self, recorder: SessionRecorder) -> None:
        """Say once that the recording has stopped."""
        if recorder.failure is not None and not self._failure_told:
            self._failure_told = True
            message = f"recording stopped: {recorder.failure}; the show goes on"
            self.report(StatusEvent(self._clock.now_ns(), "recorder", "error", message))

    def _hear_again(self, block: AudioBlock) -> None:
        """Note that audio has come."""
        self._last_audio_ns = self._clock.now_ns()
        self._fed_until_ns = max(self._fed_until_ns, block.time_ns)
        self._silence_rate_hz = block.sample_rate_hz
        self._silence_index = block.sample_index + len(block.samples)
        if block.gap_samples:
            self._metrics.count("xruns")
            self._metrics.count("samples_lost", block.gap_samples)
        if self._silent:
            self._silent = False
            self.report(StatusEvent(self._last_audio_ns, "audio", "info", "sound is back"))

    def _stand_in(self, now_ns: int) -> AudioBlock | None:
        """Return silence for the time since the last audio, if that is long ago."""
        if now_ns - self._last_audio_ns < _WATCHDOG_NS:
            return None
        # While a device is being opened, which may take a while, nobody misses its sound.
        if not self._silent and self._open_since_ns is not None and now_ns - self._open_since_ns >= _WATCHDOG_NS:
            self._silent = True
            self._metrics.count("audio_lost_episodes")
            self.report(StatusEvent(now_ns, "audio", "warning", "no sound is coming in; the dancer goes on in silence"))
        rate, until_ns = self._silence_rate_hz, now_ns - self._audio_delay_ns
        if until_ns - self._fed_until_ns < _HEARTBEAT_NS:
            return None
        count = min((until_ns - self._fed_until_ns) * rate // NS_PER_S, rate)
        self._fed_until_ns = until_ns
        self._silence_index += count
        return AudioBlock(self._silence_index - count, until_ns, np.zeros((count, 1), dtype=np.float32), rate)

    def _publish_metrics(self, now_ns: int) -> None:
        if now_ns - self._metrics_ns < _METRICS_NS:
            return
        self._metrics_ns = now_ns
        self._scheduler.put([MetricsEvent(now_ns, live_values(self._metrics))])


def live_values(metrics: Metrics) -> dict[str, float]:
    """Return the handful of figures that the status line and the web stage show."""
    jitter, core = metrics.histogram("output_jitter"), metrics.histogram("core")
    latency = metrics.histogram("sample_to_output")
    return {
        "frames": float(metrics.counter("frames")),
        "frames_late": float(metrics.counter("frames_late") + metrics.counter("frames_carried")),
        "late_episodes": float(metrics.counter("late_episodes")),
        "latency_p50_ms": latency.percentile_ms(50),
        "latency_p99_ms": latency.percentile_ms(99),
        "core_p99_ms": core.percentile_ms(99),
        "jitter_p99_ms": jitter.percentile_ms(99),
        "step_p99_ms": metrics.histogram("model_step").percentile_ms(99),
        "xruns": float(metrics.counter("xruns")),
        "camera_frames": float(metrics.counter("camera_frames")),
        "pose_p50_ms": metrics.histogram("pose_latency").percentile_ms(50),
        "pose_p95_ms": metrics.histogram("pose_latency").percentile_ms(95),
        "notes": float(metrics.counter("notes") + metrics.counter("triggers")),
    }
